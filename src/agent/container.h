/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_CONTAINER_H
#define PODVM_AGENT_CONTAINER_H

/*
 * A container from Create to Remove.
 *
 *	CreateContainer: check -> mount storages -> write the bundle -> crun create -> CREATED
 *	StartContainer:  let crun's waiting init go on                              -> RUNNING
 *	its init ends:   what is left of it is killed                               -> STOPPED
 *	RemoveContainer: kill, wait until the cgroup is empty, clean up, unmount
 *
 * A failed Create takes everything back before it's answered (unless it failed because its time was
 * up: then it's answered first, and the name is free a little later). One operation is under way
 * per container at a time (@busy); Exec, Signal and the stream calls are not such operations.
 */

#include <stdbool.h>
#include <stdint.h>

#include "agent/agent.h"
#include "agent/paths.h"
#include "agent/process.h"

#define SPEC_MAX ((size_t)1 << 20)

enum container_state {
	CONTAINER_CREATING,
	CONTAINER_CREATED,
	CONTAINER_RUNNING,
	CONTAINER_STOPPED,
};

/**
 * struct container - A container
 * @processes:	struct process; the first is the container's own
 * @busy:	An operation is under way
 * @paused:	Its cgroup is frozen
 * @execs:	Processes that crun is starting in it
 * @oom_watch:	Watch of memory.events, or < 0
 * @oom_kills:	Kills that were reported
 */
struct container {
	struct list node;
	struct agent *agent;
	char id[ID_MAX + 1];
	enum container_state state;
	bool busy;
	bool paused;
	unsigned int execs;
	struct list processes;
	struct storage_set mounts;
	int oom_watch;
	uint64_t oom_kills;
};

/** container_find() - Container by id, or NULL */
struct container *container_find(struct agent *a, const char *id);

/** container_init_process() - Its first process */
struct process *container_init_process(struct container *c);

/** container_process() - Process by id, or NULL */
struct process *container_process(struct container *c, const char *id);

/** container_bundle() - Path of its bundle, in @buf of PATH_LEN bytes */
const char *container_bundle(const struct container *c, char *buf);

/** container_init_ended() - Its first process has ended: nothing of it may live on */
void container_init_ended(struct container *c);

/** container_free() - Forget it with its processes; mounts must have been let go */
void container_free(struct container *c);

#endif
