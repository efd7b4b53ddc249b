/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "shim/options.h"

#define ARGS(...) ((char **)(const char *[]){ "shim", __VA_ARGS__, NULL })

static void test_start(void **state)
{
	struct shim_options o;

	assert_int_equal(shim_options_parse(ARGS("-namespace", "k8s.io", "-address", "/c.sock",
						 "-publish-binary", "/usr/bin/containerd", "-id",
						 "box", "-debug", "start"),
					    &o, NULL),
			 0);
	assert_string_equal(o.namespace, "k8s.io");
	assert_string_equal(o.address, "/c.sock");
	assert_string_equal(o.publish_binary, "/usr/bin/containerd");
	assert_string_equal(o.id, "box");
	assert_true(o.debug);
	assert_string_equal(o.action, "start");
	assert_null(o.bundle);
}

static void test_all_forms_of_a_flag(void **state)
{
	struct shim_options o;

	assert_int_equal(shim_options_parse(ARGS("--id=a", "--bundle", "/b", "-namespace=n",
						 "-debug=false", "--", "delete"),
					    &o, NULL),
			 0);
	assert_string_equal(o.id, "a");
	assert_string_equal(o.bundle, "/b");
	assert_string_equal(o.namespace, "n");
	assert_false(o.debug);
	assert_string_equal(o.action, "delete");
}

static void test_flags_end_at_the_action(void **state)
{
	struct shim_options o;

	assert_int_equal(shim_options_parse(ARGS("start", "-id", "a"), &o, NULL), 0);
	assert_string_equal(o.action, "start");
	assert_null(o.id);
}

static void test_empty_values(void **state)
{
	struct shim_options o;

	assert_int_equal(shim_options_parse(ARGS("-id", "", "-address="), &o, NULL), 0);
	assert_string_equal(o.id, "");
	assert_string_equal(o.address, "");
	assert_null(o.action);
}

static void test_wrong_ones(void **state)
{
	struct shim_options o;
	struct err e = { 0 };

	assert_int_equal(shim_options_parse(ARGS("-nope", "start"), &o, &e), -EINVAL);
	assert_string_equal(e.msg, "unknown flag \"-nope\"");
	assert_int_equal(shim_options_parse(ARGS("-idx", "start"), &o, &e), -EINVAL);
	assert_int_equal(shim_options_parse(ARGS("-id"), &o, &e), -EINVAL);
	assert_string_equal(e.msg, "flag -id needs a value");
}

static void test_info_and_version(void **state)
{
	struct shim_options o;

	assert_int_equal(shim_options_parse(ARGS("-info"), &o, NULL), 0);
	assert_true(o.info);
	assert_int_equal(shim_options_parse(ARGS("-v"), &o, NULL), 0);
	assert_true(o.version);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_all_forms_of_a_flag),
		cmocka_unit_test(test_flags_end_at_the_action),
		cmocka_unit_test(test_empty_values),
		cmocka_unit_test(test_wrong_ones),
		cmocka_unit_test(test_info_and_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
