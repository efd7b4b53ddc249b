/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_PROCS_H
#define PODVM_CLI_PROCS_H

/* What a sandbox costs the host: its processes and their memory. */

#include <stddef.h>
#include <sys/types.h>

#include "oci/json.h"
#include "sandbox/process_memory.h"

/**
 * struct host_process - A process of a sandbox; zero where the kernel doesn't tell
 * @pid:	Its number
 * @name:	As in /proc/PID/stat
 * @role:	"owner", "monitor", "guard" (of a machine of the pool) or "helper"
 * @memory:	What it has of it
 */
struct host_process {
	pid_t pid;
	char name[32];
	const char *role;
	struct process_memory memory;
};

/**
 * host_processes() - The owner of a sandbox and everything below it
 * @owner:	Process that owns the sandbox
 * @monitor:	Process of its monitor, which needn't be below it; 0: there is none
 * @ret:	Array, freed by the caller; the owner is the first
 * @ret_n:	Its length, 0 when the owner has gone
 *
 * Return: 0 or a negative errno
 */
int host_processes(pid_t owner, pid_t monitor, struct host_process **ret, size_t *ret_n);

/** host_processes_json() - An object for each of @n processes at the end of @array; or -ENOMEM */
int host_processes_json(struct json_object *array, const struct host_process *v, size_t n);

#endif
