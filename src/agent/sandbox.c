/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest as a whole: Hello, its identity, its end. The order of ConfigureSandbox matters:
 * randomness comes before anything that may use it, the clock before anything that stamps files.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/child.h"
#include "agent/network.h"
#include "agent/sandbox.h"
#include "agent/service.h"
#include "agent/sysctl.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define ENTROPY_MAX	    512
#define HOSTNAME_MAX	    64
#define SHUTDOWN_DEFAULT_MS ((uint64_t)5000)

/* The host hangs up when it has the answer; this is for one that doesn't. */
#define GOODBYE_MS 250

HANDLER(serve_hello)
{
	const struct agent *a = data;
	PB(HelloResponse) resp = PODVM__AGENT__V1__HELLO_RESPONSE__INIT;
	struct sysinfo info = { 0 };
	struct utsname uts = { 0 };
	struct timespec now = { 0 };

	uname(&uts);
	clock_gettime(CLOCK_BOOTTIME, &now);
	sysinfo(&info);
	resp.version = (char *)PODVM_VERSION;
	resp.kernel = uts.release;
	resp.boot_us = a->boot_us;
	resp.boot_tsc = a->boot_tsc;
	resp.uptime_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	resp.cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	resp.memory_total = (uint64_t)info.totalram * info.mem_unit;
	ttrpc_reply(call, &resp.base);
}

/* ---- identity ---- */

static int add_entropy(const ProtobufCBinaryData *bytes, struct err *e)
{
	_cleanup_(close_fdp) int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	_Alignas(struct rand_pool_info) uint8_t room[sizeof(struct rand_pool_info) + ENTROPY_MAX];
	struct rand_pool_info *pool = (void *)room;

	if (bytes->len > ENTROPY_MAX)
		return err_set(e, -EINVAL, "more than %d bytes of entropy", ENTROPY_MAX);
	pool->entropy_count = (int)bytes->len * 8;
	pool->buf_size = (int)bytes->len;
	memcpy(pool->buf, bytes->data, bytes->len);
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		return err_errno(e, -errno, "cannot add entropy");
	explicit_bzero(room, sizeof(room));
	return 0;
}

static int set_clock(uint64_t ns, struct err *e)
{
	struct timespec ts = {
		.tv_sec = (time_t)(ns / 1000000000),
		.tv_nsec = (long)(ns % 1000000000),
	};

	return clock_settime(CLOCK_REALTIME, &ts) < 0 ? err_errno(e, -errno, "cannot set the clock")
						      : 0;
}

static int set_hostname(const char *name, struct err *e)
{
	size_t n = strlen(name);

	if (n > HOSTNAME_MAX)
		return err_set(e, -EINVAL, "the host name has more than %d bytes", HOSTNAME_MAX);
	return sethostname(name, n) < 0 ? err_errno(e, -errno, "cannot set the host name") : 0;
}

