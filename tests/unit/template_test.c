/* SPDX-License-Identifier: Apache-2.0 */
/* Templates: what their descriptions depend on, and the store of them. */
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
#include "sandbox/template.h"
#include "sandbox/template_internal.h"

#define MIB ((uint64_t)1 << 20)

/* A store and a state directory in a directory of their own, and a sandbox that uses them. */
struct bed {
	char dir[64];
	char store[80];
	char state[80];
	char kernel[80];
	char rootfs[80];
	struct guest_image image;
	struct sandbox_config c;
	struct err e;
};

static void write_file(const char *path, const char *text)
{
	assert_int_equal(file_replace(AT_FDCWD, path, text, strlen(text), 0600), 0);
}

static int setup(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));

	if (!bed)
		return -1;
	snprintf(bed->dir, sizeof(bed->dir), "/tmp/podvm-template-XXXXXX");
	if (!mkdtemp(bed->dir))
		return -1;
	snprintf(bed->store, sizeof(bed->store), "%s/store", bed->dir);
	snprintf(bed->state, sizeof(bed->state), "%s/state", bed->dir);
	snprintf(bed->kernel, sizeof(bed->kernel), "%s/vmlinux", bed->dir);
	snprintf(bed->rootfs, sizeof(bed->rootfs), "%s/root", bed->dir);
	write_file(bed->kernel, "kernel");
	write_file(bed->rootfs, "root");
	bed->image = (struct guest_image){
		.kernel.sha256 = (char *)"11",
		.rootfs.sha256 = (char *)"22",
		.kernel_path = bed->kernel,
		.rootfs_path = bed->rootfs,
		.cmdline = (char *)"root=/dev/vda",
		.dir = bed->dir,
	};
	bed->c = (struct sandbox_config){
		.image = &bed->image,
		.driver = vmm_driver_find("qemu"),
		.binary = "/bin/sh",
		.accel = VMM_ACCEL_TCG,
		.vcpus = 1,
		.memory = 128 * MIB,
		.templates = bed->store,
		.state_dir = bed->state,
	};
	*state = bed;
	return 0;
}

static int teardown(void **state)
{
	struct bed *bed = *state;
	int r = rm_rf(AT_FDCWD, bed->dir);

	free(bed);
	return r;
}

static void describe(struct bed *bed, enum template_nic nic, struct buf *text,
		     char key[TEMPLATE_KEY_SIZE])
{
	assert_int_equal(template_describe(&bed->c, nic, text, key, &bed->e), 0);
}

/* ---- descriptions ---- */

/* Whether the machine is another one than that of @key now; @key is brought up to date. */
static bool differs(struct bed *bed, enum template_nic nic, char key[TEMPLATE_KEY_SIZE])
{
	_cleanup_(buf_done) struct buf text = { 0 };
	char before[TEMPLATE_KEY_SIZE];

	memcpy(before, key, sizeof(before));
	describe(bed, nic, &text, key);
	return !str_eq(before, key);
}

static void test_the_same_machine_has_the_same_key(void **state)
{
	struct bed *bed = *state;
	char key[TEMPLATE_KEY_SIZE] = "";

	assert_true(differs(bed, TEMPLATE_NIC_USER, key));
	assert_false(differs(bed, TEMPLATE_NIC_USER, key));
	bed->c.hostname = "other";
	bed->c.boot_timeout_ms = 1;
	bed->c.uid_base = 5;
	assert_false(differs(bed, TEMPLATE_NIC_USER, key));
}

static void test_whatever_changes_makes_another_key(void **state)
{
	struct bed *bed = *state;
	char key[TEMPLATE_KEY_SIZE] = "";

	assert_true(differs(bed, TEMPLATE_NIC_USER, key));
	assert_true(differs(bed, TEMPLATE_NIC_TAP, key));
	assert_true(differs(bed, TEMPLATE_NIC_NONE, key));
	bed->c.memory = 129 * MIB;
	assert_true(differs(bed, TEMPLATE_NIC_NONE, key));
	bed->c.vcpus = 2;
	assert_true(differs(bed, TEMPLATE_NIC_NONE, key));
	bed->c.machine = "q35";
	assert_true(differs(bed, TEMPLATE_NIC_NONE, key));
	bed->c.debug = true;
	assert_true(differs(bed, TEMPLATE_NIC_NONE, key));
	bed->c.accel = VMM_ACCEL_KVM;
	assert_true(differs(bed, TEMPLATE_NIC_NONE, key));
	bed->c.binary = "/bin/cat";
	assert_true(differs(bed, TEMPLATE_NIC_NONE, key));
	bed->image.cmdline = (char *)"root=/dev/vdb";
	assert_true(differs(bed, TEMPLATE_NIC_NONE, key));
	bed->image.rootfs.sha256 = (char *)"33";
	assert_true(differs(bed, TEMPLATE_NIC_NONE, key));
	write_file(bed->kernel, "a longer kernel");
	assert_true(differs(bed, TEMPLATE_NIC_NONE, key));
	write_file(bed->rootfs, "another root");
	assert_true(differs(bed, TEMPLATE_NIC_NONE, key));
}

