/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/log_writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "sandbox/log_file.h"

struct log_writer {
	struct log_file file;
	struct buf partial[STREAMS_COUNT]; /* a line whose end hasn't come yet */
	struct buf out;
};

static const char *const stream_names[] = { "stdout", "stderr" };

int log_writer_new(int dirfd, struct log_writer **ret)
{
	struct log_writer *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	r = log_file_open(&w->file, dirfd, "log", LOG_WRITER_MAX);
	if (r < 0) {
		free(w);
		return r;
	}
	*ret = w;
	return 0;
}

static void add_line(struct log_writer *w, enum streams_which stream, const char *stamp, char tag,
		     const void *bytes, size_t n)
{
	struct buf *p = &w->partial[stream];

	if (buf_printf(&w->out, "%s %s %c ", stamp, stream_names[stream], tag) < 0)
		return;
	(void)buf_append(&w->out, buf_head(p), buf_len(p));
	(void)buf_append(&w->out, bytes, n);
	(void)buf_append(&w->out, "\n", 1);
	buf_consume(p, buf_len(p));
}

static void flush(struct log_writer *w)
{
	log_file_add(&w->file, buf_head(&w->out), buf_len(&w->out));
	buf_consume(&w->out, buf_len(&w->out));
}

static void stamp_now(char *stamp, size_t size)
{
	struct timespec now;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(stamp, size, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(stamp + n, size - n, ".%09ldZ", now.tv_nsec);
}

void log_writer_add(struct log_writer *w, enum streams_which stream, const void *bytes, size_t n)
{
	const char *p = bytes;
	char stamp[48];

	stamp_now(stamp, sizeof(stamp));
	while (n > 0) {
		size_t room = LOG_WRITER_LINE - buf_len(&w->partial[stream]);
		size_t len = MIN(n, room);
		const char *nl = memchr(p, '\n', len);

		if (nl) {
			len = (size_t)(nl - p);
			add_line(w, stream, stamp, 'F', p, len);
			len++;
		} else if (len == room) {
			add_line(w, stream, stamp, 'P', p, len);
		} else if (buf_append(&w->partial[stream], p, len) < 0) {
			break;
		}
		p += len;
		n -= len;
	}
	flush(w);
}

void log_writer_free(struct log_writer *w)
{
	char stamp[48];

	if (!w)
		return;
	stamp_now(stamp, sizeof(stamp));
	for (int i = 0; i < STREAMS_COUNT; i++) {
		if (buf_len(&w->partial[i]) > 0)
			add_line(w, (enum streams_which)i, stamp, 'P', "", 0);
		buf_done(&w->partial[i]);
	}
	flush(w);
	log_file_close(&w->file);
	buf_done(&w->out);
	free(w);
}
