/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

int buf_reserve(struct buf *b, size_t n)
{
	size_t len = buf_len(b);
	size_t limit = b->limit ? b->limit : BUF_DEFAULT_LIMIT;
	size_t size;
	uint8_t *data;

	if (n > limit || len > limit - n)
		return -ENOBUFS;
	if (b->size - b->end >= n)
		return 0;
	if (b->start > 0) {
		memmove(b->data, b->data + b->start, len);
		b->start = 0;
		b->end = len;
		if (b->size - b->end >= n)
			return 0;
	}
	size = MAX(MAX(len + n, b->size * 2), (size_t)256);
	data = realloc(b->data, size);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->size = size;
	return 0;
}

int buf_append(struct buf *b, const void *data, size_t n)
{
	int r;

	if (n == 0)
		return 0;
	r = buf_reserve(b, n);
	if (r < 0)
		return r;
	memcpy(b->data + b->end, data, n);
	b->end += n;
	return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	_cleanup_(freep) char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0) {
		text = NULL;
		return -ENOMEM;
	}
	return buf_append(b, text, (size_t)n);
}

const char *buf_cstr(struct buf *b)
{
	size_t limit = b->limit;
	int r;

	/* The final NUL is ours, not the peer's: it doesn't count against the limit. */
	b->limit = SIZE_MAX;
	r = buf_reserve(b, 1);
	b->limit = limit;
	if (r < 0)
		return NULL;
	b->data[b->end] = '\0';
	return (const char *)buf_head(b);
}

void buf_consume(struct buf *b, size_t n)
{
	b->start += MIN(n, buf_len(b));
	if (b->start == b->end)
		b->start = b->end = 0;
}

void buf_done(struct buf *b)
{
	free(b->data);
	b->data = NULL;
	b->start = b->end = b->size = 0;
}
