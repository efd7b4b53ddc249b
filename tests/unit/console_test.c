/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of a guest's console: only the last bytes, and nothing that harms a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vmm-internal.h"

static int setup(void **state)
{
	*state = calloc(1, sizeof(struct console));
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static void put(struct console *c, const char *text)
{
	console_write(c, text, strlen(text));
}

static const char *tail(const struct console *c, unsigned int lines)
{
	static char buf[VMM_CONSOLE_SIZE];

	console_tail(c, lines, buf, sizeof(buf));
	return buf;
}

static void test_empty(void **state)
{
	assert_string_equal(tail(*state, 10), "");
}

static void test_last_lines(void **state)
{
	put(*state, "one\r\ntwo\r\nthree\r\n");
	assert_string_equal(tail(*state, 2), "two\nthree");
	assert_string_equal(tail(*state, 9), "one\ntwo\nthree");
	assert_string_equal(tail(*state, 0), "");
}

static void test_last_line_without_end(void **state)
{
	put(*state, "one\ntwo");
	assert_string_equal(tail(*state, 1), "two");
}

static void test_old_lines_make_room(void **state)
{
	struct console *c = *state;
	char line[64];

	for (int i = 0; i < 10000; i++) {
		snprintf(line, sizeof(line), "line number %d\n", i);
		put(c, line);
	}
	assert_int_equal(c->len, VMM_CONSOLE_SIZE);
	assert_string_equal(tail(c, 2), "line number 9998\nline number 9999");
}

static void test_a_write_larger_than_the_ring(void **state)
{
	size_t n = 3 * VMM_CONSOLE_SIZE + 17;
	char *big = malloc(n);

	assert_non_null(big);
	memset(big, 'x', n);
	memcpy(big + n - 5, "\nend\n", 5);
	put(*state, "before\n");
	console_write(*state, big, n);
	free(big);
	assert_string_equal(tail(*state, 1), "end");
}

static void test_an_endless_line_is_cut_at_its_beginning(void **state)
{
	char buf[16];

	for (int i = 0; i < 100000; i++)
		put(*state, "ab");
	console_tail(*state, 3, buf, sizeof(buf));
	assert_string_equal(buf, "bababababababab");
}

static void test_every_wrap_position(void **state)
{
	struct console *c = *state;

	for (int i = 0; i < 300; i++) {
		c->end = VMM_CONSOLE_SIZE - 150 + (size_t)i / 2;
		c->len = VMM_CONSOLE_SIZE;
		put(c, "\nsome text that wraps\nlast\n");
		assert_string_equal(tail(c, 2), "some text that wraps\nlast");
	}
}

static void test_hostile_bytes(void **state)
{
	put(*state, "\x1b[2J\x1b[31mred\x1b[0m\ttab \x07\x80\xff del\x7f \x1b]0;title\n");
	assert_string_equal(tail(*state, 1), "red tab ??? del? 0;title");
}

static void test_an_escape_sequence_without_end_spares_the_next_line(void **state)
{
	put(*state, "a\x1b[12\nb\x1b");
	assert_string_equal(tail(*state, 2), "a\nb");
}

static void test_printable_keeps_the_end(void **state)
{
	char buf[6];

	printable(buf, sizeof(buf), "0123456789", 10);
	assert_string_equal(buf, "56789");
	printable(buf, 1, "0123456789", 10);
	assert_string_equal(buf, "");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_empty),
		TEST(test_last_lines),
		TEST(test_last_line_without_end),
		TEST(test_old_lines_make_room),
		TEST(test_a_write_larger_than_the_ring),
		TEST(test_an_endless_line_is_cut_at_its_beginning),
		TEST(test_every_wrap_position),
		TEST(test_hostile_bytes),
		TEST(test_an_escape_sequence_without_end_spares_the_next_line),
		TEST(test_printable_keeps_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
