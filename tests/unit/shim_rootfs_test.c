/* SPDX-License-Identifier: Apache-2.0 */
/* What mounts of containerd are taken for, and what becomes of layers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "sandbox/container.h"
#include "shim/mount_format.h"
#include "shim/rootfs_work.h"
#include "storage/scratch.h"

/* ---- plans ---- */

/* One mount, with options up to a NULL. */
static void plan(const char *type, const char *source, const char *const *options,
		 struct rootfs_plan *ret)
{
	Containerd__Types__Mount m = CONTAINERD__TYPES__MOUNT__INIT;
	Containerd__Types__Mount *list[] = { &m };

	m.type = (char *)type;
	m.source = (char *)source;
	m.options = (char **)options;
	while (options[m.n_options])
		m.n_options++;
	assert_int_equal(rootfs_plan(list, 1, ret), 0);
}

#define OPTIONS(...) ((const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })
#define _plan_	     _cleanup_(rootfs_plan_done) struct rootfs_plan

static void test_overlay_is_layers(void **state)
{
	_plan_ p = { 0 };

	plan("overlay", "overlay",
	     OPTIONS("index=off", "workdir=/s/3/work", "upperdir=/s/3/fs",
		     "lowerdir=/s/2/fs:/s/1/fs"),
	     &p);
	assert_int_equal(p.kind, ROOTFS_LAYERS);
	assert_string_equal(p.upper, "/s/3/fs");
	assert_int_equal(p.layers.n, 2);
	assert_string_equal(p.layers.v[0], "/s/2/fs");
	assert_string_equal(p.layers.v[1], "/s/1/fs");
}

static void test_view_has_no_upper_directory(void **state)
{
	_plan_ p = { 0 };

	plan("overlay", "overlay", OPTIONS("lowerdir=/s/2/fs:/s/1/fs"), &p);
	assert_int_equal(p.kind, ROOTFS_LAYERS);
	assert_null(p.upper);
}

static void test_overlays_that_are_shared(void **state)
{
	static const char *const options[] = {
		"lowerdir=",	    "lowerdir=relative", "lowerdir=/a::/b", "lowerdir=/a\\:b",
		"redirect_dir=on",  "metacopy=on",	 "userxattr",	    "upperdir=relative",
		"datadir+=/s/data", "lowerdir+=/a",	 "unheard-of",	    "",
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		_plan_ with = { 0 };
		_plan_ alone = { 0 };

		plan("overlay", "overlay", OPTIONS("lowerdir=/s/1/fs", options[i]), &with);
		assert_int_equal(with.kind, ROOTFS_SHARED);
		assert_non_null(with.why);
		plan("overlay", "overlay", OPTIONS(options[i]), &alone);
		assert_int_equal(alone.kind, ROOTFS_SHARED);
	}
}

static void test_too_many_layers_are_shared(void **state)
{
	_cleanup_(freep) char *list = strdup("lowerdir=/s/0");
	_plan_ p = { 0 };

	for (int i = 1; i <= ROOTFS_MAX_LAYERS; i++) {
		char *longer = str_printf("%s:/s/%d", list, i);

		free(list);
		list = longer;
	}
	plan("overlay", "overlay", OPTIONS(list), &p);
	assert_int_equal(p.kind, ROOTFS_SHARED);
}

static void test_file_systems_are_disks(void **state)
{
	_plan_ rw = { 0 };
	_plan_ ro = { 0 };
	_plan_ erofs = { 0 };

	plan("ext4", "/dev/mapper/pool-7", OPTIONS("discard"), &rw);
	assert_int_equal(rw.kind, ROOTFS_DISK);
	assert_string_equal(rw.source, "/dev/mapper/pool-7");
	assert_string_equal(rw.fstype, "ext4");
	assert_false(rw.readonly);
	plan("ext4", "/s/7", OPTIONS("loop", "ro"), &ro);
	assert_int_equal(ro.kind, ROOTFS_DISK);
	assert_true(ro.readonly);
	plan("erofs", "/s/7/layer.erofs", OPTIONS("loop"), &erofs);
	assert_true(erofs.readonly);
}

