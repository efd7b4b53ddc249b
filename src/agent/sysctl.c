/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/sysctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "agent/paths.h"
#include "base/cleanup.h"

#define VALUE_MAX 4096

int sysctl_path(const char *name, char *path, size_t size)
{
	size_t n = strlen(name);
	size_t first = strcspn(name, "./");
	bool dots = name[first] == '.';

	if (n == 0 || n >= size || first == 0 || first == n)
		return -EINVAL;
	for (size_t i = 0; i <= n; i++) {
		path[i] = name[i];
		if (dots && name[i] == '.')
			path[i] = '/';
		else if (dots && name[i] == '/')
			path[i] = '.';
	}
	/* The last check is open_beneath()'s; this one is for the message. */
	return strstr(path, "//") || strstr(path, "..") || path[n - 1] == '/' ? -EINVAL : 0;
}

int sysctl_set(const char *name, const char *value, struct err *e)
{
	_cleanup_(close_fdp) int root = open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(close_fdp) int fd = -EBADF;
	char path[256];
	size_t n = strlen(value);

	if (sysctl_path(name, path, sizeof(path)) < 0 || n == 0 || n > VALUE_MAX)
		return err_set(e, -EINVAL, "invalid sysctl %.128s", name);
	fd = root < 0 ? -errno : open_beneath(root, path, O_WRONLY, 0);
	if (fd < 0)
		return err_errno(e, fd, "sysctl %s", name);
	if (write(fd, value, n) != (ssize_t)n)
		return err_errno(e, -errno, "sysctl %s = %.64s", name, value);
	return 0;
}
