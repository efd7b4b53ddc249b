/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does one thing to files again and again, and says how many nanoseconds all of it took:
 * file_ops DIRECTORY prepare|read|write|fsync|create|stream-write|stream-read COUNT
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FILE_SIZE (16 << 20)
#define PAGE	  4096
#define MIB	  (1 << 20)

static char *buf;
static unsigned int state = 1;

static off_t random_page(void)
{
	state = state * 1103515245 + 12345;
	return (off_t)(state >> 8) % (FILE_SIZE / PAGE) * PAGE;
}

static int create(long i)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "new-%d-%ld", (int)getpid(), i);
	fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
	return fd < 0 ? -1 : close(fd);
}

static int do_one(const char *what, int fd, long i)
{
	off_t at = i * MIB % FILE_SIZE;

	if (strcmp(what, "read") == 0)
		return pread(fd, buf, PAGE, random_page()) == PAGE ? 0 : -1;
	if (strcmp(what, "write") == 0)
		return pwrite(fd, buf, PAGE, random_page()) == PAGE ? 0 : -1;
	if (strcmp(what, "fsync") == 0)
		return pwrite(fd, buf, PAGE, random_page()) == PAGE ? fsync(fd) : -1;
	if (strcmp(what, "create") == 0)
		return create(i);
	if (strcmp(what, "stream-read") == 0)
		return pread(fd, buf, MIB, at) == MIB ? 0 : -1;
	return pwrite(fd, buf, MIB, at) == MIB ? 0 : -1;
}

static int open_file(const char *what)
{
	int flags = O_RDWR | O_CREAT;

	if (strcmp(what, "read") == 0 || strcmp(what, "write") == 0 ||
	    strcmp(what, "stream-read") == 0)
		flags |= O_DIRECT;
	return open("file", flags, 0644);
}

int main(int argc, char **argv)
{
	struct timespec a, b;
	long n;
	int fd;

	if (argc != 4 || chdir(argv[1]) < 0)
		return 2;
	n = strcmp(argv[2], "prepare") == 0 ? FILE_SIZE / MIB : atol(argv[3]);
	fd = open_file(argv[2]);
	buf = aligned_alloc(PAGE, MIB);
	if (fd < 0 || !buf)
		return 1;
	memset(buf, 'x', MIB);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (long i = 0; i < n; i++)
		if (do_one(argv[2], fd, i) < 0) {
			perror(argv[2]);
			return 1;
		}
	if ((strcmp(argv[2], "stream-write") == 0 || strcmp(argv[2], "prepare") == 0) &&
	    fsync(fd) < 0)
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%lld\n", (b.tv_sec - a.tv_sec) * 1000000000LL + b.tv_nsec - a.tv_nsec);
	return 0;
}
