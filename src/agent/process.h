/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_PROCESS_H
#define PODVM_AGENT_PROCESS_H

/*
 * One process that the host knows: a container's first one, or one of Exec. crun starts it and
 * writes its pid into a file; from then on the reaper tells when it ends. Its exit status and its
 * output stay until it's removed.
 */

#include <stdbool.h>
#include <stdint.h>

#include "agent/paths.h"
#include "agent/reaper.h"
#include "agent/streams.h"
#include "ttrpc/ttrpc.h"

struct container;

/**
 * enum process_state - Its life
 * @PROCESS_STARTING:	crun is making it
 * @PROCESS_RUNNING:	It has a pid (a container's first process may still wait for Start)
 * @PROCESS_EXITED:	It's gone, its exit status is known
 */
enum process_state { PROCESS_STARTING, PROCESS_RUNNING, PROCESS_EXITED };

/**
 * struct process - A process
 * @node:	In the container's list
 * @id:		Exec id, "" for the first one
 * @entry:	Its pid, watched by the reaper
 * @detached:	Nobody asks for it: it's removed when it has ended
 * @oom_before:	OOM kills of the container before it started
 * @waiters:	Calls of Wait
 */
struct process {
	struct list node;
	struct container *container;
	char id[ID_MAX + 1];
	enum process_state state;
	struct reaper_entry entry;
	struct streams io;
	uint32_t exit_status;
	uint64_t exited_at_ns;
	uint64_t oom_before;
	bool oom_killed;
	bool detached;
	struct list waiters;
};

/**
 * process_new() - A process about to be started, in its container's list
 * @c:		Container
 * @id:		Exec id or ""
 * @ret:	The process
 *
 * Return: 0 or -ENOMEM
 */
int process_new(struct container *c, const char *id, struct process **ret);

/**
 * process_running() - crun has started it
 * @p:		Process
 * @pid:	Its pid; it may be over already
 */
void process_running(struct process *p, int pid);

/** process_detach() - Drop what an exec prints, and remove it when it has ended, perhaps now */
void process_detach(struct process *p);

/** process_free() - Take it out of its container; pending calls are ended */
void process_free(struct process *p);

#endif
