/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/socket_relay.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/unixsock.h"
#include "sandbox/agent_client.h"

/* While so much waits for the agent's channel nothing is added to it. */
#define QUEUED_MAX ((size_t)4 << 20)
#define QUEUED_MS  20

/**
 * struct socket_relay - A relay
 * @reading:	ReadOutput
 * @piece:	What it brought, @sent bytes of @len have been taken; NULL: there is none
 * @eof:	It was the last one
 * @closed:	Nor does anybody read any more
 * @out_ended:	And our end was told
 * @writing:	WriteInput
 * @in_ended:	The agent was told that nothing more comes
 * @pause:	Runs while the agent's channel is full
 */
struct socket_relay {
	struct socket_relay_config config;
	struct loop_io *io;
	struct ttrpc_pending *reading;
	uint8_t *piece;
	size_t len;
	size_t sent;
	bool eof;
	bool closed;
	bool out_ended;
	struct ttrpc_pending *writing;
	bool in_ended;
	struct loop_timer *pause;
};

/* Positive: it's over, and not for anything that went wrong. */
#define OVER 1

static void finish(struct socket_relay *r, int why, const char *text)
{
	struct err e = { 0 };

	(void)loop_io_set(r->io, 0);
	if (why < 0)
		err_set(&e, why, "%s", text ?: strerror(-why));
	r->config.done(r->config.data, why < 0 ? &e : NULL);
}

static void watch(struct socket_relay *r)
{
	bool receive = !r->writing && !r->in_ended && !r->pause;

	(void)loop_io_set(r->io, (receive ? LOOP_READ : 0) | (r->piece ? LOOP_WRITE : 0));
}

/* ---- out of the guest ---- */

static void on_output(void *data, const ProtobufCMessage *msg, const struct err *e);

static int ask(struct socket_relay *r)
{
	Podvm__Agent__V1__ReadOutputRequest req = PODVM__AGENT__V1__READ_OUTPUT_REQUEST__INIT;

	req.container_id = (char *)"";
	req.exec_id = (char *)r->config.id;
	req.stream = PODVM__AGENT__V1__READ_OUTPUT_REQUEST__STREAM__STDOUT;
	req.max = SOCKET_RELAY_MAX;
	return agent_call(r->config.agent, "ReadOutput", &req.base, 0, on_output, r, &r->reading);
}

/* Everything has been taken that came. */
static int go_on(struct socket_relay *r)
{
	if (!r->eof)
		return ask(r);
	r->out_ended = true;
	(void)shutdown(r->config.fd, SHUT_WR);
	return r->in_ended || r->closed ? OVER : 0;
}

/* As much as is taken. Return: 0, or OVER: the other end has gone */
static int send_piece(struct socket_relay *r, const uint8_t *data, size_t len, size_t *sent)
{
	while (*sent < len) {
		ssize_t n = send(r->config.fd, data + *sent, len - *sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && errno != EINTR)
			return OVER;
		*sent += (size_t)MAX(n, 0);
	}
	return 0;
}

/* Only what isn't taken at once is kept. */
static int deliver(struct socket_relay *r, const ProtobufCBinaryData *d)
{
	size_t sent = 0;
	int ret = send_piece(r, d->data, d->len, &sent);

	if (ret != 0)
		return ret;
	if (sent == d->len)
		return go_on(r);
	r->len = d->len - sent;
	r->sent = 0;
	r->piece = malloc(r->len);
	if (!r->piece)
		return -ENOMEM;
	memcpy(r->piece, d->data + sent, r->len);
	watch(r);
	return 0;
}

static int flush(struct socket_relay *r)
{
	int ret = send_piece(r, r->piece, r->len, &r->sent);

	if (ret != 0 || r->sent < r->len)
		return ret;
	free(TAKE_PTR(r->piece));
	return go_on(r);
}

