/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_SOCKET_RELAY_H
#define PODVM_SANDBOX_SOCKET_RELAY_H

/*
 * Theory of operation
 *
 * Moves what two ends of a unix socket say to each other: one is a connection of the agent's, the
 * other a descriptor of ours. In each direction there is one piece under way, of at most
 * SOCKET_RELAY_MAX bytes, and the next one is asked for when it has been taken; so either end may
 * be as slow as it likes. Of a seqpacket socket a piece is a message, and stays one.
 *
 *	out	ReadOutput -> send it all -> ReadOutput ... eof: shutdown(SHUT_WR); closed: the end
 *	in	receive -> WriteInput answered -> receive ... eof: CloseInput; hung up: the end
 *
 * It's also over when both directions have ended, and when one end can't be written to: then it has
 * gone. Nothing is done about what is still on its way to an end that has.
 */

#include "base/err.h"
#include "loop/loop.h"
#include "ttrpc/ttrpc.h"

#define SOCKET_RELAY_MAX 65536 /* also of a message */

/**
 * struct socket_relay_config - What to move; borrowed as long as the relay lives
 * @id:		Of the agent's connection
 * @fd:		Ours, connected and non-blocking; taken when socket_relay_new() succeeds
 * @done:	Called once, with what went wrong, or NULL for an end as any other; the relay may be
 *		freed here
 */
struct socket_relay_config {
	struct loop *loop;
	struct ttrpc_client *agent;
	const char *id;
	int fd;
	void (*done)(void *data, const struct err *e);
	void *data;
};

struct socket_relay;

/** socket_relay_new() - Begin. Return: 0 or a negative errno */
int socket_relay_new(const struct socket_relay_config *config, struct socket_relay **ret);

/** socket_relay_free() - Stop, and close our end; NULL is fine */
void socket_relay_free(struct socket_relay *r);

#endif
