/* SPDX-License-Identifier: Apache-2.0 */
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define OUTPUT_LIMIT ((size_t)64 << 10)
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

int spawn_fd(struct spawn *s, int fd)
{
	if (s->n_fds == SPAWN_MAX_FDS)
		return -ENOBUFS;
	s->fds[s->n_fds].fd = fd;
	s->fds[s->n_fds].target = 3 + (int)s->n_fds;
	return s->fds[s->n_fds++].target;
}

int find_program(const char *name, char **ret_path)
{
	const char *path = getenv("PATH");
	_cleanup_(freep) char *dirs = NULL;
	char *save = NULL;

	if (strchr(name, '/')) {
		if (access(name, X_OK) < 0)
			return -errno;
		*ret_path = strdup(name);
		return *ret_path ? 0 : -ENOMEM;
	}
	dirs = str_printf("%s:" DEFAULT_PATH, path ? path : "");
	if (!dirs)
		return -ENOMEM;
	for (char *d = strtok_r(dirs, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
		_cleanup_(freep) char *full = str_printf("%s/%s", d, name);

		if (!full)
			return -ENOMEM;
		if (d[0] == '/' && access(full, X_OK) == 0) {
			*ret_path = TAKE_PTR(full);
			return 0;
		}
	}
	return -ENOENT;
}

/* In the child: put descriptors at their numbers without overwriting one that is still needed. */
static int child_fds(const struct spawn *s, int *status_fd)
{
	int base = 3 + SPAWN_MAX_FDS;
	int std[3] = { s->stdin_fd, s->stdout_fd, s->stderr_fd };
	int moved[SPAWN_MAX_FDS];
	int std_moved[3];
	int fd;

	fd = fcntl(*status_fd, F_DUPFD_CLOEXEC, base);
	if (fd < 0)
		return -errno;
	*status_fd = fd;
	for (int i = 0; i < 3; i++) {
		int src = std[i] >= 0 ? std[i] : open("/dev/null", O_RDWR | O_CLOEXEC);

		std_moved[i] = fcntl(src, F_DUPFD_CLOEXEC, base);
		if (std_moved[i] < 0)
			return -errno;
	}
	for (size_t i = 0; i < s->n_fds; i++) {
		moved[i] = fcntl(s->fds[i].fd, F_DUPFD_CLOEXEC, base);
		if (moved[i] < 0)
			return -errno;
	}
	/* What we never opened ourselves (inherited from our own parent) doesn't leak on either. */
	close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
	for (int i = 0; i < 3; i++)
		if (dup2(std_moved[i], i) < 0)
			return -errno;
	for (size_t i = 0; i < s->n_fds; i++)
		if (dup2(moved[i], s->fds[i].target) < 0)
			return -errno;
	return 0;
}

void spawn_reset_signals(void)
{
	static const unsigned long default_action[4]; /* struct kernel_sigaction: SIG_DFL */
	sigset_t none;

	/* libc's own call refuses the two signals that it uses itself, which may be ignored as
	 * well. */
	for (int sig = 1; sig < NSIG; sig++)
		(void)syscall(SYS_rt_sigaction, sig, default_action, NULL, NSIG / 8);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Return: 0 or a negative errno */
static int child_user(const struct spawn *s)
{
	if (s->uid == 0)
		return 0;
	if (setgroups(s->group ? 1 : 0, &s->group) < 0 || setresgid(s->uid, s->uid, s->uid) < 0 ||
	    setresuid(s->uid, s->uid, s->uid) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

__attribute__((noreturn)) static void child_main(const struct spawn *s, const char *path,
						 pid_t parent, int status_fd)
{
	int code = 0;

	spawn_reset_signals();
	if (s->new_session)
		setsid();
	if (s->cgroup_fd >= 0 && write(s->cgroup_fd, "0", 1) < 0)
		code = errno;
	if (code == 0 && s->netns_fd >= 0 && setns(s->netns_fd, CLONE_NEWNET) < 0)
		code = errno;
	if (code == 0)
		code = -child_user(s);
	/* A change of the user forgets this. */
	if (!s->survive) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
			code = errno;
		/* The parent may have died before the call above. */
		if (getppid() != parent)
			_exit(127);
	}
	if (code == 0 && s->prepare)
		code = -s->prepare(s->prepare_data);
	if (code == 0)
		code = -child_fds(s, &status_fd);
	if (code == 0 && s->cwd && chdir(s->cwd) < 0)
		code = errno;
	if (code == 0) {
		execve(path, s->argv, s->envp ? s->envp : environ);
		code = errno;
	}
	(void)!write(status_fd, &code, sizeof(code));
	_exit(127);
}

/*
 * A copy of the memory would cost more than all the rest, so the child has the parent's, which
 * waits until the program runs. That isn't for a child that becomes another user: it could be
 * traced by that user's processes. No handler may run in the child, until it has none.
 */
static pid_t start_child(const struct spawn *s, const char *path, int status_fd)
{
	pid_t parent = getpid();
	sigset_t before;
	sigset_t all;
	pid_t pid;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	pid = s->uid ? fork() : vfork();
	if (pid == 0)
		child_main(s, path, parent, status_fd);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

int spawn_start(const struct spawn *s, pid_t *ret_pid, struct err *e)
{
	_cleanup_(close_fdp) int status_r = -EBADF;
	_cleanup_(close_fdp) int status_w = -EBADF;
	_cleanup_(freep) char *path = NULL;
	int pipe_fds[2];
	int code = 0;
	int pidfd;
	pid_t pid;
	int r;

	r = find_program(s->path, &path);
	if (r < 0)
		return err_errno(e, r, "cannot run %s", s->path);
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "cannot run %s", s->path);
	status_r = pipe_fds[0];
	status_w = pipe_fds[1];
	pid = start_child(s, path, status_w);
	if (pid < 0)
		return err_errno(e, -errno, "cannot run %s", s->path);
	close(TAKE_FD(status_w));
	/* The pipe closes at a successful exec, so this read doesn't wait for more than that. */
	if (fd_read_full(status_r, &code, sizeof(code)) == (ssize_t)sizeof(code)) {
		waitpid(pid, NULL, 0);
		return err_errno(e, -code, "cannot run %s", path);
	}
	pidfd = pidfd_open(pid, 0);
	if (pidfd < 0) {
		r = -errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return err_errno(e, r, "cannot watch %s", path);
	}
	if (ret_pid)
		*ret_pid = pid;
	return pidfd;
}

static int reap(int pidfd)
{
	siginfo_t info = { 0 };

	if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0)
		return -errno;
	return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

int spawn_wait(int pidfd, int timeout_ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	uint64_t deadline = clock_ms() + (uint64_t)timeout_ms;
	uint64_t now;
	int r;

	for (;;) {
		now = clock_ms();
		r = poll(&p, 1, now < deadline ? (int)(deadline - now) : 0);
		if (r < 0 && errno == EINTR)
			continue;
		if (r > 0)
			return reap(pidfd);
		r = r < 0 ? -errno : -ETIMEDOUT;
		pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
		reap(pidfd);
		return r;
	}
}

/* Collect output until its end or the deadline; keeps the first OUTPUT_LIMIT bytes. */
static void collect(int fd, uint64_t deadline, struct buf *out)
{
	char chunk[4096];

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t now = clock_ms();
		ssize_t n;

		if (now >= deadline || poll(&p, 1, (int)MIN(deadline - now, 1000)) < 0)
			return;
		if (!p.revents)
			continue;
		n = read(fd, chunk, sizeof(chunk));
		if (n <= 0)
			return;
		if (buf_len(out) < OUTPUT_LIMIT)
			(void)buf_append(out, chunk, MIN((size_t)n, OUTPUT_LIMIT - buf_len(out)));
	}
}

static const char *last_line(char *text)
{
	size_t n = strlen(text);
	char *nl;

	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
		text[--n] = '\0';
	nl = strrchr(text, '\n');
	return nl ? nl + 1 : text;
}

int spawn_run(struct spawn *s, int timeout_ms, char **out, struct err *e)
{
	_cleanup_(close_fdp) int pipe_r = -EBADF;
	_cleanup_(close_fdp) int pipe_w = -EBADF;
	_cleanup_(close_fdp) int pidfd = -EBADF;
	_cleanup_(buf_done) struct buf output = { .limit = OUTPUT_LIMIT };
	uint64_t deadline = clock_ms() + (uint64_t)timeout_ms;
	_cleanup_(freep) char *text = NULL;
	uint64_t now;
	int fds[2];
	int code;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "cannot run %s", s->path);
	pipe_r = fds[0];
	pipe_w = fds[1];
	s->stdout_fd = s->stderr_fd = pipe_w;
	pidfd = spawn_start(s, NULL, e);
	if (pidfd < 0)
		return pidfd;
	close(TAKE_FD(pipe_w));
	collect(pipe_r, deadline, &output);
	now = clock_ms();
	code = spawn_wait(pidfd, now < deadline ? (int)(deadline - now) : 0);
	text = strdup(buf_cstr(&output) ? buf_cstr(&output) : "");
	if (!text)
		return err_oom(e);
	if (out)
		*out = strdup(text);
	if (code < 0)
		return err_errno(e, code, "%s did not end in time", s->path);
	if (code != 0)
		return err_set(e, -ECHILD, "%s failed (%d): %s", s->path, code, last_line(text));
	return 0;
}
