/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process of a monitor. It gets an empty environment, / as its directory, /dev/null as stdin
 * and stdout, a pipe as stderr, and of our descriptors only those it needs. What it writes to
 * stderr is read all the time; the last line is kept to say why it ended.
 *
 * One that was handed over isn't our child: there is a pidfd to kill it, and its parent tells its
 * exit code.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "vmm/vmm-internal.h"

/* Where a line of stderr is put together; longer ones lose their end. */
#define STDERR_LINE 256

/* Lines of it that are logged: one that was taken over by its guest could write for ever. */
#define LOGGED_MAX 100

/* How long the kernel may take to end a process that was killed. */
#define KILL_TIMEOUT_MS 2000

struct vmm_proc {
	struct loop *loop;
	struct loop_child *child;
	struct loop_timer *timer; /* to its death, or NULL */
	struct loop_io *io;
	int stderr_fd;
	int pidfd;    /* of one that isn't our child, */
	int guard_fd; /* and who tells its end */
	struct loop_io *guard;
	pid_t pid;
	char line[STDERR_LINE];
	size_t len;
	unsigned int logged;
	struct vmm_exit exit;
	void (*exited)(void *data, const struct vmm_exit *exit);
	void *data;
};

static void end_of_line(struct vmm_proc *p)
{
	char quoted[sizeof(p->exit.message) + 64];

	if (p->len > 0) {
		printable(p->exit.message, sizeof(p->exit.message), p->line, p->len);
		if (p->logged++ < LOGGED_MAX)
			log_info("monitor", "line=%s",
				 log_quote(quoted, sizeof(quoted), p->exit.message));
	}
	p->len = 0;
}

static void take_bytes(struct vmm_proc *p, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (bytes[i] == '\n') {
			end_of_line(p);
			continue;
		}
		if (p->len < sizeof(p->line))
			p->line[p->len++] = bytes[i];
	}
}

/* Returns 1 when there may be more, 0 when there is nothing now, or a negative errno at the end. */
static int read_stderr(struct vmm_proc *p)
{
	char chunk[4096];
	ssize_t n = read(p->stderr_fd, chunk, sizeof(chunk));

	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	take_bytes(p, chunk, (size_t)n);
	return 1;
}

static void on_stderr(void *data, int events)
{
	struct vmm_proc *p = data;

	if (read_stderr(p) < 0)
		loop_io_free(TAKE_PTR(p->io));
}

static void on_child(void *data, int code)
{
	struct vmm_proc *p = data;

	while (p->io && read_stderr(p) > 0)
		;
	end_of_line(p);
	loop_timer_free(TAKE_PTR(p->timer));
	p->pid = 0;
	p->exit.code = code;
	p->exited(p->data, &p->exit);
}

static void kill_it(struct vmm_proc *p)
{
	if (p->child)
		(void)loop_child_kill(p->child, SIGKILL);
	else if (p->pidfd >= 0)
		(void)pidfd_send_signal(p->pidfd, SIGKILL, NULL, 0);
}

static void on_deadline(void *data)
{
	kill_it(data);
}

/* Who is its parent tells how it ended; when that process was killed, it was as well. */
static void on_guard(void *data, int events)
{
	struct vmm_proc *p = data;
	int code;

	if (recv(p->guard_fd, &code, sizeof(code), MSG_DONTWAIT) != (ssize_t)sizeof(code)) {
		kill_it(p);
		code = 128 + SIGKILL;
	}
	loop_io_free(TAKE_PTR(p->guard));
	on_child(p, code);
}

int vmm_proc_kill_in(struct vmm_proc *p, uint64_t ms)
{
	if (!p->pid || p->timer)
		return 0;
	return loop_timer_new(p->loop, ms, on_deadline, p, &p->timer);
}

pid_t vmm_proc_pid(const struct vmm_proc *p)
{
	return p ? p->pid : 0;
}

