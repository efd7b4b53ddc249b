/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer of an image, plain or compressed, on top of a small lower one. Whatever it holds, nothing
 * beside the directory may change. Run as root to get past owners and devices.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "storage/layer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct memory {
	const uint8_t *data;
	size_t n;
};

static ssize_t read_memory(void *data, void *buf, size_t n, struct err *e)
{
	struct memory *m = data;

	n = MIN(n, m->n);
	if (n > 0)
		memcpy(buf, m->data, n);
	m->data += n;
	m->n -= n;
	return (ssize_t)n;
}

/* The lower layer, so that there is something to hide and to replace. */
static int make_lower(int fd)
{
	if (mkdirat(fd, "a", 0755) < 0 || mkdirat(fd, "a/b", 0755) < 0 ||
	    symlinkat("..", fd, "up") < 0 || symlinkat("/a", fd, "l") < 0)
		return -1;
	return file_replace(fd, "a/f", "lower", 5, 0644);
}

static void assert_untouched(int dirfd)
{
	struct stat st;

	if (fstatat(dirfd, "root", &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) ||
	    fstatat(dirfd, "outside", &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
	    st.st_nlink != 1 || st.st_size != 6 || st.st_mtim.tv_sec != 1)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	char path[] = "/dev/shm/podvm-fuzz-layer-XXXXXX";
	struct memory m = { .data = data, .n = size };
	struct layer_source source = { .read = read_memory, .data = &m };
	struct layer_target target = { .limits = { .bytes = 1 << 20,
						   .entries = 200,
						   .ratio = 100,
						   .ratio_from = 64 << 10,
						   .path = 300,
						   .depth = 20,
						   .xattrs = 4096 } };
	_cleanup_(close_fdp) int dirfd = -EBADF;
	_cleanup_(close_fdp) int root_fd = -EBADF;
	struct err e = { 0 };

	if (!mkdtemp(path))
		abort();
	dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0 || mkdirat(dirfd, "root", 0755) < 0 ||
	    file_replace(dirfd, "outside", "canary", 6, 0600) < 0 ||
	    utimensat(dirfd, "outside", times, 0) < 0)
		abort();
	root_fd = openat(dirfd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0 || make_lower(root_fd) < 0)
		abort();
	target.root_fd = root_fd;
	if (layer_apply(&target, &source, NULL, &e) < 0 && !e.msg[0])
		abort();
	assert_untouched(dirfd);
	if (rm_rf(AT_FDCWD, path) < 0)
		abort();
	return 0;
}
