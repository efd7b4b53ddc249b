/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of a mount's source: in a directory laid out as the kubelet's, in a mount namespace
 * of our own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/mountinfo.h"
#include "base/str.h"
#include "shim/volume_kind.h"

#define POD "pods/8a1f/"

/* @root is the kubelet's, of whatever name. */
struct fixture {
	char root[32];
	char path[512];
	struct volume_source source;
	struct err e;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (!f)
		return -1;
	snprintf(f->root, sizeof(f->root), "/tmp/podvm-test.XXXXXX");
	if (!mkdtemp(f->root) || mount("tmpfs", f->root, "tmpfs", 0, "mode=0755") < 0)
		return -1;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	volume_source_done(&f->source);
	umount2(f->root, MNT_DETACH);
	rmdir(f->root);
	free(f);
	return 0;
}

/* The path below the root; the directories above it are made. */
static const char *at(struct fixture *f, const char *path)
{
	_cleanup_(freep) char *above = str_printf("%s/%s", f->root, path);

	*strrchr(above, '/') = '\0';
	assert_int_equal(mkdir_p(above, 0755), 0);
	snprintf(f->path, sizeof(f->path), "%s/%s", f->root, path);
	return f->path;
}

static const char *make_dir(struct fixture *f, const char *path)
{
	assert_int_equal(mkdir(at(f, path), 0755), 0);
	return f->path;
}

