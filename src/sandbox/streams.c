/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "proto/agent.pb-c.h"
#include "sandbox/agent_client.h"

#define CHUNK ((size_t)256 << 10)

/* One direction of output. Reading goes on while less than one chunk waits to be written. */
struct output {
	struct streams *owner;
	enum streams_which stream;
	int fd; /* our own, or -EBADF */
	bool socket;
	struct loop_io *io; /* while it's full */
	struct buf buf;
	struct ttrpc_pending *read;
	bool eof;
	bool finished; /* at its end and written */
};

struct input {
	int fd;
	struct loop_io *io; /* NULL: a file that is always ready, or closed */
	struct loop_timer *again;
	struct ttrpc_pending *write;
	bool closing;
	bool closed;
};

struct streams {
	struct streams_config config;
	struct output outputs[STREAMS_COUNT];
	struct input input;
	struct loop_timer *ending;
	struct err err;
	bool done;
	bool broken;
};

static void pump_output(struct output *o);

/* Our own open file of what the descriptor is, non-blocking where that makes sense. */
static int reopen(int fd, int flags, bool *ret_socket)
{
	struct stat st;
	char path[32];
	int own = -1;

	if (fstat(fd, &st) < 0)
		return -errno;
	*ret_socket = S_ISSOCK(st.st_mode);
	if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		own = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	}
	/* A file has a position that is to be shared; a terminal may belong to somebody else. */
	if (own < 0)
		own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return own < 0 ? -errno : own;
}

static void on_end(void *data)
{
	struct streams *s = data;

	s->config.done(s->config.data, s->err.code ? &s->err : NULL);
}

/* The end is reported from the loop, never from within a call of the owner. */
static void finish(struct streams *s, const struct err *e)
{
	if (s->done)
		return;
	s->done = true;
	if (e)
		s->err = *e;
	if (s->config.done)
		(void)loop_timer_new(s->config.loop, 0, on_end, s, &s->ending);
}

static void finish_output(struct output *o)
{
	struct streams *s = o->owner;

	o->finished = true;
	loop_io_free(TAKE_PTR(o->io));
	if (o->fd >= 0)
		close(TAKE_FD(o->fd));
	if (s->outputs[STREAMS_STDOUT].finished && s->outputs[STREAMS_STDERR].finished)
		finish(s, NULL);
}

/* Whoever read this has gone: the rest is dropped, the guest's stream doesn't stall. */
static void drop_output(struct output *o, int r)
{
	struct streams *s = o->owner;

	loop_io_free(TAKE_PTR(o->io));
	close(TAKE_FD(o->fd));
	buf_consume(&o->buf, buf_len(&o->buf));
	if (r == -EPIPE && !s->broken && s->config.broken) {
		s->broken = true;
		s->config.broken(s->config.data);
	}
}

static void on_writable(void *data, int events)
{
	pump_output(data);
}

