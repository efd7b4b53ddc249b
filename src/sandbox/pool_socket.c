/* SPDX-License-Identifier: Apache-2.0 */
/* The sockets of waiting machines, by name. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/unixsock.h"
#include "sandbox/pool.h"

#define BACKLOG 16

/* The path of a state directory may be longer than that of a socket can be. */
static char *socket_path(int dir_fd, const char *name)
{
	return str_printf("/proc/self/fd/%d/%s", dir_fd, name);
}

int pool_listen(int dir_fd, const char *name)
{
	_cleanup_(freep) char *path = socket_path(dir_fd, name);

	if (!path)
		return -ENOMEM;
	(void)unlinkat(dir_fd, name, 0);
	return unixsock_listen(path, SOCK_SEQPACKET, BACKLOG);
}

int pool_connect(int dir_fd, const char *name)
{
	_cleanup_(freep) char *path = socket_path(dir_fd, name);
	int r = path ? unixsock_connect(path, SOCK_SEQPACKET) : -ENOMEM;

	/* Whoever listened there was killed. */
	if (r == -ECONNREFUSED)
		(void)unlinkat(dir_fd, name, 0);
	return r;
}

/* ".pool-KEY-PID" */
static bool parse_name(const char *name, struct pool_entry *ret)
{
	const char *key = name + strlen(POOL_PREFIX);
	const char *dash = str_starts(name, POOL_PREFIX) ? strchr(key, '-') : NULL;
	uint64_t pid;

	if (!dash || (size_t)(dash - key) >= sizeof(ret->key) ||
	    parse_u64(dash + 1, INT32_MAX, &pid) < 0)
		return false;
	snprintf(ret->key, sizeof(ret->key), "%.*s", (int)(dash - key), key);
	ret->pid = (pid_t)pid;
	return true;
}

int pool_list(const char *state_dir, struct pool_entry **ret)
{
	_cleanup_(closedirp) DIR *dir = opendir(state_dir);
	_cleanup_(freep) struct pool_entry *v = NULL;
	struct pool_entry entry;
	struct dirent *d;
	int n = 0;

	if (!dir && errno != ENOENT)
		return -errno;
	while (dir && (d = readdir(dir))) {
		struct pool_entry *more;

		if (!parse_name(d->d_name, &entry))
			continue;
		more = reallocarray(v, (size_t)n + 1, sizeof(*v));
		if (!more)
			return -ENOMEM;
		v = more;
		v[n++] = entry;
	}
	*ret = TAKE_PTR(v);
	return n;
}

bool pool_is_empty(const char *state_dir)
{
	_cleanup_(freep) struct pool_entry *v = NULL;

	return pool_list(state_dir, &v) <= 0;
}

int pool_drop(const char *state_dir, const struct pool_entry *entry)
{
	_cleanup_(freep) char *name = str_printf(POOL_PREFIX "%s-%d", entry->key, entry->pid);
	_cleanup_(close_fdp) int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(close_fdp) int fd = -EBADF;
	const char request = POOL_DROP;

	if (!name)
		return -ENOMEM;
	if (dir < 0)
		return -errno;
	fd = pool_connect(dir, name);
	if (fd == -ECONNREFUSED)
		return -ENOENT;
	if (fd < 0)
		return fd;
	return send(fd, &request, 1, MSG_NOSIGNAL) < 0 ? -errno : 0;
}
