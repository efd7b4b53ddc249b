/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_LOOP_LOOP_H
#define PODVM_LOOP_LOOP_H

/*
 * Theory of operation
 *
 * A thin layer on libuv: one loop per process, one thread, nothing blocks. It adds to libuv what
 * every user here would write again:
 *
 *  - A source (descriptor, timer, signal, child) is one allocation that is made by loop_*_new()
 *    and ended by loop_*_free(), at any time, also from its own callback: libuv's asynchronous
 *    close is hidden. After the free its callback never runs again.
 *  - Children are watched by pidfd, so no SIGCHLD handler and no pid reuse.
 *  - loop_run_until() pumps the loop until a condition or a deadline, for programs that do one
 *    thing after the other (the command line, tests).
 *
 * The loop doesn't own what user data points to. Sources that live keep loop_run() going.
 */

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct loop;
struct loop_io;
struct loop_timer;
struct loop_signal;
struct loop_child;

/* LOOP_CHANGE: what POLLPRI says, of files of /proc and /sys that change. */
enum loop_events { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_CHANGE = 4 };

/** loop_new() - A loop. Return: 0 or a negative errno */
int loop_new(struct loop **ret);

/** loop_free() - Free a loop and whatever sources are left on it; NULL is fine */
void loop_free(struct loop *loop);

/** loop_run() - Run until loop_stop() or until no source is left */
void loop_run(struct loop *loop);

/** loop_stop() - Make the innermost loop_run() or loop_run_until() return soon */
void loop_stop(struct loop *loop);

/**
 * loop_run_until() - Run until a condition holds
 * @loop:	Loop
 * @done:	Checked after every turn
 * @timeout_ms:	Deadline, < 0: none
 *
 * Return: 0, -ETIMEDOUT, or -ECANCELED after loop_stop() or when no source is left
 */
int loop_run_until(struct loop *loop, const bool *done, int timeout_ms);

/**
 * loop_io_new() - Watch a descriptor
 * @loop:	Loop
 * @fd:		Descriptor that poll(2) works on; borrowed, to be closed after loop_io_free()
 * @events:	LOOP_READ, LOOP_WRITE, LOOP_CHANGE, several or 0 (see loop_io_set())
 * @cb:		Called with the ready events; an error or hang-up is reported as both
 * @data:	For @cb
 * @ret:	The source
 *
 * Return: 0 or a negative errno (-EPERM for a regular file)
 */
int loop_io_new(struct loop *loop, int fd, int events, void (*cb)(void *data, int events),
		void *data, struct loop_io **ret);

/** loop_io_set() - Change the events that are watched */
int loop_io_set(struct loop_io *io, int events);

/** loop_io_free() - Stop watching; NULL is fine. The descriptor stays open */
void loop_io_free(struct loop_io *io);

/**
 * loop_timer_new() - Call back once, later
 * @loop:	Loop
 * @ms:		Milliseconds from now; 0: in the next turn of the loop
 * @cb:		Called once; the timer still has to be freed
 * @data:	For @cb
 * @ret:	The source
 *
 * Return: 0 or a negative errno
 */
int loop_timer_new(struct loop *loop, uint64_t ms, void (*cb)(void *data), void *data,
		   struct loop_timer **ret);

/** loop_timer_set() - Start it again (or for the first time) with another time */
int loop_timer_set(struct loop_timer *timer, uint64_t ms);

/** loop_timer_free() - NULL is fine */
void loop_timer_free(struct loop_timer *timer);

/** loop_signal_new() - Call back on a signal. Return: 0 or a negative errno */
int loop_signal_new(struct loop *loop, int signum, void (*cb)(void *data, int signum), void *data,
		    struct loop_signal **ret);

/** loop_signal_free() - Back to the default action; NULL is fine */
void loop_signal_free(struct loop_signal *sig);

/**
 * loop_child_new() - Wait for a child process
 * @loop:	Loop
 * @pidfd:	From spawn_start(); taken, also when this fails
 * @cb:		Called once, after it was reaped, with its exit code (128 + signal when a signal
 *		ended it)
 * @data:	For @cb
 * @ret:	The source
 *
 * Return: 0 or a negative errno
 */
int loop_child_new(struct loop *loop, int pidfd, void (*cb)(void *data, int code), void *data,
		   struct loop_child **ret);

/** loop_child_kill() - Send a signal. Return: 0 or a negative errno (-ESRCH: it has ended) */
int loop_child_kill(struct loop_child *child, int signum);

/**
 * loop_child_free() - Kill the child if it still runs, reap it, forget it; NULL is fine
 *
 * Waits for the end of a killed process, which the kernel does at once unless it is stuck in it.
 */
void loop_child_free(struct loop_child *child);

#endif
