/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_OOM_H
#define PODVM_AGENT_OOM_H

/*
 * Noticing that the kernel killed a container's process for want of memory: the counter oom_kill
 * in memory.events of the container's cgroup rises, whether its own limit or the pod's was met,
 * and inotify says so. The counter rises before the victim dies, so whoever handles an exit
 * and calls oom_check() first reports the two in their order.
 */

#include "loop/loop.h"

struct agent;
struct container;

struct oom {
	struct agent *agent;
	int inotify;
	struct loop_io *watch;
};

/** oom_init() - Start. Return: 0 or a negative errno */
int oom_init(struct oom *o, struct agent *a);

/** oom_done() - Stop */
void oom_done(struct oom *o);

/** oom_watch() - Watch a container whose cgroup exists. Return: Watch or a negative errno */
int oom_watch(struct oom *o, const char *id);

/** oom_unwatch() - Forget a watch; < 0 is fine */
void oom_unwatch(struct oom *o, int watch);

/** oom_check() - Report a kill that has not been reported yet */
void oom_check(struct container *c);

#endif
