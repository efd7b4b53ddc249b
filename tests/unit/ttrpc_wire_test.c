/* SPDX-License-Identifier: Apache-2.0 */
/* ttrpc as it is on the wire, and peers that don't keep to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <stdio.h>

#include "ttrpc/ttrpc.pb-c.h"
#include "ttrpc/unpack.h"
#include "ttrpc_echo.h"
#include "ttrpc_peer.h"

/* A test that failed has left: its results, on its stack, are gone. */
static bool tearing_down;

/* A server or a client of ours at the other end of @peer. */
struct fixture {
	struct loop *loop;
	struct peer peer;
	struct echo echo;
	struct ttrpc_service service;
	struct ttrpc_server *server;
	struct ttrpc_client *client;
	int closed;
	struct peer_frame f;
};

static void count_up(void *data)
{
	(*(int *)data)++;
}

static int setup(void **state)
{
	*state = calloc(1, sizeof(struct fixture));
	return *state ? loop_new(&((struct fixture *)*state)->loop) : -1;
}

static int server_setup(void **state)
{
	struct fixture *t;

	if (setup(state) < 0)
		return -1;
	t = *state;
	t->service = (struct ttrpc_service){ ECHO_DESC, NULL, echo_handlers, &t->echo };
	if (ttrpc_server_new(t->loop, &t->service, 1, &t->server) < 0)
		return -1;
	return ttrpc_server_add(t->server, peer_open(&t->peer, t->loop), count_up, &t->closed);
}

static int client_setup(void **state)
{
	struct fixture *t;

	if (setup(state) < 0)
		return -1;
	t = *state;
	return ttrpc_client_new(t->loop, peer_open(&t->peer, t->loop), count_up, &t->closed,
				&t->client);
}

static int teardown(void **state)
{
	struct fixture *t = *state;

	tearing_down = true;
	ttrpc_client_free(t->client);
	ttrpc_server_free(t->server);
	tearing_down = false;
	echo_release(&t->echo);
	peer_close(&t->peer);
	loop_free(t->loop);
	free(t);
	return 0;
}

/* ---- as a client: what the server makes of our bytes ---- */

/* Pack a Request. Returns its length. */
static size_t pack_request(uint8_t *out, const char *method, const void *payload, size_t n)
{
	Ttrpc__Request req = TTRPC__REQUEST__INIT;

	req.service = (char *)"podvm.test.Echo";
	req.method = (char *)(uintptr_t)method;
	req.payload.data = (uint8_t *)(uintptr_t)payload;
	req.payload.len = n;
	return protobuf_c_message_pack(&req.base, out);
}

static void request(struct fixture *t, uint32_t stream, const char *method, const void *payload,
		    size_t n)
{
	_cleanup_(freep) uint8_t *packed = malloc(n + 100);

	assert_non_null(packed);
	peer_frame(&t->peer, stream, 1, packed, pack_request(packed, method, payload, n));
}

/* Receive an answer that has a status. */
static void expect_status(struct fixture *t, uint32_t stream, int code, const char *text)
{
	Ttrpc__Response *resp;

	peer_receive(&t->peer, &t->f);
	assert_int_equal(t->f.type, 2);
	assert_int_equal(t->f.flags, 0);
	assert_int_equal(t->f.stream, stream);
	resp = ttrpc__response__unpack(NULL, t->f.length, t->f.payload);
	assert_non_null(resp);
	assert_non_null(resp->status);
	assert_int_equal(resp->status->code, code);
	if (text)
		assert_string_equal(resp->status->message, text);
	ttrpc__response__free_unpacked(resp, NULL);
}

/* Receive the answer of Nothing. */
static void expect_empty(struct fixture *t, uint32_t stream)
{
	peer_receive(&t->peer, &t->f);
	assert_int_equal(t->f.stream, stream);
	assert_int_equal(t->f.type, 2);
	assert_int_equal(t->f.length, 0);
}

static void assert_server_alive(struct fixture *t, uint32_t stream)
{
	request(t, stream, "Nothing", NULL, 0);
	expect_empty(t, stream);
}

