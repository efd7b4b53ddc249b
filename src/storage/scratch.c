/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/scratch_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/spawn.h"
#include "base/str.h"

#define BLOCK		4096
#define MKFS_TIMEOUT_MS 60000

#define MKFS_FEATURES                                                                     \
	"none,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super2,large_file," \
	"huge_file,dir_nlink,extra_isize,metadata_csum"
#define MKFS_EXTENDED                                                                             \
	"assume_storage_prezeroed=1,lazy_itable_init=1,nodiscard,num_backup_sb=0,root_owner=0:0," \
	"hash_seed=706f6476-6d00-4000-8000-000000000001"
#define MKFS_UUID "706f6476-6d00-4000-8000-000000000000"

/* For those that are mounted again after a crash. MiB: what small ones can have, and the others. */
#define JOURNAL_FEATURES MKFS_FEATURES ",has_journal"
#define JOURNAL_SMALL	 "size=4"
#define JOURNAL_LARGE	 "size=16"
#define JOURNAL_LIMIT	 ((uint64_t)256 << 20)

/*
 * What a container's layer has in it from the beginning, below a directory beside the templates.
 * mkfs.ext4 puts these next to the root directory. The guest's kernel would look for a place far
 * from it, in parts of the disk that have to be read and set up first.
 */
#define LAYER ".layer"
static const char *const layer_dirs[] = { LAYER, LAYER "/upper", LAYER "/work" };

/* A file without a name; where O_TMPFILE isn't known its name is removed at once. */
static int open_unnamed(int dirfd)
{
	char name[] = ".scratch.0123456789abcdef";
	int fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int r;

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd < 0 ? -errno : fd;
	r = random_hex(name + 9, 16);
	if (r < 0)
		return r;
	fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	unlinkat(dirfd, name, 0);
	return fd;
}

static uint64_t hash_add(uint64_t hash, const void *data, size_t n)
{
	for (const uint8_t *p = data; n > 0; n--)
		hash = (hash ^ *p++) * 0x100000001b3;
	return hash;
}

/* Name of the template: another mkfs.ext4 (or other options) gets another one. */
static int template_name(const char *mkfs, uint64_t size, bool journal, char *out, size_t out_size)
{
	static const char options[] = MKFS_FEATURES " " MKFS_EXTENDED " " JOURNAL_SMALL
						    " " JOURNAL_LARGE " " LAYER " G2";
	uint64_t hash = 0xcbf29ce484222325;
	struct stat st;

	if (stat(mkfs, &st) < 0)
		return -errno;
	hash = hash_add(hash, options, sizeof(options));
	hash = hash_add(hash, &st.st_size, sizeof(st.st_size));
	hash = hash_add(hash, &st.st_mtim, sizeof(st.st_mtim));
	snprintf(out, out_size, "%llu-%016llx%s.img", (unsigned long long)size,
		 (unsigned long long)hash, journal ? "-journal" : "");
	return 0;
}

/* A container's root directory is one of them: its mode doesn't depend on our umask. */
static int make_layer(int dirfd, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(layer_dirs); i++)
		if ((mkdirat(dirfd, layer_dirs[i], 0755) < 0 && errno != EEXIST) ||
		    fchmodat(dirfd, layer_dirs[i], 0755, 0) < 0)
			return err_errno(e, -errno, "cannot make %s", layer_dirs[i]);
	return 0;
}

static int format(const char *mkfs, int dirfd, int fd, uint64_t size, bool journal, struct err *e)
{
	static char *const env[] = { (char *)"MKE2FS_CONFIG=/dev/null", (char *)"LC_ALL=C", NULL };
	/* clang-format off */
	const char *const argv[] = {
		"mkfs.ext4", "-q", "-F", "-b", "4096", "-G", "2", "-I", "256", "-i", "16384", "-m", "0",
		"-O", journal ? JOURNAL_FEATURES : MKFS_FEATURES, "-E", MKFS_EXTENDED,
		"-U", MKFS_UUID, journal ? "-J" : "-d",
		!journal ? "/proc/self/fd/4/" LAYER :
		size < JOURNAL_LIMIT ? JOURNAL_SMALL : JOURNAL_LARGE, "/proc/self/fd/3", NULL,
	};
	/* clang-format on */
	struct spawn s = SPAWN_INIT;

	s.path = mkfs;
	s.argv = (char *const *)argv;
	s.envp = env;
	if (spawn_fd(&s, fd) != 3 || spawn_fd(&s, dirfd) != 4)
		return err_set(e, -ENOBUFS, "cannot hand a file to mkfs.ext4");
	return spawn_run(&s, MKFS_TIMEOUT_MS, NULL, e);
}

