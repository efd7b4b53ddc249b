/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_STREAMS_H
#define PODVM_AGENT_STREAMS_H

/*
 * Theory of operation
 *
 * A process has three pipes, or one pseudo-terminal whose master crun sends us over a unix socket
 * ("console socket"). Our ends are non-blocking; the process's ends are other open files, so
 * nothing of that is visible to it.
 *
 * The host pulls: a ReadOutput call is what makes us read, once, as much as there is and at most
 * what was asked for. Between calls the output stays in the pipe, and a process that writes more
 * than the pipe holds waits. So the agent's memory doesn't depend on what containers write. The
 * pipe's pages are charged to the container that filled them.
 *
 * WriteInput is answered when the last byte is in the pipe. At most one call per stream is under
 * way.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/spawn.h"
#include "loop/loop.h"
#include "ttrpc/ttrpc.h"

#define STREAMS_MAX_IO	   ((uint32_t)1 << 20) /* bytes of one call */
#define STREAMS_DEFAULT_IO ((uint32_t)64 << 10)

/**
 * struct streams_output - One direction out of the process; @call waits for data, or it's dropped
 * @socket:	A unix socket, perhaps of messages
 */
struct streams_output {
	struct loop *loop;
	int fd;
	struct loop_io *watch;
	struct ttrpc_call *call;
	uint32_t max;
	bool drop;
	bool socket;
};

/** struct streams_input - The direction into the process; @call waits for room */
struct streams_input {
	int fd;
	struct loop_io *watch;
	struct ttrpc_call *call;
	const uint8_t *data;
	size_t len;
	size_t done;
	bool close_after; /* CloseInput came while data was on its way */
	uint8_t last;	  /* byte that was written last */
};

/**
 * struct streams - Standard streams of one process
 * @terminal:	One pseudo-terminal instead of pipes
 * @out:	Standard output (and a terminal's), standard error
 * @in:		Standard input
 * @child:	Ends for the process, while it's being started
 * @console:	Listening socket for the terminal's master, while it's being started
 * @console_path: Where that socket is
 * @said:	What crun itself says, when the process has a terminal
 */
struct streams {
	struct loop *loop;
	bool terminal;
	struct streams_output out[2];
	struct streams_input in;
	int child[3];
	int console;
	char console_path[64];
	int said;
};

/** streams_init() - Nothing open */
void streams_init(struct streams *io, struct loop *loop);

/**
 * streams_open() - Make the pipes or the console socket
 * @io:		Initialised
 * @terminal:	Which of them
 * @input:	Standard input is a pipe, not /dev/null
 * @name:	Unique file name for the console socket
 * @e:		What failed
 *
 * Return: 0 or a negative errno; streams_done() frees what was opened
 */
int streams_open(struct streams *io, bool terminal, bool input, const char *name, struct err *e);

/** streams_give() - Put the process's ends into a program to be started */
void streams_give(const struct streams *io, struct spawn *s);

/** streams_given() - The program has been started: close the process's ends */
void streams_given(struct streams *io);

/**
 * streams_started() - crun has ended: take the terminal it sent
 * @columns:	Size of the terminal, 0: leave
 * @rows:	Size of the terminal
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int streams_started(struct streams *io, uint32_t columns, uint32_t rows, struct err *e);

/**
 * streams_said() - What crun printed when it failed
 * @buf:	Gets the text
 * @size:	Its size
 */
void streams_said(struct streams *io, char *buf, size_t size);

/** streams_read() - Serve ReadOutput of standard output (0) or error (1) */
void streams_read(struct streams *io, struct ttrpc_call *call, int stream, uint32_t max);

/** streams_drop() - Nobody will read the output: drop it, so that the process never waits */
void streams_drop(struct streams *io);

/** streams_write() - Serve WriteInput; @data lives until the call is answered */
void streams_write(struct streams *io, struct ttrpc_call *call, const uint8_t *data, size_t len);

/**
 * streams_close_input() - No more input will come
 *
 * A pipe is closed once everything is written. A terminal has no end to close: a program that
 * reads lines gets its end-of-file character, one that reads keys (raw mode) isn't told.
 */
void streams_close_input(struct streams *io);

/** streams_resize() - Set the terminal's size. Return: 0 or a negative errno (-ENOTTY) */
int streams_resize(struct streams *io, uint32_t columns, uint32_t rows);

/** streams_done() - End pending calls and close everything */
void streams_done(struct streams *io);

#endif
