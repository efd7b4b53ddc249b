/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_BASE_BUF_H
#define PODVM_BASE_BUF_H

/*
 * A growable byte buffer with a hard limit: bytes are appended at the end and consumed from the
 * start. Whoever fills it from a peer sets the limit first, so a peer can't make us grow.
 */

#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data; /* allocation, or NULL */
	size_t start;  /* first unread byte */
	size_t end;    /* one past the last byte */
	size_t size;   /* of the allocation */
	size_t limit;  /* the most unread bytes it may hold; 0: BUF_DEFAULT_LIMIT */
};

#define BUF_DEFAULT_LIMIT ((size_t)64 << 20)

static inline size_t buf_len(const struct buf *b)
{
	return b->end - b->start;
}

static inline uint8_t *buf_head(const struct buf *b)
{
	return b->data + b->start;
}

/**
 * buf_reserve() - Make room for bytes at the end
 * @b:		Buffer
 * @n:		Bytes; afterwards b->data + b->end has at least that much room
 *
 * Return: 0, -ENOBUFS above the limit, -ENOMEM
 */
int buf_reserve(struct buf *b, size_t n);

/** buf_append() - Append @n bytes. Return: 0, -ENOBUFS above the limit, -ENOMEM */
int buf_append(struct buf *b, const void *data, size_t n);

/** buf_printf() - Append text (without its final NUL). Return: as buf_append() */
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/**
 * buf_cstr() - The unread bytes as a string
 *
 * Return: Pointer into the buffer, valid until it changes, or NULL when out of memory
 */
const char *buf_cstr(struct buf *b);

/** buf_consume() - Drop the first @n unread bytes (at most all of them) */
void buf_consume(struct buf *b, size_t n);

/** buf_done() - Free what it holds; the buffer can be used again */
void buf_done(struct buf *b);

#endif
