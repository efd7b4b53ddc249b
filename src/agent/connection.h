/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_CONNECTION_H
#define PODVM_AGENT_CONNECTION_H

/*
 * Connections under ids that the host chooses: TCP to servers on the guest's localhost
 * (port-forward), which Connect makes, and those that were made to a socket of ours (socket.h).
 * Their bytes are moved as those of a process without standard error: ReadOutput, WriteInput,
 * CloseInput (the other end sees the end of the stream) and RemoveProcess, with an empty
 * container_id and the connection's id as exec_id.
 */

#include "agent/agent.h"
#include "agent/streams.h"

#define CONNECTIONS_MAX 512

/** connection_streams() - Streams of a connection that has been made, or NULL */
struct streams *connection_streams(struct agent *a, const char *id);

/** connection_id_valid() - Whether it can name a connection */
bool connection_id_valid(const char *id);

/**
 * connection_accepted() - A connection that is there already
 * @id:		Its id, valid
 * @fd:		Connected unix socket, taken also on failure
 *
 * Return: 0, -EEXIST, -ENFILE (there are CONNECTIONS_MAX) or another negative errno
 */
int connection_accepted(struct agent *a, const char *id, int fd);

/** connection_remove() - Close one. Return: 0 or -ENOENT */
int connection_remove(struct agent *a, const char *id);

/** connections_done() - Close all of them */
void connections_done(struct agent *a);

#endif
