/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_TESTS_TAR_BUILD_H
#define PODVM_TESTS_TAR_BUILD_H

/*
 * Builds tar files byte by byte, so that a test can make what no well-behaved tool would. A
 * failure to build one ends the test.
 */

#include <archive.h>
#include <archive_entry.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

struct tar_header {
	const char *name;
	const char *link;
	char type;	   /* '0' file, '1' hard link, '2' symbolic link, '5' directory... */
	unsigned int mode; /* 0: 0644 */
	unsigned int uid;
	unsigned int gid;
	uint64_t size;
	uint64_t mtime;
	unsigned int major;
	unsigned int minor;
};

static inline void tar_bytes(struct buf *tar, const void *data, size_t n)
{
	static const char zeros[512];

	if (buf_append(tar, data, n) < 0 || buf_append(tar, zeros, -n & 511) < 0)
		abort();
}

/* A number of @digits octal digits; the NUL after it is there already. */
static inline void tar_octal(char *field, size_t digits, uint64_t value)
{
	for (size_t i = digits; i > 0; i--, value >>= 3)
		field[i - 1] = (char)('0' + (value & 7));
}

static inline void tar_head(struct buf *tar, const struct tar_header *h)
{
	char block[512] = { 0 };
	unsigned int sum = 0;

	strncpy(block, h->name, 100);
	tar_octal(block + 100, 7, h->mode ? h->mode : 0644);
	tar_octal(block + 108, 7, h->uid);
	tar_octal(block + 116, 7, h->gid);
	tar_octal(block + 124, 11, h->size);
	tar_octal(block + 136, 11, h->mtime);
	memset(block + 148, ' ', 8);
	block[156] = h->type ? h->type : '0';
	if (h->link)
		strncpy(block + 157, h->link, 100);
	memcpy(block + 257, "ustar\00000", 8);
	tar_octal(block + 329, 7, h->major);
	tar_octal(block + 337, 7, h->minor);
	for (size_t i = 0; i < sizeof(block); i++)
		sum += (unsigned char)block[i];
	tar_octal(block + 148, 6, sum);
	block[154] = 0;
	tar_bytes(tar, block, sizeof(block));
}

/* A file with text in it. */
static inline void tar_file(struct buf *tar, const char *name, const char *text)
{
	tar_head(tar, &(struct tar_header){ .name = name, .size = strlen(text) });
	tar_bytes(tar, text, strlen(text));
}

static inline void tar_dir(struct buf *tar, const char *name)
{
	tar_head(tar, &(struct tar_header){ .name = name, .type = '5', .mode = 0755 });
}

static inline void tar_link(struct buf *tar, const char *name, char type, const char *target)
{
	tar_head(tar, &(struct tar_header){ .name = name, .type = type, .link = target });
}

/* One pax record, appended to a buffer of them. */
static inline void pax_record(struct buf *records, const char *key, const void *value, size_t n)
{
	size_t body = strlen(key) + n + 3;
	size_t total = body + 1;

	while (total != body + (size_t)snprintf(NULL, 0, "%zu", total))
		total++;
	if (buf_printf(records, "%zu %s=", total, key) < 0 || buf_append(records, value, n) < 0 ||
	    buf_append(records, "\n", 1) < 0)
		abort();
}

/* The extended header for the entry that follows. */
static inline void tar_pax(struct buf *tar, struct buf *records)
{
	tar_head(tar, &(struct tar_header){
			      .name = "PaxHeader", .type = 'x', .size = buf_len(records) });
	tar_bytes(tar, buf_head(records), buf_len(records));
	buf_done(records);
}

static inline void tar_pax1(struct buf *tar, const char *key, const void *value, size_t n)
{
	struct buf records = { 0 };

	pax_record(&records, key, value, n);
	tar_pax(tar, &records);
}

static inline void tar_end(struct buf *tar)
{
	static const char zeros[1024];

	tar_bytes(tar, zeros, sizeof(zeros));
}

/* Compresses with "gzip" or "zstd". */
static inline void tar_compress(struct buf *tar, const char *filter)
{
	size_t room = buf_len(tar) + (64 << 10);
	struct archive *a = archive_write_new();
	struct archive_entry *entry = archive_entry_new();
	char *out = malloc(room);
	size_t used = 0;

	archive_entry_set_filetype(entry, AE_IFREG);
	if (!out || archive_write_set_format_raw(a) != ARCHIVE_OK ||
	    archive_write_add_filter_by_name(a, filter) != ARCHIVE_OK ||
	    archive_write_open_memory(a, out, room, &used) != ARCHIVE_OK ||
	    archive_write_header(a, entry) != ARCHIVE_OK ||
	    archive_write_data(a, buf_head(tar), buf_len(tar)) < 0 ||
	    archive_write_close(a) != ARCHIVE_OK)
		abort();
	archive_write_free(a);
	archive_entry_free(entry);
	buf_done(tar);
	if (buf_append(tar, out, used) < 0)
		abort();
	free(out);
}

#endif
