/* SPDX-License-Identifier: Apache-2.0 */
/* What files hold: sparse ones, mappings, direct and appended writes. */
#include "check.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MIB ((off_t)1 << 20)

static blkcnt_t blocks(int fd)
{
	struct stat st;

	return fsync(fd) < 0 || fstat(fd, &st) < 0 ? -1 : st.st_blocks;
}

static off_t size(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? -1 : st.st_size;
}

static bool fill(int fd, char c, off_t at, size_t len)
{
	char *buf = malloc(len);
	bool r = buf && memset(buf, c, len) && pwrite(fd, buf, len, at) == (ssize_t)len;

	free(buf);
	return r;
}

/* Are all of these bytes so? */
static bool is(int fd, char c, off_t at, size_t len)
{
	char *buf = malloc(len);
	bool r = buf && pread(fd, buf, len, at) == (ssize_t)len;

	for (size_t i = 0; r && i < len; i++)
		r = buf[i] == c;
	free(buf);
	return r;
}

static const char *sparse_files(void)
{
	int fd = make("file", "");

	MUST(fill(fd, 'x', 5 * 1024 * MIB, 4096) && size(fd) == 5 * 1024 * MIB + 4096);
	MUST(blocks(fd) < 2 * MIB / 512);
	MUST(is(fd, 0, 3 * 1024 * MIB, 8192) && is(fd, 'x', 5 * 1024 * MIB, 4096));
	return NULL;
}

static const char *seek_data(void)
{
	int fd = make("file", "");

	MUST(fill(fd, 'x', 4 * MIB, 65536) && ftruncate(fd, 8 * MIB) == 0 && fsync(fd) == 0);
	MUST(lseek(fd, 0, SEEK_DATA) >= 0);
	/* The whole file may be data to a file system that doesn't know. */
	if (lseek(fd, 0, SEEK_DATA) == 0)
		return "unknown";
	MUST(lseek(fd, 0, SEEK_DATA) == 4 * MIB && lseek(fd, 0, SEEK_HOLE) == 0);
	MUST(lseek(fd, 4 * MIB, SEEK_HOLE) == 4 * MIB + 65536);
	MUST(FAILS(lseek(fd, 5 * MIB, SEEK_DATA), ENXIO));
	return NULL;
}

static const char *allocate(void)
{
	int fd = make("file", "");

	CAN(fallocate(fd, 0, 0, MIB) == 0);
	MUST(size(fd) == MIB && blocks(fd) >= MIB / 512 && is(fd, 0, 0, (size_t)MIB));
	CAN(fallocate(fd, FALLOC_FL_KEEP_SIZE, MIB, MIB) == 0);
	MUST(size(fd) == MIB && blocks(fd) >= 2 * MIB / 512);
	return NULL;
}

static const char *punch_hole(void)
{
	int fd = make("file", "");
	blkcnt_t before;

	MUST(fill(fd, 'x', 0, (size_t)MIB) && (before = blocks(fd)) > 0);
	CAN(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, MIB / 4, MIB / 2) == 0);
	MUST(is(fd, 0, MIB / 4, (size_t)MIB / 2) && is(fd, 'x', 0, (size_t)MIB / 4));
	MUST(is(fd, 'x', 3 * MIB / 4, (size_t)MIB / 4) && size(fd) == MIB);
	MUST(blocks(fd) <= before - MIB / 2 / 512);
	return NULL;
}

static const char *zero_range(void)
{
	int fd = make("file", "");

	MUST(fill(fd, 'x', 0, (size_t)MIB));
	CAN(fallocate(fd, FALLOC_FL_ZERO_RANGE, 4096, 8192) == 0);
	MUST(is(fd, 0, 4096, 8192) && is(fd, 'x', 0, 4096) && is(fd, 'x', 12288, 4096));
	return NULL;
}

static const char *truncate_files(void)
{
	int fd = make("file", "");

	MUST(fill(fd, 'x', 0, 10000) && ftruncate(fd, 5000) == 0 && ftruncate(fd, 20000) == 0);
	MUST(is(fd, 'x', 0, 5000) && is(fd, 0, 5000, 15000) && size(fd) == 20000);
	MUST(truncate("file", 10) == 0 && size(fd) == 10);
	MUST(make("file", "") >= 0 && size(fd) == 0); /* O_TRUNC of another */
	return NULL;
}

static const char *direct_io(void)
{
	char *buf = aligned_alloc(4096, 65536);
	int fd;

	CAN((fd = open("file", O_RDWR | O_CREAT | O_DIRECT, 0644)) >= 0);
	memset(buf, 'd', 65536);
	MUST(pwrite(fd, buf, 65536, 0) == 65536 && pwrite(fd, buf, 4096, MIB) == 4096);
	memset(buf, 0, 65536);
	MUST(pread(fd, buf, 65536, 0) == 65536 && buf[0] == 'd' && buf[65535] == 'd');
	MUST(pread(fd, buf, 4096, MIB - 4096) == 4096 && buf[0] == 0 && buf[4095] == 0);
	MUST(pread(fd, buf, 65536, MIB) == 4096 && buf[4095] == 'd');
	return NULL;
}

static const char *direct_and_cached(void)
{
	char *buf = aligned_alloc(4096, 8192);
	int direct, cached;

	MUST((cached = make("file", "")) >= 0 && fill(cached, 'a', 0, 8192));
	CAN((direct = open("file", O_RDWR | O_DIRECT)) >= 0);
	MUST(pread(direct, buf, 8192, 0) == 8192 && buf[0] == 'a' && buf[8191] == 'a');
	memset(buf, 'b', 4096);
	MUST(pwrite(direct, buf, 4096, 4096) == 4096 && is(cached, 'b', 4096, 4096));
	MUST(is(cached, 'a', 0, 4096));
	return NULL;
}

