/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_PROCIO_H
#define PODVM_SHIM_PROCIO_H

/*
 * Theory of operation
 *
 * The streams of a process, as containerd names them: a path is a fifo that containerd made and
 * has opened at its side, "file:///path" is a file to append to, "binary:///path" a program that
 * takes both outputs (logger.h), empty is nothing.
 *
 * A fifo is opened for reading and writing. So opening never waits, and while containerd is away
 * (it may be restarted at any time) writers get no EPIPE and the process no end of its input: a
 * full fifo stalls that one stream. Its reader sees the end when the stream is done and the last
 * descriptor of ours is closed. The process sees the end of its input when CloseIO has been called
 * and the client has closed its side.
 */

#include <stdbool.h>

#include "base/err.h"
#include "sandbox/streams.h"

/**
 * struct procio_paths - What containerd says
 * @stdin, @stdout, @stderr: Paths or URIs, owned; empty: none
 * @terminal:	One stream for everything that comes out
 */
struct procio_paths {
	char *stdin;
	char *stdout;
	char *stderr;
	bool terminal;
};

/** procio_paths_set() - Copy what a request says. Return: 0, -EINVAL or -ENOMEM */
int procio_paths_set(struct procio_paths *p, const char *in, const char *out, const char *err,
		     bool terminal, struct err *e);

void procio_paths_done(struct procio_paths *p);

/**
 * struct procio - Streams of one process
 * @fds:	Where output goes
 * @in:		Input, open until CloseIO
 * @streams:	Moves the bytes
 * @logger:	Program that takes the output
 * @streams_done: All output was written
 * @done:	And the program has ended, or the streams never began
 */
struct procio {
	int fds[STREAMS_COUNT];
	int in;
	struct streams *streams;
	struct loop_child *logger;
	bool streams_done;
	bool done;
	void (*cb)(void *data);
	void *data;
};

/** procio_init() - Streams that aren't open */
void procio_init(struct procio *io);

/**
 * procio_start() - Open everything and move bytes
 * @io:		Initialised
 * @paths:	What to open
 * @config:	Loop, client and ids of the process; the rest is filled in
 * @namespace:	Of containerd, for a program
 * @cb:		Called once when all output has been written
 * @data:	For @cb
 * @e:		Says what can't be opened
 *
 * Return: 0 or a negative errno
 */
int procio_start(struct procio *io, const struct procio_paths *paths,
		 const struct streams_config *config, const char *namespace, void (*cb)(void *data),
		 void *data, struct err *e);

/** procio_close_input() - No more input but what the client still writes */
void procio_close_input(struct procio *io);

/** procio_done() - Close everything; what wasn't written is lost */
void procio_done(struct procio *io);

#endif