static const char *make_file(struct fixture *f, const char *path, off_t size)
{
	int fd = open(at(f, path), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
	return f->path;
}

static enum volume_kind look(struct fixture *f, const char *path, const char *destination,
			     bool readonly)
{
	volume_source_done(&f->source);
	if (volume_kind(path, destination, readonly, &f->source, &f->e) < 0)
		fail_msg("%s", f->e.msg);
	return f->source.kind;
}

static void refused(struct fixture *f, const char *path, const char *why)
{
	volume_source_done(&f->source);
	assert_int_equal(volume_kind(path, "/d", true, &f->source, &f->e), -EOPNOTSUPP);
	if (!strstr(f->e.msg, why))
		fail_msg("%s", f->e.msg);
}

static void publish(struct fixture *f, const char *path)
{
	_cleanup_(freep) char *data = str_printf("%s/..data", path);

	make_dir(f, path);
	assert_int_equal(symlink("..2026", at(f, data)), 0);
	at(f, path);
}

static void test_directories_of_the_kubelet(void **state)
{
	static const char *const volumes[] = {
		POD "volumes/kubernetes.io~configmap/config",
		POD "volumes/kubernetes.io~secret/keys",
		POD "volumes/kubernetes.io~projected/kube-api-access-x2v9k",
		POD "volumes/kubernetes.io~downward-api/info",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(volumes); i++) {
		publish(f, volumes[i]);
		assert_int_equal(look(f, f->path, "/etc/config", true), VOLUME_DIRECTORY);
		assert_int_equal(look(f, f->path, "/etc/config", false), VOLUME_DIRECTORY);
	}
}

static void test_directories_that_only_look_like_it(void **state)
{
	static const char *const volumes[] = {
		"volumes/kubernetes.io~configmap/config",
		"xpods/u/volumes/kubernetes.io~configmap/config",
		POD "volumes/kubernetes.io~configmap/config/below",
		POD "volumes/kubernetes.io~csi/config",
		POD "plugins/kubernetes.io~secret/keys",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(volumes); i++) {
		publish(f, volumes[i]);
		assert_int_equal(look(f, f->path, "/etc/config", true), VOLUME_SHARE);
	}
	/* The right name, but nothing is published in it. */
	make_dir(f, POD "volumes/kubernetes.io~configmap/empty");
	assert_int_equal(look(f, f->path, "/etc/config", true), VOLUME_SHARE);
}

static void test_files(void **state)
{
	struct fixture *f = *state;

	make_file(f, "file", 1 << 20);
	assert_int_equal(look(f, f->path, "/etc/app.conf", true), VOLUME_FILE);
	assert_int_equal(look(f, f->path, "/etc/app.conf", false), VOLUME_SHARE);
	assert_int_equal(look(f, f->path, "/etc/resolv.conf", false), VOLUME_FILE);
	make_file(f, "large", (1 << 20) + 1);
	assert_int_equal(look(f, f->path, "/etc/app.conf", true), VOLUME_SHARE);
	assert_int_equal(look(f, f->path, "/etc/hosts", false), VOLUME_SHARE);
	make_file(f, POD "etc-hosts", 100);
	assert_int_equal(look(f, f->path, "/etc/hosts", false), VOLUME_FILE);
	assert_int_equal(look(f, f->path, "/elsewhere", false), VOLUME_FILE);
	/* Its size says nothing. */
	assert_int_equal(look(f, "/proc/version", "/v", true), VOLUME_SHARE);
}

static void test_termination_log(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	make_file(f, POD "containers/app/0f3c21aa", 0);
	assert_int_equal(look(f, f->path, "/dev/termination-log", false), VOLUME_TERMINATION);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(f->source.ino, st.st_ino);
	assert_int_equal(f->source.dev, st.st_dev);
	assert_int_equal(look(f, f->path, "/dev/termination-log", true), VOLUME_FILE);
}

static void test_memory(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *path =
		strdup(make_dir(f, POD "volumes/kubernetes.io~empty-dir/cache"));

	/* On the disk. */
	assert_int_equal(look(f, path, "/cache", false), VOLUME_EMPTYDIR);
	assert_int_equal(mount("tmpfs", path, "tmpfs", 0, "size=65536,nr_inodes=50"), 0);
	assert_int_equal(look(f, path, "/cache", false), VOLUME_MEMORY);
	assert_int_equal(f->source.size, 65536);
	assert_int_equal(f->source.inodes, 50);
	make_dir(f, POD "volumes/kubernetes.io~empty-dir/cache/sub");
	assert_int_equal(look(f, path, "/cache", false), VOLUME_MEMORY);
	/* Somebody on the host has put something into it. */
	make_file(f, POD "volumes/kubernetes.io~empty-dir/cache/sub/file", 1);
	assert_int_equal(look(f, path, "/cache", false), VOLUME_SHARE);
}

static void test_emptydir_on_the_disk(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *volume =
		strdup(make_dir(f, POD "volumes/kubernetes.io~empty-dir/data"));
	_cleanup_(freep) char *part = NULL;
	_cleanup_(freep) char *sub = NULL;

	assert_int_equal(chmod(volume, 02770), 0);
	assert_int_equal(look(f, volume, "/data", false), VOLUME_EMPTYDIR);
	assert_string_equal(f->source.volume, volume);
	assert_int_equal(f->source.mode, 02770);
	assert_false(f->source.files);
	/* Our disk, and what the kubelet makes for a subPath. */
	make_file(f, POD "volumes/kubernetes.io~empty-dir/data/.podvm-volume", 1);
	sub = strdup(make_dir(f, POD "volumes/kubernetes.io~empty-dir/data/a"));
	part = strdup(make_dir(f, POD "volume-subpaths/data/app/0"));
	assert_int_equal(mount(sub, part, NULL, MS_BIND, NULL), 0);
	assert_int_equal(look(f, part, "/sub", false), VOLUME_EMPTYDIR);
	assert_string_equal(f->source.volume, volume);
	assert_string_equal(f->source.name, "a");
	assert_int_equal(f->source.mode, 02770);
	assert_false(f->source.files);
	make_file(f, POD "volumes/kubernetes.io~empty-dir/data/a/file", 1);
	assert_int_equal(look(f, part, "/sub", false), VOLUME_EMPTYDIR);
	assert_true(f->source.files);
}

/* What an image declares: containerd has copied to it what the image has there. */
static void test_volume_of_a_container(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *volume = NULL;

	volume = strdup(make_dir(f, "io.containerd.grpc.v1.cri/containers/5a/volumes/9b"));
	assert_int_equal(chmod(volume, 0750), 0);
	assert_int_equal(chown(volume, 999, 998), 0);
	assert_int_equal(look(f, volume, "/data", false), VOLUME_EMPTYDIR);
	assert_true(f->source.own);
	assert_string_equal(f->source.volume, volume);
	assert_int_equal(f->source.mode, 0750);
	assert_int_equal(f->source.uid, 999);
	assert_int_equal(f->source.gid, 998);
	/* Our disk, of the same container's last start. */
	make_file(f, "io.containerd.grpc.v1.cri/containers/5a/volumes/9b/.podvm-volume", 1);
	assert_int_equal(look(f, volume, "/data", false), VOLUME_EMPTYDIR);
	make_dir(f, "io.containerd.grpc.v1.cri/containers/5a/volumes/9b/of-the-image");
	assert_int_equal(look(f, volume, "/data", false), VOLUME_SHARE);
}

static void test_subpath_of_a_csi_volume(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *volume =
		strdup(make_dir(f, POD "volumes/kubernetes.io~csi/pvc/mount"));
	_cleanup_(freep) char *part = NULL;

	part = strdup(make_dir(f, POD "volume-subpaths/pvc/app/0"));
	assert_int_equal(mount(volume, part, NULL, MS_BIND, NULL), 0);
	assert_int_equal(look(f, part, "/sub", false), VOLUME_SHARE);
	assert_string_equal(f->source.volume, volume);
	assert_string_equal(f->source.name, "");
}

static void test_memory_without_a_limit(void **state)
{
	struct fixture *f = *state;

	make_dir(f, POD "volumes/kubernetes.io~empty-dir/cache");
	assert_int_equal(mount("tmpfs", f->path, "tmpfs", 0, "size=0,nr_inodes=0"), 0);
	assert_int_equal(look(f, f->path, "/cache", false), VOLUME_MEMORY);
	assert_int_equal(f->source.size, 0);
	assert_int_equal(f->source.inodes, 0);
}

static void test_huge_pages(void **state)
{
	static const char *const places[] = { POD "volumes/kubernetes.io~empty-dir/huge",
					      "dev/hugepages" };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		make_dir(f, places[i]);
		/* Not every kernel has them. */
		if (mount("hugetlbfs", f->path, "hugetlbfs", 0, NULL) < 0)
			skip();
		refused(f, f->path, "huge pages");
	}
}

