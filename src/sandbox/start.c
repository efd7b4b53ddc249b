/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stages of a sandbox's start. Helpers first, because the monitor gets their sockets; then the
 * monitor with every device; then the agent, who dials when it's ready: its first answer is the
 * proof that the guest runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "sandbox/agent_client.h"
#include "sandbox/clone.h"
#include "sandbox/monitor_uid.h"
#include "sandbox/network.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/shares.h"

#define CONSOLE_LOG_MAX ((size_t)256 << 10)
#define MEMORY_MIN	((uint64_t)64 << 20)
#define ENTROPY_BYTES	64

/* How long a copy may take to answer; then it's no good, and booting is faster than waiting. */
#define CLONE_TIMEOUT_MS ((uint64_t)30000)

void sandbox_journal_process(struct sandbox *sb, const char *what, pid_t pid)
{
	int r = rundir_journal_process(sb->config->rundir, what, pid);

	/* It dies with us anyway; the journal is for the case that even that fails. */
	if (r < 0)
		log_warn("cannot write the journal", "what=%s error=%d", what, r);
}

/* ---- the machine ---- */

static void on_console(void *data, const void *bytes, size_t n)
{
	struct sandbox *sb = data;

	n = MIN(n, sb->console_left);
	if (n > 0 && fd_write_all(sb->console_fd, bytes, n) == 0)
		sb->console_left -= n;
	else
		sb->console_left = 0;
}

/* The kernel's own words, if it panicked. Return: Whether it did */
static bool find_panic(const struct vmm *vmm, char *line, size_t size)
{
	char text[16384];
	const char *panic;

	vmm_console_tail(vmm, 200, text, sizeof(text));
	panic = strstr(text, "Kernel panic");
	if (panic)
		snprintf(line, size, "%.*s", (int)strcspn(panic, "\n"), panic);
	return panic;
}

static void on_vmm_exit(void *data, const struct vmm_exit *exit)
{
	struct sandbox *sb = data;
	char panic[256];
	struct err e = { 0 };

	if (exit->code == 0 && find_panic(sb->vmm, panic, sizeof(panic)))
		err_set(&e, -ECONNRESET, "the guest's kernel has crashed: %s", panic);
	else if (exit->code == 0)
		err_set(&e, -ECONNRESET, "the guest ended (it crashed or was reset)");
	else if (exit->code > 128)
		err_set(&e, -ECONNRESET, "the monitor was killed by signal %d%s%s",
			exit->code - 128, *exit->message ? ": " : "", exit->message);
	else
		err_set(&e, -ECONNRESET, "the monitor ended with code %d%s%s", exit->code,
			*exit->message ? ": " : "", exit->message);
	sandbox_lose(sb, &e);
}

static void on_vmm_started(void *data, const struct err *e)
{
	struct sandbox *sb = data;

	/* When the monitor died its exit says more. */
	if (e && e->code == -ECONNRESET)
		return;
	stages_next(&sb->stages, e);
}

/* Only root has users to give away. */
static int take_uid(struct sandbox *sb, uid_t *ret, struct err *e)
{
	const struct sandbox_config *c = sb->config;

	if (c->uid_base == 0 || geteuid() != 0)
		return 0;
	sb->uid_fd = monitor_uid_take(c->state_dir, c->uid_base, ret);
	return sb->uid_fd < 0 ? err_errno(e, sb->uid_fd, "cannot find a user for the monitor") : 0;
}

static int check_memory(const struct sandbox_config *c, struct err *e)
{
	if (c->memory >= MEMORY_MIN)
		return 0;
	err_set(e, -EINVAL, "a machine with %llu MiB of memory doesn't boot",
		(unsigned long long)(c->memory >> 20));
	err_hint(e, "it needs %llu MiB and what the container uses",
		 (unsigned long long)(MEMORY_MIN >> 20));
	return -EINVAL;
}

/* It has only to go on. */
static int adopt_vmm(struct sandbox *sb, struct err *e)
{
	struct vmm_config config;
	int r;

	template_machine(sb->config, &config);
	config.accel = sb->accel;
	sb->uid_fd = TAKE_FD(sb->pooled.uid_fd);
	sandbox_journal_process(sb, "guard", sb->pooled.guard_pid);
	r = vmm_adopt(sb->vmm, &config, &sb->pooled.vmm, TAKE_FD(sb->pooled.guard_fd), e);
	if (r == 0)
		r = vmm_resume(sb->vmm, on_vmm_started, sb, e);
	return r < 0 ? r : STAGE_PENDING;
}