/* As loop_child_free() does it: the kernel ends a killed process at once. */
static void end_foreign(struct vmm_proc *p)
{
	struct pollfd end = { .fd = p->pidfd, .events = POLLIN };

	loop_io_free(TAKE_PTR(p->guard));
	kill_it(p);
	(void)poll(&end, 1, KILL_TIMEOUT_MS);
}

void vmm_proc_free(struct vmm_proc *p)
{
	if (!p)
		return;
	loop_child_free(p->child);
	if (p->guard)
		end_foreign(p);
	loop_timer_free(p->timer);
	loop_io_free(p->io);
	close_fdp(&p->guard_fd);
	close_fdp(&p->pidfd);
	close_fdp(&p->stderr_fd);
	free(p);
}

DEFINE_CLEANUP(vmm_proc_freep, struct vmm_proc *, vmm_proc_free)

static struct vmm_proc *
proc_new(struct loop *loop, void (*exited)(void *data, const struct vmm_exit *exit), void *data)
{
	struct vmm_proc *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->loop = loop;
	p->stderr_fd = p->pidfd = p->guard_fd = -EBADF;
	p->exited = exited;
	p->data = data;
	return p;
}

static int stderr_pipe(struct vmm_proc *p, int *ret_write)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	p->stderr_fd = fds[0];
	*ret_write = fds[1];
	return fd_nonblock(p->stderr_fd);
}

int vmm_proc_start(struct loop *loop, struct spawn *s,
		   void (*exited)(void *data, const struct vmm_exit *exit), void *data,
		   struct vmm_proc **ret, struct err *e)
{
	_cleanup_(vmm_proc_freep) struct vmm_proc *p = proc_new(loop, exited, data);
	_cleanup_(close_fdp) int write_end = -EBADF;
	char *no_environment[] = { NULL };
	int pidfd;
	int r;

	if (!p)
		return err_oom(e);
	r = stderr_pipe(p, &write_end);
	if (r < 0)
		return err_errno(e, r, "cannot make a pipe");
	s->envp = no_environment;
	/* Ctrl-C on our terminal is for the container. */
	s->new_session = true;
	s->cwd = "/";
	s->stderr_fd = write_end;
	pidfd = spawn_start(s, &p->pid, e);
	if (pidfd < 0)
		return pidfd;
	r = loop_child_new(loop, pidfd, on_child, p, &p->child);
	if (r < 0) {
		kill(p->pid, SIGKILL);
		return err_errno(e, r, "cannot watch %s", s->path);
	}
	r = loop_io_new(loop, p->stderr_fd, LOOP_READ, on_stderr, p, &p->io);
	if (r < 0)
		return err_errno(e, r, "cannot watch %s", s->path);
	*ret = TAKE_PTR(p);
	return 0;
}

/* ---- handing it over ---- */

int vmm_proc_adopt(struct loop *loop, struct vmm_handover *h, int guard_fd,
		   void (*exited)(void *data, const struct vmm_exit *exit), void *data,
		   struct vmm_proc **ret)
{
	_cleanup_(vmm_proc_freep) struct vmm_proc *p = proc_new(loop, exited, data);
	int r;

	if (!p) {
		close(guard_fd);
		return -ENOMEM;
	}
	p->pid = h->pid;
	p->guard_fd = guard_fd;
	p->pidfd = TAKE_FD(h->fds[VMM_HANDOVER_PROCESS]);
	p->stderr_fd = TAKE_FD(h->fds[VMM_HANDOVER_STDERR]);
	r = loop_io_new(loop, guard_fd, LOOP_READ, on_guard, p, &p->guard);
	if (r == 0)
		r = loop_io_new(loop, p->stderr_fd, LOOP_READ, on_stderr, p, &p->io);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(p);
	return 0;
}

int vmm_proc_hand_over(struct vmm_proc *p, struct vmm_handover *h)
{
	int pidfd = pidfd_open(p->pid, 0);

	if (pidfd < 0)
		return -errno;
	h->fds[VMM_HANDOVER_PROCESS] = pidfd;
	loop_io_free(TAKE_PTR(p->io));
	h->fds[VMM_HANDOVER_STDERR] = TAKE_FD(p->stderr_fd);
	return 0;
}