/* Written by hand, with a deadline and metadata as containerd sends them. */
static const uint8_t echo_request[] = {
	0,    0,    0,	  73,	0,    0,    0,	 1,   1,    0, /* header */
	0x0a, 15,   'p',  'o',	'd',  'v',  'm', '.', 't',  'e', 's',  't', '.', 'E', 'c',
	'h',  'o',  0x12, 4,	'E',  'c',  'h', 'o', 0x1a, 4,	 0x0a, 2,   'h', 'i', /* Text */
	0x20, 0x80, 0xe4, 0x97, 0xd0, 0x12,					      /* 5 s */
	0x2a, 36,   0x0a, 26,	'c',  'o',  'n', 't', 'a',  'i', 'n',  'e', 'r', 'd', '-',
	'n',  'a',  'm',  'e',	's',  'p',  'a', 'c', 'e',  '-', 't',  't', 'r', 'p', 'c',
	0x12, 6,    'k',  '8',	's',  '.',  'i', 'o',
};

static const uint8_t echo_response[] = {
	0, 0, 0, 6, 0, 0, 0, 1, 2, 0, 0x12, 4, 0x0a, 2, 'h', 'i',
};

static void server_answers_bytes_with_bytes(void **state)
{
	struct fixture *t = *state;

	peer_write(&t->peer, echo_request, sizeof(echo_request));
	peer_receive(&t->peer, &t->f);
	assert_int_equal(t->f.length, sizeof(echo_response) - TTRPC_HEADER_SIZE);
	assert_int_equal(t->f.stream, 1);
	assert_int_equal(t->f.type, 2);
	assert_int_equal(t->f.flags, 0);
	assert_memory_equal(t->f.payload, echo_response + TTRPC_HEADER_SIZE, t->f.length);
}

static void server_takes_single_bytes(void **state)
{
	struct fixture *t = *state;
	uint8_t bytes[sizeof(echo_request)];

	memcpy(bytes, echo_request, sizeof(bytes));
	for (uint8_t round = 0; round < 3; round++) {
		bytes[7] = (uint8_t)(2 * round + 1);
		for (size_t i = 0; i < sizeof(bytes); i++) {
			assert_int_equal(t->echo.handled, round);
			peer_write(&t->peer, &bytes[i], 1);
			/* Enough to read it. */
			(void)loop_run_until(t->loop, &t->peer.ready, 1);
		}
		peer_receive(&t->peer, &t->f);
		assert_int_equal(t->f.stream, 2 * round + 1);
		assert_int_equal(t->f.length, 6);
	}
}

static void server_gives_the_deadline_to_the_handler(void **state)
{
	struct fixture *t = *state;
	/* 1500001 ns: rounded up, so that nobody gives up early. */
	static const uint8_t tail[] = { 0x20, 0xe1, 0xc6, 0x5b };
	uint8_t packed[100];
	size_t n = pack_request(packed, "Hold", NULL, 0);

	memcpy(packed + n, tail, sizeof(tail));
	t->echo.wanted = 1;
	peer_frame(&t->peer, 1, 1, packed, n + sizeof(tail));
	assert_int_equal(loop_run_until(t->loop, &t->echo.all_held, DEADLINE_MS), 0);
	assert_int_equal(t->echo.timeout_ms, 2);
}

static void server_refuses_a_deadline_that_has_passed(void **state)
{
	struct fixture *t = *state;
	static const uint8_t tail[] = { 0x20, 0xff, 0xff, 0xff, 0xff, 0xff,
					0xff, 0xff, 0xff, 0xff, 0x01 };
	uint8_t packed[100];
	size_t n = pack_request(packed, "Echo", NULL, 0);

	memcpy(packed + n, tail, sizeof(tail));
	peer_frame(&t->peer, 1, 1, packed, n + sizeof(tail));
	expect_status(t, 1, 4, "the deadline has passed");
	assert_int_equal(t->echo.handled, 0);
}

static void server_refuses_stream_ids_that_are_even_or_old(void **state)
{
	struct fixture *t = *state;

	request(t, 2, "Nothing", NULL, 0);
	expect_status(t, 2, 3, NULL);
	request(t, 0, "Nothing", NULL, 0);
	expect_status(t, 0, 3, NULL);
	assert_server_alive(t, 5);
	request(t, 5, "Nothing", NULL, 0);
	expect_status(t, 5, 3, NULL);
	request(t, 3, "Nothing", NULL, 0);
	expect_status(t, 3, 3, NULL);
	assert_server_alive(t, 7);
	/* Gaps are fine, and after the last one they start again. */
	assert_server_alive(t, 0x7fffffff);
	assert_server_alive(t, 0xfffffffd);
	assert_server_alive(t, 0xffffffff);
	assert_server_alive(t, 1);
}