/* As the kubelet mounts a subPath. */
static void test_part_of_memory(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *volume =
		strdup(make_dir(f, POD "volumes/kubernetes.io~empty-dir/cache"));
	_cleanup_(freep) char *part = NULL;
	_cleanup_(freep) char *sub = NULL;

	assert_int_equal(mount("tmpfs", volume, "tmpfs", 0, "size=65536"), 0);
	make_dir(f, POD "volumes/kubernetes.io~empty-dir/cache/a");
	sub = strdup(make_dir(f, POD "volumes/kubernetes.io~empty-dir/cache/a/b c"));
	part = strdup(make_dir(f, POD "volume-subpaths/cache/app/0"));
	assert_int_equal(mount(sub, part, NULL, MS_BIND, NULL), 0);
	assert_int_equal(look(f, part, "/sub", false), VOLUME_MEMORY_PART);
	assert_string_equal(f->source.name, "a/b c");
	assert_string_equal(f->source.volume, volume);
	assert_int_equal(f->source.size, 65536);
}

static void test_subpath_of_something_else(void **state)
{
	struct fixture *f = *state;

	make_dir(f, POD "volume-subpaths/data/app/0");
	assert_int_equal(look(f, f->path, "/sub", false), VOLUME_SHARE);
	make_file(f, POD "volume-subpaths/config/app/1", 10);
	assert_int_equal(look(f, f->path, "/etc/one.conf", true), VOLUME_FILE);
}

#define IMAGE_MOUNT "state/image-volumes/5a/9b"

