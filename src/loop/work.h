/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_LOOP_WORK_H
#define PODVM_LOOP_WORK_H

/*
 * Theory of operation
 *
 * Work that blocks for long (waiting for a lock, running programs, walking a tree) is a function
 * that runs in a child process, forked from this one: it sees the memory as it was and changes a
 * copy. What it makes are files and descriptors; these come back with its end.
 *
 * The child has none of the parent's descriptors but the first three, so that nothing of a
 * connection or a container's streams is held open by it. It and the programs that it runs die with
 * the parent, at the deadline, and when the work is freed; what they leave behind is to be taken
 * away by whoever does the same work next.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"

#define WORK_MAX_FDS 40

struct work;

/**
 * struct work_result - What a child gives back
 * @fds:	Open files; the callback takes those that it keeps (TAKE_FD())
 * @n_fds:	How many
 */
struct work_result {
	int fds[WORK_MAX_FDS];
	size_t n_fds;
};

/* In the child: 0 or a negative errno with @e set. Descriptors in @result need not be closed. */
typedef int (*work_fn)(void *arg, struct work_result *result, struct err *e);

/* In the parent, once: @e is NULL, or why there is no result. */
typedef void (*work_done)(void *data, struct work_result *result, const struct err *e);

/**
 * work_new() - Do something in a child
 * @loop:	Loop
 * @name:	What it is, for messages; borrowed
 * @fn:		Runs in the child
 * @arg:	For @fn
 * @timeout_ms:	Deadline, after which the child is killed
 * @done:	Called when it has ended; the work still has to be freed
 * @data:	For @done
 * @ret:	The work
 * @e:		What failed at once
 *
 * Return: 0 (@done will be called) or a negative errno (it will not)
 */
int work_new(struct loop *loop, const char *name, work_fn fn, void *arg, uint64_t timeout_ms,
	     work_done done, void *data, struct work **ret, struct err *e);

/** work_free() - Kill the child if it still runs, and forget it; NULL is fine */
void work_free(struct work *w);

#endif