static void server_refuses_data(void **state)
{
	struct fixture *t = *state;

	peer_frame(&t->peer, 1, 3, "data", 4);
	expect_status(t, 1, 3, "StreamID is no longer active");
	/* For a call that is under way it's ignored: the call has one answer. */
	t->echo.wanted = 1;
	request(t, 3, "Hold", NULL, 0);
	peer_frame(&t->peer, 3, 3, "data", 4);
	assert_server_alive(t, 5);
	echo_release(&t->echo);
	peer_receive(&t->peer, &t->f);
	assert_int_equal(t->f.stream, 3);
}

static void server_ignores_unknown_frames(void **state)
{
	struct fixture *t = *state;

	for (int type = 0; type < 256; type++)
		if (type != 1 && type != 3)
			peer_frame(&t->peer, 1, (uint8_t)type, "what?", 5);
	assert_server_alive(t, 1);
}

static void server_refuses_malformed_messages(void **state)
{
	struct fixture *t = *state;

	peer_frame(&t->peer, 1, 1, "\xff\xff\xff", 3);
	expect_status(t, 1, 3, NULL);
	peer_frame(&t->peer, 3, 1, "\x0a\x7fx", 3);
	expect_status(t, 3, 3, NULL);
	request(t, 5, "Echo", "\x0a\x7f", 2);
	expect_status(t, 5, 3, "podvm.test.Text: malformed message");
	peer_frame(&t->peer, 7, 1, "", 0);
	expect_status(t, 7, 12, "service ");
	assert_server_alive(t, 9);
}

static void server_quotes_foreign_names_cleanly(void **state)
{
	struct fixture *t = *state;

	request(t, 1, "\x1b]0;\xff\x07", NULL, 0);
	expect_status(t, 1, 12, "method ?]0;??");
}

static void server_drops_what_is_too_long(void **state)
{
	struct fixture *t = *state;
	_cleanup_(freep) char *junk = calloc(1, 1 << 20);
	uint8_t h[TTRPC_HEADER_SIZE];

	peer_put_header(h, 64 << 20, 1, 1);
	peer_write(&t->peer, h, sizeof(h));
	expect_status(t, 1, 8, NULL);
	for (int i = 0; i < 64; i++) {
		peer_write(&t->peer, junk, 1 << 20);
		if (i == 32) {
			/* Nothing of it is kept. */
			peer_settle(&t->peer);
			assert_true(mallinfo2().uordblks < (size_t)16 << 20);
		}
	}
	assert_server_alive(t, 3);
	/* Unknown types may be long as well. */
	peer_put_header(h, TTRPC_MAX_PAYLOAD + 1, 5, 77);
	peer_write(&t->peer, h, sizeof(h));
	for (int i = 0; i < 4; i++)
		peer_write(&t->peer, junk, 1 << 20);
	peer_write(&t->peer, junk, 1);
	assert_server_alive(t, 5);
}

static void server_survives_garbage(void **state)
{
	struct fixture *t = *state;
	uint32_t random = 1;

	for (int round = 0; round < 200; round++) {
		uint8_t junk[200];

		for (size_t i = 0; i < sizeof(junk); i++) {
			random = random * 1664525 + 1013904223;
			junk[i] = (uint8_t)(random >> 24);
		}
		/* Short lengths, so that the stream isn't one long frame. */
		for (size_t i = 0; i + 2 < sizeof(junk); i += 20)
			junk[i] = junk[i + 1] = junk[i + 2] = 0;
		peer_write(&t->peer, junk, sizeof(junk));
		(void)loop_run_until(t->loop, &t->peer.eof, 0);
	}
	peer_settle(&t->peer);
	assert_int_equal(t->closed, 0);
}

