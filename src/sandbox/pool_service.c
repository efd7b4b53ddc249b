/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeping machines waiting. One guard is started after the other; each is a connection, whose end
 * says that its machine was taken, or has ended. Nothing else has to be remembered, or undone at
 * the end: guards that still wait notice that we're gone.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/spawn.h"
#include "sandbox/pool.h"
#include "sandbox/process_memory.h"

/* Whoever has taken a machine is busy with it; the next one can wait that long. */
#define REFILL_MS 500

/* After a failure; and nothing tells that the host has memory again. */
#define RETRY_MS 30000

/* More private memory than a machine that has just been started has. */
#define GUESS_MEMORY ((uint64_t)48 << 20)

/**
 * struct slot - A guard
 * @fd:		Connection to it
 * @vmm_pid:	Its monitor, 0: it's still being started
 */
struct slot {
	struct list node;
	struct service *service;
	enum template_nic nic;
	int fd;
	struct loop_io *io;
	pid_t vmm_pid;
};

/**
 * struct service - The pool
 * @timer:	Until a next one may be started, NULL: it may
 * @inotify:	Follows the directory of the templates
 */
struct service {
	const struct pool_service_config *c;
	struct loop *loop;
	struct list slots;
	struct loop_timer *timer;
	int inotify;
	struct loop_io *inotify_io;
	struct loop_signal *signals[2];
	bool over;
};

static void fill(struct service *s);

/* ---- guards ---- */

static void slot_free(struct slot *slot)
{
	list_remove(&slot->node);
	loop_io_free(slot->io);
	close_fdp(&slot->fd);
	free(slot);
}

static void on_timer(void *data)
{
	struct service *s = data;

	loop_timer_free(TAKE_PTR(s->timer));
	fill(s);
}

static void fill_in(struct service *s, uint64_t ms)
{
	loop_timer_free(TAKE_PTR(s->timer));
	if (loop_timer_new(s->loop, ms, on_timer, s, &s->timer) < 0)
		s->over = true;
}

static void on_guard(void *data, int events)
{
	struct slot *slot = data;
	struct service *s = slot->service;
	struct pool_ready ready;
	ssize_t n = recv(slot->fd, &ready, sizeof(ready), MSG_DONTWAIT);
	bool waited = slot->vmm_pid > 0;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n == (ssize_t)sizeof(ready) && !waited) {
		slot->vmm_pid = ready.vmm_pid;
		fill(s);
		return;
	}
	slot_free(slot);
	fill_in(s, waited ? REFILL_MS : RETRY_MS);
}

static int spawn_guard(const char *net, int fd, struct err *e)
{
	char *argv[] = { (char *)"podvm", (char *)"pool", (char *)"guard",
			 (char *)"--net", (char *)net,	  NULL };
	struct spawn s = SPAWN_INIT;
	int pidfd;

	s.path = "/proc/self/exe";
	s.argv = argv;
	s.cwd = "/";
	s.stderr_fd = STDERR_FILENO;
	s.new_session = true;
	s.survive = true;
	if (spawn_fd(&s, fd) != POOL_SERVICE_FD)
		return err_set(e, -EBADF, "cannot pass the socket");
	pidfd = spawn_start(&s, NULL, e);
	if (pidfd < 0)
		return pidfd;
	close(pidfd);
	return 0;
}

static int add_guard(struct service *s, enum template_nic nic, struct err *e)
{
	static const char *const nets[TEMPLATE_NICS] = { "none", "user", "pod" };
	_cleanup_(close_fdp) int theirs = -EBADF;
	struct slot *slot = calloc(1, sizeof(*slot));
	int fds[2];
	int r;

	if (!slot)
		return err_oom(e);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0) {
		free(slot);
		return err_errno(e, -errno, "cannot make a socket");
	}
	theirs = fds[1];
	*slot = (struct slot){ .service = s, .nic = nic, .fd = fds[0] };
	list_append(&s->slots, &slot->node);
	r = loop_io_new(s->loop, slot->fd, LOOP_READ, on_guard, slot, &slot->io);
	if (r < 0)
		err_errno(e, r, "cannot watch a guard");
	else
		r = spawn_guard(nets[nic], theirs, e);
	if (r < 0)
		slot_free(slot);
	return r;
}

