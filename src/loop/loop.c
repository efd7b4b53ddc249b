/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/cleanup.h"
#include "base/list.h"

#define KILL_TIMEOUT_MS 5000

struct loop {
	uv_loop_t uv;
	bool stopped;
	bool until;	      /* loop_run_until() is running */
	struct list children; /* struct loop_child: what loop_free() has to end */
};

/* Every source begins with its libuv handle, so that one close callback frees any of them. */

struct loop_io {
	uv_poll_t uv;
	void (*cb)(void *data, int events);
	void *data;
	int wanted; /* what uv polls for */
};

struct loop_timer {
	uv_timer_t uv;
	void (*cb)(void *data);
	void *data;
};

struct loop_signal {
	uv_signal_t uv;
	void (*cb)(void *data, int signum);
	void *data;
};

struct loop_child {
	struct list node;
	struct loop_io *io;
	int pidfd; /* -EBADF: reaped */
	void (*cb)(void *data, int code);
	void *data;
};

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

int loop_new(struct loop **ret)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int r;

	if (!loop)
		return -ENOMEM;
	r = uv_loop_init(&loop->uv);
	if (r < 0) {
		free(loop);
		return r;
	}
	list_init(&loop->children);
	*ret = loop;
	return 0;
}

static void close_left_over(uv_handle_t *handle, void *arg)
{
	if (!uv_is_closing(handle))
		uv_close(handle, free_handle);
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	while (!list_empty(&loop->children))
		loop_child_free(list_entry(loop->children.next, struct loop_child, node));
	uv_walk(&loop->uv, close_left_over, NULL);
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	uv_loop_close(&loop->uv);
	free(loop);
}

void loop_run(struct loop *loop)
{
	loop->stopped = false;
	uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
	uv_stop(&loop->uv);
}

static void set_flag(void *data)
{
	*(bool *)data = true;
}

int loop_run_until(struct loop *loop, const bool *done, int timeout_ms)
{
	struct loop_timer *timer = NULL;
	bool expired = false;
	int alive = 1;
	int r;

	if (timeout_ms >= 0) {
		r = loop_timer_new(loop, (uint64_t)timeout_ms, set_flag, &expired, &timer);
		if (r < 0)
			return r;
	}
	loop->stopped = false;
	loop->until = true;
	while (!*done && !expired && !loop->stopped && alive)
		alive = uv_run(&loop->uv, UV_RUN_ONCE);
	loop->until = false;
	loop_timer_free(timer);
	if (*done)
		return 0;
	return expired ? -ETIMEDOUT : -ECANCELED;
}

static void on_poll(uv_poll_t *uv, int status, int events)
{
	struct loop_io *io = (struct loop_io *)uv;

	/* libuv reports a hang-up or error as a negative status: reading or writing shows which. */
	if (status < 0) {
		events = UV_READABLE | UV_WRITABLE;
		io->wanted = 0; /* it has stopped */
	}
	io->cb(io->data, ((events & (UV_READABLE | UV_DISCONNECT)) ? LOOP_READ : 0) |
				 ((events & UV_WRITABLE) ? LOOP_WRITE : 0) |
				 ((events & UV_PRIORITIZED) ? LOOP_CHANGE : 0));
}

int loop_io_new(struct loop *loop, int fd, int events, void (*cb)(void *data, int events),
		void *data, struct loop_io **ret)
{
	struct loop_io *io = calloc(1, sizeof(*io));
	int r;

	if (!io)
		return -ENOMEM;
	r = uv_poll_init(&loop->uv, &io->uv, fd);
	if (r < 0) {
		free(io);
		return r;
	}
	io->cb = cb;
	io->data = data;
	r = loop_io_set(io, events);
	if (r < 0) {
		loop_io_free(io);
		return r;
	}
	*ret = io;
	return 0;
}

int loop_io_set(struct loop_io *io, int events)
{
	int wanted = ((events & LOOP_READ) ? UV_READABLE : 0) |
		     ((events & LOOP_WRITE) ? UV_WRITABLE : 0) |
		     ((events & LOOP_CHANGE) ? UV_PRIORITIZED : 0);
	int r;

	/* Each change is two system calls. */
	if (wanted == io->wanted)
		return 0;
	r = wanted ? uv_poll_start(&io->uv, wanted, on_poll) : uv_poll_stop(&io->uv);
	if (r == 0)
		io->wanted = wanted;
	return r;
}

void loop_io_free(struct loop_io *io)
{
	if (io)
		uv_close((uv_handle_t *)&io->uv, free_handle);
}

