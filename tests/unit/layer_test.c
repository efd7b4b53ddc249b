/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "storage/layer.h"
#include "tar_build.h"

/* A directory <dir>/root to unpack into, and a file beside it that nobody may touch. */
struct fixture {
	char dir[64];
	int fd;
	struct layer_target target;
	struct buf tar;
	struct err e;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char path[128];
	int fd;

	snprintf(f->dir, sizeof(f->dir), "/tmp/podvm-layer-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(path, sizeof(path), "%s/root", f->dir);
	assert_int_equal(mkdir(path, 0755), 0);
	f->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->fd >= 0);
	snprintf(path, sizeof(path), "%s/outside", f->dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	f->target.root_fd = f->fd;
	f->target.limits = LAYER_LIMITS_DEFAULT;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/outside", f->dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	close(f->fd);
	buf_done(&f->tar);
	assert_int_equal(rm_rf(AT_FDCWD, f->dir), 0);
	free(f);
	return 0;
}

struct memory {
	const uint8_t *data;
	size_t n;
};

/* In small pieces of odd size. */
static ssize_t read_memory(void *data, void *buf, size_t n, struct err *e)
{
	struct memory *m = data;

	n = MIN(MIN(n, m->n), (size_t)1777);
	if (n == 0)
		return 0;
	memcpy(buf, m->data, n);
	m->data += n;
	m->n -= n;
	return (ssize_t)n;
}

static int apply_as(struct fixture *f, const char *diff_id)
{
	struct memory m = { .data = f->tar.data + f->tar.start, .n = buf_len(&f->tar) };
	struct layer_source source = { .read = read_memory, .data = &m };
	int r = layer_apply(&f->target, &source, diff_id, &f->e);

	buf_done(&f->tar);
	return r;
}

/* Ends the tar file, applies it and starts a new one. */
static int apply(struct fixture *f)
{
	tar_end(&f->tar);
	return apply_as(f, NULL);
}

static void assert_applies(struct fixture *f)
{
	if (apply(f) < 0)
		fail_msg("%s", f->e.msg);
}

static void assert_refused(struct fixture *f, int code, const char *message)
{
	assert_int_equal(apply(f), code);
	if (!strstr(f->e.msg, message))
		fail_msg("\"%s\" is not in \"%s\"", message, f->e.msg);
}

static struct stat stat_of(struct fixture *f, const char *path)
{
	struct stat st;

