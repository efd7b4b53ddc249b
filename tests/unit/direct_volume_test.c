/* SPDX-License-Identifier: Apache-2.0 */
/* What CSI drivers say about volumes that are devices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "storage/direct_volume.h"

#define VOLUME "/var/lib/kubelet/pods/uid/volumes/kubernetes.io~csi/pvc/mount"
#define INFO                                                                              \
	"{\"volume-type\":\"block\",\"device\":\"/dev/sdx\",\"fstype\":\"ext4\","         \
	"\"metadata\":{\"fsGroup\":\"3000\",\"fsGroupChangePolicy\":\"OnRootMismatch\"}," \
	"\"options\":[\"noatime\"]}"

struct fixture {
	char dir[64];
	struct direct_volume v;
	struct err e;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/podvm-direct-XXXXXX");
	*state = f;
	return mkdtemp(f->dir) ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	direct_volume_done(&f->v);
	(void)rm_rf(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

static int parse(struct fixture *f, const char *text)
{
	direct_volume_done(&f->v);
	return direct_volume_parse(text, strlen(text), &f->v, &f->e);
}

static void test_what_it_says(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(parse(f, INFO), 0);
	assert_string_equal(f->v.device, "/dev/sdx");
	assert_string_equal(f->v.fstype, "ext4");
	assert_int_equal(f->v.options.n, 1);
	assert_int_equal(f->v.fs_group, 3000);
	assert_true(f->v.fs_group_on_mismatch);
	assert_false(f->v.readonly);
	assert_int_equal(parse(f,
			       "{\"volume-type\":\"block\",\"device\":\"/d\",\"fstype\":\"ext4\","
			       "\"options\":[\"ro\"]}"),
			 0);
	assert_true(f->v.readonly);
	assert_int_equal(f->v.fs_group, 0);
}

static void test_what_is_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"{}",
		"{\"volume-type\":\"vfiovol\",\"device\":\"/d\",\"fstype\":\"ext4\"}",
		"{\"volume-type\":\"block\",\"device\":\"d\",\"fstype\":\"ext4\"}",
		"{\"volume-type\":\"block\",\"device\":\"/d\",\"fstype\":\"ntfs\"}",
		"{\"volume-type\":\"block\",\"device\":\"/"
		"d\",\"fstype\":\"ext4\",\"options\":[\"\"]}",
		"{\"volume-type\":\"block\",\"device\":\"/d\",\"fstype\":\"ext4\","
		"\"metadata\":{\"fsGroup\":\"-1\"}}",
		"{\"volume-type\":\"block\",\"device\":\"/d\",\"fstype\":\"ext4\","
		"\"metadata\":{\"fsGroup\":\"1\",\"fsGroupChangePolicy\":\"Never\"}}",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		assert_true(parse(f, texts[i]) < 0);
}

static void test_it_is_where_kata_has_it(void **state)
{
	struct fixture *f = *state;
	_cleanup_(strv_done) struct strv users = { 0 };
	char path[256];

	assert_int_equal(direct_volume_read(f->dir, "/a/b/c", &f->v, &f->e), -ENOENT);
	assert_int_equal(direct_volume_add(f->dir, "/a/b/c", INFO, &f->e), 0);
	snprintf(path, sizeof(path), "%s/L2EvYi9j/mountInfo.json", f->dir);
	assert_int_equal(access(path, R_OK), 0);
	assert_int_equal(direct_volume_add(f->dir, "/a/b?d~", INFO, &f->e), 0);
	snprintf(path, sizeof(path), "%s/L2EvYj9kfg==/mountInfo.json", f->dir);
	assert_int_equal(access(path, R_OK), 0);
	assert_int_equal(direct_volume_read(f->dir, "/a/b/c", &f->v, &f->e), 0);
	assert_string_equal(f->v.device, "/dev/sdx");
	assert_int_equal(direct_volume_note(f->dir, "/a/b/c", "k8s.io-1", &f->e), 0);
	assert_int_equal(direct_volume_users(f->dir, "/a/b/c", &users, &f->e), 0);
	assert_int_equal(users.n, 1);
	assert_string_equal(users.v[0], "k8s.io-1");
	assert_int_equal(direct_volume_remove(f->dir, "/a/b/c", &f->e), 0);
	assert_int_equal(direct_volume_read(f->dir, "/a/b/c", &f->v, &f->e), -ENOENT);
	assert_int_equal(direct_volume_remove(f->dir, "/a/b/c", &f->e), 0);
	assert_int_equal(direct_volume_users(f->dir, "/a/b/c", &users, &f->e), -ENOENT);
}

static void test_only_root_may_say_it(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(direct_volume_add(f->dir, VOLUME, INFO, &f->e), 0);
	assert_int_equal(chmod(f->dir, 0777), 0);
	assert_int_equal(direct_volume_read(f->dir, VOLUME, &f->v, &f->e), -EPERM);
	assert_non_null(strstr(f->e.msg, "others than root"));
}

static void test_names_that_are_too_long(void **state)
{
	struct fixture *f = *state;
	char path[300];

	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[189] = '\0';
	assert_int_equal(direct_volume_read(f->dir, path, &f->v, &f->e), -ENOENT);
	assert_int_equal(direct_volume_add(f->dir, path, INFO, &f->e), 0);
	path[189] = 'x';
	path[250] = '\0';
	assert_int_equal(direct_volume_add(f->dir, path, INFO, &f->e), -ENAMETOOLONG);
	assert_int_equal(direct_volume_read(f->dir, path, &f->v, &f->e), -ENOENT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_what_it_says),
		T(test_what_is_refused),
		T(test_it_is_where_kata_has_it),
		T(test_only_root_may_say_it),
		T(test_names_that_are_too_long),
	};

	return cmocka_run_group_tests_name("direct_volume", tests, NULL, NULL);
}
