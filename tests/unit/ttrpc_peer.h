/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_TESTS_TTRPC_PEER_H
#define PODVM_TESTS_TTRPC_PEER_H

/*
 * The other side of a ttrpc connection, byte by byte: what a test does with it is written and
 * read by hand, so that client and server aren't only tested against each other.
 */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "loop/loop.h"
#include "ttrpc/ttrpc.h"

#define DEADLINE_MS 60000

/**
 * struct peer - Our end of the socket
 * @io:		Collects what comes into @in
 * @ready:	@in holds a whole frame, or @eof
 */
struct peer {
	struct loop *loop;
	int fd;
	struct loop_io *io;
	struct buf in;
	bool eof;
	bool ready;
};

struct peer_frame {
	uint32_t length;
	uint32_t stream;
	uint8_t type;
	uint8_t flags;
	uint8_t payload[65536];
};

static inline uint32_t peer_word(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void peer_check(struct peer *p)
{
	size_t n = buf_len(&p->in);

	p->ready = p->eof ||
		   (n >= TTRPC_HEADER_SIZE && n >= TTRPC_HEADER_SIZE + peer_word(buf_head(&p->in)));
}

static inline void peer_on_io(void *data, int events)
{
	struct peer *p = data;
	char chunk[65536];
	ssize_t n = recv(p->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

	if (n > 0)
		assert_int_equal(buf_append(&p->in, chunk, (size_t)n), 0);
	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		p->eof = true;
		loop_io_free(p->io);
		p->io = NULL;
	}
	peer_check(p);
}

/* Take one end of a new socket pair. Returns the other one. */
static inline int peer_open(struct peer *p, struct loop *loop)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	memset(p, 0, sizeof(*p));
	p->loop = loop;
	p->fd = fds[0];
	assert_int_equal(loop_io_new(loop, p->fd, LOOP_READ, peer_on_io, p, &p->io), 0);
	return fds[1];
}

static inline void peer_close(struct peer *p)
{
	loop_io_free(p->io);
	p->io = NULL;
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -EBADF;
	buf_done(&p->in);
}

/* Turn the loop for a moment. */
static inline void peer_turn(struct peer *p)
{
	bool never = false;

	assert_int_equal(loop_run_until(p->loop, &never, 1), -ETIMEDOUT);
}

/* Many turns, however busy the machine is: what one event leads to is seen as well. */
static inline void peer_settle(struct peer *p)
{
	for (int i = 0; i < 10; i++)
		peer_turn(p);
}

/* Write as much as the socket takes, turning the loop whenever it's full. */
static inline void peer_write(struct peer *p, const void *data, size_t n)
{
	const char *c = data;

	while (n > 0) {
		ssize_t w = send(p->fd, c, n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (w < 0) {
			assert_int_equal(errno, EAGAIN);
			peer_turn(p);
			continue;
		}
		c += w;
		n -= (size_t)w;
	}
}

static inline void peer_put_header(uint8_t *h, uint32_t length, uint32_t stream, uint8_t type)
{
	h[0] = (uint8_t)(length >> 24);
	h[1] = (uint8_t)(length >> 16);
	h[2] = (uint8_t)(length >> 8);
	h[3] = (uint8_t)length;
	h[4] = (uint8_t)(stream >> 24);
	h[5] = (uint8_t)(stream >> 16);
	h[6] = (uint8_t)(stream >> 8);
	h[7] = (uint8_t)stream;
	h[8] = type;
	h[9] = 0;
}

static inline void peer_frame(struct peer *p, uint32_t stream, uint8_t type, const void *payload,
			      size_t length)
{
	uint8_t h[TTRPC_HEADER_SIZE];

	peer_put_header(h, (uint32_t)length, stream, type);
	peer_write(p, h, sizeof(h));
	peer_write(p, payload, length);
}

/* Receive a frame; its payload must fit struct peer_frame. */
static inline void peer_receive(struct peer *p, struct peer_frame *f)
{
	const uint8_t *h;

	peer_check(p);
	assert_int_equal(loop_run_until(p->loop, &p->ready, DEADLINE_MS), 0);
	assert_true(buf_len(&p->in) >= TTRPC_HEADER_SIZE);
	h = buf_head(&p->in);
	f->length = peer_word(h);
	f->stream = peer_word(h + 4);
	f->type = h[8];
	f->flags = h[9];
	assert_true(f->length <= sizeof(f->payload));
	memcpy(f->payload, h + TTRPC_HEADER_SIZE, f->length);
	buf_consume(&p->in, TTRPC_HEADER_SIZE + f->length);
}

#endif
