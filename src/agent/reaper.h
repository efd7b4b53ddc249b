/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_REAPER_H
#define PODVM_AGENT_REAPER_H

/*
 * Theory of operation
 *
 * PID 1 is the parent of every orphan of the guest, and every process that ends must be reaped.
 * So there is one place that waits, for all children, on SIGCHLD; nobody else in the agent calls
 * wait(). Who started a process watches its pid and is told its exit status. All others are
 * reaped in silence.
 *
 * Containers' processes are started by crun, which writes their pid into a file and ends: such a
 * process may be over before its pid is known. Between reaper_hold() and reaper_release() the
 * reaper therefore keeps the statuses of the last ends that nobody watched, and reaper_watch()
 * looks there first. Only crun's direct children and orphans of processes without a PID namespace
 * come here as orphans, so a few hundred are plenty.
 *
 * A pid stays ours until it has been reaped here, in one thread: kill() of a watched pid never
 * hits another process.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "base/list.h"
#include "loop/loop.h"

#define REAPER_KEEP 256

/* In a status: it ended before it became the program that it was to run. */
#define REAPER_NEVER_RAN 0x100

/**
 * struct reaper_entry - A pid that is watched; part of its owner's object
 * @node:	In the reaper's list, or initialised
 * @pid:	Process
 * @ended:	Called once, when it's gone and the entry is no longer in the list; @status is
 *0-255, 128 + signal when a signal ended it
 * @program:	It's to run a program: @ended is told REAPER_NEVER_RAN
 */
struct reaper_entry {
	struct list node;
	pid_t pid;
	bool program;
	void (*ended)(struct reaper_entry *entry, int status);
};

struct reaper {
	struct loop *loop;
	struct loop_signal *signal;
	struct loop_timer *again; /* the rest of a long row of ends, in the next turn */
	struct list entries;
	unsigned int held;
	size_t next; /* slot of the oldest of these */
	struct {
		pid_t pid;
		int status;
	} unclaimed[REAPER_KEEP];
};

/** reaper_init() - Start reaping. Return: 0 or a negative errno */
int reaper_init(struct reaper *r, struct loop *loop);

/** reaper_done() - Stop; what is watched stays initialised */
void reaper_done(struct reaper *r);

/**
 * reaper_watch() - Be told when a process ends
 * @r:		Reaper
 * @entry:	With @pid and @ended set; not in a list
 * @status:	Set when it has ended already
 *
 * Return: 0, or 1 when it has ended already: @ended will not be called
 */
int reaper_watch(struct reaper *r, struct reaper_entry *entry, int *status);

/**
 * reaper_never_ran() - Whether a process ended, or is about to, without having run its program
 * @r:		Reaper, held since before the process was started
 * @pid:	Process, not watched
 */
bool reaper_never_ran(const struct reaper *r, pid_t pid);

/** reaper_hold() - From now on keep the ends that nobody watches (counts) */
void reaper_hold(struct reaper *r);

/** reaper_release() - Undo reaper_hold(); the last one forgets what was kept */
void reaper_release(struct reaper *r);

#endif
