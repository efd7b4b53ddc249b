/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "storage/parts.h"
#include "storage/prune.h"

#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static void test_written_and_read(void **state)
{
	const struct disk_part v[] = {
		{ .offset = 0, .size = 8192 },
		{ .offset = 8192, .size = 12288, .data = 8192, .root_hash = { 1, 2, [31] = 255 } },
	};
	_cleanup_(disk_parts_done) struct disk_parts got = { 0 };
	char dir[] = "/tmp/podvm-parts-XXXXXX";
	_cleanup_(close_fdp) int fd = -EBADF;
	struct disk_parts parts = { 0 };

	assert_non_null(mkdtemp(dir));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(disk_parts_add(&parts, &v[i]), 0);
	assert_int_equal(disk_parts_read(fd, "parts", &got), -ENOENT);
	assert_int_equal(disk_parts_write(fd, "parts", &parts), 0);
	assert_int_equal(disk_parts_read(fd, "parts", &got), 0);
	assert_int_equal(got.n, 2);
	assert_memory_equal(got.v, v, sizeof(v));
	disk_parts_done(&parts);
	assert_int_equal(rm_rf(AT_FDCWD, dir), 0);
}

static int parse(const char *text)
{
	_cleanup_(disk_parts_done) struct disk_parts parts = { 0 };

	return disk_parts_parse(text, &parts);
}

static void test_malformed(void **state)
{
	assert_int_equal(parse("0 0 0 -\n"), 0);
	assert_int_equal(parse("0 0 4096 " HASH "\n"), 0);
	assert_int_equal(parse(""), -EBADMSG);
	assert_int_equal(parse("0 0 0\n"), -EBADMSG);
	assert_int_equal(parse("0 0 0 - -\n"), -EBADMSG);
	assert_int_equal(parse("0 0 4096 -\n"), -EBADMSG);
	assert_int_equal(parse("0 0 4096 " HASH "0\n"), -EBADMSG);
	assert_int_equal(parse("0 4095 0 -\n"), -EBADMSG);
	assert_int_equal(parse("512 4096 0 -\n"), -EBADMSG);
	assert_int_equal(parse("-4096 4096 0 -\n"), -EBADMSG);
	assert_int_equal(parse("18446744073709547520 4096 0 -\n"), -EBADMSG);
	/* All of the file, and something else. */
	assert_int_equal(parse("0 0 0 -\n0 4096 0 -\n"), -EBADMSG);
}

static void test_not_more_than_a_disk_has(void **state)
{
	char text[(PARTS_MAX + 1) * 16 + 1] = "";

	for (int i = 0; i < PARTS_MAX; i++)
		strcat(text, "0 4096 0 -\n");
	assert_int_equal(parse(text), 0);
	strcat(text, "0 4096 0 -\n");
	assert_int_equal(parse(text), -EBADMSG);
}

/* ---- what goes of a cache ---- */

/* Three of 100 bytes each, used 10, 20 and 30 seconds ago. Which go, as "a", "ab", ... */
static const char *gone(const struct prune_rules *rules, const char *in_use, const char *unneeded)
{
	static char text[8];
	struct prune_item items[3] = { 0 };

	for (size_t i = 0; i < 3; i++) {
		snprintf(items[i].name, sizeof(items[i].name), "%c", (int)('a' + i));
		items[i].bytes = 100;
		items[i].used = 1000 - 10 * (int64_t)(i + 1);
		items[i].in_use = strstr(in_use, items[i].name);
		items[i].unneeded = strstr(unneeded, items[i].name);
	}
	prune_choose(rules, items, 3, 1000);
	text[0] = '\0';
	for (char c = 'a'; c <= 'c'; c++)
		for (size_t i = 0; i < 3; i++)
			if (items[i].name[0] == c && items[i].goes)
				strncat(text, &c, 1);
	return text;
}

static void test_what_goes(void **state)
{
	assert_string_equal(gone(&(struct prune_rules){ 0 }, "", "abc"), "");
	assert_string_equal(gone(&(struct prune_rules){ .all = true }, "b", ""), "ac");
	assert_string_equal(gone(&(struct prune_rules){ .unneeded = true }, "b", "ab"), "a");
	assert_string_equal(gone(&(struct prune_rules){ .max_age = 15 }, "", ""), "bc");
	assert_string_equal(gone(&(struct prune_rules){ .max_age = 30 }, "", ""), "");
	/* The one that was used longest ago goes first. */
	assert_string_equal(gone(&(struct prune_rules){ .max_bytes = 300 }, "", ""), "");
	assert_string_equal(gone(&(struct prune_rules){ .max_bytes = 299 }, "", ""), "c");
	assert_string_equal(gone(&(struct prune_rules){ .max_bytes = 100 }, "", ""), "bc");
	assert_string_equal(gone(&(struct prune_rules){ .max_bytes = 100 }, "c", ""), "ab");
	/* What goes in any case makes room as well. */
	assert_string_equal(
		gone(&(struct prune_rules){ .unneeded = true, .max_bytes = 200 }, "", "a"), "a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written_and_read),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_not_more_than_a_disk_has),
		cmocka_unit_test(test_what_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