/* ---- the store ---- */

static void file_of(const struct bed *bed, const char *key, const char *name, char path[256])
{
	snprintf(path, 256, "%s/%s/%s", bed->store, key, name);
}

static void hash_of(const char *path, char sha256[SHA256_HEX_SIZE])
{
	_cleanup_(close_fdp) int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(template_hash(fd, sha256), 0);
}

/* A template with a hole in its memory, not checked yet. */
static void add_template(struct bed *bed, const char *key, const char *description)
{
	char memory[SHA256_HEX_SIZE];
	char devices[SHA256_HEX_SIZE];
	struct template_info info = {
		.memory = 128 * MIB,
		.vcpus = 1,
		.machine = (char *)"microvm",
		.accel = (char *)"tcg",
		.network = (char *)"user",
		.image = (char *)"1",
		.created_ns = 5,
		.memory_sha256 = memory,
		.state_sha256 = devices,
	};
	_cleanup_(freep) char *text = NULL;
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", bed->store, key);
	assert_int_equal(mkdir_p(path, 0700), 0);
	file_of(bed, key, "memory", path);
	write_file(path, "memory");
	assert_int_equal(truncate(path, 1 * MIB), 0);
	hash_of(path, memory);
	file_of(bed, key, "state", path);
	write_file(path, "devices");
	hash_of(path, devices);
	file_of(bed, key, "description", path);
	write_file(path, description);
	text = template_info_text(&info);
	assert_non_null(text);
	file_of(bed, key, "template.json", path);
	write_file(path, text);
}

/* The one that the sandbox would use. */
static void add_own(struct bed *bed, struct buf *text, char key[TEMPLATE_KEY_SIZE])
{
	describe(bed, TEMPLATE_NIC_USER, text, key);
	add_template(bed, key, buf_cstr(text));
}

static int use(struct bed *bed, const char *key, struct buf *text)
{
	struct template t = TEMPLATE_INIT;
	int r = template_open(&bed->c, key, text, &t);

	assert_int_equal(r == 0, t.memory_fd >= 0 && t.state_fd >= 0);
	if (r == 0)
		assert_int_equal(fcntl(t.memory_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	template_close(&t);
	return r;
}

static void test_used_only_after_it_was_checked(void **state)
{
	struct bed *bed = *state;
	_cleanup_(buf_done) struct buf text = { 0 };
	char key[TEMPLATE_KEY_SIZE];

	describe(bed, TEMPLATE_NIC_USER, &text, key);
	assert_int_equal(use(bed, key, &text), -ENOENT);
	add_template(bed, key, buf_cstr(&text));
	assert_int_equal(use(bed, key, &text), -ESTALE);
	assert_int_equal(template_verify(bed->store, bed->state, key, &bed->e), 0);
	assert_int_equal(use(bed, key, &text), 0);
}

static void test_a_changed_file_is_noticed(void **state)
{
	struct bed *bed = *state;
	_cleanup_(buf_done) struct buf text = { 0 };
	const char *const names[] = { "memory", "state" };
	char key[TEMPLATE_KEY_SIZE];
	char path[256];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		buf_done(&text);
		add_own(bed, &text, key);
		assert_int_equal(template_verify(bed->store, bed->state, key, &bed->e), 0);
		file_of(bed, key, names[i], path);
		write_file(path, "mEmory");
		assert_int_equal(use(bed, key, &text), -ESTALE);
		assert_int_equal(template_verify(bed->store, bed->state, key, &bed->e), -EBADMSG);
		assert_int_equal(use(bed, key, &text), -ESTALE);
	}
}

/* Data that moves within a sparse file is another file. */
static void test_digests_see_where_data_is(void **state)
{
	struct bed *bed = *state;
	char first[SHA256_HEX_SIZE];
	char second[SHA256_HEX_SIZE];
	char path[128];
	int fd;

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/sparse", bed->dir);
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, 4 * MIB), 0);
		assert_int_equal(pwrite(fd, "data", 4, i * (off_t)MIB), 4);
		assert_int_equal(template_hash(fd, i ? second : first), 0);
		close(fd);
	}
	assert_string_not_equal(first, second);
}

/* Zeros that are written are none: what a file system calls a hole is its own affair. */
static void test_digests_dont_see_holes(void **state)
{
	static const char zeros[8192];
	struct bed *bed = *state;
	char first[SHA256_HEX_SIZE];
	char second[SHA256_HEX_SIZE];
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/sparse", bed->dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 4 * MIB), 0);
	assert_int_equal(pwrite(fd, "data", 4, MIB + 4094), 4);
	assert_int_equal(template_hash(fd, first), 0);
	assert_int_equal(pwrite(fd, zeros, sizeof(zeros), 2 * MIB), (ssize_t)sizeof(zeros));
	assert_int_equal(template_hash(fd, second), 0);
	close(fd);
	assert_string_equal(first, second);
}

