/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

int fd_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

int fd_write_all(int fd, const void *data, size_t n)
{
	const char *p = data;

	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

ssize_t fd_read_full(int fd, void *data, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = read(fd, (char *)data + got, n - got);

		if (r < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (r == 0)
			break;
		got += (size_t)r;
	}
	return (ssize_t)got;
}

int file_read(int dirfd, const char *path, size_t limit, char **ret, size_t *ret_len)
{
	_cleanup_(close_fdp) int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	_cleanup_(freep) char *data = NULL;
	size_t len = 0;
	size_t size = 0;

	if (fd < 0)
		return -errno;
	/* Files of /proc and /sys don't tell their size, so it grows by what comes. */
	for (;;) {
		ssize_t r;

		if (size - len < 2) {
			char *p;

			size = MIN(MAX(size * 2, (size_t)4096), limit + 2);
			if (size - len < 2)
				return -EFBIG;
			p = realloc(data, size);
			if (!p)
				return -ENOMEM;
			data = p;
		}
		r = fd_read_full(fd, data + len, size - len - 1);
		if (r < 0)
			return (int)r;
		if (r == 0)
			break;
		len += (size_t)r;
		if (len > limit)
			return -EFBIG;
	}
	data[len] = '\0';
	if (ret_len)
		*ret_len = len;
	*ret = TAKE_PTR(data);
	return 0;
}

int file_write(int dirfd, const char *path, const char *text)
{
	_cleanup_(close_fdp) int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	size_t n = strlen(text);
	ssize_t w;

	if (fd < 0)
		return -errno;
	w = write(fd, text, n);
	if (w < 0)
		return -errno;
	return (size_t)w == n ? 0 : -EIO;
}

int file_replace(int dirfd, const char *path, const void *data, size_t n, mode_t mode)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	_cleanup_(freep) char *tmp = NULL;
	char suffix[9];
	int r;

	r = random_hex(suffix, sizeof(suffix) - 1);
	if (r < 0)
		return r;
	tmp = str_printf("%s.%s", path, suffix);
	if (!tmp)
		return -ENOMEM;
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	r = fchmod(fd, mode) < 0 ? -errno : fd_write_all(fd, data, n);
	if (r == 0 && renameat(dirfd, tmp, dirfd, path) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(dirfd, tmp, 0);
	return r;
}

int mkdir_p(const char *path, mode_t mode)
{
	_cleanup_(freep) char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	if (!*copy)
		return -ENOENT;
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	if (mkdir(copy, mode) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static int rm_rf_at(int dirfd, const char *name, uint64_t resolve);

/* Takes fd. */
static int rm_children_of(int fd)
{
	_cleanup_(closedirp) DIR *dir = fdopendir(fd);
	struct dirent *d;
	int first = 0;

	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while ((d = readdir(dir))) {
		int r;

		if (str_eq(d->d_name, ".") || str_eq(d->d_name, ".."))
			continue;
		/* NO_XDEV stops at bind mounts too, which have the same st_dev as we. */
		r = rm_rf_at(fd, d->d_name, RESOLVE_NO_XDEV);
		if (r < 0 && first == 0)
			first = r;
	}
	return first;
}

static int rm_rf_at(int dirfd, const char *name, uint64_t resolve)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = resolve,
	};
	long fd;
	int r;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	fd = syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
	if (fd < 0)
		return errno == EXDEV ? -EBUSY : -errno;
	r = rm_children_of((int)fd);
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT && r == 0)
		r = -errno;
	return r;
}

int rm_rf(int dirfd, const char *path)
{
	return rm_rf_at(dirfd, path, 0);
}

int rename_over(int dirfd, const char *from, const char *to)
{
	int r;

	if (renameat(dirfd, from, dirfd, to) == 0)
		return 0;
	if (errno != EISDIR && errno != ENOTEMPTY)
		return -errno;
	r = rm_rf(dirfd, to);
	return r == 0 && renameat(dirfd, from, dirfd, to) < 0 ? -errno : r;
}

int rm_children(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : rm_children_of(fd);
}

int open_in_root(int rootfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned int)flags | O_CLOEXEC,
		.mode = flags & (O_CREAT | __O_TMPFILE) ? mode : 0,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	/* -EAGAIN: something was renamed meanwhile and the kernel couldn't tell if `..` escaped. */
	for (int tries = 0; tries < 16; tries++) {
		fd = syscall(SYS_openat2, rootfd, path, &how, sizeof(how));
		if (fd >= 0 || errno != EAGAIN)
			break;
	}
	return fd < 0 ? -errno : (int)fd;
}

uint64_t clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t clock_real_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t clock_ms(void)
{
	return clock_us() / 1000;
}

int random_hex(char *out, size_t digits)
{
	static const char hex[] = "0123456789abcdef";

	/* As many bytes as digits, in their place; below 256 they come at once or not at all. */
	for (size_t done = 0; done < digits;) {
		ssize_t n = getrandom(out + done, MIN(digits - done, (size_t)256), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	for (size_t i = 0; i < digits; i++)
		out[i] = hex[(uint8_t)out[i] & 15];
	out[digits] = '\0';
	return 0;
}
