/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/stages.h"

#include <assert.h>
#include <errno.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/fault.h"

static void finish(struct stages *s, const struct err *e)
{
	loop_timer_free(TAKE_PTR(s->deadline));
	loop_timer_free(TAKE_PTR(s->deferred));
	s->running = false;
	s->done(s->obj, e);
}

static void undo(struct stages *s)
{
	for (size_t i = MIN(s->current + 1, s->n); i-- > 0;)
		if (s->table[i].undo)
			s->table[i].undo(s->obj);
}

static void fail(struct stages *s, const struct err *e)
{
	s->err = *e;
	err_stage(&s->err, s->table[s->current].name);
	undo(s);
	finish(s, &s->err);
}

/* The current stage is done: note its time and go to the next. */
static void advance(struct stages *s)
{
	uint64_t now = clock_us();

	s->timings[s->n_timings].name = s->table[s->current].name;
	s->timings[s->n_timings++].us = now - s->began_us;
	log_debug("stage", "name=%s us=%llu", s->table[s->current].name,
		  (unsigned long long)(now - s->began_us));
	s->began_us = now;
	s->current++;
}

static void run(void *data)
{
	struct stages *s = data;
	struct err e = { 0 };

	while (s->current < s->n) {
		const struct stage *stage = &s->table[s->current];
		int r = fault_before(stage->name, &e);

		if (r == 0)
			r = stage->start(s->obj, &e);
		if (r == 0)
			r = fault_after(stage->name, &e);
		if (r == STAGE_PENDING)
			return;
		if (r < 0) {
			if (!e.code)
				err_errno(&e, r, "failed");
			fail(s, &e);
			return;
		}
		advance(s);
	}
	finish(s, NULL);
}

static void on_deadline(void *data)
{
	struct stages *s = data;
	struct err e = { 0 };

	err_set(&e, -ETIMEDOUT, "took too long");
	fail(s, &e);
}

int stages_run(struct stages *s, struct loop *loop, const struct stage *table, size_t n,
	       uint64_t timeout_ms, void (*done)(void *obj, const struct err *e), void *obj)
{
	int r;

	assert(!s->running && n <= STAGES_MAX);
	*s = (struct stages){
		.table = table,
		.n = n,
		.obj = obj,
		.done = done,
		.loop = loop,
		.running = true,
		.began_us = clock_us(),
	};
	r = loop_timer_new(loop, 0, run, s, &s->deferred);
	if (r == 0 && timeout_ms)
		r = loop_timer_new(loop, timeout_ms, on_deadline, s, &s->deadline);
	if (r < 0) {
		loop_timer_free(TAKE_PTR(s->deferred));
		s->running = false;
	}
	return r;
}

void stages_next(struct stages *s, const struct err *e)
{
	struct err err = { 0 };

	if (!s->running)
		return;
	if (!e) {
		int r = fault_after(s->table[s->current].name, &err);

		if (r == STAGE_PENDING)
			return;
		e = r < 0 ? &err : NULL;
	}
	if (e) {
		fail(s, e);
		return;
	}
	advance(s);
	run(s);
}

void stages_abort(struct stages *s)
{
	if (!s->running)
		return;
	loop_timer_free(TAKE_PTR(s->deadline));
	loop_timer_free(TAKE_PTR(s->deferred));
	s->running = false;
	undo(s);
}

const char *stages_name(const struct stages *s)
{
	return s->n ? s->table[MIN(s->current, s->n - 1)].name : "";
}