static void test_of_another_description(void **state)
{
	struct bed *bed = *state;
	_cleanup_(buf_done) struct buf text = { 0 };
	char key[TEMPLATE_KEY_SIZE];

	describe(bed, TEMPLATE_NIC_USER, &text, key);
	add_template(bed, key, "something else");
	assert_int_equal(use(bed, key, &text), -EBADMSG);
}

static void test_list_and_find(void **state)
{
	struct bed *bed = *state;
	struct template_infos infos;
	struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	char path[256];
	char key[TEMPLATE_KEY_SIZE];

	assert_int_equal(template_list(bed->store, &infos, &bed->e), 0);
	assert_int_equal(infos.n, 0);
	add_template(bed, "aa11aa11aa11aa11aa11aa11aa11aa11", "x");
	add_template(bed, "ab11aa11aa11aa11aa11aa11aa11aa11", "x");
	snprintf(path, sizeof(path), "%s/not-a-template", bed->store);
	assert_int_equal(mkdir_p(path, 0700), 0);
	file_of(bed, "aa11aa11aa11aa11aa11aa11aa11aa11", "", path);
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	assert_int_equal(template_list(bed->store, &infos, &bed->e), 0);
	assert_int_equal(infos.n, 2);
	assert_string_equal(infos.v[1].key, "aa11aa11aa11aa11aa11aa11aa11aa11");
	assert_string_equal(infos.v[0].machine, "microvm");
	template_infos_done(&infos);
	assert_int_equal(template_find(bed->store, "ab", key, &bed->e), 0);
	assert_string_equal(key, "ab11aa11aa11aa11aa11aa11aa11aa11");
	assert_int_equal(template_find(bed->store, "a", key, &bed->e), -ENOTUNIQ);
	assert_int_equal(template_find(bed->store, "", key, &bed->e), -ENOENT);
	assert_int_equal(template_find(bed->store, "../", key, &bed->e), -ENOENT);
}

static size_t count(struct bed *bed)
{
	struct template_infos infos;
	size_t n;

	assert_int_equal(template_list(bed->store, &infos, &bed->e), 0);
	n = infos.n;
	template_infos_done(&infos);
	return n;
}

static void test_what_has_to_go(void **state)
{
	struct bed *bed = *state;
	_cleanup_(buf_done) struct buf text = { 0 };
	char key[TEMPLATE_KEY_SIZE];

	add_own(bed, &text, key);
	add_template(bed, "aa11aa11aa11aa11aa11aa11aa11aa11", "of another boot");
	assert_int_equal(template_evict(bed->store, bed->state, 100 * MIB, NULL, &bed->e), 1);
	assert_int_equal(count(bed), 1);
	assert_int_equal(template_evict(bed->store, bed->state, 0, key, &bed->e), 0);
	assert_int_equal(template_evict(bed->store, bed->state, 0, NULL, &bed->e), 1);
	assert_int_equal(count(bed), 0);
}

static void test_one_maker(void **state)
{
	struct bed *bed = *state;
	_cleanup_(close_fdp) int lock = template_lock(bed->store, true, &bed->e);

	assert_true(lock >= 0);
	assert_int_equal(template_lock(bed->store, false, &bed->e), -EWOULDBLOCK);
}

/* No child is started for what has just failed. */
static void test_a_failure_is_remembered(void **state)
{
	struct bed *bed = *state;
	struct loop_child *child = NULL;
	struct loop *loop = NULL;
	bool started = false;

	assert_int_equal(loop_new(&loop), 0);
	err_set(&bed->e, -EIO, "it broke");
	template_failed(bed->state, "aa", &bed->e);
	assert_int_equal(
		template_wanted(&bed->c, TEMPLATE_NIC_USER, "aa", loop, &started, &child, &bed->e),
		0);
	assert_false(started);
	assert_null(child);
	loop_free(loop);
}

static void test_bad_json(void **state)
{
	static const char *const texts[] = { "", "{}", "[]", "{\"memory\": \"x\"}" };
	struct bed *bed = *state;
	struct template_info info;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_true(template_info_parse(texts[i], strlen(texts[i]), &info, &bed->e) < 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_the_same_machine_has_the_same_key),
		TEST(test_whatever_changes_makes_another_key),
		TEST(test_used_only_after_it_was_checked),
		TEST(test_a_changed_file_is_noticed),
		TEST(test_digests_see_where_data_is),
		TEST(test_digests_dont_see_holes),
		TEST(test_of_another_description),
		TEST(test_list_and_find),
		TEST(test_what_has_to_go),
		TEST(test_one_maker),
		TEST(test_a_failure_is_remembered),
		TEST(test_bad_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