static bool add_lines(char c)
{
	int fd = open("file", O_WRONLY | O_APPEND);

	for (int i = 0; i < 200; i++)
		if (write(fd, (char[]){ c, c, c, c, c, c, c, '\n' }, 8) != 8)
			return false;
	return fd >= 0;
}

static bool add_as(void)
{
	return add_lines('a');
}

static bool add_bs(void)
{
	return add_lines('b');
}

static const char *append(void)
{
	int fd = make("file", "");
	pid_t a, b;
	char line[8];

	MUST((a = child(add_as)) > 0 && (b = child(add_bs)) > 0);
	MUST(ended_well(a));
	MUST(ended_well(b));
	MUST(size(fd) == 3200);
	for (off_t at = 0; at < 3200; at += 8) {
		MUST(pread(fd, line, 8, at) == 8 && line[7] == '\n');
		MUST(memcmp(line, "aaaaaaa", 7) == 0 || memcmp(line, "bbbbbbb", 7) == 0);
	}
	return NULL;
}

/* ---- mappings ---- */

static bool write_in_mapping(void)
{
	int fd = open("file", O_RDWR);
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return false;
	memset(p + 4096, 'c', 4096);
	return p[0] == 'p';
}

static const char *shared_mapping(void)
{
	int fd = make("file", "");
	char *p;

	MUST(fill(fd, 'x', 0, 8192));
	CAN((p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) != MAP_FAILED);
	p[0] = 'p';
	MUST(ended_well(child(write_in_mapping)));
	MUST(p[4096] == 'c' && p[8191] == 'c' && is(fd, 'p', 0, 1) && is(fd, 'c', 4096, 4096));
	MUST(fill(fd, 'w', 100, 10) && p[100] == 'w');
	MUST(msync(p, 8192, MS_SYNC) == 0 && munmap(p, 8192) == 0 && is(fd, 'p', 0, 1));
	return NULL;
}

static const char *private_mapping(void)
{
	int fd = make("file", "content");
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	MUST(p != MAP_FAILED && memcmp(p, "content", 8) == 0);
	p[0] = 'X';
	MUST(says("file", "content"));
	return NULL;
}

static sigjmp_buf bus;

static void on_bus(int sig)
{
	siglongjmp(bus, sig);
}

static const char *mapping_beyond_end(void)
{
	int fd = make("file", "short");
	volatile char *p = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);

	MUST(p != MAP_FAILED && p[100] == 0);
	signal(SIGBUS, on_bus);
	if (sigsetjmp(bus, 1) == 0) {
		(void)p[4096];
		return wrong(__FILE__, __LINE__, "no SIGBUS", 0);
	}
	return NULL;
}

/* ---- in other ways ---- */

static const char *copy_range(void)
{
	int from = make("from", "");
	int to = make("to", "");
	off_t in = 4096;
	off_t out = 100;

	MUST(fill(from, 'a', 0, 65536) && fill(from, 'b', 4096, 1000));
	CAN(copy_file_range(from, &in, to, &out, 1000, 0) == 1000);
	MUST(in == 5096 && out == 1100 && is(to, 'b', 100, 1000) && is(to, 0, 0, 100));
	MUST(size(to) == 1100);
	return NULL;
}

static const char *vectors(void)
{
	struct iovec out[] = { { "one", 3 }, { "two", 3 }, { "three", 5 } };
	char a[4], b[7];
	struct iovec in[] = { { a, 4 }, { b, 7 } };
	int fd = make("file", "");

	MUST(pwritev(fd, out, 3, 10) == 11 && preadv(fd, in, 2, 10) == 11);
	MUST(memcmp(a, "onet", 4) == 0 && memcmp(b, "wothree", 7) == 0 && size(fd) == 21);
	return NULL;
}

static const char *synced(void)
{
	int dir = open(".", O_RDONLY | O_DIRECTORY);
	int fd = open("file", O_RDWR | O_CREAT | O_SYNC, 0644);
	int d = open("file", O_RDWR | O_DSYNC);

	MUST(fill(fd, 'x', 0, 5000) && fill(d, 'y', 5000, 5000));
	MUST(fsync(fd) == 0 && fdatasync(fd) == 0 && fsync(dir) == 0 && syncfs(fd) == 0);
	MUST(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) == 0);
	MUST(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0 && is(fd, 'y', 5000, 5000));
	return NULL;
}

static const char *size_limit(void)
{
	const struct rlimit l = { 4096, 4096 };
	int fd = make("file", "");

	signal(SIGXFSZ, SIG_IGN);
	MUST(setrlimit(RLIMIT_FSIZE, &l) == 0 && fill(fd, 'x', 0, 4096));
	MUST(FAILS(pwrite(fd, "y", 1, 4096), EFBIG) && size(fd) == 4096);
	return NULL;
}

const struct check data_checks[] = {
	{ "sparse-files", sparse_files },
	{ "seek-data", seek_data },
	{ "allocate", allocate },
	{ "punch-hole", punch_hole },
	{ "zero-range", zero_range },
	{ "truncate", truncate_files },
	{ "direct-io", direct_io },
	{ "direct-and-cached", direct_and_cached },
	{ "append", append },
	{ "shared-mapping", shared_mapping },
	{ "private-mapping", private_mapping },
	{ "mapping-beyond-end", mapping_beyond_end },
	{ "copy-file-range", copy_range },
	{ "vectors", vectors },
	{ "synced", synced },
	{ "size-limit", size_limit },
	{ NULL, NULL },
};
