/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/lock.h"

#include <errno.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/spawn.h"

__attribute__((noreturn)) static void wait_in_child(int fd, int op, pid_t parent)
{
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EINTR);
	while (flock(fd, op) < 0)
		if (errno != EINTR)
			_exit(errno);
	_exit(0);
}

int lock_wait(int fd, int op, int timeout_ms)
{
	_cleanup_(close_fdp) int pidfd = -EBADF;
	pid_t parent = getpid();
	pid_t pid;
	int r;

	if (flock(fd, op | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK || timeout_ms == 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		wait_in_child(fd, op, parent);
	pidfd = pidfd_open(pid, 0);
	if (pidfd < 0) {
		r = -errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return r;
	}
	r = spawn_wait(pidfd, timeout_ms);
	return r > 0 ? (r < 128 ? -r : -EINTR) : r;
}