/* First process of the shared PID namespace: collects its orphans and does nothing else. */
__attribute__((noreturn)) static void pid_holder_main(void)
{
	sigset_t set;

	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int sig = 1; sig < NSIG; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			signal(sig, SIG_DFL);
	prctl(PR_SET_NAME, "podvm-pause");
	close_range(0, ~0U, 0);
	for (;;) {
		int sig;

		sigwait(&set, &sig);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

static int hold_pid_namespace(struct agent *a, struct err *e)
{
	_cleanup_(freep) char *ns = NULL;
	_cleanup_(close_fdp) int file = -EBADF;
	long pid = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		pid_holder_main();
	if (pid < 0)
		return err_errno(e, -errno, "cannot make a PID namespace");
	a->pid_holder = (int)pid;
	ns = str_printf("/proc/%ld/ns/pid", pid);
	if (!ns)
		return err_oom(e);
	if (mkdir(DIR_PODVM "/ns", 0755) < 0 && errno != EEXIST)
		return err_errno(e, -errno, "cannot make " DIR_PODVM "/ns");
	file = open(PID_NAMESPACE, O_RDONLY | O_CREAT | O_CLOEXEC, 0444);
	if (file < 0 || mount(ns, PID_NAMESPACE, NULL, MS_BIND, NULL) < 0)
		return err_errno(e, -errno, "cannot keep the PID namespace");
	return 0;
}

int sandbox_configure(struct agent *a, const PB(ConfigureSandboxRequest) * req, struct err *e)
{
	int r = 0;

	if (req->entropy.len > 0)
		r = add_entropy(&req->entropy, e);
	if (r == 0 && req->realtime_ns)
		r = set_clock(req->realtime_ns, e);
	if (r == 0 && *req->hostname)
		r = set_hostname(req->hostname, e);
	if (r == 0)
		r = network_configure(req, e);
	/* Some are those of an interface. */
	for (size_t i = 0; r == 0 && i < req->n_sysctls; i++)
		r = sysctl_set(req->sysctls[i]->name, req->sysctls[i]->value, e);
	if (r == 0 && req->shared_pid_namespace)
		r = hold_pid_namespace(a, e);
	return r;
}

HANDLER(serve_configure_sandbox)
{
	const PB(ConfigureSandboxRequest) *req = (const void *)msg;
	struct agent *a = data;
	struct err e = { 0 };

	if (a->configured) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION,
				  "the sandbox has been configured already");
		return;
	}
	if (sandbox_configure(a, req, &e) < 0) {
		log_error("cannot configure the sandbox", "error=\"%s\"", e.msg);
		ttrpc_reply_err(call, &e);
		return;
	}
	a->configured = true;
	reply_empty(call);
}

/* ---- the end ---- */

/* The end that is under way; @call is NULL when it's answered or nobody asked. */
struct end {
	struct agent *agent;
	struct ttrpc_call *call;
	uint64_t deadline_ms;
	struct loop_timer *goodbye;
};

static struct end end;

/* Worker: kill every container, give its disks back in order. */
static int work_shutdown(void *arg, struct err *e)
{
	_cleanup_(close_fdp) int pod = cgroup_open("");

	(void)cgroup_kill("");
	if (pod >= 0 && cgroup_wait(pod, "populated", 0, end.deadline_ms) < 0)
		log_warn("containers don't end", "deadline_ms=%llu",
			 (unsigned long long)end.deadline_ms);
	storage_unmount_writable(&end.agent->storage);
	sync();
	return 0;
}

void sandbox_reset(void)
{
	reboot(RB_AUTOBOOT);
}

static void say_goodbye(void *data)
{
	sandbox_reset();
}

static void at_rest(void *data, const struct err *e)
{
	if (e)
		log_warn("the end was not clean", "error=\"%s\"", e->msg);
	if (!end.call)
		sandbox_reset();
	reply_empty(TAKE_PTR(end.call));
	if (loop_timer_new(end.agent->loop, GOODBYE_MS, say_goodbye, NULL, &end.goodbye) < 0)
		sandbox_reset();
}

static void begin_end(struct agent *a, struct ttrpc_call *call, uint64_t timeout_ms)
{
	struct err e = { 0 };

	a->shutdown = true;
	end.agent = a;
	end.call = call;
	/* The last eighth is for unmounting. */
	end.deadline_ms = clock_ms() + timeout_ms - timeout_ms / 8;
	if (child_work(&a->reaper, "shutting down", work_shutdown, NULL, timeout_ms, at_rest, NULL,
		       &e) < 0)
		at_rest(NULL, &e);
}

HANDLER(serve_shutdown)
{
	const PB(ShutdownRequest) *req = (const void *)msg;
	struct agent *a = data;
	uint64_t ms = req->timeout_ms ? req->timeout_ms : SHUTDOWN_DEFAULT_MS;

	/* The answer must not come too late for the host. */
	ms = MIN(ms, call_timeout(call));

	if (a->shutdown) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "shutdown is under way");
		return;
	}
	begin_end(a, call, ms);
}

void sandbox_host_gone(struct agent *a)
{
	/* It has hung up after the answer: that was the last word. */
	if (a->shutdown && !end.call)
		sandbox_reset();
	if (a->shutdown)
		return;
	log_warn("the host has closed the connection", "containers=%zu", a->n_containers);
	begin_end(a, NULL, SHUTDOWN_DEFAULT_MS);
}