static void test_what_is_shared(void **state)
{
	static const struct {
		const char *type;
		const char *source;
		const char *option;
	} mounts[] = {
		{ "bind", "/s/1/fs", "rbind" },
		{ "xfs", "/dev/mapper/pool-7", "nouuid" },
		{ "ext4", "relative", "loop" },
		{ "ext4", "/s/7", "offset=1048576" },
		{ "", "", "" },
	};
	_plan_ none = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		_plan_ p = { 0 };

		plan(mounts[i].type, mounts[i].source, OPTIONS(mounts[i].option), &p);
		assert_int_equal(p.kind, ROOTFS_SHARED);
		assert_non_null(p.why);
	}
	assert_int_equal(rootfs_plan(NULL, 0, &none), 0);
	assert_int_equal(none.kind, ROOTFS_SHARED);
}

static void test_several_mounts_are_shared(void **state)
{
	Containerd__Types__Mount m = CONTAINERD__TYPES__MOUNT__INIT;
	Containerd__Types__Mount *list[] = { &m, &m };
	_plan_ two = { 0 };
	_plan_ below = { 0 };

	m.type = (char *)"ext4";
	m.source = (char *)"/s/7";
	assert_int_equal(rootfs_plan(list, 2, &two), 0);
	assert_int_equal(two.kind, ROOTFS_SHARED);
	m.target = (char *)"/below";
	assert_int_equal(rootfs_plan(list, 1, &below), 0);
	assert_int_equal(below.kind, ROOTFS_SHARED);
}

/* ---- files of containerd's mount manager ---- */

static void assert_format(const char *text, const char *expected)
{
	char *points[] = { (char *)"/a", (char *)"/b", (char *)"/c" };
	_cleanup_(freep) char *got = NULL;

	if (!expected) {
		assert_int_equal(mount_format(text, points, 3, &got), -EINVAL);
		return;
	}
	assert_int_equal(mount_format(text, points, 3, &got), 0);
	assert_string_equal(got, expected);
}

static void test_mounts_that_are_named(void **state)
{
	assert_format("", "");
	assert_format("index=off", "index=off");
	assert_format("{{ mount 1 }}/upper", "/b/upper");
	assert_format("lowerdir={{overlay 0 2}}", "lowerdir=/a:/b:/c");
	assert_format("lowerdir={{ overlay 2 1 }}:/d", "lowerdir=/c:/b:/d");
	assert_format("{{ overlay 1 1 }}{{ mount 0 }}", "/b/a");
	assert_format("{{ mount 3 }}", NULL);
	assert_format("{{ mount -1 }}", NULL);
	assert_format("{{ overlay 0 3 }}", NULL);
	assert_format("{{ overlay 0 }}", NULL);
	assert_format("{{ mount 0 1 }}", NULL);
	assert_format("{{ mount 0", NULL);
	assert_format("{{ source 0 }}", NULL);
	assert_format("{{ overlay 0 1 2 3 4 }}", NULL);
	assert_format("{{}}", NULL);
}

/* Three files and an overlay of them. */
static void plan_stack(const char *type, const char *file, const char *option,
		       struct rootfs_plan *ret)
{
	Containerd__Types__Mount m[] = { CONTAINERD__TYPES__MOUNT__INIT,
					 CONTAINERD__TYPES__MOUNT__INIT,
					 CONTAINERD__TYPES__MOUNT__INIT };
	Containerd__Types__Mount *list[] = { &m[0], &m[1], &m[2] };
	char *loop[] = { (char *)"ro", (char *)"loop" };
	char *options[] = { (char *)"workdir=/s/3/work", (char *)"upperdir=/s/3/fs",
			    (char *)"lowerdir={{ overlay 0 1 }}", (char *)option };

	m[0].type = m[1].type = (char *)"erofs";
	m[0].source = (char *)"/s/2/layer.erofs";
	m[1].source = (char *)file;
	m[0].options = m[1].options = loop;
	m[0].n_options = m[1].n_options = ARRAY_SIZE(loop);
	m[2].type = (char *)type;
	m[2].source = (char *)"overlay";
	m[2].options = options;
	m[2].n_options = ARRAY_SIZE(options);
	assert_int_equal(rootfs_plan(list, 3, ret), 0);
}

