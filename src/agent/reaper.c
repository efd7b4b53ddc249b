/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reaper.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

/* The most that are reaped in one turn, so that a fork bomb can't keep the loop from its work. */
#define MAX_PER_TURN 256

static void keep(struct reaper *r, pid_t pid, int status)
{
	r->unclaimed[r->next].pid = pid;
	r->unclaimed[r->next].status = status;
	r->next = (r->next + 1) % REAPER_KEEP;
}

static void ended(struct reaper *r, pid_t pid, int status)
{
	struct reaper_entry *entry;

	list_for_each (entry, &r->entries, node) {
		if (entry->pid == pid) {
			list_remove(&entry->node);
			entry->ended(entry, status);
			return;
		}
	}
	if (r->held > 0)
		keep(r, pid, status);
}

static void reap(void *data)
{
	struct reaper *r = data;

	for (int i = 0; i < MAX_PER_TURN; i++) {
		siginfo_t info = { 0 };

		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) < 0) {
			if (errno == EINTR)
				continue;
			return; /* no children */
		}
		if (info.si_pid == 0)
			return;
		ended(r, info.si_pid,
		      info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status);
	}
	loop_timer_set(r->again, 0);
}

static void on_sigchld(void *data, int signum)
{
	reap(data);
}

int reaper_init(struct reaper *r, struct loop *loop)
{
	int ret;

	memset(r, 0, sizeof(*r));
	r->loop = loop;
	list_init(&r->entries);
	ret = loop_signal_new(loop, SIGCHLD, on_sigchld, r, &r->signal);
	if (ret == 0)
		ret = loop_timer_new(loop, 0, reap, r, &r->again);
	return ret;
}

void reaper_done(struct reaper *r)
{
	loop_signal_free(r->signal);
	loop_timer_free(r->again);
	while (!list_empty(&r->entries))
		list_remove(r->entries.next);
}

int reaper_watch(struct reaper *r, struct reaper_entry *entry, int *status)
{
	for (size_t i = 0; i < REAPER_KEEP; i++) {
		if (r->unclaimed[i].pid != entry->pid)
			continue;
		/* A process of that number that lives is a later one. */
		if (kill(entry->pid, 0) == 0)
			break;
		*status = r->unclaimed[i].status;
		r->unclaimed[i].pid = 0;
		list_init(&entry->node);
		return 1;
	}
	list_append(&r->entries, &entry->node);
	return 0;
}

void reaper_hold(struct reaper *r)
{
	r->held++;
}

void reaper_release(struct reaper *r)
{
	if (--r->held > 0)
		return;
	for (size_t i = 0; i < REAPER_KEEP; i++)
		r->unclaimed[i].pid = 0;
}
