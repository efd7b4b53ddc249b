/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_AGENT_CLIENT_H
#define PODVM_SANDBOX_AGENT_CLIENT_H

/* Calls of the agent protocol (proto/podvm/agent/v1/agent.proto). */

#include <errno.h>

#include "proto/agent.pb-c.h"
#include "ttrpc/ttrpc.h"

/*
 * Deadline of calls that the agent answers on its own; starting a container is one of them. It's
 * longer than any caller waits: that the guest hangs is found out sooner, and otherwise (alive.c).
 */
#define AGENT_TIMEOUT_MS 300000

/* For calls whose answer changes nothing. */
static inline void agent_ignore(void *data, const ProtobufCMessage *msg, const struct err *e)
{
}

/** agent_call() - ttrpc_call() of a method of podvm.agent.v1.Agent; -ENOTCONN without a client */
static inline int agent_call(struct ttrpc_client *client, const char *method,
			     const ProtobufCMessage *req, uint64_t timeout_ms, ttrpc_done done,
			     void *data, struct ttrpc_pending **ret)
{
	if (!client)
		return -ENOTCONN;
	return ttrpc_call(client, &podvm__agent__v1__agent__descriptor, method, req, timeout_ms,
			  done, data, ret);
}

#endif