/* As containerd mounts one: nobody writes to its upper directory. */
static void mount_image(struct fixture *f, const char *point)
{
	_cleanup_(freep) char *options = NULL;

	options = str_printf("lowerdir=%s/top:%s/base,upperdir=%s/upper,workdir=%s/work", f->root,
			     f->root, f->root, f->root);
	make_dir(f, "top");
	make_dir(f, "base");
	make_dir(f, "base/a");
	make_dir(f, "upper");
	make_dir(f, "work");
	assert_int_equal(mkdir_p(at(f, point), 0755), 0);
	if (mount("overlay", f->path, "overlay", 0, options) < 0)
		skip();
}

static void test_image(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *base = str_printf("%s/base", f->root);
	_cleanup_(freep) char *top = str_printf("%s/top", f->root);
	_cleanup_(freep) char *whole = NULL;

	mount_image(f, IMAGE_MOUNT);
	whole = strdup(at(f, IMAGE_MOUNT));
	assert_int_equal(look(f, whole, "/image", true), VOLUME_IMAGE);
	assert_string_equal(f->source.volume, whole);
	assert_string_equal(f->source.name, "");
	assert_int_equal(f->source.layers.n, 2);
	assert_string_equal(f->source.layers.v[0], top);
	assert_string_equal(f->source.layers.v[1], base);
	assert_int_equal(look(f, at(f, IMAGE_MOUNT "/a"), "/part", true), VOLUME_IMAGE);
	assert_string_equal(f->source.volume, whole);
	assert_string_equal(f->source.name, "a");
}

static void test_images_that_only_look_like_it(void **state)
{
	struct fixture *f = *state;

	/* A directory, not mounted yet. */
	make_dir(f, "state/image-volumes/5a/directory");
	assert_int_equal(look(f, f->path, "/image", true), VOLUME_SHARE);
	/* Somebody has written to it. */
	mount_image(f, IMAGE_MOUNT);
	make_file(f, IMAGE_MOUNT "/new", 1);
	assert_int_equal(look(f, at(f, IMAGE_MOUNT), "/image", true), VOLUME_SHARE);
}

static void test_overlay_elsewhere(void **state)
{
	struct fixture *f = *state;

	mount_image(f, "some/image-volumes/5a/9b/rootfs");
	assert_int_equal(look(f, at(f, "some/image-volumes/5a/9b/rootfs"), "/image", true),
			 VOLUME_SHARE);
}

static void test_devices(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(look(f, "/dev/null", "/dev/null", false), VOLUME_DEVICE);
	assert_string_equal(f->source.name, "null");
	/* Its name is the kernel's. */
	assert_int_equal(mknod(at(f, "zero-of-mine"), S_IFCHR | 0600, makedev(1, 5)), 0);
	assert_int_equal(look(f, f->path, "/dev/z", false), VOLUME_DEVICE);
	assert_string_equal(f->source.name, "zero");
}

static void test_what_no_pod_can_have(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mknod(at(f, "socket"), S_IFSOCK | 0600, 0), 0);
	assert_int_equal(look(f, f->path, "/socket", false), VOLUME_SOCKET);
	assert_int_equal(mkfifo(at(f, "pipe"), 0600), 0);
	refused(f, f->path, "pipes of the host");
	assert_int_equal(mknod(at(f, "disk"), S_IFBLK | 0600, makedev(7, 0)), 0);
	assert_int_equal(look(f, f->path, "/dev/disk", false), VOLUME_BLOCK);
	assert_int_equal(f->source.rdev, makedev(7, 0));
	assert_int_equal(volume_kind(at(f, "missing"), "/d", true, &f->source, &f->e), -ENOENT);
}

