/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/spawn.h"

struct child {
	struct reaper_entry entry;
	struct loop_timer *deadline;
	const char *name;
	uint64_t timeout_ms;
	int result_fd; /* a worker's struct err comes here; -EBADF for a program */
	child_done done;
	void *data;
};

static void child_free(struct child *c)
{
	loop_timer_free(c->deadline);
	close_fdp(&c->result_fd);
	free(c);
}

DEFINE_CLEANUP(child_freep, struct child *, child_free)

/* Tell the owner, once. */
static void answer(struct child *c, const struct err *e)
{
	child_done done = c->done;

	c->done = NULL;
	if (done)
		done(c->data, e);
}

static void on_deadline(void *data)
{
	struct child *c = data;
	struct err e = { 0 };

	kill(c->entry.pid, SIGKILL);
	err_set(&e, -ETIMEDOUT, "%s did not end within %llu ms", c->name,
		(unsigned long long)c->timeout_ms);
	answer(c, &e);
}

/* What a worker left in its pipe; false: it died before it could say anything. */
static bool read_result(const struct child *c, struct err *e)
{
	if (c->result_fd < 0 || read(c->result_fd, e, sizeof(*e)) != (ssize_t)sizeof(*e))
		return false;
	e->stage[sizeof(e->stage) - 1] = '\0';
	e->msg[sizeof(e->msg) - 1] = '\0';
	e->hint[sizeof(e->hint) - 1] = '\0';
	return true;
}

static void on_end(struct reaper_entry *entry, int status)
{
	struct child *c = container_of(entry, struct child, entry);
	struct err e = { 0 };

	if (status != 0 && !read_result(c, &e)) {
		if (status > 128)
			err_set(&e, -ECHILD, "%s was ended by signal %d", c->name, status - 128);
		else
			err_set(&e, -ECHILD, "%s failed (%d)", c->name, status);
	}
	answer(c, status != 0 ? &e : NULL);
	child_free(c);
}

static int child_new(struct reaper *r, const char *name, uint64_t timeout_ms, child_done done,
		     void *data, struct child **ret, struct err *e)
{
	_cleanup_(child_freep) struct child *c = calloc(1, sizeof(*c));
	int code;

	if (!c)
		return err_oom(e);
	list_init(&c->entry.node);
	c->entry.ended = on_end;
	c->name = name;
	c->timeout_ms = timeout_ms;
	c->result_fd = -EBADF;
	c->done = done;
	c->data = data;
	code = loop_timer_new(r->loop, timeout_ms, on_deadline, c, &c->deadline);
	if (code < 0)
		return err_errno(e, code, "cannot start %s", name);
	*ret = TAKE_PTR(c);
	return 0;
}

int child_run(struct reaper *r, const struct spawn *s, uint64_t timeout_ms, child_done done,
	      void *data, struct err *e)
{
	_cleanup_(child_freep) struct child *c = NULL;
	int status;
	int code;

	code = child_new(r, s->path, timeout_ms, done, data, &c, e);
	if (code < 0)
		return code;
	code = spawn_start(s, &c->entry.pid, e);
	if (code < 0)
		return code;
	/* Only the reaper waits for it, by pid. */
	close(code);
	reaper_watch(r, &c->entry, &status);
	TAKE_PTR(c);
	return 0;
}

__attribute__((noreturn)) static void worker_main(int (*fn)(void *arg, struct err *e), void *arg,
						  int result_fd)
{
	struct err e = { 0 };

	/* The loop's handlers and descriptors belong to the parent. */
	spawn_reset_signals();
	if (result_fd != 3 && dup3(result_fd, 3, O_CLOEXEC) < 0)
		_exit(2);
	close_range(4, ~0U, 0);
	if (fn(arg, &e) == 0)
		_exit(0);
	(void)!write(3, &e, sizeof(e));
	_exit(1);
}

int child_work(struct reaper *r, const char *name, int (*fn)(void *arg, struct err *e), void *arg,
	       uint64_t timeout_ms, child_done done, void *data, struct err *e)
{
	_cleanup_(child_freep) struct child *c = NULL;
	_cleanup_(close_fdp) int result_w = -EBADF;
	int fds[2];
	int status;
	int code;

	code = child_new(r, name, timeout_ms, done, data, &c, e);
	if (code < 0)
		return code;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(e, -errno, "cannot start %s", name);
	c->result_fd = fds[0];
	result_w = fds[1];
	c->entry.pid = fork();
	if (c->entry.pid < 0)
		return err_errno(e, -errno, "cannot start %s", name);
	if (c->entry.pid == 0)
		worker_main(fn, arg, result_w);
	reaper_watch(r, &c->entry, &status);
	TAKE_PTR(c);
	return 0;
}
