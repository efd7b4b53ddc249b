/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_STORAGE_H
#define PODVM_AGENT_STORAGE_H

/*
 * Theory of operation
 *
 * A container asks for a list of mounts. Mounting and unmounting can take long (a disk has to
 * appear, a journal to be written), so a worker does it; one at a time, in the order of the
 * requests, so that two containers never work on the same mount at once.
 *
 * A mount point belongs to the first that asked for it. Whoever asks for exactly the same storage
 * at the same place shares it (the image that several containers use); it's unmounted when the
 * last of them lets go. The table of mounts changes only here, in the agent, when a worker has
 * succeeded.
 */

#include "agent/reaper.h"
#include "base/err.h"
#include "proto/agent.pb-c.h"

#define STORAGES_MAX 512 /* per container */

struct storage_mount;
struct storage_job;

/**
 * struct storage - All mounts made for containers
 * @reaper:	Runs the workers
 * @mounts:	struct storage_mount, in the order of mounting
 * @jobs:	Requests in their order
 * @running:	The one whose worker runs, or NULL
 */
struct storage {
	struct reaper *reaper;
	struct list mounts;
	struct list jobs;
	struct storage_job *running;
};

/**
 * struct storage_set - A container's mounts, in their order
 */
struct storage_set {
	struct storage_mount **v;
	size_t n;
};

/**
 * storage_named() - What of a container's mounts has a name
 * @set:	Mounts
 * @i:		The first to be looked at, moved behind the one that's found; begin with 0
 * @point:	Gets where it's mounted
 *
 * Return: Its name, or NULL at the end
 */
const char *storage_named(const struct storage_set *set, size_t *i, const char **point);

/** storage_init() - No mounts */
void storage_init(struct storage *st, struct reaper *reaper);

/** storage_free() - Forget everything, leaving what is mounted */
void storage_free(struct storage *st);

/**
 * storage_attach() - Mount a container's storages
 * @st:		Storage
 * @list:	Storages, borrowed until @done is called
 * @n:		Their number
 * @deadline_ms: Of clock_ms(); waiting for a turn included
 * @set:	Gets the mounts when @done is told of success; empty before
 * @done:	Called exactly once, maybe before this returns; on failure nothing is left mounted
 * @data:	For @done
 */
void storage_attach(struct storage *st, Podvm__Agent__V1__Storage *const *list, size_t n,
		    uint64_t deadline_ms, struct storage_set *set,
		    void (*done)(void *data, const struct err *e), void *data);

/**
 * storage_detach() - Let go of a container's mounts
 * @st:		Storage
 * @set:	Mounts, empty afterwards
 * @timeout_ms:	Deadline of the work itself
 * @done:	Called exactly once, maybe before this returns; failures are logged by the worker
 * @data:	For @done
 */
void storage_detach(struct storage *st, struct storage_set *set, uint64_t timeout_ms,
		    void (*done)(void *data, const struct err *e), void *data);

/**
 * storage_unmount_writable() - Unmount what may hold something back, newest first (in a worker, at
 * shutdown)
 * @st:		Storage
 *
 * The machine is about to end: caches of what is only read, of images above all, needn't be dropped
 * page by page before.
 */
void storage_unmount_writable(struct storage *st);

#endif
