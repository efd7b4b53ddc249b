/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "agent/paths.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fdpass.h"
#include "base/str.h"
#include "base/unixsock.h"

/* Four times the default: fewer calls for much data. The pages are charged to who fills them. */
#define PIPE_SIZE ((int)256 << 10)

void streams_init(struct streams *io, struct loop *loop)
{
	memset(io, 0, sizeof(*io));
	io->loop = loop;
	io->out[0].loop = io->out[1].loop = loop;
	io->out[0].fd = io->out[1].fd = io->in.fd = -EBADF;
	io->child[0] = io->child[1] = io->child[2] = -EBADF;
	io->console = io->said = -EBADF;
}

static void close_fd(int *fd)
{
	close_fdp(fd);
	*fd = -EBADF;
}

/* A pipe; our end doesn't block. */
static int make_pipe(int *ours, int *theirs, bool we_read)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	*ours = fds[we_read ? 0 : 1];
	*theirs = fds[we_read ? 1 : 0];
	/* A smaller one works as well. */
	(void)fcntl(*ours, F_SETPIPE_SZ, PIPE_SIZE);
	return fd_nonblock(*ours);
}

static int make_console(struct streams *io, const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	snprintf(io->console_path, sizeof(io->console_path), DIR_AGENT "/%s.sock", name);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", io->console_path);
	io->console = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (io->console < 0 || bind(io->console, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(io->console, 1) < 0)
		return -errno;
	return make_pipe(&io->said, &io->child[2], true);
}

int streams_open(struct streams *io, bool terminal, bool input, const char *name, struct err *e)
{
	int r;

	io->terminal = terminal;
	if (terminal) {
		r = make_console(io, name);
		return r < 0 ? err_errno(e, r, "cannot make the console socket") : 0;
	}
	r = make_pipe(&io->out[0].fd, &io->child[1], true);
	if (r == 0)
		r = make_pipe(&io->out[1].fd, &io->child[2], true);
	if (r == 0 && input)
		r = make_pipe(&io->in.fd, &io->child[0], false);
	return r < 0 ? err_errno(e, r, "cannot make the pipes") : 0;
}

void streams_give(const struct streams *io, struct spawn *s)
{
	s->stdin_fd = io->child[0];
	s->stdout_fd = io->child[1];
	s->stderr_fd = io->child[2];
}

void streams_given(struct streams *io)
{
	for (int i = 0; i < 3; i++)
		close_fd(&io->child[i]);
}

/* Receive one descriptor that has been sent already. Return: It or a negative errno */
static int receive_fd(int socket_fd)
{
	char name[16];
	int fd;
	size_t n;
	ssize_t got = fdpass_receive(socket_fd, name, sizeof(name), &fd, 1, &n);

	if (got < 0)
		return (int)got;
	return n == 1 ? fd : -EPROTO;
}

static int take_terminal(struct streams *io)
{
	_cleanup_(close_fdp) int conn = accept4(io->console, NULL, NULL, SOCK_CLOEXEC);
	int fd;

	if (conn < 0)
		return -errno;
	fd = receive_fd(conn);
	if (fd < 0)
		return fd;
	/* Two descriptors, because reading and writing are watched apart. */
	io->out[0].fd = fd;
	io->in.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return io->in.fd < 0 ? -errno : fd_nonblock(fd);
}

static void close_console(struct streams *io)
{
	if (io->console < 0)
		return;
	close_fd(&io->console);
	unlink(io->console_path);
	close_fd(&io->said);
}

int streams_started(struct streams *io, uint32_t columns, uint32_t rows, struct err *e)
{
	int r;

	if (!io->terminal)
		return 0;
	r = take_terminal(io);
	close_console(io);
	if (r < 0)
		return err_errno(e, r, "crun did not send the terminal");
	return columns && rows ? streams_resize(io, columns, rows) : 0;
}

void streams_said(struct streams *io, char *buf, size_t size)
{
	int fd = io->terminal ? io->said : io->out[1].fd;
	ssize_t n = fd >= 0 ? read(fd, buf, size - 1) : 0;

	/* An error after the terminal was set up is said there. */
	if (n <= 0 && io->terminal && take_terminal(io) == 0)
		n = read(io->out[0].fd, buf, size - 1);
	buf[MAX(n, 0)] = '\0';
}

/* ---- output ---- */

static void on_readable(void *data, int events);

static void end_read(struct streams_output *o)
{
	if (o->watch)
		loop_io_set(o->watch, 0);
}

static void reply_output(struct streams_output *o, uint8_t *data, size_t len, bool eof)
{
	Podvm__Agent__V1__ReadOutputResponse resp = PODVM__AGENT__V1__READ_OUTPUT_RESPONSE__INIT;

	end_read(o);
	resp.data.data = data;
	resp.data.len = len;
	resp.eof = eof;
	resp.closed = eof && o->socket && o->fd >= 0 && unixsock_hung_up(o->fd);
	ttrpc_reply(TAKE_PTR(o->call), &resp.base);
}

static void wait_readable(struct streams_output *o)
{
	int r;

	if (o->watch)
		r = loop_io_set(o->watch, LOOP_READ);
	else
		r = loop_io_new(o->loop, o->fd, LOOP_READ, on_readable, o, &o->watch);
	if (r < 0)
		ttrpc_reply_error(TAKE_PTR(o->call), TTRPC_RESOURCE_EXHAUSTED, "out of memory");
}

static ssize_t read_some(struct streams_output *o, uint8_t *data, size_t size)
{
	ssize_t n;

	if (o->socket)
		return unixsock_receive(o->fd, data, size);
	n = read(o->fd, data, size);
	return n < 0 ? -errno : n;
}

/* What a socket can't pass on; it has been received already. */
static void refuse(struct streams_output *o, int why)
{
	end_read(o);
	ttrpc_reply_error(TAKE_PTR(o->call), TTRPC_FAILED_PRECONDITION, "%s",
			  why == -EBADMSG ? "descriptors can't be passed to the host"
					  : "a message is too long");
}

static void try_read(struct streams_output *o)
{
	_cleanup_(freep) uint8_t *data = NULL;
	int there = 0;
	uint32_t size;
	ssize_t n;

	/* Memory for what there is, not for what could be. */
	if (ioctl(o->fd, FIONREAD, &there) < 0 || there < 1)
		there = 1;
	size = MIN((uint32_t)there, o->max);
	data = malloc(size);
	if (!data) {
		end_read(o);
		ttrpc_reply_error(TAKE_PTR(o->call), TTRPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	n = read_some(o, data, size);
	if (n > 0)
		reply_output(o, data, (size_t)n, false);
	else if (n == -EAGAIN || n == -EINTR)
		wait_readable(o);
	else if (n == -EBADMSG || n == -EMSGSIZE)
		refuse(o, (int)n);
	else /* the end; of a terminal, EIO: nobody has it open any more */
		reply_output(o, NULL, 0, true);
}

static void drop(struct streams_output *o)
{
	char bytes[4096];
	ssize_t n = read(o->fd, bytes, sizeof(bytes));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		end_read(o);
}

static void on_readable(void *data, int events)
{
	struct streams_output *o = data;

	if (o->call)
		try_read(o);
	else if (o->drop)
		drop(o);
}

void streams_drop(struct streams *io)
{
	for (int i = 0; i < 2; i++) {
		struct streams_output *o = &io->out[i];

		o->drop = true;
		if (o->watch)
			(void)loop_io_set(o->watch, LOOP_READ);
		else if (o->fd >= 0)
			(void)loop_io_new(o->loop, o->fd, LOOP_READ, on_readable, o, &o->watch);
	}
}

void streams_read(struct streams *io, struct ttrpc_call *call, int stream, uint32_t max)
{
	struct streams_output *o = &io->out[stream];

	if (o->call || o->drop) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION,
				  o->drop ? "the output of this process is dropped"
					  : "this stream is being read already");
		return;
	}
	o->call = call;
	o->max = max;
	if (o->fd < 0)
		reply_output(o, NULL, 0, true);
	else
		try_read(o);
}

/* ---- input ---- */

static void on_writable(void *data, int events);

static void close_input_now(struct streams *io)
{
	struct streams_input *in = &io->in;

	loop_io_free(TAKE_PTR(in->watch));
	/* A connection's other direction stays open. */
	(void)shutdown(in->fd, SHUT_WR);
	close_fd(&in->fd);
}

/* In line mode the end-of-file character ends a read; in the middle of a line it takes two. */
static void send_eof(struct streams *io)
{
	struct termios t;
	char eof[2];

	if (tcgetattr(io->in.fd, &t) < 0 || !(t.c_lflag & ICANON))
		return;
	eof[0] = eof[1] = (char)t.c_cc[VEOF];
	(void)!write(io->in.fd, eof, io->in.last == '\0' || io->in.last == '\n' ? 1 : 2);
}

static void finish_write(struct streams *io)
{
	struct streams_input *in = &io->in;

	if (in->watch)
		loop_io_set(in->watch, 0);
	in->data = NULL;
	if (in->close_after)
		streams_close_input(io);
}

static void wait_writable(struct streams *io)
{
	struct streams_input *in = &io->in;
	int r;

	if (in->watch)
		r = loop_io_set(in->watch, LOOP_WRITE);
	else
		r = loop_io_new(io->loop, in->fd, LOOP_WRITE, on_writable, io, &in->watch);
	if (r < 0)
		ttrpc_reply_error(TAKE_PTR(in->call), TTRPC_RESOURCE_EXHAUSTED, "out of memory");
}

static void try_write(struct streams *io)
{
	struct streams_input *in = &io->in;

	while (in->done < in->len) {
		ssize_t n = write(in->fd, in->data + in->done, in->len - in->done);

		if (n > 0) {
			in->done += (size_t)n;
			in->last = in->data[in->done - 1];
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0 || errno == EAGAIN) {
			wait_writable(io);
			return;
		}
		ttrpc_reply_error(TAKE_PTR(in->call), TTRPC_FAILED_PRECONDITION,
				  "nobody reads the input any more");
		finish_write(io);
		return;
	}
	reply_empty(TAKE_PTR(in->call));
	finish_write(io);
}

static void on_writable(void *data, int events)
{
	struct streams *io = data;

	if (io->in.call)
		try_write(io);
}

void streams_write(struct streams *io, struct ttrpc_call *call, const uint8_t *data, size_t len)
{
	struct streams_input *in = &io->in;

	if (in->call || in->fd < 0 || in->close_after) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION,
				  in->call ? "input is being written already"
					   : "the process has no open input");
		return;
	}
	in->call = call;
	in->data = data;
	in->len = len;
	in->done = 0;
	try_write(io);
}

void streams_close_input(struct streams *io)
{
	if (io->in.fd < 0)
		return;
	if (io->in.call) {
		io->in.close_after = true;
		return;
	}
	if (io->terminal)
		send_eof(io);
	else
		close_input_now(io);
	io->in.close_after = false;
}

int streams_resize(struct streams *io, uint32_t columns, uint32_t rows)
{
	struct winsize size = {
		.ws_col = (unsigned short)MIN(columns, 65535),
		.ws_row = (unsigned short)MIN(rows, 65535),
	};

	if (!io->terminal || io->out[0].fd < 0)
		return -ENOTTY;
	return ioctl(io->out[0].fd, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

void streams_done(struct streams *io)
{
	for (int i = 0; i < 2; i++) {
		struct streams_output *o = &io->out[i];

		loop_io_free(TAKE_PTR(o->watch));
		if (o->call)
			reply_output(o, NULL, 0, true);
		close_fd(&o->fd);
	}
	if (io->in.call)
		ttrpc_reply_error(TAKE_PTR(io->in.call), TTRPC_FAILED_PRECONDITION,
				  "the process was removed");
	close_input_now(io);
	streams_given(io);
	close_console(io);
}
