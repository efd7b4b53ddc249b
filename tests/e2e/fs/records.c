/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records that are synced one by one, while others of the same file system write and remove what
 * isn't. Record n is appended to the file "stream", and the file n modulo FILES is replaced by one
 * that has it. Only then is its number said: from there on it has to survive.
 */
#include "check.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES	 16
#define DATA_MAX 20000

struct record {
	uint64_t number;
	uint32_t len;
	uint32_t sum;
	uint8_t data[DATA_MAX];
};

#define HEAD offsetof(struct record, data)

static uint32_t next_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)(*state >> 33);
}

static uint32_t sum(const struct record *r)
{
	uint32_t h = 2166136261U ^ (uint32_t)r->number;

	for (size_t i = 0; i < r->len; i++)
		h = (h ^ r->data[i]) * 16777619U;
	return h;
}

static void fill_record(struct record *r, uint64_t number)
{
	uint64_t state = number;

	r->number = number;
	r->len = next_random(&state) % DATA_MAX;
	for (size_t i = 0; i < r->len; i++)
		r->data[i] = (uint8_t)next_random(&state);
	r->sum = sum(r);
}

static bool write_record(int fd, const struct record *r)
{
	return write(fd, r, HEAD + r->len) == (ssize_t)(HEAD + r->len);
}

static bool read_record(int fd, off_t at, struct record *r)
{
	return pread(fd, r, HEAD, at) == (ssize_t)HEAD && r->len < DATA_MAX &&
	       pread(fd, r->data, r->len, at + (off_t)HEAD) == (ssize_t)r->len && r->sum == sum(r);
}

static void file_name(char name[32], uint64_t number)
{
	snprintf(name, 32, "file-%u", (unsigned int)(number % FILES));
}

static bool replace_file(int dir, const struct record *r)
{
	char name[32];
	int fd = open("new", O_WRONLY | O_CREAT | O_TRUNC, 0644);
	bool fine;

	file_name(name, r->number);
	fine = fd >= 0 && write_record(fd, r) && fsync(fd) == 0 && rename("new", name) == 0 &&
	       fsync(dir) == 0;
	if (fd >= 0)
		close(fd);
	return fine;
}

/* Never synced; some of it is removed again, some while it's open. */
static bool make_noise(void)
{
	static char buf[65536];
	uint64_t state = 1;
	char name[32];

	for (;;) {
		uint32_t n = next_random(&state);
		int fd;

		snprintf(name, sizeof(name), "noise-%u", n % 64);
		fd = open(name, O_RDWR | O_CREAT, 0644);
		if (fd < 0)
			return false;
		if (n % 5 == 0)
			unlink(name);
		(void)!pwrite(fd, buf, n % sizeof(buf), (off_t)(n % 100000));
		if (n % 7 == 0)
			(void)!ftruncate(fd, n % 30000);
		close(fd);
	}
}

int record(const char *dir_name)
{
	static struct record r;
	int dir = open(dir_name, O_RDONLY | O_DIRECTORY);
	int stream;

	if (dir < 0 || fchdir(dir) < 0)
		return 1;
	stream = open("stream", O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (stream < 0 || fsync(dir) < 0 || child(make_noise) < 0)
		return 1;
	for (uint64_t number = 1;; number++) {
		fill_record(&r, number);
		if (!write_record(stream, &r) || fdatasync(stream) < 0 || !replace_file(dir, &r)) {
			perror("record");
			return 1;
		}
		printf("synced %s %llu\n", dir_name, (unsigned long long)number);
		fflush(stdout);
	}
}

int recover(const char *dir, unsigned long synced)
{
	static struct record r;
	uint64_t number = 0;
	off_t at = 0;
	int stream;

	if (chdir(dir) < 0 || (stream = open("stream", O_RDONLY)) < 0)
		return 1;
	while (read_record(stream, at, &r) && r.number == number + 1) {
		number++;
		at += (off_t)(HEAD + r.len);
	}
	if (number < synced)
		printf("lost: the stream ends after %llu\n", (unsigned long long)number);
	for (uint64_t i = synced < FILES ? 1 : synced - FILES + 1; i <= synced; i++) {
		char name[32];
		int fd;

		file_name(name, i);
		fd = open(name, O_RDONLY);
		if (fd < 0 || !read_record(fd, 0, &r) || r.number < i ||
		    r.number % FILES != i % FILES)
			printf("lost: %s isn't record %llu\n", name, (unsigned long long)i);
		if (fd >= 0)
			close(fd);
	}
	puts("looked");
	return 0;
}
