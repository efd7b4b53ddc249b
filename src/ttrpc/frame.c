/* SPDX-License-Identifier: Apache-2.0 */
#include "ttrpc/frame.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/list.h"
#include "ttrpc/ttrpc.h"

/* What one read takes, and how many frames one write takes. */
#define READ_CHUNK   ((size_t)64 << 10)
#define WRITE_FRAMES 64

/* A peer that is gone for writing is read this often more, for what it had sent before. */
#define LAST_READS 256

/* A tag (field numbers here are below 16) and a length. */
#define MAX_PREFIX 6

struct out_frame {
	struct list node;
	size_t size;
	size_t sent;
	uint8_t data[];
};

/**
 * struct frame_conn - A connection
 * @events:	What @io waits for
 * @in:		Bytes of frames that have not been handed over
 * @discard:	Bytes still to come of a payload that is dropped
 * @out:	struct out_frame, the first may be written in part
 * @queued:	Memory of @out
 * @paused:	@queued went above @pause_above
 * @broken:	Nothing can be written any more
 * @busy:	Inside on_io(), which frees it in the end
 * @freed:	The owner has freed it
 */
struct frame_conn {
	int fd;
	bool socket;
	struct loop_io *io;
	int events;
	const struct frame_ops *ops;
	void *data;
	struct buf in;
	uint32_t discard;
	struct list out;
	size_t queued;
	size_t pause_above;
	bool paused;
	bool broken;
	bool busy;
	bool freed;
};

/* ---- in ---- */

static void parse_header(const uint8_t *p, struct frame *f)
{
	uint32_t word;

	memcpy(&word, p, sizeof(word));
	f->length = be32toh(word);
	memcpy(&word, p + 4, sizeof(word));
	f->stream = be32toh(word);
	f->type = p[8];
	f->flags = p[9];
}

static void drop_discarded(struct frame_conn *c)
{
	size_t n = MIN((size_t)c->discard, buf_len(&c->in));

	buf_consume(&c->in, n);
	c->discard -= (uint32_t)n;
}

/* Hand over one frame. Returns false when there is no whole one. */
static bool next_frame(struct frame_conn *c)
{
	struct frame f = { 0 };

	drop_discarded(c);
	if (buf_len(&c->in) < TTRPC_HEADER_SIZE)
		return false;
	parse_header(buf_head(&c->in), &f);
	if (f.length > TTRPC_MAX_PAYLOAD) {
		buf_consume(&c->in, TTRPC_HEADER_SIZE);
		c->discard = f.length;
		c->ops->frame(c->data, &f);
		return true;
	}
	if (buf_len(&c->in) < TTRPC_HEADER_SIZE + f.length)
		return false;
	f.payload = buf_head(&c->in) + TTRPC_HEADER_SIZE;
	c->ops->frame(c->data, &f);
	buf_consume(&c->in, TTRPC_HEADER_SIZE + f.length);
	return true;
}

/* Read once. Returns 1, 0 when there is nothing, or a negative errno (-ECONNRESET at the end). */
static int fill(struct frame_conn *c)
{
	ssize_t n;
	int r = buf_reserve(&c->in, READ_CHUNK);

	if (r < 0)
		return r;
	n = read(c->fd, c->in.data + c->in.end, READ_CHUNK);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	c->in.end += (size_t)n;
	return 1;
}

/* ---- out ---- */

static void out_frame_free(struct frame_conn *c, struct out_frame *f)
{
	c->queued -= sizeof(*f) + f->size;
	list_remove(&f->node);
	free(f);
}

static void drop_out(struct frame_conn *c)
{
	struct out_frame *f;
	struct out_frame *tmp;

	list_for_each_safe (f, tmp, &c->out, node)
		out_frame_free(c, f);
	c->paused = false;
}

static ssize_t write_some(struct frame_conn *c)
{
	struct iovec iov[WRITE_FRAMES];
	struct msghdr msg = { .msg_iov = iov };
	struct out_frame *f;
	ssize_t n;

	list_for_each (f, &c->out, node) {
		iov[msg.msg_iovlen].iov_base = f->data + f->sent;
		iov[msg.msg_iovlen].iov_len = f->size - f->sent;
		if (++msg.msg_iovlen == WRITE_FRAMES)
			break;
	}
	if (c->socket)
		n = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
	else
		n = writev(c->fd, iov, (int)msg.msg_iovlen);
	return n < 0 ? -errno : n;
}

static void mark_sent(struct frame_conn *c, size_t n)
{
	struct out_frame *f;
	struct out_frame *tmp;

	list_for_each_safe (f, tmp, &c->out, node) {
		size_t part = MIN(n, f->size - f->sent);

		f->sent += part;
		n -= part;
		if (f->sent < f->size)
			return;
		out_frame_free(c, f);
	}
}

/* Write what the peer takes. */
static void flush(struct frame_conn *c)
{
	while (!list_empty(&c->out)) {
		ssize_t n = write_some(c);

		if (n == 0 || n == -EAGAIN)
			break;
		if (n > 0) {
			mark_sent(c, (size_t)n);
		} else if (n != -EINTR) {
			c->broken = true;
			drop_out(c);
		}
	}
	if (c->queued <= c->pause_above / 2)
		c->paused = false;
}

/* The tag and the length of a field of bytes. Returns how many bytes that is. */
static size_t put_prefix(uint8_t *p, unsigned int field, size_t length)
{
	size_t n = 0;

	p[n++] = (uint8_t)(field << 3 | 2);
	for (; length > 0x7f; length >>= 7)
		p[n++] = (uint8_t)(length | 0x80);
	p[n++] = (uint8_t)length;
	return n;
}