static void on_timer(uv_timer_t *uv)
{
	struct loop_timer *timer = (struct loop_timer *)uv;
	struct loop *loop = container_of(uv->loop, struct loop, uv);

	timer->cb(timer->data);
	/*
	 * Before libuv 1.45 timers that are due run before the wait for events, which then has no
	 * end if that was the last one: look at the condition first.
	 */
	if (loop->until)
		uv_stop(&loop->uv);
}

int loop_timer_new(struct loop *loop, uint64_t ms, void (*cb)(void *data), void *data,
		   struct loop_timer **ret)
{
	struct loop_timer *timer = calloc(1, sizeof(*timer));
	int r;

	if (!timer)
		return -ENOMEM;
	uv_timer_init(&loop->uv, &timer->uv);
	timer->cb = cb;
	timer->data = data;
	r = loop_timer_set(timer, ms);
	if (r < 0) {
		loop_timer_free(timer);
		return r;
	}
	*ret = timer;
	return 0;
}

int loop_timer_set(struct loop_timer *timer, uint64_t ms)
{
	/* libuv counts from the start of this turn, which may have been long ago. */
	uv_update_time(timer->uv.loop);
	return uv_timer_start(&timer->uv, on_timer, ms, 0);
}

void loop_timer_free(struct loop_timer *timer)
{
	if (timer)
		uv_close((uv_handle_t *)&timer->uv, free_handle);
}

static void on_signal(uv_signal_t *uv, int signum)
{
	struct loop_signal *sig = (struct loop_signal *)uv;

	sig->cb(sig->data, signum);
}

int loop_signal_new(struct loop *loop, int signum, void (*cb)(void *data, int signum), void *data,
		    struct loop_signal **ret)
{
	struct loop_signal *sig = calloc(1, sizeof(*sig));
	int r;

	if (!sig)
		return -ENOMEM;
	r = uv_signal_init(&loop->uv, &sig->uv);
	if (r < 0) {
		free(sig);
		return r;
	}
	sig->cb = cb;
	sig->data = data;
	r = uv_signal_start(&sig->uv, on_signal, signum);
	if (r < 0) {
		loop_signal_free(sig);
		return r;
	}
	*ret = sig;
	return 0;
}

void loop_signal_free(struct loop_signal *sig)
{
	if (sig)
		uv_close((uv_handle_t *)&sig->uv, free_handle);
}

static int reap(int pidfd)
{
	siginfo_t info = { 0 };

	while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) < 0)
		if (errno != EINTR)
			return -errno;
	if (info.si_pid == 0)
		return -EAGAIN;
	return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

static void on_child(void *data, int events)
{
	struct loop_child *child = data;
	int code = reap(child->pidfd);

	if (code == -EAGAIN)
		return;
	loop_io_free(TAKE_PTR(child->io));
	close(TAKE_FD(child->pidfd));
	/* Somebody else reaped it: its code is lost, that it ended is not. */
	child->cb(child->data, code < 0 ? 255 : code);
}

int loop_child_new(struct loop *loop, int pidfd, void (*cb)(void *data, int code), void *data,
		   struct loop_child **ret)
{
	struct loop_child *child = calloc(1, sizeof(*child));
	int r;

	if (!child) {
		close(pidfd);
		return -ENOMEM;
	}
	child->pidfd = pidfd;
	child->cb = cb;
	child->data = data;
	r = loop_io_new(loop, pidfd, LOOP_READ, on_child, child, &child->io);
	if (r < 0) {
		close(pidfd);
		free(child);
		return r;
	}
	list_append(&loop->children, &child->node);
	*ret = child;
	return 0;
}

int loop_child_kill(struct loop_child *child, int signum)
{
	if (child->pidfd < 0)
		return -ESRCH;
	return pidfd_send_signal(child->pidfd, signum, NULL, 0) < 0 ? -errno : 0;
}

void loop_child_free(struct loop_child *child)
{
	struct pollfd p = { .fd = child ? child->pidfd : -1, .events = POLLIN };

	if (!child)
		return;
	list_remove(&child->node);
	loop_io_free(child->io);
	if (child->pidfd >= 0) {
		/* libuv made the pidfd non-blocking, and waitid(2) with it. */
		if (pidfd_send_signal(child->pidfd, SIGKILL, NULL, 0) == 0)
			(void)poll(&p, 1, KILL_TIMEOUT_MS);
		reap(child->pidfd);
		close(child->pidfd);
	}
	free(child);
}
