/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_TESTS_TTRPC_ECHO_H
#define PODVM_TESTS_TTRPC_ECHO_H

/* The service of ttrpc_test.proto. */

#include "base/cleanup.h"
#include "ttrpc/ttrpc.h"
#include "ttrpc_test.pb-c.h"

#define ECHO_DESC (&podvm__test__echo__descriptor)

/**
 * struct echo - The service's state
 * @handled:	Calls of Echo
 * @held:	Calls of Hold that aren't answered
 * @timeout_ms:	What the last of them was given
 * @all_held:	@n_held reached @wanted
 * @free_server: Freed by the next call of Nothing, after its answer
 */
struct echo {
	size_t handled;
	struct ttrpc_call *held[2048];
	size_t n_held;
	size_t wanted;
	bool all_held;
	uint64_t timeout_ms;
	struct ttrpc_server *free_server;
};

static void echo_echo(struct ttrpc_call *call, const ProtobufCMessage *req, void *data)
{
	((struct echo *)data)->handled++;
	ttrpc_reply(call, req);
}

static void echo_hold(struct ttrpc_call *call, const ProtobufCMessage *req, void *data)
{
	struct echo *e = data;

	if (e->n_held == ARRAY_SIZE(e->held)) {
		ttrpc_reply_error(call, TTRPC_INTERNAL, "the test holds too many calls");
		return;
	}
	e->timeout_ms = ttrpc_call_timeout_ms(call);
	e->held[e->n_held++] = call;
	e->all_held = e->n_held == e->wanted;
}

static void echo_fail(struct ttrpc_call *call, const ProtobufCMessage *req, void *data)
{
	const Podvm__Test__Text *text = (const Podvm__Test__Text *)req;
	struct err err = { 0 };

	if (text->number) {
		ttrpc_reply_error(call, (enum ttrpc_code)text->number, "%s", text->text);
		return;
	}
	err_set(&err, -ENOENT, "cannot find %s", text->text);
	err_hint(&err, "look elsewhere");
	ttrpc_reply_err(call, &err);
}

static void echo_nothing(struct ttrpc_call *call, const ProtobufCMessage *req, void *data)
{
	struct echo *e = data;

	ttrpc_reply(call, req);
	ttrpc_server_free(TAKE_PTR(e->free_server));
}

static void echo_nest(struct ttrpc_call *call, const ProtobufCMessage *req, void *data)
{
	ttrpc_reply(call, req);
}

static const ttrpc_handler echo_handlers[] = {
	echo_echo, echo_hold, echo_fail, echo_nothing, echo_nest, NULL,
};

/* Answer what is held, the last one first. */
static inline void echo_release(struct echo *e)
{
	while (e->n_held > 0) {
		struct ttrpc_call *call = e->held[--e->n_held];
		Podvm__Test__Text text = PODVM__TEST__TEXT__INIT;

		text.number = e->n_held;
		ttrpc_reply(call, &text.base);
	}
	e->all_held = false;
}

#endif