static void test_overlay_of_files_is_layers(void **state)
{
	_plan_ p = { 0 };

	plan_stack("format/mkdir/overlay", "/s/1/layer.erofs", "index=off", &p);
	assert_int_equal(p.kind, ROOTFS_LAYERS);
	assert_string_equal(p.upper, "/s/3/fs");
	assert_int_equal(p.layers.n, 2);
	assert_string_equal(p.layers.v[0], "/s/2/fs");
	assert_string_equal(p.layers.v[1], "/s/1/fs");
}

static void test_overlays_of_files_that_are_shared(void **state)
{
	static const struct {
		const char *type;
		const char *file;
		const char *option;
	} stacks[] = {
		{ "format/overlay", "/s/1/layer.erofs", "index=off" },
		{ "format/mkdir/overlay", "/s/1/fsmeta.erofs", "index=off" },
		{ "format/mkdir/overlay", "layer.erofs", "index=off" },
		{ "format/mkdir/overlay", "/s/1/layer.erofs", "lowerdir={{ mount 0 }}" },
		{ "format/mkdir/overlay", "/s/1/layer.erofs", "{{ mount 2 }}" },
		{ "format/mkdir/overlay", "/s/1/layer.erofs", "X-containerd.mkdir.path=/x" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(stacks); i++) {
		_plan_ p = { 0 };

		plan_stack(stacks[i].type, stacks[i].file, stacks[i].option, &p);
		assert_int_equal(p.kind, ROOTFS_SHARED);
		assert_non_null(p.why);
	}
}

/* ---- work ---- */

static char base[64];

static int setup(void **state)
{
	snprintf(base, sizeof(base), "/tmp/podvm-rootfs-XXXXXX");
	return mkdtemp(base) ? 0 : -1;
}

static int teardown(void **state)
{
	return rm_rf(AT_FDCWD, base);
}

/* The child writes to it. */
static struct rootfs_found *make_found(void)
{
	void *p = mmap(NULL, sizeof(struct rootfs_found), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

/* Layers 0 (top) to @n - 1, each with a file of its own, and an empty upper directory. */
static struct rootfs_job make_job(int n)
{
	struct rootfs_job job = {
		.max_disks = 64,
		.scratch = true,
		.scratch_size = 64 << 20,
		.cache = { .dir = str_printf("%s/cache", base) },
		.found = make_found(),
	};

	job.plan.kind = ROOTFS_LAYERS;
	job.plan.upper = str_printf("%s/upper", base);
	assert_int_equal(mkdir_p(job.plan.upper, 0755), 0);
	for (int i = 0; i < n; i++) {
		_cleanup_(freep) char *dir = str_printf("%s/layer%d/fs", base, i);

		assert_int_equal(mkdir_p(dir, 0755), 0);
		assert_int_equal(strv_add(&job.plan.layers, dir), 0);
	}
	return job;
}

static void job_done(struct rootfs_job *job)
{
	rootfs_plan_done(&job->plan);
	munmap(job->found, sizeof(*job->found));
	free((char *)job->cache.dir);
}

#define _job_ _cleanup_(job_done) struct rootfs_job

/* In a child, which gets a mount namespace of its own. Return: How many disks, or an errno */
static int disks_of(struct rootfs_job *job)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		struct work_result result = { 0 };
		struct err e = { 0 };
		int r = rootfs_work(job, &result, &e);

		if (r < 0)
			fprintf(stderr, "%s\n", e.msg);
		_exit(r < 0 ? 128 - r : (int)result.n_fds);
	}
	waitpid(pid, &status, 0);
	status = WEXITSTATUS(status);
	return status > 128 ? 128 - status : status;
}

static void test_a_disk_for_every_layer_and_one_to_write(void **state)
{
	_job_ job = make_job(ROOTFS_MAX_DISKS);

	assert_int_equal(disks_of(&job), ROOTFS_MAX_DISKS + 1);
	assert_true(scratch_is_kept(job.plan.upper));
}

static void test_the_lowest_layers_are_joined(void **state)
{
	_job_ job = make_job(ROOTFS_MAX_DISKS + 3);

	job.scratch = false;
	assert_int_equal(disks_of(&job), ROOTFS_MAX_DISKS);
	assert_false(scratch_is_kept(job.plan.upper));
}

static void test_little_room_in_the_machine(void **state)
{
	_job_ job = make_job(5);

	job.scratch = false;
	job.max_disks = 2;
	assert_int_equal(disks_of(&job), 2);
	job.max_disks = 1;
	assert_int_equal(disks_of(&job), 1);
}

/* Files of the snapshotter for all layers. */
static void make_blobs(int n)
{
	for (int i = 0; i < n; i++) {
		_cleanup_(freep) char *command =
			str_printf("mkfs.erofs --quiet %s/layer%d/layer.erofs %s/layer%d/fs", base,
				   i, base, i);

		assert_int_equal(system(command), 0);
	}
}

static void test_the_lowest_files_are_packed(void **state)
{
	const int n = CONTAINER_MAX_DISKS + 8;
	_job_ job = make_job(n);
	size_t last = CONTAINER_MAX_DISKS - 2;

	make_blobs(n);
	job.scratch = false;
	assert_int_equal(disks_of(&job), CONTAINER_MAX_DISKS - 1);
	assert_int_equal(job.found->n_parts[0], 0);
	assert_int_equal(job.found->n_parts[last], 10);
	assert_int_equal(job.found->parts[0].offset, 0);
	assert_int_equal(job.found->parts[1].offset, job.found->parts[0].size);
	assert_int_equal(job.found->parts[9].data, 0);
}

static void test_files_with_hash_trees(void **state)
{
	_job_ job = make_job(3);

	make_blobs(2);
	job.scratch = false;
	job.cache.verity = true;
	job.max_disks = 2;
	assert_int_equal(disks_of(&job), 2);
	assert_int_equal(job.found->n_parts[0], 1);
	assert_int_equal(job.found->n_parts[1], 2);
	for (size_t i = 0; i < 3; i++)
		assert_true(job.found->parts[i].data > 0);
}

static void test_what_is_prepared_is_one_more_layer(void **state)
{
	_job_ job = make_job(2);
	_cleanup_(freep) char *file = str_printf("%s/file", job.plan.upper);

	close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	assert_int_equal(disks_of(&job), 4);
}

static void test_upper_directory_of_a_user_is_not_taken(void **state)
{
	_job_ job = make_job(2);

	assert_int_equal(chown(job.plan.upper, 1000, 1000), 0);
	assert_int_equal(disks_of(&job), -EOPNOTSUPP);
}

static void test_disk_is_opened_as_it_is_used(void **state)
{
	_job_ job = { .cache = { .dir = strdup(base) }, .found = make_found() };
	_cleanup_(close_fdp) int fd = -EBADF;

	job.plan.kind = ROOTFS_DISK;
	job.plan.source = str_printf("%s/disk", base);
	assert_int_equal(disks_of(&job), -ENOENT);
	fd = open(job.plan.source, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(disks_of(&job), 1);
	/* Read-only views can be used by many at a time. */
	job.plan.readonly = true;
	assert_int_equal(flock(fd, LOCK_SH), 0);
	assert_int_equal(disks_of(&job), 1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest plans[] = {
		cmocka_unit_test(test_overlay_is_layers),
		cmocka_unit_test(test_view_has_no_upper_directory),
		cmocka_unit_test(test_overlays_that_are_shared),
		cmocka_unit_test(test_too_many_layers_are_shared),
		cmocka_unit_test(test_file_systems_are_disks),
		cmocka_unit_test(test_what_is_shared),
		cmocka_unit_test(test_several_mounts_are_shared),
		cmocka_unit_test(test_mounts_that_are_named),
		cmocka_unit_test(test_overlay_of_files_is_layers),
		cmocka_unit_test(test_overlays_of_files_that_are_shared),
	};
	const struct CMUnitTest work[] = {
		TEST(test_a_disk_for_every_layer_and_one_to_write),
		TEST(test_the_lowest_layers_are_joined),
		TEST(test_little_room_in_the_machine),
		TEST(test_the_lowest_files_are_packed),
		TEST(test_files_with_hash_trees),
		TEST(test_what_is_prepared_is_one_more_layer),
		TEST(test_upper_directory_of_a_user_is_not_taken),
		TEST(test_disk_is_opened_as_it_is_used),
	};
	int failed = cmocka_run_group_tests(plans, NULL, NULL);

	/* Joining layers needs to mount. */
	return failed || geteuid() != 0 ? failed : cmocka_run_group_tests(work, NULL, NULL);
}
