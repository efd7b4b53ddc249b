/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_SANDBOX_H
#define PODVM_AGENT_SANDBOX_H

#include "agent/agent.h"

/* Where containers with a shared PID namespace find it (linux.namespaces[].path). */
#define PID_NAMESPACE "/run/podvm/ns/pid"

/** sandbox_host_gone() - The connection was closed: end the sandbox and reset the machine */
void sandbox_host_gone(struct agent *a);

/** sandbox_reset() - Reset the machine, now, which ends the VMM */
void sandbox_reset(void);

#endif
