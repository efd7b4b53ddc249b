/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "sandbox/host_cgroup.h"

static void is(const char *text, const char *path)
{
	_cleanup_(freep) char *got = NULL;
	struct err e = { 0 };

	if (host_cgroup_path(text, &got, &e) < 0)
		fail_msg("%s: %s", text, e.msg);
	assert_string_equal(got, path);
}

static void refused(const char *text)
{
	char *got = NULL;
	struct err e = { 0 };

	assert_int_equal(host_cgroup_path(text, &got, &e), -EINVAL);
	assert_null(got);
	assert_string_not_equal(e.msg, "");
}

static void test_path(void **state)
{
	is("/kubepods/burstable/pod1/box", "/kubepods/burstable/pod1/box");
	is("/k8s.io/box/", "/k8s.io/box");
	is("/a/..b/c..", "/a/..b/c..");
}

static void test_systemd_form(void **state)
{
	is("kubepods-besteffort-pod1_2.slice:cri-containerd:box",
	   "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/"
	   "cri-containerd-box.scope");
	is("system.slice:x:y", "/system.slice/x-y.scope");
}

static void test_refused_ones(void **state)
{
	refused("");
	refused("/");
	refused("///");
	refused("/..");
	refused("/a/../../b");
	refused("/a\n/b");
	refused("relative/path");
	refused("a.slice");
	refused("a.slice:b");
	refused("a.slice:b:");
	refused("a.service:b:c");
	refused(".slice:b:c");
	refused("a.slice:../b:c");
}

static void test_removed_is_fine_if_it_is_not_there(void **state)
{
	assert_int_equal(host_cgroup_remove("/podvm-there-is-no-such-cgroup"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_systemd_form),
		cmocka_unit_test(test_refused_ones),
		cmocka_unit_test(test_removed_is_fine_if_it_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
