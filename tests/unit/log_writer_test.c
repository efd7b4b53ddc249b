/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "sandbox/log_writer.h"

struct fixture {
	char dir[64];
	int dirfd;
	struct log_writer *w;
};

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){ .dir = "/tmp/podvm-log-XXXXXX" };
	*state = &f;
	if (!mkdtemp(f.dir))
		return -1;
	f.dirfd = open(f.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return log_writer_new(f.dirfd, &f.w);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	log_writer_free(f->w);
	close(f->dirfd);
	return rm_rf(AT_FDCWD, f->dir);
}

static void add(struct fixture *f, enum streams_which stream, const char *text)
{
	log_writer_add(f->w, stream, text, strlen(text));
}

/* End the log, then compare it without the time stamps. */
static void expect(struct fixture *f, const char *want)
{
	_cleanup_(freep) char *text = NULL;
	_cleanup_(freep) char *got = calloc(1, 65536);
	char *save = NULL;

	log_writer_free(TAKE_PTR(f->w));
	assert_int_equal(file_read(f->dirfd, "log", LOG_WRITER_MAX, &text, NULL), 0);
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *space = strchr(l, ' ');

		/* 2026-11-21T10:00:00.123456789Z */
		assert_int_equal(space - l, 30);
		assert_int_equal(l[10], 'T');
		assert_int_equal(l[29], 'Z');
		strcat(got, space + 1);
		strcat(got, "\n");
	}
	assert_string_equal(got, want);
}

static void test_lines(void **state)
{
	add(*state, STREAMS_STDOUT, "one\ntwo\n");
	expect(*state, "stdout F one\nstdout F two\n");
}

static void test_empty_line(void **state)
{
	add(*state, STREAMS_STDOUT, "\n\n");
	expect(*state, "stdout F \nstdout F \n");
}

static void test_line_in_pieces(void **state)
{
	add(*state, STREAMS_STDOUT, "he");
	add(*state, STREAMS_STDOUT, "ll");
	add(*state, STREAMS_STDOUT, "o\nwor");
	add(*state, STREAMS_STDOUT, "ld\n");
	expect(*state, "stdout F hello\nstdout F world\n");
}

static void test_streams_are_apart(void **state)
{
	add(*state, STREAMS_STDOUT, "out");
	add(*state, STREAMS_STDERR, "err\n");
	add(*state, STREAMS_STDOUT, "put\n");
	expect(*state, "stderr F err\nstdout F output\n");
}

static void test_line_without_an_end(void **state)
{
	add(*state, STREAMS_STDOUT, "prompt> ");
	expect(*state, "stdout P prompt> \n");
}

static void test_long_line_comes_in_parts(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *line = calloc(1, LOG_WRITER_LINE + 4);
	_cleanup_(freep) char *want = calloc(1, LOG_WRITER_LINE + 64);

	memset(line, 'x', LOG_WRITER_LINE);
	sprintf(want, "stdout P %s\nstdout F yz\n", line);
	strcat(line, "yz\n");
	add(f, STREAMS_STDOUT, line);
	expect(f, want);
}

static void test_line_of_just_the_longest_length(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *line = calloc(1, LOG_WRITER_LINE + 4);
	_cleanup_(freep) char *want = calloc(1, LOG_WRITER_LINE + 64);

	memset(line, 'x', LOG_WRITER_LINE - 1);
	sprintf(want, "stdout F %s\n", line);
	strcat(line, "\n");
	add(f, STREAMS_STDOUT, line);
	expect(f, want);
}

static off_t size_of(struct fixture *f, const char *name)
{
	struct stat st;

	return fstatat(f->dirfd, name, &st, 0) < 0 ? -1 : st.st_size;
}

static void test_size_is_limited(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *line = calloc(1, 8193);

	memset(line, 'x', 8191);
	line[8191] = '\n';
	for (uint64_t sum = 0; sum < 3 * LOG_WRITER_MAX; sum += 8192)
		add(f, STREAMS_STDOUT, line);
	log_writer_free(TAKE_PTR(f->w));
	assert_true(size_of(f, "log") > 0);
	assert_true((uint64_t)size_of(f, "log") <= LOG_WRITER_MAX);
	assert_true((uint64_t)size_of(f, "log.1") <= LOG_WRITER_MAX);
	/* The older one is full: nothing but whole lines was cut off. */
	assert_true((uint64_t)size_of(f, "log.1") > LOG_WRITER_MAX - 2 * 8192);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lines),
		TEST(test_empty_line),
		TEST(test_line_in_pieces),
		TEST(test_streams_are_apart),
		TEST(test_line_without_an_end),
		TEST(test_long_line_comes_in_parts),
		TEST(test_line_of_just_the_longest_length),
		TEST(test_size_is_limited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
