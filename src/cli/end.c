/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/end.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "loop/loop.h"
#include "proto/control.pb-c.h"
#include "sandbox/control.h"
#include "ttrpc/ttrpc.h"

/* Beyond the container's own timeout: the guest writes out its disks, the machine ends. */
#define MARGIN_MS 20000

/* For the undoing of a start. */
#define INTERRUPT_MS 10000

struct ending {
	struct end *end;
	struct target *target;
	struct ttrpc_client *client;
	int owner; /* pidfd */
	bool answered;
};

struct end {
	const char *what;
	struct loop *loop;
	struct ending *v;
	size_t n;
	size_t pending;
	bool done;
};

static void on_stopped(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct ending *en = data;

	en->answered = !e;
	if (--en->end->pending == 0)
		en->end->done = true;
}

static uint64_t timeout_ms(const struct target *t, unsigned int seconds)
{
	return (uint64_t)1000 * (seconds == END_OWN_TIMEOUT ? t->st.stop_timeout : seconds);
}

/* Ask the owner; one that can't be asked is ended in finish(), as is a shim that nobody asks any
 * more. */
static void ask(struct ending *en, unsigned int seconds)
{
	Podvm__Control__V1__StopRequest req = PODVM__CONTROL__V1__STOP_REQUEST__INIT;
	uint64_t ms = timeout_ms(en->target, seconds);

	if (en->target->st.pod)
		return;
	if (control_connect(en->end->loop, &en->target->rd, NULL, NULL, &en->client, NULL) < 0)
		return;
	req.timeout_ms = (uint32_t)MIN(ms, UINT32_MAX);
	if (ttrpc_call(en->client, &podvm__control__v1__control__descriptor, "Stop", &req.base,
		       ms + MARGIN_MS, on_stopped, en, NULL) == 0)
		en->end->pending++;
}

/* An owner that is just ending, or has removed everything, answers nobody any more. */
static bool has_ended(const struct target *t)
{
	_cleanup_(rundir_state_done) struct rundir_state st = { 0 };

	return rundir_read_state(&t->rd, &st, NULL) < 0 || st.status == RUNDIR_EXITED;
}

/* One that has no control socket yet is starting: SIGTERM makes it undo that. It ends a shim, too. */
static bool interrupt(const struct ending *en)
{
	return !en->client && pidfd_send_signal(en->owner, SIGTERM, NULL, 0) == 0 &&
	       target_wait_owner(en->owner, INTERRUPT_MS) == 0;
}

/* The container has ended, or won't by itself: see the owner off. */
static int finish(struct ending *en, struct err *e)
{
	bool gone = en->owner < 0;

	if (target_ours(en->target, en->end->what, e) < 0)
		return e->code;
	if (!gone && (en->answered || has_ended(en->target)))
		gone = target_wait_owner(en->owner, MARGIN_MS) == 0;
	else if (!gone)
		gone = interrupt(en);
	if (gone)
		return MIN(rundir_recover(&en->target->rd, e), 0);
	log_warn("the sandbox's process doesn't answer and is killed", "sandbox=%.12s pid=%d",
		 en->target->rd.id, en->target->st.owner_pid);
	return target_destroy(en->target, e);
}

static void begin(struct end *end, struct targets *ts, unsigned int seconds)
{
	for (size_t i = 0; i < ts->n; i++) {
		struct ending *en = &end->v[end->n++];

		*en = (struct ending){
			.end = end,
			.target = &ts->v[i],
			.owner = target_owner(&ts->v[i]),
		};
		if (en->owner >= 0 && target_ours(en->target, end->what, NULL) == 0)
			ask(en, seconds);
	}
}

int end_targets(struct targets *ts, const char *what, unsigned int seconds,
		void (*each)(void *data, struct target *t, const struct err *e), void *data,
		struct err *e)
{
	struct end end = { .what = what };
	int r;

	end.v = calloc(ts->n + 1, sizeof(*end.v));
	r = end.v ? loop_new(&end.loop) : -ENOMEM;
	if (r < 0) {
		free(end.v);
		return err_errno(e, r, "cannot make an event loop");
	}
	begin(&end, ts, seconds);
	/* Every call has a deadline, so this ends. */
	if (end.pending > 0)
		(void)loop_run_until(end.loop, &end.done, -1);
	for (size_t i = 0; i < end.n; i++) {
		struct ending *en = &end.v[i];
		struct err err = { 0 };

		each(data, en->target, finish(en, &err) < 0 ? &err : NULL);
		if (en->owner >= 0)
			close(en->owner);
		ttrpc_client_free(en->client);
	}
	loop_free(end.loop);
	free(end.v);
	return 0;
}
