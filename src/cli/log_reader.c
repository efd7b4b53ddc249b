/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/log_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"

#define CHUNK ((size_t)64 << 10)
/* Files that are open at a time: the one that was read, and what took its place. */
#define FILES 3

struct log_reader {
	int dirfd;
	const char *name;
	int fds[FILES];
	size_t n;      /* open files, oldest first */
	size_t at;     /* the one that is read */
	struct buf in; /* a line whose end hasn't been read */
};

static bool is_open(const struct log_reader *r, int fd)
{
	struct stat a;
	struct stat b;

	if (fstat(fd, &a) < 0)
		return false;
	for (size_t i = 0; i < r->n; i++)
		if (fstat(r->fds[i], &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
			return true;
	return false;
}

/*
 * Open what there is and isn't open yet, after the newest file that is. That one is kept: whatever
 * it got before it was renamed is still to be read. Returns how many were added.
 */
static int open_files(struct log_reader *r)
{
	static const char *const suffixes[] = { ".1", "" };
	int added[ARRAY_SIZE(suffixes)];
	char name[NAME_MAX + 1];
	int n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		int fd;

		snprintf(name, sizeof(name), "%.200s%s", r->name, suffixes[i]);
		fd = openat(r->dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0 && !is_open(r, fd))
			added[n++] = fd;
		else if (fd >= 0)
			close(fd);
	}
	if (n == 0)
		return 0;
	for (; r->n > 1; r->n--) {
		close(r->fds[0]);
		memmove(r->fds, r->fds + 1, (r->n - 1) * sizeof(*r->fds));
	}
	memcpy(r->fds + r->n, added, (size_t)n * sizeof(*added));
	r->n += (size_t)n;
	r->at = 0;
	return n;
}

int log_reader_new(int dirfd, const char *name, struct log_reader **ret)
{
	struct log_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->dirfd = dirfd;
	r->name = name;
	*ret = r;
	return 0;
}

/* Cut off the part up to the next space. */
static char *next_part(char **p, const char *end)
{
	char *part = *p;
	char *space = memchr(part, ' ', (size_t)(end - part));

	if (!space)
		return NULL;
	*space = '\0';
	*p = space + 1;
	return part;
}

int log_line_parse(char *line, size_t len, struct log_line *ret)
{
	const char *end = line + len;
	char *p = line;
	const char *stamp = next_part(&p, end);
	const char *stream = stamp ? next_part(&p, end) : NULL;
	const char *tag = stream ? next_part(&p, end) : NULL;

	if (!tag || (!str_eq(stream, "stdout") && !str_eq(stream, "stderr")) ||
	    (!str_eq(tag, "F") && !str_eq(tag, "P")))
		return -EBADMSG;
	*ret = (struct log_line){
		.stamp = stamp,
		.error = str_eq(stream, "stderr"),
		.whole = str_eq(tag, "F"),
		.text = p,
		.len = (size_t)(end - p),
	};
	return 0;
}

/* Hand out the complete lines that were read. */
static int take_lines(struct log_reader *r, int (*cb)(void *data, char *line, size_t len),
		      void *data)
{
	int result = 0;

	while (result == 0 && buf_len(&r->in) > 0) {
		char *head = (char *)buf_head(&r->in);
		char *nl = memchr(head, '\n', buf_len(&r->in));

		if (!nl)
			break;
		result = cb(data, head, (size_t)(nl - head));
		buf_consume(&r->in, (size_t)(nl - head) + 1);
	}
	return result;
}

static int read_file(struct log_reader *r, int (*cb)(void *data, char *line, size_t len),
		     void *data)
{
	for (;;) {
		ssize_t n;
		int result = buf_reserve(&r->in, CHUNK);

		if (result < 0)
			return result;
		n = read(r->fds[r->at], r->in.data + r->in.end, CHUNK);
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		r->in.end += (size_t)n;
		result = take_lines(r, cb, data);
		if (result != 0)
			return result;
	}
}

int log_reader_read(struct log_reader *r, int (*cb)(void *data, char *line, size_t len), void *data)
{
	do {
		while (r->at < r->n) {
			int result = read_file(r, cb, data);

			if (result != 0)
				return result;
			if (r->at + 1 == r->n)
				break;
			r->at++;
		}
		/* At the end of the newest file that is open: has another one taken its place? */
	} while (open_files(r) > 0);
	return 0;
}

void log_reader_free(struct log_reader *r)
{
	if (!r)
		return;
	while (r->n > 0)
		close(r->fds[--r->n]);
	buf_done(&r->in);
	free(r);
}