/* ---- how many ---- */

static unsigned int count(const struct service *s, enum template_nic nic)
{
	unsigned int n = 0;
	struct slot *slot;

	list_for_each (slot, &s->slots, node)
		n += slot->nic == nic;
	return n;
}

static bool has_room(const struct service *s)
{
	uint64_t used = 0;
	uint64_t largest = GUESS_MEMORY;
	struct slot *slot;

	if (s->c->max_memory == 0)
		return true;
	list_for_each (slot, &s->slots, node) {
		uint64_t bytes = process_memory(slot->vmm_pid).private;

		used += bytes;
		largest = MAX(largest, bytes);
	}
	return used + largest <= s->c->max_memory;
}

static bool is_starting(const struct service *s)
{
	struct slot *slot;

	list_for_each (slot, &s->slots, node)
		if (slot->vmm_pid == 0)
			return true;
	return false;
}

/* One at a time: what waits takes nothing from pods, and neither should its start. */
static void fill(struct service *s)
{
	struct err e = { 0 };

	if (s->timer || is_starting(s))
		return;
	for (int nic = 0; nic < TEMPLATE_NICS; nic++) {
		if (count(s, (enum template_nic)nic) >= s->c->wanted[nic])
			continue;
		if (!has_room(s)) {
			log_info("the pool has no room for more machines", "");
			fill_in(s, RETRY_MS);
		} else if (add_guard(s, (enum template_nic)nic, &e) < 0) {
			log_warn("cannot start a machine", "error=\"%s\"", e.msg);
			fill_in(s, RETRY_MS);
		}
		return;
	}
}

/* ---- templates come and go ---- */

static void on_templates(void *data, int events)
{
	static const char request = POOL_CHECK;
	struct service *s = data;
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	struct slot *slot;

	if (read(s->inotify, buf, sizeof(buf)) <= 0)
		return;
	list_for_each (slot, &s->slots, node)
		if (slot->vmm_pid)
			(void)send(slot->fd, &request, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	/* What has failed may be possible now. */
	fill_in(s, 0);
}

static int watch_templates(struct service *s, struct err *e)
{
	int r = mkdir_p(s->c->templates, 0700);

	s->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (r == 0 && s->inotify < 0)
		r = -errno;
	if (r == 0 && inotify_add_watch(s->inotify, s->c->templates, IN_MOVED_TO | IN_DELETE) < 0)
		r = -errno;
	if (r == 0)
		r = loop_io_new(s->loop, s->inotify, LOOP_READ, on_templates, s, &s->inotify_io);
	return r < 0 ? err_errno(e, r, "cannot follow %s", s->c->templates) : 0;
}

/* ---- all of it ---- */

static void on_signal(void *data, int signum)
{
	struct service *s = data;

	s->over = true;
}

static int start(struct service *s, struct err *e)
{
	static const int signals[] = { SIGTERM, SIGINT };
	int r = loop_new(&s->loop);

	/* Guards end when they like; nobody wants to know their exit codes. */
	signal(SIGCHLD, SIG_IGN);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(signals); i++)
		r = loop_signal_new(s->loop, signals[i], on_signal, s, &s->signals[i]);
	if (r < 0)
		return err_errno(e, r, "cannot begin");
	return watch_templates(s, e);
}

static void service_done(struct service *s)
{
	while (!list_empty(&s->slots))
		slot_free(list_entry(s->slots.next, struct slot, node));
	loop_timer_free(s->timer);
	loop_io_free(s->inotify_io);
	close_fdp(&s->inotify);
	for (size_t i = 0; i < ARRAY_SIZE(s->signals); i++)
		loop_signal_free(s->signals[i]);
	loop_free(s->loop);
}

int pool_service(const struct pool_service_config *c, struct err *e)
{
	_cleanup_(service_done) struct service s = { .c = c, .inotify = -EBADF };
	int r;

	list_init(&s.slots);
	r = start(&s, e);
	if (r < 0)
		return r;
	fill(&s);
	(void)loop_run_until(s.loop, &s.over, -1);
	return 0;
}