static void on_output(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	const Podvm__Agent__V1__ReadOutputResponse *resp = (const void *)msg;
	struct socket_relay *r = data;
	int ret;

	r->reading = NULL;
	if (e) {
		finish(r, e->code, e->msg);
		return;
	}
	r->eof = resp->eof;
	r->closed = resp->closed;
	if (resp->data.len > SOCKET_RELAY_MAX || (resp->data.len == 0 && !resp->eof))
		ret = -EPROTO;
	else
		ret = deliver(r, &resp->data);
	if (ret != 0)
		finish(r, ret, NULL);
}

/* ---- into the guest ---- */

static void on_taken(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct socket_relay *r = data;

	r->writing = NULL;
	/* Who had connected has gone. */
	if (e)
		finish(r, OVER, NULL);
	else
		watch(r);
}

static int give(struct socket_relay *r, uint8_t *data, size_t n)
{
	Podvm__Agent__V1__WriteInputRequest req = PODVM__AGENT__V1__WRITE_INPUT_REQUEST__INIT;

	req.container_id = (char *)"";
	req.exec_id = (char *)r->config.id;
	req.data.data = data;
	req.data.len = n;
	return agent_call(r->config.agent, "WriteInput", &req.base, 0, on_taken, r, &r->writing);
}

static int end_input(struct socket_relay *r)
{
	Podvm__Agent__V1__ProcessRequest req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;

	r->in_ended = true;
	if (r->out_ended || unixsock_hung_up(r->config.fd))
		return OVER;
	req.container_id = (char *)"";
	req.exec_id = (char *)r->config.id;
	return agent_call(r->config.agent, "CloseInput", &req.base, AGENT_TIMEOUT_MS, agent_ignore,
			  NULL, NULL);
}

static void on_pause_over(void *data)
{
	struct socket_relay *r = data;

	loop_timer_free(TAKE_PTR(r->pause));
	watch(r);
}

static int receive(struct socket_relay *r)
{
	static uint8_t room[SOCKET_RELAY_MAX]; /* a call copies it */
	ssize_t n;

	if (ttrpc_client_queued(r->config.agent) > QUEUED_MAX)
		return loop_timer_new(r->config.loop, QUEUED_MS, on_pause_over, r, &r->pause);
	n = unixsock_receive(r->config.fd, room, sizeof(room));
	if (n == -EAGAIN)
		return 0;
	if (n == -ECONNRESET)
		return OVER;
	if (n < 0)
		return (int)n;
	return n == 0 ? end_input(r) : give(r, room, (size_t)n);
}

/* ---- both ---- */

static const char *reason(int code)
{
	switch (code) {
	case -EBADMSG:
		return "descriptors can't be passed to the pod";
	case -EMSGSIZE:
		return "a message is too long";
	default:
		return NULL;
	}
}

static void on_io(void *data, int events)
{
	struct socket_relay *r = data;
	int ret = 0;

	if ((events & LOOP_WRITE) && r->piece)
		ret = flush(r);
	if (ret == 0 && (events & LOOP_READ) && !r->writing && !r->in_ended && !r->pause)
		ret = receive(r);
	if (ret == 0)
		watch(r);
	else
		finish(r, ret, reason(ret));
}

int socket_relay_new(const struct socket_relay_config *config, struct socket_relay **ret)
{
	struct socket_relay *r = calloc(1, sizeof(*r));
	int code;

	if (!r)
		return -ENOMEM;
	r->config = *config;
	code = loop_io_new(config->loop, config->fd, LOOP_READ, on_io, r, &r->io);
	if (code == 0)
		code = ask(r);
	if (code < 0) {
		loop_io_free(r->io);
		free(r);
		return code;
	}
	*ret = r;
	return 0;
}

void socket_relay_free(struct socket_relay *r)
{
	if (!r)
		return;
	loop_io_free(r->io);
	loop_timer_free(r->pause);
	ttrpc_cancel(r->reading);
	ttrpc_cancel(r->writing);
	free(r->piece);
	close(r->config.fd);
	free(r);
}
