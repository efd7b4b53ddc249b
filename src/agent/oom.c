/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/oom.h"

#include <errno.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/container.h"
#include "base/cleanup.h"
#include "base/log.h"

void oom_check(struct container *c)
{
	uint64_t kills = cgroup_oom_kills(c->id);

	if (kills <= c->oom_kills)
		return;
	log_warn("the kernel killed a process of a container, out of memory", "container=%s",
		 c->id);
	c->oom_kills = kills;
	events_add(&c->agent->events, PODVM__AGENT__V1__EVENT__TYPE__OOM, c->id, "", 0);
}

static void check_watch(struct oom *o, int wd)
{
	struct container *c;

	list_for_each (c, &o->agent->containers, node) {
		if (c->oom_watch == wd) {
			oom_check(c);
			return;
		}
	}
}

static void on_change(void *data, int events)
{
	struct oom *o = data;
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n = read(o->inotify, buf, sizeof(buf));

	for (ssize_t i = 0; i + (ssize_t)sizeof(struct inotify_event) <= n;) {
		const struct inotify_event *ev = (const void *)(buf + i);

		check_watch(o, ev->wd);
		i += (ssize_t)(sizeof(*ev) + ev->len);
	}
}

int oom_init(struct oom *o, struct agent *a)
{
	o->agent = a;
	o->watch = NULL;
	o->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (o->inotify < 0)
		return -errno;
	return loop_io_new(a->loop, o->inotify, LOOP_READ, on_change, o, &o->watch);
}

void oom_done(struct oom *o)
{
	loop_io_free(TAKE_PTR(o->watch));
	close_fdp(&o->inotify);
	o->inotify = -EBADF;
}

int oom_watch(struct oom *o, const char *id)
{
	char path[sizeof(DIR_POD) + ID_MAX + 32];
	int wd;

	snprintf(path, sizeof(path), DIR_POD "/%s/memory.events", id);
	wd = inotify_add_watch(o->inotify, path, IN_MODIFY);
	return wd < 0 ? -errno : wd;
}

void oom_unwatch(struct oom *o, int watch)
{
	if (watch >= 0)
		inotify_rm_watch(o->inotify, watch);
}