static void server_notices_a_cut_frame(void **state)
{
	struct fixture *t = *state;

	peer_write(&t->peer, echo_request, sizeof(echo_request) - 3);
	peer_settle(&t->peer);
	assert_int_equal(t->closed, 0);
	peer_close(&t->peer);
	peer_settle(&t->peer);
	assert_int_equal(t->closed, 1);
	assert_int_equal(t->echo.handled, 0);
}

static void server_serves_what_came_before_the_end(void **state)
{
	struct fixture *t = *state;

	request(t, 1, "Echo", NULL, 0);
	request(t, 3, "Echo", NULL, 0);
	peer_close(&t->peer);
	peer_settle(&t->peer);
	assert_int_equal(t->echo.handled, 2);
	assert_int_equal(t->closed, 1);
}

/* Write as much as the server takes. Returns how much that was. */
static size_t write_until_stuck(struct fixture *t, const uint8_t *data, size_t n)
{
	size_t off = 0;
	bool stuck = false;

	while (off < n) {
		ssize_t w = send(t->peer.fd, data + off, n - off, MSG_DONTWAIT);

		if (w > 0) {
			off += (size_t)w;
			stuck = false;
		} else if (stuck) {
			break;
		} else {
			peer_turn(&t->peer);
			stuck = true;
		}
	}
	return off;
}

static void server_stops_reading_a_peer_that_does_not_read(void **state)
{
	struct fixture *t = *state;
	uint8_t text[60004] = { 0x12, 0xe0, 0xd4, 0x03 };
	size_t calls = 1000;
	_cleanup_(freep) uint8_t *frames = malloc(calls * 61000);
	size_t total = 0;
	size_t off;

	assert_non_null(frames);
	for (size_t i = 0; i < calls; i++) {
		uint8_t *f = frames + total;
		size_t n = pack_request(f + TTRPC_HEADER_SIZE, "Echo", text, sizeof(text));

		peer_put_header(f, (uint32_t)n, (uint32_t)(2 * i + 1), 1);
		total += TTRPC_HEADER_SIZE + n;
	}
	/* Our end isn't read: the loop doesn't watch it. */
	assert_int_equal(loop_io_set(t->peer.io, 0), 0);
	off = write_until_stuck(t, frames, total);
	assert_true(off < total);
	/* 8 MiB of 60 KB, and what the socket holds. */
	assert_in_range(t->echo.handled, 8 * 17, 8 * 17 + 30);
	assert_int_equal(loop_io_set(t->peer.io, LOOP_READ), 0);
	peer_write(&t->peer, frames + off, total - off);
	for (size_t i = 0; i < calls; i++) {
		peer_receive(&t->peer, &t->f);
		assert_int_equal(t->f.stream, 2 * i + 1);
		assert_int_equal(t->f.length, sizeof(text) + 4);
	}
	assert_int_equal(t->echo.handled, calls);
}

/* ---- memory and stack of messages ---- */

static void server_limits_the_memory_of_a_message(void **state)
{
	struct fixture *t = *state;
	size_t n = (size_t)4000000;
	_cleanup_(freep) uint8_t *many = malloc(n);

	/* Two million empty messages: two bytes each here, 32 and more over there. */
	for (size_t i = 0; i < n; i += 2) {
		many[i] = 0x22;
		many[i + 1] = 0;
	}
	request(t, 1, "Echo", many, n);
	expect_status(t, 1, 8, "podvm.test.Text: the message takes too much memory");
	/* As unknown fields of the Request itself. */
	for (size_t i = 0; i < n; i += 2)
		many[i] = 0x7a;
	peer_frame(&t->peer, 3, 1, many, n);
	expect_status(t, 3, 8, "unusable request");
	assert_int_equal(t->echo.handled, 0);
	assert_server_alive(t, 5);
}

/* Messages in each other. Returns the length, @out begins with the outermost one. */
static size_t nest(uint8_t *out, size_t size, int levels)
{
	uint8_t *p = out + size;

	for (int i = 0; i < levels; i++) {
		size_t n = (size_t)(out + size - p);
		uint8_t length[10];
		size_t l = 0;

		for (; n > 0x7f; n >>= 7)
			length[l++] = (uint8_t)(n | 0x80);
		length[l++] = (uint8_t)n;
		p -= l + 1;
		p[0] = 0x0a;
		memcpy(p + 1, length, l);
	}
	memmove(out, p, (size_t)(out + size - p));
	return (size_t)(out + size - p);
}

