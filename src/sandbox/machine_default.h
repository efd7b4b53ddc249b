/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_MACHINE_DEFAULT_H
#define PODVM_SANDBOX_MACHINE_DEFAULT_H

/* What a machine is like when nobody says what it should be like. */

#include "config/config.h"
#include "sandbox/sandbox.h"

/** machine_host_cpus() - CPUs that we may use */
unsigned int machine_host_cpus(void);

/** machine_host_memory() - Bytes that the host has */
uint64_t machine_host_memory(void);

/**
 * machine_default() - Monitor, machine and start as they are configured
 * @config:	Configuration, borrowed as long as the sandbox lives
 * @c:		Gets driver, machine, binary, accel, debug, directories, users and deadlines
 *
 * Return: 0 or -EINVAL
 */
int machine_default(const struct config *config, struct sandbox_config *c, struct err *e);

/** machine_default_maximum() - How far a pod's machine of this size may grow */
void machine_default_maximum(const struct config *config, struct sandbox_config *c);

#endif
