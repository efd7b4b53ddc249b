/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_RELAY_H
#define PODVM_CLI_RELAY_H

/*
 * Between the user of a command and a process in a guest: streams, the terminal and its size, and
 * signals. When the process has ended its output is read to the end; a background process that
 * holds it open doesn't keep the command for longer than RELAY_DRAIN_MS.
 */

#include <stdbool.h>

#include "loop/loop.h"
#include "sandbox/streams.h"
#include "ttrpc/ttrpc.h"

#define RELAY_DRAIN_MS 2000

/**
 * struct relay_config - What to relay; copied, what it points to lives as long as the relay
 * @terminal:	The process has a terminal
 * @input:	stdin is passed on
 * @quiet:	Nobody watches: output isn't shown
 * @signal:	A signal came, but SIGWINCH, which is dealt with
 * @output:	Gets all output as well; may be NULL
 * @broken:	Nobody reads our output any more
 * @failed:	The streams have failed
 * @drained:	All output has been written, or given up, after relay_drain()
 * @data:	For the callbacks
 */
struct relay_config {
	struct loop *loop;
	bool terminal;
	bool input;
	bool quiet;
	void (*signal)(void *data, int signum);
	void (*output)(void *data, enum streams_which stream, const void *bytes, size_t n);
	void (*broken)(void *data);
	void (*failed)(void *data, const struct err *e);
	void (*drained)(void *data);
	void *data;
};

struct relay;

/**
 * relay_new() - Begin with signals
 * @config:	What
 * @ret:	To be released with relay_free()
 *
 * Return: 0 or a negative errno
 */
int relay_new(const struct relay_config *config, struct relay **ret);

/**
 * relay_start() - There is a process now
 * @client:	Who forwards calls to the guest's agent
 * @container_id, @exec_id: Of the process; borrowed
 *
 * Return: 0 or a negative errno
 */
int relay_start(struct relay *r, struct ttrpc_client *client, const char *container_id,
		const char *exec_id);

/** relay_resize() - Tell the process the terminal's size, if it has one */
void relay_resize(struct relay *r);

/** relay_signal() - Send the process a signal */
void relay_signal(struct relay *r, int signum);

/** relay_drain() - The process has ended; @drained is called once, perhaps at once */
void relay_drain(struct relay *r);

/** relay_stop() - Leave the terminal as it was; the client isn't used nor output waited for any
 * more */
void relay_stop(struct relay *r);

/** relay_free() - NULL is fine */
void relay_free(struct relay *r);

#endif