static void server_limits_the_depth_of_a_message(void **state)
{
	struct fixture *t = *state;
	size_t size = (size_t)5 << 20;
	_cleanup_(freep) uint8_t *nested = malloc(size);
	size_t n;

	assert_non_null(nested);
	n = nest(nested, size, 20);
	request(t, 1, "Nest", nested, n);
	peer_receive(&t->peer, &t->f);
	assert_int_equal(t->f.length, n + 2);
	/* Unlimited, it would take a stack of more than a gigabyte. */
	n = nest(nested, size, 850000);
	assert_in_range(n, 3000000, TTRPC_MAX_PAYLOAD - 100);
	request(t, 3, "Nest", nested, n);
	expect_status(t, 3, 3, "podvm.test.Nested: malformed message");
	assert_server_alive(t, 5);
}

static void unpack_counts_what_a_message_takes(void **state)
{
	static const uint8_t text[] = { 0x0a, 3, 'a', 'b', 'c', 0x18, 7 };
	ProtobufCMessage *msg = NULL;
	size_t used = 0;

	assert_int_equal(
		ttrpc_unpack(&podvm__test__text__descriptor, text, sizeof(text), 4096, &msg, &used),
		0);
	assert_string_equal(((Podvm__Test__Text *)msg)->text, "abc");
	assert_in_range(used, sizeof(Podvm__Test__Text) + 4, 200);
	protobuf_c_message_free_unpacked(msg, NULL);
	assert_int_equal(
		ttrpc_unpack(&podvm__test__text__descriptor, text, sizeof(text), 50, &msg, NULL),
		-ENOBUFS);
	assert_int_equal(ttrpc_unpack(&podvm__test__text__descriptor, text, sizeof(text) - 1, 4096,
				      &msg, NULL),
			 -EBADMSG);
}

/* ---- as a server: what the client makes of our bytes ---- */

/**
 * struct result - How calls ended
 * @codes:	In the order they ended
 */
struct result {
	int count;
	int wanted;
	bool done;
	int codes[8];
	char text[1024];
};

static void on_done(void *data, const ProtobufCMessage *resp, const struct err *e)
{
	struct result *r = data;

	if (tearing_down)
		return;
	r->codes[r->count % 8] = e ? e->code : 0;
	snprintf(r->text, sizeof(r->text), "%s",
		 e ? e->msg : ((const Podvm__Test__Text *)resp)->text);
	r->done = ++r->count >= r->wanted;
}

static int start_call(struct fixture *t, uint64_t timeout_ms, struct result *r)
{
	Podvm__Test__Text text = PODVM__TEST__TEXT__INIT;

	text.text = (char *)"hi";
	return ttrpc_call(t->client, ECHO_DESC, "Echo", &text.base, timeout_ms, on_done, r, NULL);
}

/* Call, take the request, answer with these bytes, and return how the call ended. */
static int answer(struct fixture *t, uint8_t type, const void *payload, size_t n, struct result *r)
{
	*r = (struct result){ .wanted = 1 };
	assert_int_equal(start_call(t, 0, r), 0);
	peer_receive(&t->peer, &t->f);
	peer_frame(&t->peer, t->f.stream, type, payload, n);
	assert_int_equal(loop_run_until(t->loop, &r->done, DEADLINE_MS), 0);
	return r->codes[0];
}

static void client_sends_bytes_and_takes_bytes(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 1 };
	/* As in echo_request, without the metadata; the order of fields is free. */
	static const uint8_t expected[] = {
		0x0a, 15,   'p',  'o',	'd',  'v',  'm', '.',  't', 'e', 's', 't',
		'.',  'E',  'c',  'h',	'o',  0x12, 4,	 'E',  'c', 'h', 'o', 0x20,
		0x80, 0xe4, 0x97, 0xd0, 0x12, 0x1a, 4,	 0x0a, 2,   'h', 'i',
	};

	assert_int_equal(start_call(t, 5000, &r), 0);
	peer_receive(&t->peer, &t->f);
	assert_int_equal(t->f.stream, 1);
	assert_int_equal(t->f.type, 1);
	assert_int_equal(t->f.flags, 0);
	assert_int_equal(t->f.length, sizeof(expected));
	assert_memory_equal(t->f.payload, expected, sizeof(expected));
	/* In single bytes. */
	for (size_t i = 0; i < sizeof(echo_response); i++) {
		assert_int_equal(r.count, 0);
		peer_write(&t->peer, &echo_response[i], 1);
		(void)loop_run_until(t->loop, &r.done, 1);
	}
	assert_int_equal(loop_run_until(t->loop, &r.done, DEADLINE_MS), 0);
	assert_int_equal(r.codes[0], 0);
	assert_string_equal(r.text, "hi");
}

