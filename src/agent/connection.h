/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_CONNECTION_H
#define PODVM_AGENT_CONNECTION_H

/*
 * TCP connections to servers on the guest's localhost (port-forward). Connect makes one, under an
 * id that the host chooses; its bytes are moved as those of a process without standard error:
 * ReadOutput, WriteInput, CloseInput (the other end sees the end of the stream) and RemoveProcess,
 * with an empty container_id and the connection's id as exec_id.
 */

#include "agent/agent.h"
#include "agent/streams.h"

#define CONNECTIONS_MAX 256

/** connection_streams() - Streams of a connection that has been made, or NULL */
struct streams *connection_streams(struct agent *a, const char *id);

/** connection_remove() - Close one. Return: 0 or -ENOENT */
int connection_remove(struct agent *a, const char *id);

/** connections_done() - Close all of them */
void connections_done(struct agent *a);

#endif
