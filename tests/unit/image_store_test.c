/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "base/str.h"
#include "storage/image_store.h"
#include "tar_build.h"

/* A layout <dir>/layout with one image of one or two layers, and a store <dir>/store. */
struct fixture {
	char dir[64];
	char store_dir[128];
	char ref[128];	   /* of the layout */
	char blob[2][512]; /* path of each layer */
	char digest[72];
	struct image_store *store;
	struct err e;
};

static char *in_dir(struct fixture *f, const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	return path;
}

static void write_file(const char *path, const void *data, size_t n)
{
	assert_int_equal(file_replace(AT_FDCWD, path, data, n, 0600), 0);
}

/* Writes a blob and gives its digest. */
static void put_blob(struct fixture *f, const void *data, size_t n, char digest[72])
{
	unsigned char md[32];
	char *p = digest + sprintf(digest, "sha256:");
	char path[256];

	assert_int_equal(EVP_Digest(data, n, md, NULL, EVP_sha256(), NULL), 1);
	for (size_t i = 0; i < sizeof(md); i++)
		p += sprintf(p, "%02x", md[i]);
	snprintf(path, sizeof(path), "layout/blobs/sha256/%s", digest + 7);
	write_file(in_dir(f, path), data, n);
}

/* A layer of both digests; the tar file is used up. */
static void put_layer(struct fixture *f, int i, struct buf *tar, const char *filter,
		      char diff_id[72], struct buf *descriptors)
{
	char digest[72];
	char name[128];

	tar_end(tar);
	put_blob(f, buf_head(tar), buf_len(tar), diff_id);
	tar_compress(tar, filter);
	put_blob(f, buf_head(tar), buf_len(tar), digest);
	snprintf(name, sizeof(name), "layout/blobs/sha256/%s", digest + 7);
	snprintf(f->blob[i], sizeof(f->blob[i]), "%s", in_dir(f, name));
	buf_printf(descriptors,
		   "%s{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+%s\","
		   "\"digest\":\"%s\",\"size\":%zu}",
		   i ? "," : "", filter, digest, buf_len(tar));
	buf_done(tar);
}

static void put_image(struct fixture *f, const char *diff_ids, const struct buf *descriptors)
{
	struct buf json = { 0 };
	char config[72];
	size_t size;

	buf_printf(&json,
		   "{\"architecture\":\"amd64\",\"os\":\"linux\",\"created\":"
		   "\"2024-01-02T03:04:05Z\",\"config\":{\"Cmd\":[\"sh\"]},\"rootfs\":{\"type\":"
		   "\"layers\",\"diff_ids\":[%s]}}",
		   diff_ids);
	put_blob(f, buf_head(&json), buf_len(&json), config);
	size = buf_len(&json);
	buf_done(&json);
	buf_printf(&json,
		   "{\"schemaVersion\":2,\"mediaType\":"
		   "\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":"
		   "\"application/vnd.oci.image.config.v1+json\",\"digest\":\"%s\",\"size\":%zu},"
		   "\"layers\":[%.*s]}",
		   config, size, (int)buf_len(descriptors), (char *)buf_head(descriptors));
	put_blob(f, buf_head(&json), buf_len(&json), f->digest);
	size = buf_len(&json);
	buf_done(&json);
	buf_printf(&json,
		   "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":"
		   "\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"%s\",\"size\":%zu,"
		   "\"annotations\":{\"org.opencontainers.image.ref.name\":\"latest\"}}]}",
		   f->digest, size);
	write_file(in_dir(f, "layout/index.json"), buf_head(&json), buf_len(&json));
	buf_done(&json);
}

