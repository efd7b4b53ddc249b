/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sandbox/stages.h"

#define DEADLINE_MS 60000

/**
 * struct work - What the stages of a test do
 * @log:	"+a" for a start of stage a, "-a" for its undo, in their order
 * @result:	What stage b's start answers
 * @says:	The message that it gives with that
 */
struct work {
	struct loop *loop;
	struct stages stages;
	char log[64];
	int result;
	const char *says;
	bool done;
	int done_count;
	struct err err;
};

static void note(struct work *w, const char *what)
{
	strcat(w->log, what);
}

static int start_a(void *obj, struct err *e)
{
	note(obj, "+a");
	return 0;
}

static int start_b(void *obj, struct err *e)
{
	struct work *w = obj;

	note(w, "+b");
	if (w->says)
		err_set(e, w->result, "%s", w->says);
	return w->result;
}

static int start_c(void *obj, struct err *e)
{
	note(obj, "+c");
	return 0;
}

static void undo_a(void *obj)
{
	note(obj, "-a");
}

static void undo_b(void *obj)
{
	note(obj, "-b");
}

/* Stage c has nothing to undo. */
static const struct stage table[] = {
	{ "a", start_a, undo_a },
	{ "b", start_b, undo_b },
	{ "c", start_c, NULL },
};

static void on_done(void *obj, const struct err *e)
{
	struct work *w = obj;

	w->done = true;
	w->done_count++;
	if (e)
		w->err = *e;
}

static int setup(void **state)
{
	static struct work w;

	w = (struct work){ 0 };
	*state = &w;
	return loop_new(&w.loop);
}

static int teardown(void **state)
{
	struct work *w = *state;

	loop_free(w->loop);
	return 0;
}

static void begin(struct work *w, uint64_t timeout_ms)
{
	assert_int_equal(stages_run(&w->stages, w->loop, table, 3, timeout_ms, on_done, w), 0);
	/* Nothing happens inside the call. */
	assert_string_equal(w->log, "");
}

static void finish(struct work *w)
{
	assert_int_equal(loop_run_until(w->loop, &w->done, DEADLINE_MS), 0);
	assert_int_equal(w->done_count, 1);
}

/* Let the loop take what turns it wants to. */
static void settle(struct work *w)
{
	bool never = false;

	assert_true(loop_run_until(w->loop, &never, 20) < 0);
}

static void test_all_stages_run_in_order(void **state)
{
	struct work *w = *state;

	begin(w, 0);
	finish(w);
	assert_string_equal(w->log, "+a+b+c");
	assert_int_equal(w->err.code, 0);
	assert_int_equal(w->stages.n_timings, 3);
	assert_string_equal(w->stages.timings[0].name, "a");
	assert_string_equal(w->stages.timings[2].name, "c");
	assert_string_equal(stages_name(&w->stages), "c");
}

static void test_failure_undoes_in_reverse(void **state)
{
	struct work *w = *state;

	w->result = -ENOSPC;
	w->says = "the disk is full";
	begin(w, 0);
	finish(w);
	/* The failed stage may have done half of its work, so it's undone as well. */
	assert_string_equal(w->log, "+a+b-b-a");
	assert_int_equal(w->err.code, -ENOSPC);
	assert_string_equal(w->err.stage, "b");
	assert_string_equal(w->err.msg, "the disk is full");
	assert_int_equal(w->stages.n_timings, 1);
}

static void test_failure_without_a_message(void **state)
{
	struct work *w = *state;

	w->result = -ENOMEM;
	begin(w, 0);
	finish(w);
	assert_int_equal(w->err.code, -ENOMEM);
	assert_string_equal(w->err.stage, "b");
	assert_non_null(strstr(w->err.msg, strerror(ENOMEM)));
}

static void test_pending_stage_goes_on(void **state)
{
	struct work *w = *state;

	w->result = STAGE_PENDING;
	begin(w, DEADLINE_MS);
	settle(w);
	assert_string_equal(w->log, "+a+b");
	assert_string_equal(stages_name(&w->stages), "b");
	stages_next(&w->stages, NULL);
	finish(w);
	assert_string_equal(w->log, "+a+b+c");
	assert_int_equal(w->err.code, 0);
}

static void test_pending_stage_fails(void **state)
{
	struct work *w = *state;
	struct err e = { 0 };

	w->result = STAGE_PENDING;
	begin(w, 0);
	settle(w);
	err_set(&e, -EPIPE, "the monitor has gone");
	err_stage(&e, "monitor");
	stages_next(&w->stages, &e);
	finish(w);
	assert_string_equal(w->log, "+a+b-b-a");
	/* A stage that was named by who found the error stays. */
	assert_string_equal(w->err.stage, "monitor");
	/* Late news of something that is over changes nothing. */
	stages_next(&w->stages, NULL);
	assert_int_equal(w->done_count, 1);
	assert_string_equal(w->log, "+a+b-b-a");
}

static void test_deadline(void **state)
{
	struct work *w = *state;

	w->result = STAGE_PENDING;
	begin(w, 30);
	finish(w);
	assert_string_equal(w->log, "+a+b-b-a");
	assert_int_equal(w->err.code, -ETIMEDOUT);
	assert_string_equal(w->err.stage, "b");
}

static void test_abort_undoes_and_is_silent(void **state)
{
	struct work *w = *state;

	w->result = STAGE_PENDING;
	begin(w, DEADLINE_MS);
	settle(w);
	stages_abort(&w->stages);
	assert_string_equal(w->log, "+a+b-b-a");
	stages_abort(&w->stages);
	settle(w);
	assert_string_equal(w->log, "+a+b-b-a");
	assert_int_equal(w->done_count, 0);
}

static void test_run_again(void **state)
{
	struct work *w = *state;

	w->result = -EIO;
	begin(w, 0);
	finish(w);
	w->result = 0;
	w->done = false;
	w->done_count = 0;
	w->log[0] = '\0';
	w->err = (struct err){ 0 };
	begin(w, 0);
	finish(w);
	assert_string_equal(w->log, "+a+b+c");
	assert_int_equal(w->err.code, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_all_stages_run_in_order),    TEST(test_failure_undoes_in_reverse),
		TEST(test_failure_without_a_message),  TEST(test_pending_stage_goes_on),
		TEST(test_pending_stage_fails),	       TEST(test_deadline),
		TEST(test_abort_undoes_and_is_silent), TEST(test_run_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
