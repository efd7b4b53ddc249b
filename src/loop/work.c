/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/work.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fdpass.h"
#include "base/spawn.h"

/* The child's end of the result socket. */
#define RESULT_FD 3

/* What the child sends, with its descriptors. */
struct message {
	int code;
	struct err e;
};

/**
 * struct work - A child
 * @fd:		Our end of the result socket
 * @e:		Why it was killed, code 0: it wasn't
 */
struct work {
	const char *name;
	work_done done;
	void *data;
	int fd;
	struct loop_child *child;
	struct loop_timer *deadline;
	struct err e;
};

/*
 * Let go of what the parent has open. The numbers stay in use: libuv closes those of its own again
 * at the next fork(2), when they might be ours.
 */
static int release_fds(void)
{
	_cleanup_(close_fdp) int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	_cleanup_(closedirp) DIR *dir = opendir("/proc/self/fd");
	struct dirent *d;

	if (null_fd < 0 || !dir)
		return -errno;
	while ((d = readdir(dir))) {
		int fd = atoi(d->d_name);

		if (fd > RESULT_FD && fd != null_fd && fd != dirfd(dir) &&
		    dup3(null_fd, fd, O_CLOEXEC) < 0)
			return -errno;
	}
	return 0;
}

__attribute__((noreturn)) static void child_main(work_fn fn, void *arg, int fd, pid_t parent)
{
	struct work_result result = { 0 };
	struct message m = { 0 };

	/* The loop's handlers belong to the parent. */
	spawn_reset_signals();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || (fd != RESULT_FD && dup3(fd, RESULT_FD, O_CLOEXEC) < 0))
		_exit(1);
	m.code = release_fds();
	if (m.code == 0)
		m.code = fn(arg, &result, &m.e);
	if (m.code < 0 && !m.e.code)
		err_errno(&m.e, m.code, "failed");
	(void)fdpass_send(RESULT_FD, &m, sizeof(m), result.fds, result.n_fds);
	_exit(0);
}

static int receive(const struct work *w, int code, struct work_result *result, struct err *e)
{
	struct message m;
	ssize_t n;

	if (w->e.code) {
		*e = w->e;
		return e->code;
	}
	n = fdpass_receive(w->fd, &m, sizeof(m), result->fds, WORK_MAX_FDS, &result->n_fds);
	if (n != (ssize_t)sizeof(m))
		return err_set(e, -ECHILD, "%s ended without a result (%d)", w->name, code);
	if (m.code < 0)
		*e = m.e;
	return m.code;
}

static void on_exit_code(void *data, int code)
{
	struct work *w = data;
	struct work_result result = { 0 };
	struct err e = { 0 };
	int r;

	loop_timer_free(TAKE_PTR(w->deadline));
	r = receive(w, code, &result, &e);
	/* The work may be freed in there. */
	w->done(w->data, r < 0 ? NULL : &result, r < 0 ? &e : NULL);
	for (size_t i = 0; i < result.n_fds; i++)
		close_fdp(&result.fds[i]);
}

static void on_deadline(void *data)
{
	struct work *w = data;

	err_set(&w->e, -ETIMEDOUT, "%s took too long", w->name);
	(void)loop_child_kill(w->child, SIGKILL);
}

static int start(struct work *w, struct loop *loop, work_fn fn, void *arg)
{
	_cleanup_(close_fdp) int theirs = -EBADF;
	pid_t parent = getpid();
	int fds[2];
	int pidfd;
	pid_t pid;
	int r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	w->fd = fds[0];
	theirs = fds[1];
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		child_main(fn, arg, theirs, parent);
	pidfd = pidfd_open(pid, 0);
	r = pidfd < 0 ? -errno : loop_child_new(loop, pidfd, on_exit_code, w, &w->child);
	if (r < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return r;
}

int work_new(struct loop *loop, const char *name, work_fn fn, void *arg, uint64_t timeout_ms,
	     work_done done, void *data, struct work **ret, struct err *e)
{
	struct work *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return err_oom(e);
	w->name = name;
	w->done = done;
	w->data = data;
	w->fd = -EBADF;
	r = start(w, loop, fn, arg);
	if (r == 0)
		r = loop_timer_new(loop, timeout_ms, on_deadline, w, &w->deadline);
	if (r < 0) {
		work_free(w);
		return err_errno(e, r, "cannot start %s", name);
	}
	*ret = w;
	return 0;
}

void work_free(struct work *w)
{
	if (!w)
		return;
	loop_timer_free(w->deadline);
	loop_child_free(w->child);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}