static ssize_t write_some(struct output *o)
{
	const void *head = buf_head(&o->buf);
	size_t n = buf_len(&o->buf);
	ssize_t w;

	w = o->socket ? send(o->fd, head, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(o->fd, head, n);
	return w < 0 ? -errno : w;
}

static void write_output(struct output *o)
{
	while (o->fd >= 0 && buf_len(&o->buf) > 0) {
		ssize_t w = write_some(o);

		if (w >= 0) {
			buf_consume(&o->buf, (size_t)w);
		} else if (w == -EAGAIN) {
			if (!o->io && loop_io_new(o->owner->config.loop, o->fd, LOOP_WRITE,
						  on_writable, o, &o->io) < 0)
				drop_output(o, (int)w);
			return;
		} else if (w != -EINTR) {
			drop_output(o, (int)w);
		}
	}
	loop_io_free(TAKE_PTR(o->io));
	/* A burst of output doesn't stay in memory until the process ends. */
	buf_done(&o->buf);
}

static void on_read(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	const Podvm__Agent__V1__ReadOutputResponse *resp = (const void *)msg;
	struct output *o = data;
	struct streams *s = o->owner;
	struct err err = { 0 };

	o->read = NULL;
	if (e) {
		/* Removed meanwhile (NOT_FOUND) is an end as well. */
		o->eof = true;
		if (e->code != -ENOENT) {
			err = *e;
			err_wrap(&err, "lost the output of the process");
			finish(s, &err);
			return;
		}
	} else {
		if (s->config.output && resp->data.len)
			s->config.output(s->config.data, o->stream, resp->data.data,
					 resp->data.len);
		if (o->fd >= 0 && buf_append(&o->buf, resp->data.data, resp->data.len) < 0)
			drop_output(o, -ENOMEM);
		o->eof = resp->eof;
	}
	pump_output(o);
}

static void pump_output(struct output *o)
{
	struct streams *s = o->owner;
	Podvm__Agent__V1__ReadOutputRequest req = PODVM__AGENT__V1__READ_OUTPUT_REQUEST__INIT;
	struct err e = { 0 };
	int r;

	write_output(o);
	if (o->eof) {
		if (buf_len(&o->buf) == 0 && !o->finished)
			finish_output(o);
		return;
	}
	if (o->read || s->done || buf_len(&o->buf) >= CHUNK)
		return;
	req.container_id = (char *)s->config.container_id;
	req.exec_id = (char *)s->config.exec_id;
	req.stream = o->stream == STREAMS_STDOUT
			     ? PODVM__AGENT__V1__READ_OUTPUT_REQUEST__STREAM__STDOUT
			     : PODVM__AGENT__V1__READ_OUTPUT_REQUEST__STREAM__STDERR;
	req.max = CHUNK;
	r = agent_call(s->config.client, "ReadOutput", &req.base, 0, on_read, o, &o->read);
	if (r < 0) {
		err_errno(&e, r, "lost the output of the process");
		finish(s, &e);
	}
}

static void on_readable(void *data, int events);

static void close_input(struct streams *s);

static void on_input_written(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct streams *s = data;

	s->input.write = NULL;
	if (e) {
		/* The process has gone or closed its end; its output tells how it ended. */
		s->input.closed = true;
		return;
	}
	if (s->input.closing)
		close_input(s);
	else if (s->input.io)
		loop_io_set(s->input.io, LOOP_READ);
	else
		on_readable(s, LOOP_READ);
}

static void on_input_closed(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct streams *s = data;

	s->input.write = NULL;
}

static void close_input(struct streams *s)
{
	Podvm__Agent__V1__ProcessRequest req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;

	loop_io_free(TAKE_PTR(s->input.io));
	s->input.closing = true;
	if (s->input.write || s->input.closed)
		return;
	s->input.closed = true;
	req.container_id = (char *)s->config.container_id;
	req.exec_id = (char *)s->config.exec_id;
	(void)agent_call(s->config.client, "CloseInput", &req.base, AGENT_TIMEOUT_MS,
			 on_input_closed, s, &s->input.write);
}

static void on_readable(void *data, int events)
{
	Podvm__Agent__V1__WriteInputRequest req = PODVM__AGENT__V1__WRITE_INPUT_REQUEST__INIT;
	struct streams *s = data;
	_cleanup_(freep) uint8_t *chunk = NULL;
	ssize_t n;

	if (s->input.write || s->input.closed)
		return;
	chunk = malloc(CHUNK);
	if (!chunk)
		return;
	n = read(s->input.fd, chunk, CHUNK);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		close_input(s);
		return;
	}
	if (s->input.io)
		loop_io_set(s->input.io, 0);
	req.container_id = (char *)s->config.container_id;
	req.exec_id = (char *)s->config.exec_id;
	req.data.data = chunk;
	req.data.len = (size_t)n;
	if (agent_call(s->config.client, "WriteInput", &req.base, 0, on_input_written, s,
		       &s->input.write) < 0)
		s->input.closed = true;
}

static void on_input_begin(void *data)
{
	on_readable(data, LOOP_READ);
}

static int start_input(struct streams *s)
{
	bool is_socket;
	int r;

	s->input.fd = reopen(s->config.stdin_fd, O_RDONLY, &is_socket);
	if (s->input.fd < 0)
		return s->input.fd;
	r = loop_io_new(s->config.loop, s->input.fd, LOOP_READ, on_readable, s, &s->input.io);
	/* A file can't be polled and is always ready. */
	if (r == -EPERM)
		r = loop_timer_new(s->config.loop, 0, on_input_begin, s, &s->input.again);
	return r;
}

static int start_output(struct streams *s, enum streams_which stream)
{
	struct output *o = &s->outputs[stream];

	if (stream == STREAMS_STDERR && s->config.terminal) {
		o->finished = true;
		return 0;
	}
	if (s->config.fds[stream] >= 0) {
		o->fd = reopen(s->config.fds[stream], O_WRONLY, &o->socket);
		if (o->fd < 0)
			return o->fd;
	}
	pump_output(o);
	return 0;
}

int streams_new(const struct streams_config *config, struct streams **ret)
{
	struct streams *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return -ENOMEM;
	s->config = *config;
	s->input.fd = -EBADF;
	for (int i = 0; i < STREAMS_COUNT; i++) {
		s->outputs[i].owner = s;
		s->outputs[i].stream = (enum streams_which)i;
		s->outputs[i].fd = -EBADF;
		s->outputs[i].buf.limit = 4 * CHUNK;
	}
	for (int i = 0; r == 0 && i < STREAMS_COUNT; i++)
		r = start_output(s, (enum streams_which)i);
	if (r == 0 && config->stdin_fd >= 0)
		r = start_input(s);
	if (r < 0) {
		streams_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

bool streams_done(const struct streams *s)
{
	return s->done;
}

void streams_free(struct streams *s)
{
	if (!s)
		return;
	for (int i = 0; i < STREAMS_COUNT; i++) {
		struct output *o = &s->outputs[i];

		if (o->read)
			ttrpc_cancel(o->read);
		loop_io_free(o->io);
		buf_done(&o->buf);
		if (o->fd >= 0)
			close(o->fd);
	}
	if (s->input.write)
		ttrpc_cancel(s->input.write);
	loop_io_free(s->input.io);
	loop_timer_free(s->input.again);
	loop_timer_free(s->ending);
	if (s->input.fd >= 0)
		close(s->input.fd);
	free(s);
}
