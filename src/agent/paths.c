/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/paths.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"

bool id_valid(const char *id)
{
	size_t n = strlen(id);

	if (n == 0 || n > ID_MAX || !isalnum((unsigned char)id[0]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)id[i]) && !strchr("_.-", id[i]))
			return false;
	return true;
}

/* One component: not empty, not "." or "..", not too long. */
static bool component_valid(const char *s, size_t n)
{
	if (n == 0 || n > 255)
		return false;
	return !(s[0] == '.' && (n == 1 || (n == 2 && s[1] == '.')));
}

const char *path_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);
	const char *p;

	if (strlen(path) >= PATH_LEN || strncmp(path, dir, n) != 0 || path[n] != '/')
		return NULL;
	p = path + n + 1;
	for (const char *s = p;;) {
		size_t len = strcspn(s, "/");

		if (!component_valid(s, len))
			return NULL;
		if (!s[len])
			return p;
		s += len + 1;
	}
}

int open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned int)flags | O_CLOEXEC,
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

int mkdir_beneath(int dirfd, const char *path, mode_t mode)
{
	_cleanup_(close_fdp) int fd = open_beneath(dirfd, ".", O_PATH | O_DIRECTORY, 0);

	while (fd >= 0 && *path) {
		size_t len = strcspn(path, "/");
		char name[256];
		int next;

		if (!component_valid(path, len))
			return -EINVAL;
		memcpy(name, path, len);
		name[len] = '\0';
		if (mkdirat(fd, name, mode) < 0 && errno != EEXIST)
			return -errno;
		next = open_beneath(fd, name, O_PATH | O_DIRECTORY, 0);
		close(fd);
		fd = next;
		path += len + (path[len] == '/');
	}
	return TAKE_FD(fd);
}

int open_parent(const char *path, char name[NAME_MAX + 1], struct err *e)
{
	_cleanup_(close_fdp) int root = open(DIR_PODVM, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *rel = path_below(path, DIR_PODVM);
	_cleanup_(freep) char *dir = rel ? strdup(rel) : NULL;
	char *slash;
	int fd;

	if (!rel)
		return err_set(e, -EINVAL, "%.256s is not below " DIR_PODVM, path);
	if (!dir)
		return err_oom(e);
	slash = strrchr(dir, '/');
	snprintf(name, NAME_MAX + 1, "%s", slash ? slash + 1 : dir);
	*(slash ? slash : dir) = '\0';
	fd = root < 0 ? -errno : mkdir_beneath(root, dir, 0755);
	return fd < 0 ? err_errno(e, fd, "cannot make the directory of %s", path) : fd;
}
