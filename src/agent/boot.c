/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/network.h"
#include "agent/paths.h"
#include "agent/sandbox.h"
#include "agent/sysctl.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"

#define SAFE (MS_NOSUID | MS_NODEV | MS_NOEXEC)

/*
 * In this order. /run is ours and crun's; /run/podvm, which the host fills and containers may
 * write to where it mounts parts of it into them, is a file system of its own, so that a full one
 * doesn't keep us from working. Both are limited, what is in them counts as memory.
 */
static const struct {
	const char *type;
	const char *target;
	unsigned long flags;
	const char *data;
} mounts[] = {
	{ "proc", "/proc", SAFE, NULL },
	{ "sysfs", "/sys", SAFE, NULL },
	{ "devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755" },
	{ "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666,gid=5" },
	{ "tmpfs", "/dev/shm", SAFE, "mode=1777,size=50%" },
	{ "tmpfs", "/run", SAFE, "mode=0755,size=16m" },
	{ "bpf", "/run/bpf", SAFE, "mode=0700" },
	{ "tmpfs", "/run/podvm", MS_NOSUID | MS_NODEV, "mode=0755,size=25%" },
	{ "tmpfs", "/tmp", SAFE, "mode=1777,size=1m" },
	{ "cgroup2", "/sys/fs/cgroup", SAFE, "nsdelegate,memory_recursiveprot" },
};

static const struct {
	const char *name;
	const char *value;
} sysctls[] = {
	{ "kernel.printk_devkmsg", "on\n" }, /* our log is not to be rate limited */
	{ "kernel.pid_max", "4194304" },     /* a pid comes back late */
	{ "vm.panic_on_oom", "0" },
};

static const char *const directories[] = { DIR_AGENT, DIR_BUNDLES, DIR_CRUN };

/* Whatever 0-2 are, afterwards they're open, so that nothing of ours gets these numbers. */
static int open_std(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			return -errno;
	} while (fd < 2);
	if (fd > 2)
		close(fd);
	return 0;
}

static int mount_all(struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		/* Those on the read-only root are there, those on file systems are not. */
		(void)mkdir(mounts[i].target, 0755);
		if (mount(mounts[i].type, mounts[i].target, mounts[i].type, mounts[i].flags,
			  mounts[i].data) < 0 &&
		    errno != EBUSY)
			return err_errno(e, -errno, "cannot mount %s on %s", mounts[i].type,
					 mounts[i].target);
	}
	/* Many operations wait for all CPUs to have passed a point; don't let that take ticks. */
	(void)file_write(AT_FDCWD, "/sys/kernel/rcu_expedited", "1");
	for (size_t i = 0; i < ARRAY_SIZE(directories); i++)
		if (mkdir(directories[i], 0700) < 0 && errno != EEXIST)
			return err_errno(e, -errno, "cannot make %s", directories[i]);
	return 0;
}

/* The log is the kernel's, as descriptor 2: workers keep it, and so does a failing assertion. */
static int open_log(struct err *e)
{
	int r = open_std();
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (r < 0 || fd < 0 || dup2(fd, STDERR_FILENO) < 0)
		return err_errno(e, r < 0 ? r : -errno, "cannot open the log");
	close(fd);
	log_init(STDERR_FILENO, LOG_FORMAT_KMSG, LOG_LEVEL_INFO);
	return 0;
}

/*
 * Limits that containers inherit unless their spec says something else: as many files as other
 * engines give. PID 1 itself is never chosen by the OOM killer, so there is no need for an
 * oom_score_adj, which would be inherited as well. Its pages stay in memory once they're there.
 */
static void set_limits(void)
{
	struct rlimit files = { 1048576, 1048576 };
	struct rlimit any = { RLIM_INFINITY, RLIM_INFINITY };

	if (setrlimit(RLIMIT_NOFILE, &files) < 0 || setrlimit(RLIMIT_NPROC, &any) < 0)
		log_warn("cannot raise the limits", "errno=%d", errno);
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		log_warn("cannot lock memory", "errno=%d", errno);
	umask(022);
}

int boot_setup(struct err *e)
{
	int r;

	signal(SIGPIPE, SIG_IGN);
	r = mount_all(e);
	if (r == 0)
		r = open_log(e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(sysctls); i++) {
		struct err why = { 0 };

		if (sysctl_set(sysctls[i].name, sysctls[i].value, &why) < 0)
			log_warn("sysctl", "error=\"%s\"", why.msg);
	}
	set_limits();
	r = network_loopback();
	if (r < 0)
		return err_errno(e, r, "cannot set the loopback device up");
	return cgroup_setup(e);
}

void boot_fatal(const struct err *e)
{
	char line[sizeof(e->msg) + 64];
	int n = snprintf(line, sizeof(line), "<0>podvm-agent: fatal: %s\n", e->msg);
	_cleanup_(close_fdp) int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	(void)!write(fd >= 0 ? fd : STDERR_FILENO, line, (size_t)n);
	sync();
	sandbox_reset();
	/* Not reached, unless the kernel can't reset: PID 1 must not end, and there is no loop. */
	for (;;)
		pause();
}