static void test_paths_in_file_systems(void **state)
{
	static const char text[] = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
				   "44 21 0:40 /a\\040b/c /mnt/x rw - tmpfs tmpfs rw\n"
				   "444 21 0:41 /other /y rw - tmpfs tmpfs rw\n"
				   "45 21\n";
	_cleanup_(freep) char *root = mountinfo_fs_path(text, 21, "/");
	_cleanup_(freep) char *file = mountinfo_fs_path(text, 21, "/etc/file");
	_cleanup_(freep) char *part = mountinfo_fs_path(text, 44, "/mnt/x");
	_cleanup_(freep) char *below = mountinfo_fs_path(text, 44, "/mnt/x/d e");

	assert_string_equal(root, "/");
	assert_string_equal(file, "/etc/file");
	assert_string_equal(part, "/a b/c");
	assert_string_equal(below, "/a b/c/d e");
	assert_null(mountinfo_fs_path(text, 44, "/mnt/xy"));
	assert_null(mountinfo_fs_path(text, 4, "/"));
	assert_null(mountinfo_fs_path(text, 45, "/"));
	assert_null(mountinfo_fs_path("", 21, "/"));
}

static void test_mounts_below(void **state)
{
	static const char text[] = "21 1 8:1 / / rw - ext4 /dev/sda rw\n"
				   "44 21 0:40 / /srv/a\\040b rw - tmpfs tmpfs rw\n"
				   "45 44 0:41 / /srv/a\\040b/c/d rw - tmpfs tmpfs rw\n"
				   "46 21 0:41 / /srv/other rw - tmpfs tmpfs rw\n"
				   "47 21\n";

	assert_int_equal(mountinfo_below(text, "/"), 1);
	assert_int_equal(mountinfo_below(text, "/srv/a b"), 1);
	assert_int_equal(mountinfo_below(text, "/srv/a b/c/d"), 0);
	assert_int_equal(mountinfo_below(text, "/srv/oth"), 0);
	assert_int_equal(mountinfo_below("21 1 8:1 / / rw - ext4 /dev/sda rw\n", "/"), 0);
}

static void test_what_is_mounted(void **state)
{
	static const char text[] = "21 1 8:1 / / rw - ext4 /dev/sda rw,errors=remount-ro\n"
				   "44 21 0:40 / /srv/a\\040b rw shared:3 master:1 - tmpfs - rw\n"
				   "45 44 0:41 / /broken rw\n"
				   "46 44 0:41 / /short rw -\n";
	_cleanup_(mountinfo_done) struct mountinfo root = { 0 };
	_cleanup_(mountinfo_done) struct mountinfo other = { 0 };
	_cleanup_(mountinfo_done) struct mountinfo none = { 0 };

	assert_int_equal(mountinfo_find(text, 21, &root), 0);
	assert_string_equal(root.point, "/");
	assert_string_equal(root.fstype, "ext4");
	assert_string_equal(root.options, "rw,errors=remount-ro");
	assert_int_equal(mountinfo_find(text, 44, &other), 0);
	assert_string_equal(other.point, "/srv/a b");
	assert_string_equal(other.fstype, "tmpfs");
	assert_string_equal(other.options, "rw");
	assert_int_equal(mountinfo_find(text, 45, &none), -ENOENT);
	assert_int_equal(mountinfo_find(text, 46, &none), -ENOENT);
	assert_int_equal(mountinfo_find(text, 4, &none), -ENOENT);
	assert_int_equal(mountinfo_find("", 21, &none), -ENOENT);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_directories_of_the_kubelet),
		TEST(test_directories_that_only_look_like_it),
		TEST(test_files),
		TEST(test_termination_log),
		TEST(test_memory),
		TEST(test_emptydir_on_the_disk),
		TEST(test_volume_of_a_container),
		TEST(test_subpath_of_a_csi_volume),
		TEST(test_memory_without_a_limit),
		TEST(test_huge_pages),
		TEST(test_part_of_memory),
		TEST(test_subpath_of_something_else),
		TEST(test_image),
		TEST(test_images_that_only_look_like_it),
		TEST(test_overlay_elsewhere),
		TEST(test_devices),
		TEST(test_what_no_pod_can_have),
		cmocka_unit_test(test_paths_in_file_systems),
		cmocka_unit_test(test_mounts_below),
		cmocka_unit_test(test_what_is_mounted),
	};

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
