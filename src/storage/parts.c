/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"

/* A line has at most three numbers and a hash. */
#define TEXT_MAX ((size_t)PARTS_MAX * 160)

int disk_parts_add(struct disk_parts *parts, const struct disk_part *part)
{
	struct disk_part *v = reallocarray(parts->v, parts->n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	parts->v = v;
	v[parts->n++] = *part;
	return 0;
}

void disk_parts_done(struct disk_parts *parts)
{
	free(TAKE_PTR(parts->v));
	parts->n = 0;
}

void disk_hash_text(const unsigned char hash[PART_HASH_SIZE], char text[2 * PART_HASH_SIZE + 1])
{
	for (size_t i = 0; i < PART_HASH_SIZE; i++)
		snprintf(text + 2 * i, 3, "%02x", hash[i]);
}

int disk_hash_parse(const char *text, unsigned char hash[PART_HASH_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	if (strlen(text) != (size_t)2 * PART_HASH_SIZE ||
	    strspn(text, digits) != (size_t)2 * PART_HASH_SIZE)
		return -EBADMSG;
	for (size_t i = 0; i < PART_HASH_SIZE; i++)
		hash[i] = (unsigned char)((strchr(digits, text[2 * i]) - digits) << 4 |
					  (strchr(digits, text[2 * i + 1]) - digits));
	return 0;
}

int disk_parts_write(int dirfd, const char *name, const struct disk_parts *parts)
{
	_cleanup_(buf_done) struct buf text = { .limit = TEXT_MAX };
	int r = 0;

	for (size_t i = 0; r == 0 && i < parts->n; i++) {
		const struct disk_part *p = &parts->v[i];
		char hash[2 * PART_HASH_SIZE + 1] = "-";

		if (p->data)
			disk_hash_text(p->root_hash, hash);
		r = buf_printf(&text, "%llu %llu %llu %s\n", (unsigned long long)p->offset,
			       (unsigned long long)p->size, (unsigned long long)p->data, hash);
	}
	return r < 0 ? r : file_replace(dirfd, name, buf_head(&text), buf_len(&text), 0600);
}

static bool is_size(uint64_t size)
{
	return size % PART_BLOCK == 0 && size <= INT64_MAX;
}

static int parse_line(char *line, struct disk_part *p)
{
	char *save = NULL;
	char *words[4];

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		words[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!words[i])
			return -EBADMSG;
	}
	if (parse_u64(words[0], INT64_MAX, &p->offset) < 0 ||
	    parse_u64(words[1], INT64_MAX, &p->size) < 0 ||
	    parse_u64(words[2], INT64_MAX, &p->data) < 0 || !is_size(p->offset) ||
	    !is_size(p->size) || !is_size(p->data) || strtok_r(NULL, " ", &save))
		return -EBADMSG;
	return p->data ? disk_hash_parse(words[3], p->root_hash) : 0;
}

int disk_parts_parse(const char *text, struct disk_parts *ret)
{
	_cleanup_(disk_parts_done) struct disk_parts parts = { 0 };
	_cleanup_(freep) char *copy = strdup(text);
	char *save = NULL;
	int r = 0;

	if (!copy)
		return -ENOMEM;
	for (char *line = strtok_r(copy, "\n", &save); r == 0 && line;
	     line = strtok_r(NULL, "\n", &save)) {
		struct disk_part p = { 0 };

		r = parts.n < PARTS_MAX ? parse_line(line, &p) : -EBADMSG;
		if (r == 0)
			r = disk_parts_add(&parts, &p);
	}
	/* The whole file is the only one in it. */
	for (size_t i = 0; parts.n > 1 && i < parts.n; i++)
		if (parts.v[i].size == 0)
			r = -EBADMSG;
	if (r < 0 || parts.n == 0)
		return r < 0 ? r : -EBADMSG;
	*ret = parts;
	parts = (struct disk_parts){ 0 };
	return 0;
}

int disk_parts_read(int dirfd, const char *name, struct disk_parts *ret)
{
	_cleanup_(freep) char *text = NULL;
	int r = file_read(dirfd, name, TEXT_MAX, &text, NULL);

	return r < 0 ? r : disk_parts_parse(text, ret);
}