/* Two layers: gzip and zstd; the second one changes the first. */
static void make_layout(struct fixture *f)
{
	static const char version[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	struct buf descriptors = { 0 };
	struct buf tar = { 0 };
	char diff_ids[2][72];
	char list[200];

	tar_file(&tar, "etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/:/bin/sh\n");
	tar_file(&tar, "etc/group", "root:x:0:\n");
	tar_file(&tar, "old", "removed by the next layer");
	tar_file(&tar, "bin/sh", "#!");
	put_layer(f, 0, &tar, "gzip", diff_ids[0], &descriptors);
	tar_file(&tar, ".wh.old", "");
	tar_file(&tar, "new", "from the second layer");
	put_layer(f, 1, &tar, "zstd", diff_ids[1], &descriptors);
	snprintf(list, sizeof(list), "\"%s\",\"%s\"", diff_ids[0], diff_ids[1]);
	put_image(f, list, &descriptors);
	write_file(in_dir(f, "layout/oci-layout"), version, sizeof(version) - 1);
	buf_done(&descriptors);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/podvm-store-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->store_dir, sizeof(f->store_dir), "%s/store", f->dir);
	snprintf(f->ref, sizeof(f->ref), "oci:%s/layout:latest", f->dir);
	assert_int_equal(mkdir_p(in_dir(f, "layout/blobs/sha256"), 0755), 0);
	make_layout(f);
	assert_int_equal(image_store_open(f->store_dir, &f->store, &f->e), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	image_store_free(f->store);
	assert_int_equal(rm_rf(AT_FDCWD, f->dir), 0);
	free(f);
	return 0;
}

static struct image *get_with(struct fixture *f, const struct image_options *options)
{
	struct image *image = NULL;

	if (image_store_get(f->store, f->ref, options, &image, &f->e) < 0)
		fail_msg("%s", f->e.msg);
	return image;
}

static struct image *get(struct fixture *f)
{
	return get_with(f, NULL);
}

static struct prune_result prune_by(struct fixture *f, const struct prune_rules *rules)
{
	struct prune_result result = { 0 };

	if (image_store_prune(f->store, rules, &result, &f->e) < 0)
		fail_msg("%s", f->e.msg);
	return result;
}

static struct prune_result prune(struct fixture *f, bool all)
{
	return prune_by(f, &(struct prune_rules){ .all = all, .unneeded = true });
}

static size_t entries_in(const char *path)
{
	_cleanup_(closedirp) DIR *dir = opendir(path);
	struct dirent *d;
	size_t n = 0;

	while (dir && (d = readdir(dir)))
		n += !str_eq(d->d_name, ".") && !str_eq(d->d_name, "..");
	return n;
}

static size_t images_in(struct fixture *f)
{
	struct image_infos infos;
	size_t n;

	assert_int_equal(image_store_list(f->store, &infos, &f->e), 0);
	n = infos.n;
	image_infos_done(&infos);
	return n;
}

/* A failure leaves no image and no unfinished work. */
static void assert_fails(struct fixture *f, int code, const char *message)
{
	struct image *image = NULL;

	assert_int_equal(image_store_get(f->store, f->ref, NULL, &image, &f->e), code);
	if (!strstr(f->e.msg, message))
		fail_msg("\"%s\" is not in \"%s\"", message, f->e.msg);
	assert_string_equal(f->e.stage, "image");
	assert_int_equal(entries_in(in_dir(f, "store/tmp")), 0);
	assert_int_equal(images_in(f), 0);
}

/* Unpacks the EROFS file with erofs-utils into <dir>/out. */
static void extract(struct fixture *f, const struct image *image)
{
	_cleanup_(freep) char *to = str_printf("--extract=%s/out", f->dir);
	char *const argv[] = { (char *)"fsck.erofs", to, (char *)"/proc/self/fd/3", NULL };
	struct spawn s = SPAWN_INIT;

	s.path = "fsck.erofs";
	s.argv = argv;
	assert_int_equal(spawn_fd(&s, image->fd), 3);
	if (spawn_run(&s, 60000, NULL, &f->e) < 0)
		fail_msg("%s", f->e.msg);
}

/* Mounts the EROFS file on <dir>/mnt, where the kernel and its loop devices can do that. */
static bool mount_image(struct fixture *f, const struct image *image)
{
	_cleanup_(freep) char *dir = str_printf("%s/mnt", f->dir);
	_cleanup_(freep) char *file = str_printf("/proc/%d/fd/%d", getpid(), image->fd);
	char *const argv[] = {
		(char *)"mount", (char *)"-oloop,ro", (char *)"-terofs", file, dir, NULL
	};
	struct spawn s = SPAWN_INIT;

	s.path = "mount";
	s.argv = argv;
	assert_int_equal(mkdir(dir, 0700), 0);
	return spawn_run(&s, 60000, NULL, &f->e) == 0;
}

static void assert_text(const char *path, const char *text)
{
	_cleanup_(freep) char *got = NULL;

	if (file_read(AT_FDCWD, path, 1 << 20, &got, NULL) < 0)
		fail_msg("cannot read %s", path);
	assert_string_equal(got, text);
}

static void test_layers_become_a_file_system(void **state)
{
	struct fixture *f = *state;
	_cleanup_(image_freep) struct image *image = get(f);

	assert_string_equal(image->digest, f->digest);
	assert_string_equal(image->ref, f->ref);
	assert_string_equal(image->config.cmd.v[0], "sh");
	assert_non_null(strstr(image->passwd, "web:x:33:33"));
	assert_string_equal(image->group, "root:x:0:\n");
	assert_int_equal(fcntl(image->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	extract(f, image);
	assert_text(in_dir(f, "out/new"), "from the second layer");
	assert_text(in_dir(f, "out/bin/sh"), "#!");
	assert_int_equal(access(in_dir(f, "out/old"), F_OK), -1);
	assert_int_equal(entries_in(in_dir(f, "store/tmp")), 0);
}

static void count_stages(void *data, const char *stage, uint64_t done, uint64_t total)
{
	assert_true(total == 0 || done <= total);
	++*(int *)data;
}

static void test_second_time_is_from_the_store(void **state)
{
	struct fixture *f = *state;
	int calls = 0;
	struct image_options options = { .progress = count_stages, .data = &calls };
	_cleanup_(image_freep) struct image *first = get_with(f, &options);
	_cleanup_(image_freep) struct image *second = NULL;

	assert_true(calls >= 3);
	calls = 0;
	second = get_with(f, &options);
	assert_int_equal(calls, 0);
	assert_int_equal(first->size, second->size);
}

static void test_is_reproducible(void **state)
{
	struct fixture *f = *state;
	_cleanup_(image_store_freep) struct image_store *other = NULL;
	_cleanup_(image_freep) struct image *a = get(f);
	_cleanup_(image_freep) struct image *b = NULL;
	_cleanup_(freep) char *bytes_a = NULL;
	_cleanup_(freep) char *bytes_b = NULL;

	assert_int_equal(image_store_open(in_dir(f, "other"), &other, &f->e), 0);
	assert_int_equal(image_store_get(other, f->ref, NULL, &b, &f->e), 0);
	assert_int_equal(a->size, b->size);
	bytes_a = malloc(a->size);
	bytes_b = malloc(b->size);
	assert_int_equal(pread(a->fd, bytes_a, a->size, 0), a->size);
	assert_int_equal(pread(b->fd, bytes_b, b->size, 0), b->size);
	assert_memory_equal(bytes_a, bytes_b, a->size);
}

static void flip_byte(const char *path, off_t offset)
{
	_cleanup_(close_fdp) int fd = open(path, O_RDWR | O_CLOEXEC);
	char byte;

	assert_int_equal(pread(fd, &byte, 1, offset), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
}

static void test_corrupt_layer(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	/* In the time stamp of the gzip header: it unpacks, only the digest tells. */
	flip_byte(f->blob[0], 5);
	assert_fails(f, -EBADMSG, "digest mismatch");
	flip_byte(f->blob[0], 5);
	/* In the data. */
	assert_int_equal(stat(f->blob[0], &st), 0);
	flip_byte(f->blob[0], st.st_size / 2);
	assert_fails(f, -EBADMSG, "layer sha256:");
}

static void test_missing_layer(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(unlink(f->blob[1]), 0);
	assert_fails(f, -ENOENT, "layer sha256:");
}

static void test_wrong_diff_id(void **state)
{
	static const char zeros[] =
		"\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"";
	struct fixture *f = *state;
	struct buf descriptors = { 0 };
	struct buf tar = { 0 };
	char diff_id[72];

	tar_file(&tar, "a", "a");
	put_layer(f, 0, &tar, "gzip", diff_id, &descriptors);
	put_image(f, zeros, &descriptors);
	buf_done(&descriptors);
	assert_fails(f, -EBADMSG, "digest mismatch");
	assert_string_not_equal(f->e.hint, "");
}

static void test_hostile_layer(void **state)
{
	struct fixture *f = *state;
	struct buf descriptors = { 0 };
	struct buf tar = { 0 };
	char diff_id[72];
	char list[80];

	tar_file(&tar, "../../escaped", "x");
	put_layer(f, 0, &tar, "gzip", diff_id, &descriptors);
	snprintf(list, sizeof(list), "\"%s\"", diff_id);
	put_image(f, list, &descriptors);
	buf_done(&descriptors);
	assert_fails(f, -EBADMSG, "leads out of the image");
	assert_int_equal(access(in_dir(f, "store/escaped"), F_OK), -1);
}

/* /etc/passwd of an image is read like the image would see it, and only if it is a file. */
static void test_hostile_passwd(void **state)
{
	struct fixture *f = *state;
	struct buf descriptors = { 0 };
	struct buf tar = { 0 };
	char diff_id[72];
	char list[80];

	tar_link(&tar, "etc/passwd", '2', "../../../../../../../../etc/passwd");
	tar_link(&tar, "etc/group", '2', "/etc/passwd");
	put_layer(f, 0, &tar, "gzip", diff_id, &descriptors);
	snprintf(list, sizeof(list), "\"%s\"", diff_id);
	put_image(f, list, &descriptors);
	image_free(get(f));
	buf_done(&descriptors);
	tar_head(&tar, &(struct tar_header){ .name = "etc/passwd", .type = '6' });
	put_layer(f, 0, &tar, "gzip", diff_id, &descriptors);
	snprintf(list, sizeof(list), "\"%s\"", diff_id);
	put_image(f, list, &descriptors);
	buf_done(&descriptors);
	assert_int_equal(prune(f, true).removed, 1);
	assert_fails(f, -EBADMSG, "cannot read /etc/passwd");
}

/* Holes of files take no space, and file capabilities survive. */
static void test_sparse_and_capabilities(void **state)
{
	static const char cap[20] = "\1\0\0\2\0\4";
	struct fixture *f = *state;
	_cleanup_(image_freep) struct image *image = NULL;
	struct buf descriptors = { 0 };
	struct buf records = { 0 };
	struct buf tar = { 0 };
	char value[32];
	char diff_id[72];
	char list[80];
	ssize_t got;

	pax_record(&records, "GNU.sparse.map", "100663296,4", 11);
	pax_record(&records, "GNU.sparse.size", "134217728", 9);
	pax_record(&records, "SCHILY.xattr.security.capability", cap, sizeof(cap));
	tar_pax(&tar, &records);
	tar_file(&tar, "holes", "data");
	put_layer(f, 0, &tar, "gzip", diff_id, &descriptors);
	snprintf(list, sizeof(list), "\"%s\"", diff_id);
	put_image(f, list, &descriptors);
	buf_done(&descriptors);
	image = get(f);
	assert_true(image->size < 4 << 20);
	/* fsck.erofs doesn't extract extended attributes. */
	if (!mount_image(f, image))
		skip();
	got = getxattr(in_dir(f, "mnt/holes"), "security.capability", value, sizeof(value));
	assert_int_equal(umount2(in_dir(f, "mnt"), MNT_DETACH), 0);
	assert_int_equal(got, 20);
	assert_memory_equal(value, cap, 20);
}

static void test_limit_is_named(void **state)
{
	struct fixture *f = *state;
	struct layer_limits limits = LAYER_LIMITS_DEFAULT;
	struct image_options options = { .limits = &limits };
	struct image *image = NULL;

	limits.entries = 3;
	assert_int_equal(image_store_get(f->store, f->ref, &options, &image, &f->e), -EFBIG);
	assert_non_null(strstr(f->e.msg, "limit of entries"));
}

static void test_leftovers_are_removed(void **state)
{
	struct fixture *f = *state;
	char path[256];

	/* Of the same image, and of another one. */
	snprintf(path, sizeof(path), "store/tmp/%s/root/dir", f->digest + 7);
	assert_int_equal(mkdir_p(in_dir(f, path), 0700), 0);
	assert_int_equal(mkdir_p(in_dir(f, "store/tmp/fetch-0123/layout"), 0700), 0);
	image_free(get(f));
	assert_int_equal(entries_in(in_dir(f, "store/tmp")), 0);
}

static void die_while_unpacking(void *data, const char *stage, uint64_t done, uint64_t total)
{
	if (str_starts(stage, data))
		raise(SIGKILL);
}

static void test_killed_converter(void **state)
{
	static const char *const stages[] = { "unpacking layer 2", "making the file system" };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(stages); i++) {
		struct image_options options = { .progress = die_while_unpacking,
						 .data = (char *)stages[i] };
		pid_t pid = fork();
		int status;

		if (pid == 0)
			_exit(image_store_get(f->store, f->ref, &options, &(struct image *){ 0 },
					      NULL) == 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		assert_int_equal(entries_in(in_dir(f, "store/tmp")), 1);
		assert_int_equal(images_in(f), 0);
	}
	image_free(get(f));
	assert_int_equal(entries_in(in_dir(f, "store/tmp")), 0);
}

static void count_unpacked(void *data, const char *stage, uint64_t done, uint64_t total)
{
	if (str_eq(stage, "making the file system"))
		(void)!write(*(int *)data, "x", 1);
}

/* Several at once: each gets it, one makes it. */
static void test_made_once(void **state)
{
	enum { N = 4 };
	struct fixture *f = *state;
	pid_t pids[N];
	char made[N + 1];
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	for (int i = 0; i < N; i++) {
		struct image_options options = { .progress = count_unpacked, .data = &fds[1] };

		pids[i] = fork();
		if (pids[i] == 0)
			_exit(image_store_get(f->store, f->ref, &options, &(struct image *){ 0 },
					      NULL) != 0);
	}
	for (int i = 0; i < N; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(read(fds[0], made, sizeof(made)), 1);
	close(fds[0]);
	close(fds[1]);
}

static void test_waiting_has_a_deadline(void **state)
{
	struct fixture *f = *state;
	struct image_options options = { .wait_ms = 200 };
	struct image *image = NULL;
	uint64_t start = clock_ms();
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "store/tmp/%s", f->digest + 7);
	assert_int_equal(mkdir_p(in_dir(f, path), 0700), 0);
	fd = open(in_dir(f, path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(image_store_get(f->store, f->ref, &options, &image, &f->e), -ETIMEDOUT);
	assert_in_range(clock_ms() - start, 200, 60000);
	close(fd);
	/* Whoever had it is gone. */
	image_free(get_with(f, &options));
}

static void test_disk_full(void **state)
{
	struct fixture *f = *state;
	struct buf descriptors = { 0 };
	struct buf tar = { 0 };
	static char zeros[20 << 20];
	char diff_id[72];
	char list[80];

	if (mount("tmpfs", f->store_dir, "tmpfs", 0, "size=8m") < 0)
		skip();
	image_store_free(f->store);
	assert_int_equal(image_store_open(f->store_dir, &f->store, &f->e), 0);
	tar_head(&tar, &(struct tar_header){ .name = "big", .size = sizeof(zeros) });
	tar_bytes(&tar, zeros, sizeof(zeros));
	put_layer(f, 0, &tar, "gzip", diff_id, &descriptors);
	snprintf(list, sizeof(list), "\"%s\"", diff_id);
	put_image(f, list, &descriptors);
	buf_done(&descriptors);
	assert_fails(f, -ENOSPC, "no space in");
	assert_string_not_equal(f->e.hint, "");
	assert_int_equal(umount2(f->store_dir, MNT_DETACH), 0);
}

static void test_image_in_use_stays(void **state)
{
	struct fixture *f = *state;
	struct image *image = get(f);

	assert_int_equal(image_store_remove(f->store, f->ref, &f->e), -EBUSY);
	assert_string_not_equal(f->e.hint, "");
	assert_int_equal(prune(f, true).removed, 0);
	assert_int_equal(images_in(f), 1);
	image_free(image);
	assert_int_equal(image_store_remove(f->store, f->ref, &f->e), 0);
	assert_int_equal(images_in(f), 0);
	assert_int_equal(entries_in(in_dir(f, "store/refs")), 0);
	assert_int_equal(entries_in(in_dir(f, "store/tmp")), 0);
	assert_int_equal(image_store_remove(f->store, f->ref, &f->e), -ENOENT);
}

static void test_list(void **state)
{
	struct fixture *f = *state;
	struct image *image = get(f);
	struct image_infos infos;

	assert_int_equal(image_store_list(f->store, &infos, &f->e), 0);
	assert_int_equal(infos.n, 1);
	assert_string_equal(infos.v[0].digest, f->digest);
	assert_string_equal(infos.v[0].refs.v[0], f->ref);
	assert_string_equal(infos.v[0].created, "2024-01-02T03:04:05Z");
	assert_int_equal(infos.v[0].size, image->size);
	assert_true(infos.v[0].in_use);
	image_infos_done(&infos);
	image_free(image);
	/* By the start of its digest. */
	assert_int_equal(image_store_remove(f->store, "sha256:", &f->e), -ENOENT);
	f->digest[7 + 8] = '\0';
	assert_int_equal(image_store_remove(f->store, f->digest + 7, &f->e), 0);
}

/* A name that stands for something else now leaves the old image without one. */
/* The name stands for another image from now on. */
static void replace_image(struct fixture *f, const char *content)
{
	struct buf descriptors = { 0 };
	struct buf tar = { 0 };
	char diff_id[72];
	char list[80];

	tar_file(&tar, "other", content);
	put_layer(f, 0, &tar, "gzip", diff_id, &descriptors);
	snprintf(list, sizeof(list), "\"%s\"", diff_id);
	put_image(f, list, &descriptors);
	buf_done(&descriptors);
}

static void test_prune_unnamed(void **state)
{
	struct fixture *f = *state;
	struct prune_result gone;

	image_free(get(f));
	assert_int_equal(prune(f, false).removed, 0);
	replace_image(f, "image");
	image_free(get(f));
	assert_int_equal(images_in(f), 2);
	gone = prune_by(f, &(struct prune_rules){ .unneeded = true, .dry_run = true });
	assert_int_equal(gone.removed, 1);
	assert_int_equal(images_in(f), 2);
	gone = prune(f, false);
	assert_int_equal(gone.removed, 1);
	assert_true(gone.freed > 0);
	assert_int_equal(images_in(f), 1);
}

/* As if the image had been used last so many seconds ago. */
static void set_age(struct fixture *f, time_t seconds)
{
	struct timespec times[2] = { { .tv_sec = time(NULL) - seconds },
				     { .tv_sec = time(NULL) - seconds } };
	char path[128];

	snprintf(path, sizeof(path), "store/%s", f->digest + 7);
	assert_int_equal(utimensat(AT_FDCWD, in_dir(f, path), times, 0), 0);
}

static void test_prune_by_age(void **state)
{
	struct fixture *f = *state;
	const struct prune_rules rules = { .max_age = 3600 };
	struct image *image = get(f);

	assert_int_equal(prune_by(f, &rules).removed, 0);
	set_age(f, 100000);
	/* It's used until now. */
	assert_int_equal(prune_by(f, &rules).removed, 0);
	image_free(image);
	assert_int_equal(prune_by(f, &rules).removed, 0);
	set_age(f, 100000);
	assert_int_equal(prune_by(f, &rules).removed, 1);
}

static void test_oldest_make_room(void **state)
{
	struct fixture *f = *state;
	struct image_options options = { .rules = { .max_bytes = 1 } };
	struct image *kept = get(f);

	replace_image(f, "second");
	image_free(get(f));
	set_age(f, 100);
	/* What is in use stays, even if that's too much. */
	replace_image(f, "third");
	image_free(get_with(f, &options));
	assert_int_equal(images_in(f), 2);
	image_free(kept);
	replace_image(f, "fourth");
	image_free(get_with(f, &options));
	assert_int_equal(images_in(f), 1);
}

/* Whether the file has the tree that image.json says. */
static int check_tree(struct fixture *f, const struct image *image)
{
	char hash[2 * PART_HASH_SIZE + 1];
	char command[400];
	struct spawn s = SPAWN_INIT;
	char *const argv[] = { (char *)"sh", (char *)"-c", command, NULL };

	disk_hash_text(image->part.root_hash, hash);
	snprintf(command, sizeof(command),
		 "veritysetup verify --no-superblock --hash=sha256 --salt=- --data-blocks=%llu "
		 "--hash-offset=%llu /proc/%d/fd/%d /proc/%d/fd/%d %s",
		 (unsigned long long)image->part.data / PART_BLOCK,
		 (unsigned long long)image->part.data, getpid(), image->fd, getpid(), image->fd,
		 hash);
	s.path = "/bin/sh";
	s.argv = argv;
	return spawn_run(&s, 60000, NULL, &f->e);
}

static void test_hash_tree(void **state)
{
	struct fixture *f = *state;
	const struct image_options checked = { .verity = true };
	_cleanup_(image_freep) struct image *image = get_with(f, &checked);
	_cleanup_(image_freep) struct image *plain = get(f);
	char path[256];

	assert_int_equal(check_tree(f, image), 0);
	/* Who doesn't ask doesn't get it. */
	assert_int_equal(plain->part.data, 0);
	assert_int_equal(image_store_verify(f->store, f->ref, &f->e), 0);
	snprintf(path, sizeof(path), "store/%s/root.erofs", f->digest + 7);
	flip_byte(in_dir(f, path), 2000);
	assert_int_equal(check_tree(f, image), -ECHILD);
}

static void test_hash_tree_for_an_image_that_is_there(void **state)
{
	struct fixture *f = *state;
	const struct image_options checked = { .verity = true };
	_cleanup_(image_freep) struct image *before = get(f);
	_cleanup_(image_freep) struct image *image = get_with(f, &checked);

	assert_int_equal(check_tree(f, image), 0);
	assert_string_equal(image->passwd, before->passwd);
	/* The other one is still what it was. */
	extract(f, before);
	assert_text(in_dir(f, "out/new"), "from the second layer");
	assert_int_equal(images_in(f), 1);
	assert_int_equal(entries_in(in_dir(f, "store/tmp")), 0);
	assert_int_equal(image_store_verify(f->store, f->ref, &f->e), 0);
}

static void test_verify(void **state)
{
	struct fixture *f = *state;
	struct image *image = get(f);
	char path[256];

	snprintf(path, sizeof(path), "store/%s/root.erofs", f->digest + 7);
	assert_int_equal(image_store_verify(f->store, f->ref, &f->e), 0);
	flip_byte(in_dir(f, path), (off_t)image->size - 1);
	assert_int_equal(image_store_verify(f->store, f->digest, &f->e), -EBADMSG);
	assert_non_null(strstr(f->e.msg, "damaged"));
	image_free(image);
	/* A file of another size is noticed without reading it. */
	assert_int_equal(truncate(in_dir(f, path), 4096 * 100), 0);
	assert_int_equal(image_store_get(f->store, f->ref, NULL, &image, &f->e), -EBADMSG);
	assert_non_null(strstr(f->e.hint, "podvm image rm"));
}

static void test_directory(void **state)
{
	struct fixture *f = *state;
	_cleanup_(image_freep) struct image *image = NULL;

	assert_int_equal(mkdir_p(in_dir(f, "rootfs/etc"), 0755), 0);
	write_file(in_dir(f, "rootfs/etc/passwd"), "me:x:5:5::/:\n", 13);
	write_file(in_dir(f, "rootfs/hello"), "world", 5);
	snprintf(f->ref, sizeof(f->ref), "dir:%s/rootfs", f->dir);
	image = get(f);
	assert_string_equal(image->digest, "");
	assert_string_equal(image->passwd, "me:x:5:5::/:\n");
	assert_string_equal(image->group, "");
	extract(f, image);
	assert_text(in_dir(f, "out/hello"), "world");
	/* It has no name in the store, not even while it is used. */
	assert_int_equal(images_in(f), 0);
	assert_int_equal(entries_in(in_dir(f, "store/tmp")), 0);
}

static void test_missing_sources(void **state)
{
	struct fixture *f = *state;
	struct image_options never = { .pull = IMAGE_PULL_NEVER };
	struct image *image = NULL;

	assert_int_equal(image_store_get(f->store, "oci:/nonexistent", NULL, &image, &f->e),
			 -ENOENT);
	assert_int_equal(image_store_get(f->store, "dir:/nonexistent", NULL, &image, &f->e),
			 -ENOENT);
	assert_int_equal(image_store_get(f->store, "docker://localhost:1/x", &never, &image, &f->e),
			 -ENOENT);
	assert_non_null(strstr(f->e.hint, "--pull=missing"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_layers_become_a_file_system),
		T(test_second_time_is_from_the_store),
		T(test_is_reproducible),
		T(test_corrupt_layer),
		T(test_missing_layer),
		T(test_wrong_diff_id),
		T(test_hostile_layer),
		T(test_hostile_passwd),
		T(test_sparse_and_capabilities),
		T(test_limit_is_named),
		T(test_leftovers_are_removed),
		T(test_killed_converter),
		T(test_made_once),
		T(test_waiting_has_a_deadline),
		T(test_disk_full),
		T(test_image_in_use_stays),
		T(test_list),
		T(test_prune_unnamed),
		T(test_prune_by_age),
		T(test_oldest_make_room),
		T(test_hash_tree),
		T(test_hash_tree_for_an_image_that_is_there),
		T(test_verify),
		T(test_directory),
		T(test_missing_sources),
	};

	if (geteuid() != 0) {
		fprintf(stderr, "needs root to make owners and devices\n");
		return 77;
	}
	return cmocka_run_group_tests_name("image_store", tests, NULL, NULL);
}
