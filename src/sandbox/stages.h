/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_STAGES_H
#define PODVM_SANDBOX_STAGES_H

/*
 * Theory of operation
 *
 * Work that has several steps, each of which can take time or fail, is a table of stages. They run
 * one after the other. When one fails the ones before it are undone in reverse order and the error
 * carries the name of the stage. How long each took is kept, for --timings, logs and benchmarks.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"

#define STAGES_MAX 16

/* A stage's start() answers this when it has begun something and will call stages_next(). */
#define STAGE_PENDING 1

/**
 * struct stage - One step
 * @name:	Short name, shown to users
 * @start:	Does or begins the work: 0 when it's done, STAGE_PENDING, or a negative errno
 * @undo:	Takes back what @start did, when a later stage failed (also called for the stage
 *		that failed or was cut off itself: it copes with half-done work); may be NULL
 */
struct stage {
	const char *name;
	int (*start)(void *obj, struct err *e);
	void (*undo)(void *obj);
};

struct stage_timing {
	const char *name;
	uint64_t us;
};

struct stages {
	const struct stage *table;
	size_t n;
	void *obj;
	void (*done)(void *obj, const struct err *e);
	struct loop *loop;
	struct loop_timer *deadline;
	struct loop_timer *deferred;
	size_t current;
	bool running;
	uint64_t began_us;
	struct stage_timing timings[STAGES_MAX];
	size_t n_timings;
	struct err err;
};

/**
 * stages_run() - Run a table of stages
 * @s:		Run, zeroed before its first use; must outlive it
 * @loop:	Loop
 * @table:	Stages, at most STAGES_MAX
 * @n:		How many
 * @timeout_ms:	Deadline of everything, 0: the stages have their own
 * @done:	Called once from the loop with NULL or the error, after undoing; not after
 *		stages_abort()
 * @obj:	For the stages and @done
 *
 * Return: 0 (@done will be called) or a negative errno (it will not)
 */
int stages_run(struct stages *s, struct loop *loop, const struct stage *table, size_t n,
	       uint64_t timeout_ms, void (*done)(void *obj, const struct err *e), void *obj);

/** stages_next() - The pending stage is done (@e is NULL) or has failed */
void stages_next(struct stages *s, const struct err *e);

/** stages_abort() - Undo what was done and end the run without calling back; fine if none runs */
void stages_abort(struct stages *s);

/** stages_name() - Name of the stage that runs, or of the last one */
const char *stages_name(const struct stages *s);

#endif
