/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_PROCS_H
#define PODVM_CLI_PROCS_H

/* What a sandbox costs the host: its processes and their memory. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * struct host_process - A process of a sandbox; zero where the kernel doesn't tell
 * @pid:	Its number
 * @name:	As in /proc/PID/stat
 * @pss:	Bytes of memory, shared pages counted in proportion
 * @private:	Bytes that nobody else has
 */
struct host_process {
	pid_t pid;
	char name[32];
	uint64_t pss;
	uint64_t private;
};

/**
 * host_processes() - The owner of a sandbox and everything below it
 * @owner:	Process that owns the sandbox
 * @ret:	Array, freed by the caller; the owner is the first
 * @ret_n:	Its length, 0 when the owner has gone
 *
 * Return: 0 or a negative errno
 */
int host_processes(pid_t owner, struct host_process **ret, size_t *ret_n);

#endif
