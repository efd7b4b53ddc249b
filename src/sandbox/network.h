/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_NETWORK_H
#define PODVM_SANDBOX_NETWORK_H

/* The network's part of a sandbox's start, for start.c and sandbox.c. */

#include "proto/agent.pb-c.h"
#include "sandbox/sandbox.h"

/** sandbox_start_network(), sandbox_stop_network() - Stage "network": user mode, a pod's, or none */
int sandbox_start_network(void *obj, struct err *e);
void sandbox_stop_network(void *obj);

/**
 * sandbox_add_nics() - The machine's network devices
 * @sb:		Sandbox
 * @config:	Gets them
 *
 * Return: A descriptor for the caller to close when the monitor has its copy, or -EBADF
 */
int sandbox_add_nics(struct sandbox *sb, struct vmm_config *config);

/** sandbox_start_forward() - Stage "forward": connections to a pod's localhost reach the guest's */
int sandbox_start_forward(void *obj, struct err *e);
void sandbox_stop_forward(void *obj);

/* struct network_message - What a struct net_config says, in the agent's words; borrows from it */
struct network_message {
	Podvm__Agent__V1__Interface interfaces[NET_MAX_INTERFACES];
	Podvm__Agent__V1__Interface *interface_pointers[NET_MAX_INTERFACES];
	char *addresses[NET_MAX_INTERFACES][NET_MAX_ADDRESSES];
	Podvm__Agent__V1__Route routes[NET_MAX_ROUTES];
	Podvm__Agent__V1__Route *route_pointers[NET_MAX_ROUTES];
	Podvm__Agent__V1__Neighbor neighbors[NET_MAX_NEIGHBORS];
	Podvm__Agent__V1__Neighbor *neighbor_pointers[NET_MAX_NEIGHBORS];
};

/** network_message_fill() - Put @config into @req by way of @m, which must live as long */
void network_message_fill(struct network_message *m, const struct net_config *config,
			  Podvm__Agent__V1__ConfigureSandboxRequest *req);

#endif
