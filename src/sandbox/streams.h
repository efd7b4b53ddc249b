/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_STREAMS_H
#define PODVM_SANDBOX_STREAMS_H

/*
 * Theory of operation
 *
 * Moves the standard streams of one guest process between the agent and descriptors of the host.
 * Output is asked for (ReadOutput) only while what was asked for before has mostly been written, so
 * a reader that stops stalls its own stream, in the guest, and nothing piles up here. Input is
 * read only when the agent has taken what was read before.
 *
 * Descriptors may be pipes, terminals, sockets or files. A pipe or terminal is opened again
 * through /proc for our own use, because O_NONBLOCK on the original would hit everybody who shares
 * it. It works on any client that serves the agent protocol: the agent's own connection or a
 * sandbox's control socket.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "loop/loop.h"
#include "ttrpc/ttrpc.h"

enum streams_which { STREAMS_STDOUT, STREAMS_STDERR, STREAMS_COUNT };

/**
 * struct streams_config - What to move; everything is borrowed as long as the relay lives
 * @loop:	Loop
 * @client:	Speaks the agent protocol
 * @container_id: Container
 * @exec_id:	Process, "" for the first one
 * @terminal:	It has a terminal: one output stream
 * @fds:	Where output goes, < 0: nowhere (it's read and dropped)
 * @stdin_fd:	Where input comes from, < 0: there is none
 * @output:	Sees every piece of output before it's written (for logs); may be NULL
 * @broken:	Called once when a reader of our output has gone (EPIPE); may be NULL
 * @done:	Called once when all output is at its end and written, or with what failed
 * @data:	For the callbacks
 */
struct streams_config {
	struct loop *loop;
	struct ttrpc_client *client;
	const char *container_id;
	const char *exec_id;
	bool terminal;
	int fds[STREAMS_COUNT];
	int stdin_fd;
	void (*output)(void *data, enum streams_which stream, const void *bytes, size_t n);
	void (*broken)(void *data);
	void (*done)(void *data, const struct err *e);
	void *data;
};

struct streams;

/** streams_new() - Begin to move. Return: 0 or a negative errno */
int streams_new(const struct streams_config *config, struct streams **ret);

/** streams_done() - Whether all output is at its end and written */
bool streams_done(const struct streams *s);

/** streams_free() - Stop; what wasn't written is lost. NULL is fine */
void streams_free(struct streams *s);

#endif
