/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_PROCESS_MEMORY_H
#define PODVM_SANDBOX_PROCESS_MEMORY_H

#include <stdint.h>
#include <sys/types.h>

/**
 * struct process_memory - What a process has of the host's memory, in bytes
 * @pss:	Its share, where pages are shared
 * @private:	What nobody else has
 */
struct process_memory {
	uint64_t pss;
	uint64_t private;
};

/** process_memory() - Zeros where the kernel doesn't tell */
struct process_memory process_memory(pid_t pid);

#endif
