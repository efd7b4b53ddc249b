/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_SANDBOX_H
#define PODVM_AGENT_SANDBOX_H

#include "agent/agent.h"
#include "agent/service.h"

/* Where containers with a shared PID namespace find it (linux.namespaces[].path). */
#define PID_NAMESPACE "/run/podvm/ns/pid"

/**
 * sandbox_configure() - Do what ConfigureSandbox asks for, in the namespaces of the caller
 * @a:		Agent
 * @req:	Its request
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int sandbox_configure(struct agent *a, const PB(ConfigureSandboxRequest) * req, struct err *e);

/** sandbox_host_gone() - The connection was closed: end the sandbox and reset the machine */
void sandbox_host_gone(struct agent *a);

/** sandbox_reset() - Reset the machine, now, which ends the VMM */
void sandbox_reset(void);

#endif