/* Make the template and give it its name; who comes second takes what is there. */
static int make_template(int dirfd, const char *mkfs, const char *name, uint64_t size, bool journal,
			 struct err *e)
{
	_cleanup_(close_fdp) int fd = open_unnamed(dirfd);
	char path[64];
	int r;

	if (fd < 0)
		return err_errno(e, fd, "cannot make a file for the scratch disk");
	if (ftruncate(fd, (off_t)size) < 0)
		return err_errno(e, -errno, "cannot make a scratch disk of %llu bytes",
				 (unsigned long long)size);
	r = journal ? 0 : make_layer(dirfd, e);
	if (r == 0)
		r = format(mkfs, dirfd, fd, size, journal, e);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	/* Without a name it is used once; that is all the caller needs. */
	(void)!linkat(AT_FDCWD, path, dirfd, name, AT_SYMLINK_FOLLOW);
	return TAKE_FD(fd);
}

/* Between file systems. */
static int copy_by_hand(int from, int to, off_t start, off_t end)
{
	if (lseek(to, start, SEEK_SET) < 0)
		return -errno;
	while (start < end) {
		ssize_t n = sendfile(to, from, &start, (size_t)(end - start));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
	}
	return 0;
}

static int copy_range(int from, int to, off_t start, off_t end)
{
	off_t out = start;

	while (start < end) {
		ssize_t n = copy_file_range(from, &start, to, &out, (size_t)(end - start), 0);

		if (n < 0 && errno == EXDEV)
			return copy_by_hand(from, to, start, end);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
	}
	return 0;
}

/* As a reflink, else the data between the holes. */
static int copy_sparse(int from, int to, off_t size)
{
	off_t end = 0;

	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (ftruncate(to, size) < 0)
		return -errno;
	for (;;) {
		off_t start = lseek(from, end, SEEK_DATA);
		int r;

		if (start < 0)
			return errno == ENXIO ? 0 : -errno;
		end = lseek(from, start, SEEK_HOLE);
		if (end < 0)
			return -errno;
		r = copy_range(from, to, start, end);
		if (r < 0)
			return r;
	}
}

static int open_template(int dirfd, uint64_t size, bool journal, struct err *e)
{
	_cleanup_(freep) char *mkfs = NULL;
	char name[64];
	int fd;
	int r;

	r = find_program("mkfs.ext4", &mkfs);
	if (r == 0)
		r = template_name(mkfs, size, journal, name, sizeof(name));
	if (r < 0) {
		err_errno(e, r, "cannot find mkfs.ext4");
		err_hint(e, "Install it: apt-get install e2fsprogs");
		return r;
	}
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0)
		return fd;
	if (errno != ENOENT)
		return err_errno(e, -errno, "cannot open the scratch template %s", name);
	return make_template(dirfd, mkfs, name, size, journal, e);
}

int scratch_create_in(const char *templates, int target, uint64_t size, bool journal, struct err *e)
{
	_cleanup_(close_fdp) int template_fd = -EBADF;
	_cleanup_(close_fdp) int dirfd = -EBADF;
	_cleanup_(close_fdp) int fd = -EBADF;
	int r;

	if (size < SCRATCH_SIZE_MIN || size > SCRATCH_SIZE_MAX) {
		err_set(e, -EINVAL, "a scratch disk can't have %llu bytes",
			(unsigned long long)size);
		err_hint(e, "Give a size between 4m and 16384g.");
		return -EINVAL;
	}
	size = (size + BLOCK - 1) / BLOCK * BLOCK;
	r = mkdir_p(templates, 0700);
	if (r < 0)
		return err_errno(e, r, "cannot make %s", templates);
	dirfd = open(templates, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return err_errno(e, -errno, "cannot open %s", templates);
	template_fd = open_template(dirfd, size, journal, e);
	if (template_fd < 0)
		return template_fd;
	fd = open_unnamed(target < 0 ? dirfd : target);
	r = fd < 0 ? fd : copy_sparse(template_fd, fd, (off_t)size);
	if (r < 0)
		return err_errno(e, r, "cannot make a scratch disk");
	return TAKE_FD(fd);
}

int scratch_create(const char *dir, uint64_t size, struct err *e)
{
	return scratch_create_in(dir, -1, size, false, e);
}