static void put_header(uint8_t *p, size_t length, uint32_t stream, uint8_t type)
{
	uint32_t word = htobe32((uint32_t)length);

	memcpy(p, &word, sizeof(word));
	word = htobe32(stream);
	memcpy(p + 4, &word, sizeof(word));
	p[8] = type;
	p[9] = 0;
}

/*
 * The body is packed straight into the frame, behind the fields of the head: that is what packing
 * a head with the packed body in its last field gives, without two copies.
 */
static int out_frame_new(uint32_t stream, enum frame_type type, const ProtobufCMessage *head,
			 unsigned int field, const ProtobufCMessage *body, struct out_frame **ret)
{
	size_t head_size = protobuf_c_message_get_packed_size(head);
	size_t body_size = body ? protobuf_c_message_get_packed_size(body) : 0;
	uint8_t prefix[MAX_PREFIX];
	size_t prefix_size = 0;
	struct out_frame *f;
	uint8_t *p;

	if (head_size > TTRPC_MAX_PAYLOAD || body_size > TTRPC_MAX_PAYLOAD)
		return -EMSGSIZE;
	if (body_size > 0)
		prefix_size = put_prefix(prefix, field, body_size);
	if (head_size + prefix_size + body_size > TTRPC_MAX_PAYLOAD)
		return -EMSGSIZE;
	f = malloc(sizeof(*f) + TTRPC_HEADER_SIZE + head_size + prefix_size + body_size);
	if (!f)
		return -ENOMEM;
	f->size = TTRPC_HEADER_SIZE + head_size + prefix_size + body_size;
	f->sent = 0;
	put_header(f->data, f->size - TTRPC_HEADER_SIZE, stream, (uint8_t)type);
	p = f->data + TTRPC_HEADER_SIZE;
	p += protobuf_c_message_pack(head, p);
	memcpy(p, prefix, prefix_size);
	if (body_size > 0)
		protobuf_c_message_pack(body, p + prefix_size);
	*ret = f;
	return 0;
}

/* ---- connection ---- */

static void watch(struct frame_conn *c)
{
	int events = (c->paused ? 0 : LOOP_READ) |
		     (c->broken || !list_empty(&c->out) ? LOOP_WRITE : 0);

	if (events != c->events && loop_io_set(c->io, events) == 0)
		c->events = events;
}

static void release(struct frame_conn *c)
{
	loop_io_free(c->io);
	close(c->fd);
	drop_out(c);
	buf_done(&c->in);
	free(c);
}

/* Hand over what is there, as long as the answers to it find room. */
static void process(struct frame_conn *c)
{
	bool was_paused;

	do {
		while (!c->freed && !c->paused && next_frame(c))
			;
		was_paused = c->paused;
		if (!c->freed)
			flush(c);
	} while (was_paused && !c->paused && !c->freed);
}

static int read_and_process(struct frame_conn *c)
{
	int reads = 0;
	int r;

	process(c);
	do {
		if (c->freed || c->paused)
			return 0;
		r = fill(c);
		if (r > 0)
			process(c);
	} while (r > 0 && c->broken && ++reads < LAST_READS);
	return c->broken ? -EPIPE : r;
}

static void on_io(void *data, int events)
{
	struct frame_conn *c = data;
	int r;

	c->busy = true;
	if (events & LOOP_WRITE)
		flush(c);
	r = read_and_process(c);
	c->busy = false;
	if (c->freed) {
		release(c);
		return;
	}
	if (r < 0) {
		c->ops->lost(c->data, r);
		return;
	}
	/* A connection at rest holds no memory. */
	if (buf_len(&c->in) == 0)
		buf_done(&c->in);
	watch(c);
}

static bool is_socket(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

int frame_conn_new(struct loop *loop, int fd, size_t pause_above, const struct frame_ops *ops,
		   void *data, struct frame_conn **ret)
{
	struct frame_conn *c = calloc(1, sizeof(*c));
	int r = c ? fd_nonblock(fd) : -ENOMEM;

	if (r == 0) {
		c->fd = fd;
		c->socket = is_socket(fd);
		c->ops = ops;
		c->data = data;
		c->pause_above = pause_above;
		/* A whole frame but for its last byte, and what is read then. */
		c->in.limit = TTRPC_HEADER_SIZE + TTRPC_MAX_PAYLOAD + READ_CHUNK;
		c->events = LOOP_READ;
		list_init(&c->out);
		r = loop_io_new(loop, fd, LOOP_READ, on_io, c, &c->io);
	}
	if (r < 0) {
		close(fd);
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void frame_conn_free(struct frame_conn *c)
{
	if (!c)
		return;
	/* An answer that was given just before goes out if it can. */
	flush(c);
	c->freed = true;
	if (!c->busy)
		release(c);
}

int frame_conn_send(struct frame_conn *c, uint32_t stream, enum frame_type type,
		    const ProtobufCMessage *head, unsigned int field, const ProtobufCMessage *body)
{
	bool idle = list_empty(&c->out);
	struct out_frame *f;
	int r;

	if (c->broken)
		return -ENOTCONN;
	r = out_frame_new(stream, type, head, field, body, &f);
	if (r < 0)
		return r;
	list_append(&c->out, &f->node);
	c->queued += sizeof(*f) + f->size;
	if (c->pause_above && c->queued > c->pause_above)
		c->paused = true;
	/* Inside on_io() the frames of one turn are written together. */
	if (c->busy)
		return 0;
	if (idle)
		flush(c);
	watch(c);
	return 0;
}

void frame_conn_break(struct frame_conn *c)
{
	c->broken = true;
	drop_out(c);
	if (!c->busy)
		watch(c);
}

size_t frame_conn_queued(const struct frame_conn *c)
{
	return c->queued;
}
