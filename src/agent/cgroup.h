/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_CGROUP_H
#define PODVM_AGENT_CGROUP_H

/*
 * Theory of operation
 *
 * cgroup v2 is mounted at /sys/fs/cgroup with two children:
 *
 *	/agent	the agent, its workers and crun; what they use is protected from reclaim
 *	/pod	every container, as /pod/<container id> (the host puts that into cgroupsPath)
 *
 * /pod is limited to less memory and fewer processes than the guest has, so that a container that
 * takes all it can get meets the limit of its own cgroup: the OOM killer then chooses among the
 * containers, and the agent can always fork. A system-wide OOM, which could take crun or a worker
 * (never PID 1), doesn't come to pass.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/**
 * cgroup_setup() - Make /agent and /pod and go into /agent (once, at boot)
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int cgroup_setup(struct err *e);

/** cgroup_renew_pod() - Make /pod, which is empty, anew: nothing has been counted in it */
void cgroup_renew_pod(void);

/** cgroup_limit_pod() - Fit /pod's memory limit to the memory the guest has now */
void cgroup_limit_pod(void);

/**
 * cgroup_pod_limit() - The most memory that all containers together may have
 * @total:	Memory of the guest
 * @used:	What the kernel and the agent had of it before there was any container
 */
uint64_t cgroup_pod_limit(uint64_t total, uint64_t used);

/**
 * cgroup_open() - A container's cgroup directory
 * @id:		Container, or "" for /pod itself
 *
 * Return: Descriptor or a negative errno
 */
int cgroup_open(const char *id);

/** cgroup_kill() - Kill every process of a container ("" for all). Return: 0 or a negative errno */
int cgroup_kill(const char *id);

/**
 * cgroup_wait() - Block until a field of cgroup.events has a value (for workers)
 * @dir:	Cgroup directory
 * @field:	"populated" or "frozen"
 * @value:	Value
 * @deadline_ms: Of clock_ms()
 *
 * Return: 0, -ETIMEDOUT or another negative errno
 */
int cgroup_wait(int dir, const char *field, uint64_t value, uint64_t deadline_ms);

/** cgroup_remove() - Remove a cgroup that has no processes, and those below it */
int cgroup_remove(const char *id);

/**
 * cgroup_signal() - Send a signal to every process of a container
 * @id:		Container
 * @signum:	Signal
 *
 * Return: 0 or a negative errno
 */
int cgroup_signal(const char *id, int signum);

/**
 * cgroup_pids() - The processes of a container, those of cgroups that it made itself included
 * @id:		Container
 * @ret:	Allocated array
 * @max:	The most that are returned
 *
 * Return: Their number or a negative errno
 */
int cgroup_pids(const char *id, int **ret, size_t max);

/**
 * cgroup_field() - A value of a flat keyed file ("name 123\n" lines)
 * @text:	Content of the file
 * @name:	Key
 * @ret:	Value; "max" is UINT64_MAX
 *
 * Return: 0, -ENOENT, or -EINVAL when it's no number
 */
int cgroup_field(const char *text, const char *name, uint64_t *ret);

/** cgroup_u64() - A file with a single value; "max" is UINT64_MAX. Return: 0 or negative errno */
int cgroup_u64(int dir, const char *file, uint64_t *ret);

/** cgroup_oom_kills() - How many processes of a container the kernel killed for want of memory */
uint64_t cgroup_oom_kills(const char *id);

#endif