	if (fstatat(f->fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return st;
}

static bool exists(struct fixture *f, const char *path)
{
	return faccessat(f->fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void assert_text(struct fixture *f, const char *path, const char *text)
{
	_cleanup_(freep) char *got = NULL;

	if (file_read(f->fd, path, 1 << 20, &got, NULL) < 0)
		fail_msg("%s cannot be read", path);
	assert_string_equal(got, text);
}

static void test_owner_mode_time(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	tar_head(&f->tar, &(struct tar_header){
				  .name = "./bin/", .type = '5', .mode = 01777, .mtime = 1000 });
	tar_pax1(&f->tar, "mtime", "1234567890.000000007", 20);
	tar_head(&f->tar,
		 &(struct tar_header){ .name = "bin/su", .mode = 04755, .uid = 12, .gid = 34 });
	assert_applies(f);
	st = stat_of(f, "bin/su");
	assert_int_equal(st.st_mode, S_IFREG | 04755);
	assert_int_equal(st.st_uid, 12);
	assert_int_equal(st.st_gid, 34);
	assert_int_equal(st.st_mtim.tv_sec, 1234567890);
	assert_int_equal(st.st_mtim.tv_nsec, 7);
	st = stat_of(f, "bin");
	assert_int_equal(st.st_mode, S_IFDIR | 01777);
	/* What was put into it afterwards has not changed its time. */
	assert_int_equal(st.st_mtim.tv_sec, 1000);
}

static void test_root_entry(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	tar_file(&f->tar, "a", "a");
	tar_head(&f->tar,
		 &(struct tar_header){ .name = "./", .type = '5', .mode = 0711, .mtime = 77 });
	tar_file(&f->tar, "b", "b");
	assert_applies(f);
	st = stat_of(f, ".");
	assert_int_equal(st.st_mode & 07777, 0711);
	assert_int_equal(st.st_mtim.tv_sec, 77);
}

static void test_every_type(void **state)
{
	struct fixture *f = *state;
	char target[16] = { 0 };

	tar_link(&f->tar, "link", '2', "/etc/passwd");
	tar_head(&f->tar,
		 &(struct tar_header){
			 .name = "null", .type = '3', .mode = 0666, .major = 1, .minor = 3 });
	tar_head(&f->tar,
		 &(struct tar_header){
			 .name = "disk", .type = '4', .mode = 0660, .major = 8, .minor = 1 });
	tar_head(&f->tar, &(struct tar_header){ .name = "fifo", .type = '6', .mode = 0600 });
	assert_applies(f);
	assert_true(readlinkat(f->fd, "link", target, sizeof(target) - 1) > 0);
	assert_string_equal(target, "/etc/passwd");
	assert_int_equal(stat_of(f, "null").st_mode, S_IFCHR | 0666);
	assert_int_equal(stat_of(f, "null").st_rdev, makedev(1, 3));
	assert_int_equal(stat_of(f, "disk").st_mode, S_IFBLK | 0660);
	assert_int_equal(stat_of(f, "disk").st_rdev, makedev(8, 1));
	assert_int_equal(stat_of(f, "fifo").st_mode, S_IFIFO | 0600);
}

static void test_hard_links(void **state)
{
	struct fixture *f = *state;

	tar_file(&f->tar, "a", "text");
	tar_link(&f->tar, "b", '1', "/a");
	tar_link(&f->tar, "a", '1',
		 "./a"); /* GNU tar does this for a file that it is given twice */
	tar_link(&f->tar, "s", '2', "../outside");
	tar_link(&f->tar, "t", '1', "s");
	assert_applies(f);
	assert_int_equal(stat_of(f, "a").st_ino, stat_of(f, "b").st_ino);
	assert_int_equal(stat_of(f, "t").st_ino, stat_of(f, "s").st_ino);
	assert_true(S_ISLNK(stat_of(f, "t").st_mode));
	/* A later layer changes one of them. */
	tar_file(&f->tar, "a", "new");
	assert_applies(f);
	assert_text(f, "a", "new");
	assert_text(f, "b", "text");
}

static void test_xattrs(void **state)
{
	static const char *const dropped[] = { "SCHILY.xattr.trusted.overlay.opaque",
					       "SCHILY.xattr.user.overlay.opaque",
					       "SCHILY.xattr.security.selinux" };
	static const char cap[20] = "\1\0\0\2\0\4"; /* cap_net_bind_service+ep */
	struct fixture *f = *state;
	struct buf records = { 0 };
	_cleanup_(close_fdp) int fd = -EBADF;
	char value[64];

	pax_record(&records, "SCHILY.xattr.user.note", "a\0b", 3);
	pax_record(&records, "SCHILY.xattr.security.capability", cap, sizeof(cap));
	for (size_t i = 0; i < ARRAY_SIZE(dropped); i++)
		pax_record(&records, dropped[i], "y", 1);
	tar_pax(&f->tar, &records);
	tar_file(&f->tar, "ping", "x");
	assert_applies(f);
	fd = openat(f->fd, "ping", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fgetxattr(fd, "user.note", value, sizeof(value)), 3);
	assert_memory_equal(value, "a\0b", 3);
	assert_int_equal(fgetxattr(fd, "security.capability", value, sizeof(value)), 20);
	assert_memory_equal(value, cap, 20);
	for (size_t i = 0; i < ARRAY_SIZE(dropped); i++)
		assert_int_equal(fgetxattr(fd, dropped[i] + 13, value, sizeof(value)), -1);
}

/* Names are bytes: neither decomposed letters nor Latin-1 may change, in whatever locale we are. */
static void test_names_are_bytes(void **state)
{
	struct fixture *f = *state;
	char name[300];

	assert_non_null(setlocale(LC_ALL, "C.UTF-8"));
	tar_pax1(&f->tar, "path", "nfd-e\xcc\x81", 7);
	tar_file(&f->tar, "x", "1");
	tar_pax1(&f->tar, "path", "latin-\xe9", 7);
	tar_file(&f->tar, "x", "2");
	tar_file(&f->tar, "ustar-\xe9", "3");
	tar_pax1(&f->tar, "linkpath", "target-e\xcc\x81\xe9", 11);
	tar_link(&f->tar, "link", '2', "x");
	tar_pax1(&f->tar, "linkpath", "nfd-e\xcc\x81", 7);
	tar_link(&f->tar, "hard", '1', "x");
	memset(name, 'n', 255);
	memcpy(name + 255, "/f", 3);
	tar_pax1(&f->tar, "path", name, 257);
	tar_file(&f->tar, "x", "4");
	assert_applies(f);
	setlocale(LC_ALL, "C");
	assert_text(f, "nfd-e\xcc\x81", "1");
	assert_text(f, "latin-\xe9", "2");
	assert_text(f, "ustar-\xe9", "3");
	assert_text(f, "hard", "1");
	assert_text(f, name, "4");
	memset(name, 0, sizeof(name));
	assert_int_equal(readlinkat(f->fd, "link", name, sizeof(name)), 11);
	assert_string_equal(name, "target-e\xcc\x81\xe9");
}

static void test_gnu_long_name(void **state)
{
	struct fixture *f = *state;
	char name[181];

	memset(name, 'g', 180);
	name[180] = '\0';
	tar_head(&f->tar,
		 &(struct tar_header){ .name = "././@LongLink", .type = 'L', .size = 181 });
	tar_bytes(&f->tar, name, 181);
	tar_file(&f->tar, "g", "long");
	assert_applies(f);
	assert_text(f, name, "long");
}

static void test_sparse_keeps_holes(void **state)
{
	static const char map[] = "3\n0\n4\n5368709120\n4\n6442450944\n0\n";
	struct fixture *f = *state;
	char body[512 + 8] = { 0 };
	struct buf records = { 0 };
	_cleanup_(close_fdp) int fd = -EBADF;
	char got[4];

	/* GNU sparse format 1.0: 6 GiB of which 8 bytes are data. */
	memcpy(body, map, sizeof(map) - 1);
	memcpy(body + 512, "headtail", 8);
	pax_record(&records, "GNU.sparse.major", "1", 1);
	pax_record(&records, "GNU.sparse.minor", "0", 1);
	pax_record(&records, "GNU.sparse.name", "big", 3);
	pax_record(&records, "GNU.sparse.realsize", "6442450944", 10);
	tar_pax(&f->tar, &records);
	tar_head(&f->tar, &(struct tar_header){ .name = "x", .size = sizeof(body) });
	tar_bytes(&f->tar, body, sizeof(body));
	assert_applies(f);
	assert_int_equal(stat_of(f, "big").st_size, 6442450944);
	assert_true(stat_of(f, "big").st_blocks < 100);
	assert_true(f->target.sparse);
	assert_int_equal(f->target.file_bytes, 6442450944);
	fd = openat(f->fd, "big", O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, got, 4, 5368709120), 4);
	assert_memory_equal(got, "tail", 4);
}

static void test_whiteouts(void **state)
{
	struct fixture *f = *state;

	tar_file(&f->tar, "dir/a", "a");
	tar_file(&f->tar, "dir/sub/b", "b");
	tar_file(&f->tar, "file", "f");
	tar_link(&f->tar, "link", '2', "dir");
	assert_applies(f);
	tar_file(&f->tar, "dir/.wh.a", "");
	tar_file(&f->tar, ".wh.file", "");
	tar_file(&f->tar, ".wh.link", "");
	tar_file(&f->tar, "missing/.wh.thing", "");
	tar_file(&f->tar, ".wh..wh.plnk", "");
	assert_applies(f);
	assert_false(exists(f, "dir/a"));
	assert_false(exists(f, "file"));
	assert_false(exists(f, "link"));
	assert_false(exists(f, "missing"));
	assert_text(f, "dir/sub/b", "b");
	/* A directory with its content. */
	tar_file(&f->tar, ".wh.dir", "");
	assert_applies(f);
	assert_false(exists(f, "dir"));
}

/* An opaque directory keeps what its own layer brings, before and after the marker. */
static void test_opaque(void **state)
{
	struct fixture *f = *state;

	tar_file(&f->tar, "d/old", "old");
	tar_file(&f->tar, "d/sub/old", "old");
	tar_file(&f->tar, "d/both", "old");
	assert_applies(f);
	tar_head(&f->tar,
		 &(struct tar_header){ .name = "d", .type = '5', .mode = 0755, .mtime = 5 });
	tar_file(&f->tar, "d/before", "new");
	tar_file(&f->tar, "d/sub/before", "new");
	tar_file(&f->tar, "d/both", "new");
	tar_file(&f->tar, "d/.wh..wh..opq", "");
	tar_file(&f->tar, "d/after", "new");
	assert_applies(f);
	assert_false(exists(f, "d/old"));
	assert_false(exists(f, "d/sub/old"));
	assert_text(f, "d/both", "new");
	assert_text(f, "d/before", "new");
	assert_text(f, "d/sub/before", "new");
	assert_text(f, "d/after", "new");
	assert_int_equal(stat_of(f, "d").st_mtim.tv_sec, 5);
}

static void test_whiteout_spares_own_layer(void **state)
{
	struct fixture *f = *state;

	tar_file(&f->tar, "d/old", "old");
	tar_file(&f->tar, "f", "old");
	assert_applies(f);
	tar_file(&f->tar, "f", "new");
	tar_file(&f->tar, "d/new", "new");
	tar_file(&f->tar, ".wh.f", "");
	tar_file(&f->tar, ".wh.d", "");
	assert_applies(f);
	assert_text(f, "f", "new");
	assert_text(f, "d/new", "new");
	assert_false(exists(f, "d/old"));
}

static void test_replace(void **state)
{
	struct fixture *f = *state;

	tar_file(&f->tar, "dir/inner", "x");
	tar_file(&f->tar, "file", "x");
	tar_link(&f->tar, "link", '2', "dir");
	assert_applies(f);
	tar_file(&f->tar, "dir", "now a file");
	tar_file(&f->tar, "file", "twice");
	tar_dir(&f->tar, "file");
	tar_file(&f->tar, "file/inner", "y");
	tar_dir(&f->tar, "link");
	assert_applies(f);
	assert_text(f, "dir", "now a file");
	assert_text(f, "file/inner", "y");
	assert_true(S_ISDIR(stat_of(f, "link").st_mode));
	tar_link(&f->tar, "file", '2', "dir");
	assert_applies(f);
	assert_true(S_ISLNK(stat_of(f, "file").st_mode));
}

/* Parents that are symbolic links lead to where they lead in the image. */
static void test_linked_parents(void **state)
{
	struct fixture *f = *state;

	tar_dir(&f->tar, "usr/lib");
	tar_link(&f->tar, "lib", '2', "/usr/lib");
	tar_file(&f->tar, "lib/a", "a");
	tar_link(&f->tar, "run", '2', "var/run"); /* dangling until something is put there */
	tar_file(&f->tar, "run/pid", "1");
	tar_link(&f->tar, "up", '2', "../../../../..");
	tar_file(&f->tar, "up/b", "b");
	assert_applies(f);
	assert_text(f, "usr/lib/a", "a");
	assert_text(f, "var/run/pid", "1");
	assert_text(f, "b", "b");
}

static void test_compressed(void **state)
{
	static const char *const filters[] = { "gzip", "zstd" };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
		tar_file(&f->tar, "name", filters[i]);
		tar_end(&f->tar);
		tar_compress(&f->tar, filters[i]);
		assert_int_equal(apply_as(f, NULL), 0);
		assert_text(f, "name", filters[i]);
	}
	/* Others are not even tried. */
	tar_file(&f->tar, "name", "bzip2");
	tar_end(&f->tar);
	tar_compress(&f->tar, "bzip2");
	assert_int_equal(apply_as(f, NULL), -EBADMSG);
}

static void sha256_text(const struct buf *b, char *text)
{
	unsigned char md[32];

	assert_int_equal(EVP_Digest(buf_head(b), buf_len(b), md, NULL, EVP_sha256(), NULL), 1);
	text += sprintf(text, "sha256:");
	for (size_t i = 0; i < sizeof(md); i++)
		text += sprintf(text, "%02x", md[i]);
}

/* The digest is that of all bytes, also of those behind the end of the archive. */
static void test_diff_id(void **state)
{
	struct fixture *f = *state;
	char diff_id[72];

	for (int i = 0; i < 3; i++) {
		tar_file(&f->tar, "a", "a");
		tar_end(&f->tar);
		tar_bytes(&f->tar, "behind the end", 14);
		sha256_text(&f->tar, diff_id);
		if (i == 1)
			f->tar.data[buf_len(&f->tar) - 1] ^= 1;
		tar_compress(&f->tar, "gzip");
		assert_int_equal(apply_as(f, diff_id), i == 1 ? -EBADMSG : 0);
	}
	assert_non_null(strstr(f->e.msg, "digest mismatch"));
	assert_string_not_equal(f->e.hint, "");
}

static void test_empty(void **state)
{
	struct fixture *f = *state;

	assert_applies(f);
	assert_int_equal(apply_as(f, NULL), 0);
	assert_int_equal(f->target.entries, 0);
}

static void test_dotdot_is_refused(void **state)
{
	struct fixture *f = *state;

	tar_file(&f->tar, "../outside", "x");
	assert_refused(f, -EBADMSG, "\"../outside\" leads out of the image");
	tar_file(&f->tar, "a/../../outside", "x");
	assert_refused(f, -EBADMSG, "leads out of the image");
	tar_file(&f->tar, "..", "x");
	assert_refused(f, -EBADMSG, "leads out of the image");
}

static void test_absolute_name_stays_inside(void **state)
{
	struct fixture *f = *state;
	char name[128];

	snprintf(name, sizeof(name), "%s/outside", f->dir);
	tar_file(&f->tar, name, "inside");
	assert_applies(f);
	assert_text(f, name + 1, "inside");
}

static void test_link_out_stays_inside(void **state)
{
	struct fixture *f = *state;
	char name[128];

	/* As a parent, absolute and relative, and as the last component. */
	tar_link(&f->tar, "abs", '2', f->dir);
	tar_file(&f->tar, "abs/outside", "1");
	tar_link(&f->tar, "rel", '2', "..");
	tar_file(&f->tar, "rel/outside", "2");
	tar_link(&f->tar, "last", '2', "../outside");
	tar_file(&f->tar, "last", "3");
	assert_applies(f);
	snprintf(name, sizeof(name), "%s/outside", f->dir + 1);
	assert_text(f, name, "1");
	assert_text(f, "outside", "2");
	assert_text(f, "last", "3");
}

static void test_hard_link_out_is_refused(void **state)
{
	struct fixture *f = *state;

	tar_link(&f->tar, "h", '1', "../outside");
	assert_refused(f, -EBADMSG, "leads out of the image");
	tar_link(&f->tar, "up", '2', "..");
	tar_link(&f->tar, "h", '1', "up/outside");
	assert_refused(f, -ENOENT, "hard link target");
	tar_link(&f->tar, "h", '1', "/");
	assert_refused(f, -EBADMSG, "root directory");
}

static void test_whiteout_out_stays_inside(void **state)
{
	struct fixture *f = *state;

	tar_link(&f->tar, "up", '2', "..");
	assert_applies(f);
	tar_file(&f->tar, "up/.wh.outside", "");
	assert_applies(f);
	tar_file(&f->tar, "../.wh.outside", "");
	assert_refused(f, -EBADMSG, "leads out of the image");
	tar_file(&f->tar, ".wh...", "");
	assert_refused(f, -EBADMSG, "not a valid whiteout");
	tar_file(&f->tar, ".wh.", "");
	assert_refused(f, -EBADMSG, "not a valid whiteout");
	assert_true(exists(f, "up"));
}

static void test_link_loop_is_refused(void **state)
{
	struct fixture *f = *state;

	tar_link(&f->tar, "a", '2', "b");
	tar_link(&f->tar, "b", '2', "a");
	tar_file(&f->tar, "a/file", "x");
	assert_refused(f, -ELOOP, "cannot be put in its directory");
	/* Each link needs one more directory. */
	tar_link(&f->tar, "c", '2', "c/x");
	tar_file(&f->tar, "c/file", "x");
	assert_refused(f, -ELOOP, "cannot be put in its directory");
}

static void test_below_a_file_is_refused(void **state)
{
	struct fixture *f = *state;

	tar_file(&f->tar, "file", "x");
	tar_file(&f->tar, "file/inner", "x");
	assert_refused(f, -ENOTDIR, "cannot be put in its directory");
}

static void test_root_is_not_replaced(void **state)
{
	struct fixture *f = *state;

	tar_link(&f->tar, "/", '2', "elsewhere");
	assert_refused(f, -EBADMSG, "root directory");
}

/* Symbolic links would make paths deeper than any single name. */
static void test_depth_limit(void **state)
{
	struct fixture *f = *state;

	f->target.limits.depth = 8;
	tar_file(&f->tar, "1/2/3/4/5/6/7/8/9", "x");
	assert_refused(f, -ENAMETOOLONG, "too long name");
	tar_dir(&f->tar, "1/2/3/4/5");
	tar_link(&f->tar, "l", '2', "1/2/3/4/5");
	tar_dir(&f->tar, "l/6/7");
	assert_applies(f);
	tar_dir(&f->tar, "l/6/7/8/9");
	assert_refused(f, -ENAMETOOLONG, "lies too deep");
	assert_false(exists(f, "1/2/3/4/5/6/7/8/9"));
}

static void test_path_limit(void **state)
{
	struct fixture *f = *state;

	f->target.limits.path = 49;
	tar_file(&f->tar, "0123456789/0123456789/0123456789/0123456789/01234", "fits");
	assert_applies(f);
	tar_file(&f->tar, "0123456789/0123456789/0123456789/0123456789/012345", "x");
	assert_refused(f, -ENAMETOOLONG, "too long name");
	tar_link(&f->tar, "l", '2', "0123456789/0123456789/0123456789/0123456789");
	tar_file(&f->tar, "l/012345", "x");
	assert_refused(f, -ENAMETOOLONG, "lies too deep");
}

static void test_size_limit(void **state)
{
	struct fixture *f = *state;
	static char zeros[4096];

	f->target.limits.bytes = 16384;
	tar_head(&f->tar, &(struct tar_header){ .name = "a", .size = 20000 });
	assert_refused(f, -EFBIG, "limit of file sizes exceeded");
	/* Spread over layers, and where it is in no file. */
	f->target.bytes = 0;
	for (int i = 0; i < 2; i++) {
		tar_end(&f->tar);
		tar_bytes(&f->tar, zeros, sizeof(zeros));
		assert_applies(f);
	}
	tar_end(&f->tar);
	tar_bytes(&f->tar, zeros, sizeof(zeros));
	assert_refused(f, -EFBIG, "limit of uncompressed size exceeded");
	assert_string_not_equal(f->e.hint, "");
}

static void test_sparse_bomb(void **state)
{
	struct fixture *f = *state;
	struct buf records = { 0 };

	pax_record(&records, "GNU.sparse.map", "0,0,9000000000000000000,0", 25);
	pax_record(&records, "GNU.sparse.size", "9000000000000000000", 19);
	tar_pax(&f->tar, &records);
	tar_head(&f->tar, &(struct tar_header){ .name = "bomb" });
	assert_refused(f, -EFBIG, "limit of file sizes exceeded");
}

static void test_decompression_bomb(void **state)
{
	struct fixture *f = *state;
	static char zeros[1 << 20];

	f->target.limits.ratio_from = 1 << 20;
	f->target.limits.ratio = 100;
	tar_head(&f->tar, &(struct tar_header){ .name = "zeros", .size = 8 << 20 });
	for (int i = 0; i < 8; i++)
		tar_bytes(&f->tar, zeros, sizeof(zeros));
	tar_end(&f->tar);
	tar_compress(&f->tar, "zstd");
	assert_int_equal(apply_as(f, NULL), -EFBIG);
	assert_non_null(strstr(f->e.msg, "limit of compression ratio exceeded"));
}

static void test_entry_limit(void **state)
{
	struct fixture *f = *state;

	f->target.limits.entries = 6;
	tar_file(&f->tar, "a", "");
	tar_file(&f->tar, "b", "");
	assert_applies(f);
	assert_int_equal(f->target.entries, 2);
	/* Directories that nobody named count as well. */
	tar_file(&f->tar, "1/2/3/4/5", "");
	assert_refused(f, -EFBIG, "limit of entries exceeded: more than 6");
}

static void test_xattr_limit(void **state)
{
	struct fixture *f = *state;

	f->target.limits.xattrs = 20;
	tar_pax1(&f->tar, "SCHILY.xattr.user.x", "0123456789012345", 16);
	tar_file(&f->tar, "a", "");
	assert_refused(f, -EFBIG, "limit of extended attributes exceeded");
}

static void test_truncated(void **state)
{
	struct fixture *f = *state;
	size_t full;

	tar_file(&f->tar, "a", "some text");
	tar_end(&f->tar);
	tar_compress(&f->tar, "gzip");
	f->tar.end -= 20;
	assert_int_equal(apply_as(f, NULL), -EBADMSG);
	tar_head(&f->tar, &(struct tar_header){ .name = "a", .size = 100000 });
	tar_bytes(&f->tar, "short", 5);
	full = buf_len(&f->tar);
	assert_int_equal(full, 1024);
	assert_int_equal(apply_as(f, NULL), -EBADMSG);
	assert_non_null(strstr(f->e.msg, "broken archive"));
}

static void test_garbage(void **state)
{
	struct fixture *f = *state;

	tar_bytes(&f->tar, "this is not a tar file", 22);
	assert_refused(f, -EBADMSG, "broken archive");
	tar_file(&f->tar, "a", "a");
	f->tar.data[0] ^= 1; /* wrong checksum */
	assert_refused(f, -EBADMSG, "broken archive");
}

static ssize_t read_fails(void *data, void *buf, size_t n, struct err *e)
{
	return err_set(e, -EBADMSG, "digest mismatch in the blob");
}

static void test_source_error_is_reported(void **state)
{
	struct fixture *f = *state;
	struct layer_source source = { .read = read_fails };

	assert_int_equal(layer_apply(&f->target, &source, NULL, &f->e), -EBADMSG);
	assert_string_equal(f->e.msg, "digest mismatch in the blob");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_owner_mode_time),
		T(test_root_entry),
		T(test_every_type),
		T(test_hard_links),
		T(test_xattrs),
		T(test_names_are_bytes),
		T(test_gnu_long_name),
		T(test_sparse_keeps_holes),
		T(test_whiteouts),
		T(test_opaque),
		T(test_whiteout_spares_own_layer),
		T(test_replace),
		T(test_linked_parents),
		T(test_compressed),
		T(test_diff_id),
		T(test_empty),
		T(test_dotdot_is_refused),
		T(test_absolute_name_stays_inside),
		T(test_link_out_stays_inside),
		T(test_hard_link_out_is_refused),
		T(test_whiteout_out_stays_inside),
		T(test_link_loop_is_refused),
		T(test_below_a_file_is_refused),
		T(test_root_is_not_replaced),
		T(test_depth_limit),
		T(test_path_limit),
		T(test_size_limit),
		T(test_sparse_bomb),
		T(test_decompression_bomb),
		T(test_entry_limit),
		T(test_xattr_limit),
		T(test_truncated),
		T(test_garbage),
		T(test_source_error_is_reported),
	};

	if (geteuid() != 0) {
		fprintf(stderr, "needs root to make owners and devices\n");
		return 77;
	}
	return cmocka_run_group_tests_name("layer", tests, NULL, NULL);
}