static void client_uses_odd_rising_ids(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 1000 };

	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(start_call(t, 0, &r), 0);
		peer_receive(&t->peer, &t->f);
		assert_int_equal(t->f.stream, 2 * i + 1);
	}
}

static void client_matches_answers_by_stream(void **state)
{
	struct fixture *t = *state;
	struct result a = { .wanted = 1 };
	struct result b = { .wanted = 1 };

	assert_int_equal(start_call(t, 0, &a), 0);
	assert_int_equal(start_call(t, 0, &b), 0);
	peer_frame(&t->peer, 3, 2,
		   "\x12\x03\x0a\x01"
		   "b",
		   5);
	assert_int_equal(loop_run_until(t->loop, &b.done, DEADLINE_MS), 0);
	assert_string_equal(b.text, "b");
	assert_int_equal(a.count, 0);
	/* A second answer, one to nobody, and what isn't an answer. */
	peer_frame(&t->peer, 3, 2, "", 0);
	peer_frame(&t->peer, 99, 2, "", 0);
	peer_frame(&t->peer, 1, 1, "", 0);
	peer_frame(&t->peer, 1, 3, "", 0);
	peer_frame(&t->peer, 1, 200, "", 0);
	peer_settle(&t->peer);
	assert_int_equal(a.count, 0);
	assert_int_equal(b.count, 1);
	peer_frame(&t->peer, 1, 2, "", 0);
	assert_int_equal(loop_run_until(t->loop, &a.done, DEADLINE_MS), 0);
	assert_string_equal(a.text, "");
}

static void client_survives_bad_answers(void **state)
{
	struct fixture *t = *state;
	struct result r;

	assert_int_equal(answer(t, 2, "\xff\xff\xff", 3, &r), -EPROTO);
	assert_string_equal(r.text, "malformed response to Echo");
	assert_int_equal(answer(t, 2, "\x12\x02\x0a\x7f", 4, &r), -EPROTO);
	assert_string_equal(r.text, "malformed podvm.test.Text in the answer to Echo");
	/* An absent message, and a status that says it's fine. */
	assert_int_equal(answer(t, 2, "", 0, &r), 0);
	assert_int_equal(answer(t, 2, "\x0a\x02\x08\x00\x12\x03\x0a\x01k", 9, &r), 0);
	assert_string_equal(r.text, "k");
	/* Codes that nobody defined, and a text for the terminal. */
	assert_int_equal(
		answer(t, 2, "\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 13, &r), -EIO);
	assert_int_equal(answer(t, 2, "\x0a\x08\x08\x05\x12\x04\x1b[2J", 10, &r), -ENOENT);
	assert_string_equal(r.text, "?[2J");
}

static void client_drops_an_answer_that_is_too_long(void **state)
{
	struct fixture *t = *state;
	_cleanup_(freep) char *junk = calloc(1, (size_t)5 << 20);
	struct result r;

	assert_int_equal(answer(t, 2, junk, (size_t)5 << 20, &r), -EMSGSIZE);
	assert_int_equal(answer(t, 2, "", 0, &r), 0);
}

static void client_fails_calls_in_the_middle_of_a_frame(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 2 };

	assert_int_equal(start_call(t, 0, &r), 0);
	assert_int_equal(start_call(t, 0, &r), 0);
	peer_write(&t->peer, echo_response, sizeof(echo_response) - 1);
	peer_settle(&t->peer);
	assert_int_equal(r.count, 0);
	peer_close(&t->peer);
	assert_int_equal(loop_run_until(t->loop, &r.done, DEADLINE_MS), 0);
	assert_int_equal(r.codes[0], -ECONNRESET);
	assert_int_equal(r.codes[1], -ECONNRESET);
	assert_int_equal(t->closed, 1);
}

static void client_takes_the_last_answers_of_a_server_that_went(void **state)
{
	struct fixture *t = *state;
	struct result answered = { .wanted = 1 };
	struct result lost = { .wanted = 1 };

	assert_int_equal(start_call(t, 0, &answered), 0);
	peer_receive(&t->peer, &t->f);
	peer_write(&t->peer, echo_response, sizeof(echo_response));
	peer_close(&t->peer);
	/* Writing fails here, before the answer has been read. */
	assert_int_equal(start_call(t, 0, &lost), 0);
	assert_int_equal(start_call(t, 0, &lost), -ENOTCONN);
	assert_int_equal(lost.count, 0);
	assert_int_equal(loop_run_until(t->loop, &lost.done, DEADLINE_MS), 0);
	assert_int_equal(answered.codes[0], 0);
	assert_string_equal(answered.text, "hi");
	assert_int_equal(lost.codes[0], -ECONNRESET);
	assert_int_equal(lost.count, 1);
	assert_int_equal(t->closed, 1);
}

static void client_notices_a_peer_that_only_stops_reading(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 1 };

	assert_int_equal(shutdown(t->peer.fd, SHUT_RD), 0);
	assert_int_equal(start_call(t, 0, &r), 0);
	assert_int_equal(loop_run_until(t->loop, &r.done, DEADLINE_MS), 0);
	assert_int_equal(r.codes[0], -ECONNRESET);
}