static int spawn_vmm(struct sandbox *sb, struct err *e)
{
	const struct sandbox_config *c = sb->config;
	_cleanup_(close_fdp) int rootfs = open(c->image->rootfs_path, O_RDONLY | O_CLOEXEC);
	_cleanup_(close_fdp) int nic = -EBADF;
	struct vmm_config config;
	int r;

	if (rootfs < 0)
		return err_errno(e, -errno, "cannot open %s", c->image->rootfs_path);
	template_machine(c, &config);
	config.rootfs_fd = rootfs;
	r = take_uid(sb, &config.uid, e);
	if (r < 0)
		return r;
	nic = sandbox_add_nics(sb, &config);
	clone_prepare(sb, &config);
	r = vmm_start(sb->vmm, &config, on_vmm_started, sb, e);
	if (r == 0)
		clone_given(sb);
	return r < 0 ? r : STAGE_PENDING;
}

static int start_vmm(void *obj, struct err *e)
{
	struct sandbox *sb = obj;
	const struct sandbox_config *c = sb->config;
	int r = check_memory(c, e);

	if (r < 0)
		return r;
	sb->console_fd = openat(c->rundir->fd, "console.log",
				O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (sb->console_fd < 0)
		return err_errno(e, -errno, "cannot make %s/console.log", c->rundir->path);
	sb->console_left = CONSOLE_LOG_MAX;
	r = vmm_new(sb->loop, c->driver, on_vmm_exit, sb, &sb->vmm);
	if (r < 0)
		return err_oom(e);
	vmm_console_on_output(sb->vmm, on_console, sb);
	r = sb->from_pool ? adopt_vmm(sb, e) : spawn_vmm(sb, e);
	if (r >= 0)
		sandbox_journal_process(sb, vmm_driver_name(c->driver), vmm_pid(sb->vmm));
	return r;
}

static void stop_vmm(void *obj)
{
	struct sandbox *sb = obj;

	vmm_free(TAKE_PTR(sb->vmm));
	close_fdp(&sb->uid_fd);
	sb->uid_fd = -EBADF;
	if (sb->console_fd >= 0)
		close(TAKE_FD(sb->console_fd));
}

/* ---- the agent ---- */

static void on_agent_closed(void *data)
{
	struct err e = { 0 };

	err_set(&e, -ECONNRESET, "the guest's agent has closed its connection");
	sandbox_lose_soon(data, &e);
}

/* The guest may say anything. */
static uint64_t booted_ns(uint64_t boot_us)
{
	uint64_t now = clock_real_ns();

	return boot_us < now / 1000 ? now - boot_us * 1000 : now;
}

static void on_hello(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	const Podvm__Agent__V1__HelloResponse *hello = (const void *)msg;
	struct sandbox *sb = data;
	struct err err = { 0 };
	char kernel[128];

	sb->call = NULL;
	if (!e) {
		sb->booted_ns = booted_ns(hello->uptime_us);
		sb->guest_memory = hello->memory_total;
		log_info("guest is up",
			 "sandbox=%s template=%s kernel=%s boot_us=%llu boot_tsc=%llu cpus=%u "
			 "memory=%llu",
			 sb->config->rundir->id, sb->cloned ? sb->template.key : "-",
			 log_quote(kernel, sizeof(kernel), hello->kernel),
			 (unsigned long long)hello->boot_us, (unsigned long long)hello->boot_tsc,
			 hello->cpus, (unsigned long long)hello->memory_total);
		stages_next(&sb->stages, NULL);
	} else if (e->code == -ETIMEDOUT) {
		err_set(&err, -ETIMEDOUT, "the guest did not come up within %llu s",
			(unsigned long long)(sb->config->boot_timeout_ms / 1000));
		sandbox_lose(sb, &err);
	} else if (e->code != -ECONNRESET) {
		stages_next(&sb->stages, e);
	}
}

static int start_agent(void *obj, struct err *e)
{
	Podvm__Agent__V1__HelloRequest req = PODVM__AGENT__V1__HELLO_REQUEST__INIT;
	struct sandbox *sb = obj;
	uint64_t timeout = sb->config->boot_timeout_ms;
	int fd = vmm_agent_fd(sb->vmm);
	int r;

	if (fd < 0)
		return err_errno(e, fd, "there is no channel to the agent");
	r = ttrpc_client_new(sb->loop, fd, on_agent_closed, sb, &sb->agent);
	if (r < 0)
		return err_errno(e, r, "cannot use the channel to the agent");
	if (sb->from_pool)
		ttrpc_client_continue(sb->agent, sb->pooled.agent_next);
	sandbox_watch_agent(sb);
	req.version = (char *)PODVM_VERSION;
	if (sb->cloned)
		timeout = MIN(timeout, CLONE_TIMEOUT_MS);
	r = agent_call(sb->agent, "Hello", &req.base, timeout, on_hello, sb, &sb->call);
	return r < 0 ? err_errno(e, r, "cannot call the agent") : STAGE_PENDING;
}

static void stop_agent(void *obj)
{
	struct sandbox *sb = obj;

	loop_timer_free(TAKE_PTR(sb->timer));
	if (sb->call)
		ttrpc_cancel(TAKE_PTR(sb->call));
	ttrpc_client_free(TAKE_PTR(sb->agent));
}

/* ---- identity ---- */

static void on_configured(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct sandbox *sb = data;

	sb->call = NULL;
	if (e && e->code == -ECONNRESET)
		return;
	stages_next(&sb->stages, e);
}

/* What the map says, in the agent's words: an array, and pointers into it. */
static int fill_sysctls(const struct oci_map *map, Podvm__Agent__V1__Sysctl **ret_items,
			Podvm__Agent__V1__Sysctl ***ret)
{
	_cleanup_(freep) Podvm__Agent__V1__Sysctl *items = calloc(map->n + 1, sizeof(*items));
	Podvm__Agent__V1__Sysctl **pointers = calloc(map->n + 1, sizeof(*pointers));

	if (!items || !pointers) {
		free(pointers);
		return -ENOMEM;
	}
	for (size_t i = 0; i < map->n; i++) {
		podvm__agent__v1__sysctl__init(&items[i]);
		items[i].name = map->v[i].key;
		items[i].value = map->v[i].value;
		pointers[i] = &items[i];
	}
	*ret_items = TAKE_PTR(items);
	*ret = pointers;
	return 0;
}

static int configure(void *obj, struct err *e)
{
	Podvm__Agent__V1__ConfigureSandboxRequest req =
		PODVM__AGENT__V1__CONFIGURE_SANDBOX_REQUEST__INIT;
	Podvm__Agent__V1__Sysctl ping = PODVM__AGENT__V1__SYSCTL__INIT;
	struct sandbox *sb = obj;
	uint8_t entropy[ENTROPY_BYTES];
	_cleanup_(freep) struct network_message *network = calloc(1, sizeof(*network));
	_cleanup_(freep) Podvm__Agent__V1__Sysctl *sysctls = NULL;
	_cleanup_(freep) Podvm__Agent__V1__Sysctl **sysctl_pointers = NULL;
	int r;

	if (!network)
		return err_oom(e);
	if (getrandom(entropy, sizeof(entropy), 0) != (ssize_t)sizeof(entropy))
		return err_errno(e, -errno, "cannot get entropy for the guest");
	/* ping without CAP_NET_RAW, as in Docker's and podman's containers. */
	ping.name = (char *)"net.ipv4.ping_group_range";
	ping.value = (char *)"0 2147483647";
	req.sysctls = (Podvm__Agent__V1__Sysctl *[]){ &ping };
	req.n_sysctls = 1;
	req.hostname = (char *)sb->config->hostname;
	req.entropy.data = entropy;
	req.entropy.len = sizeof(entropy);
	req.shared_pid_namespace = sb->config->shared_pid;
	req.realtime_ns = clock_real_ns();
	if (sb->config->sysctl) {
		if (fill_sysctls(sb->config->sysctl, &sysctls, &sysctl_pointers) < 0)
			return err_oom(e);
		req.sysctls = sysctl_pointers;
		req.n_sysctls = sb->config->sysctl->n;
	}
	if (sandbox_network(sb))
		network_message_fill(network, sandbox_network(sb), &req);
	if (sb->cloned && req.n_interfaces > 0)
		req.interfaces[0]->device_mac = (char *)TEMPLATE_MAC;
	r = agent_call(sb->agent, "ConfigureSandbox", &req.base, AGENT_TIMEOUT_MS, on_configured,
		       sb, &sb->call);
	explicit_bzero(entropy, sizeof(entropy));
	return r < 0 ? err_errno(e, r, "cannot call the agent") : STAGE_PENDING;
}

const struct stage sandbox_start_stages[] = {
	{ "network", sandbox_start_network, sandbox_stop_network },
	{ "shares", sandbox_start_shares, sandbox_stop_shares },
	{ "vmm", start_vmm, stop_vmm },
	{ "boot", start_agent, stop_agent },
	{ "configure", configure, NULL },
	{ "forward", sandbox_start_forward, sandbox_stop_forward },
};

const size_t sandbox_n_start_stages = ARRAY_SIZE(sandbox_start_stages);
