/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_FORWARD_H
#define PODVM_SANDBOX_FORWARD_H

/*
 * Theory of operation
 *
 * Port-forward: every connection that a pod's listener (net_pod_listener()) accepts goes on to the
 * same port of the guest's localhost. The agent makes that connection (Connect) and moves its bytes
 * as it does with a process's streams, so streams.h does the rest, with its backpressure. A
 * connection that nobody in the guest takes is reset, which is as near to "refused" as can be once
 * it has been accepted.
 *
 * The end that either side tells is told to the other one; when the guest's side has sent all it
 * will, the connection is closed.
 */

#include "loop/loop.h"
#include "ttrpc/ttrpc.h"

struct forward;

/**
 * forward_new() - Begin to accept
 * @loop:	Loop
 * @agent:	Speaks the agent protocol
 * @fd:		Listening, non-blocking TCP socket; both are borrowed as long as this lives
 * @ret:	The forwarder
 *
 * Return: 0 or a negative errno
 */
int forward_new(struct loop *loop, struct ttrpc_client *agent, int fd, struct forward **ret);

/** forward_free() - Close all connections, stop accepting; NULL is fine */
void forward_free(struct forward *f);

#endif
