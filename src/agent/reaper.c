/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/fd.h"

/* The most that are reaped in one turn, so that a fork bomb can't keep the loop from its work. */
#define MAX_PER_TURN 256

/* Flags of a process as /proc tells them (the kernel's linux/sched.h). */
#define PF_EXITING    0x4
#define PF_FORKNOEXEC 0x40

/* Return: The flags, or 0 when it's gone */
static unsigned long process_flags(pid_t pid)
{
	_cleanup_(freep) char *text = NULL;
	unsigned long flags;
	char path[32];
	char *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (file_read(AT_FDCWD, path, 4096, &text, NULL) < 0)
		return 0;
	/* The name before may hold anything; flags are the seventh field after it. */
	end = strrchr(text, ')');
	return end && sscanf(end, ") %*c %*d %*d %*d %*d %*d %lu", &flags) == 1 ? flags : 0;
}

static void keep(struct reaper *r, pid_t pid, int status)
{
	r->unclaimed[r->next].pid = pid;
	r->unclaimed[r->next].status = status;
	r->next = (r->next + 1) % REAPER_KEEP;
}

static struct reaper_entry *find(struct reaper *r, pid_t pid)
{
	struct reaper_entry *entry;

	list_for_each (entry, &r->entries, node)
		if (entry->pid == pid)
			return entry;
	return NULL;
}

/* Reap one that has ended, of which the kernel still knows everything. */
static void reap_one(struct reaper *r, const siginfo_t *info)
{
	struct reaper_entry *entry = find(r, info->si_pid);
	int status = info->si_code == CLD_EXITED ? info->si_status : 128 + info->si_status;
	siginfo_t ignored;

	if (info->si_code == CLD_EXITED && status != 0 && (entry ? entry->program : r->held > 0) &&
	    process_flags(info->si_pid) & PF_FORKNOEXEC)
		status |= REAPER_NEVER_RAN;
	(void)waitid(P_PID, (id_t)info->si_pid, &ignored, WEXITED | WNOHANG);
	if (entry) {
		list_remove(&entry->node);
		entry->ended(entry, status);
	} else if (r->held > 0) {
		keep(r, info->si_pid, status);
	}
}

static void reap(void *data)
{
	struct reaper *r = data;

	for (int i = 0; i < MAX_PER_TURN; i++) {
		siginfo_t info = { 0 };

		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0) {
			if (errno == EINTR)
				continue;
			return; /* no children */
		}
		if (info.si_pid == 0)
			return;
		reap_one(r, &info);
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

bool reaper_never_ran(const struct reaper *r, pid_t pid)
{
	unsigned long flags = process_flags(pid);

	for (size_t i = 0; i < REAPER_KEEP; i++)
		if (r->unclaimed[i].pid == pid && r->unclaimed[i].status & REAPER_NEVER_RAN)
			return true;
	return flags & PF_FORKNOEXEC && flags & PF_EXITING;
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
