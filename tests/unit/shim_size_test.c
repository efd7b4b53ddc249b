/* SPDX-License-Identifier: Apache-2.0 */
/* What a linux.resources says about the size that a machine should have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/cleanup.h"
#include "shim/size.h"

static struct size_limits limits;

static void update(const char *text)
{
	_cleanup_(json_putp) struct json_object *resources = NULL;

	assert_int_equal(json_parse(text, strlen(text), "resources", &resources, NULL), 0);
	size_limits_update(&limits, resources);
}

static void assert_limits(uint64_t memory, uint64_t cpu)
{
	assert_int_equal(limits.memory, memory);
	assert_int_equal(limits.cpu, cpu);
}

static int setup(void **state)
{
	limits = (struct size_limits){ 0 };
	return 0;
}

static void test_limits(void **state)
{
	update("{\"memory\":{\"limit\":1048576},\"cpu\":{\"quota\":150000,\"period\":100000}}");
	assert_limits(1048576, 1500);
	update("{\"cpu\":{\"quota\":20000}}");
	assert_limits(1048576, 200);
}

/* An update changes what it names. */
static void test_what_is_not_said_stays(void **state)
{
	update("{\"memory\":{\"limit\":1048576},\"cpu\":{\"quota\":150000,\"period\":100000}}");
	update("{}");
	update("{\"cpu\":{\"shares\":1024},\"memory\":{\"reservation\":5}}");
	assert_limits(1048576, 1500);
	update("{\"memory\":{\"limit\":-1},\"cpu\":{\"quota\":0}}");
	assert_limits(0, 0);
}

static void test_nonsense(void **state)
{
	update("{\"memory\":{\"limit\":\"many\"},\"cpu\":[1,2]}");
	assert_limits(0, 0);
	update("{\"memory\":{\"limit\":9223372036854775807},"
	       "\"cpu\":{\"quota\":9223372036854775807,\"period\":-5}}");
	assert_int_equal(limits.memory, INT64_MAX);
	assert_true(limits.cpu > 1000000);
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_limits),
		T(test_what_is_not_said_stays),
		T(test_nonsense),
	};

	return cmocka_run_group_tests_name("shim_size", tests, NULL, NULL);
}