static void client_survives_garbage(void **state)
{
	struct fixture *t = *state;
	struct result r = { .wanted = 1000 };
	uint32_t random = 7;

	for (int round = 0; round < 200; round++) {
		uint8_t junk[20] = { 0, 0, 0, 10, 0, 0, 0, 0, 2, 0 };

		assert_int_equal(start_call(t, 0, &r), 0);
		junk[6] = (uint8_t)((2 * round + 1) >> 8);
		junk[7] = (uint8_t)(2 * round + 1);
		for (size_t i = TTRPC_HEADER_SIZE; i < sizeof(junk); i++) {
			random = random * 1664525 + 1013904223;
			junk[i] = (uint8_t)(random >> 24);
		}
		peer_write(&t->peer, junk, sizeof(junk));
	}
	peer_settle(&t->peer);
	assert_int_equal(r.count, 200);
	assert_int_equal(t->closed, 0);
}

#define server_test(fn) cmocka_unit_test_setup_teardown(fn, server_setup, teardown)
#define client_test(fn) cmocka_unit_test_setup_teardown(fn, client_setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		server_test(server_answers_bytes_with_bytes),
		server_test(server_takes_single_bytes),
		server_test(server_gives_the_deadline_to_the_handler),
		server_test(server_refuses_a_deadline_that_has_passed),
		server_test(server_refuses_stream_ids_that_are_even_or_old),
		server_test(server_refuses_data),
		server_test(server_ignores_unknown_frames),
		server_test(server_refuses_malformed_messages),
		server_test(server_quotes_foreign_names_cleanly),
		server_test(server_drops_what_is_too_long),
		server_test(server_survives_garbage),
		server_test(server_notices_a_cut_frame),
		server_test(server_serves_what_came_before_the_end),
		server_test(server_stops_reading_a_peer_that_does_not_read),
		server_test(server_limits_the_memory_of_a_message),
		server_test(server_limits_the_depth_of_a_message),
		cmocka_unit_test(unpack_counts_what_a_message_takes),
		client_test(client_sends_bytes_and_takes_bytes),
		client_test(client_uses_odd_rising_ids),
		client_test(client_matches_answers_by_stream),
		client_test(client_survives_bad_answers),
		client_test(client_drops_an_answer_that_is_too_long),
		client_test(client_fails_calls_in_the_middle_of_a_frame),
		client_test(client_takes_the_last_answers_of_a_server_that_went),
		client_test(client_notices_a_peer_that_only_stops_reading),
		client_test(client_survives_garbage),
	};

	return cmocka_run_group_tests_name("ttrpc on the wire", tests, NULL, NULL);
}
