/* SPDX-License-Identifier: Apache-2.0 */
/* Network namespaces: namespaces(7), setns(2), ioctl_ns(2). */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/cleanup.h"
#include "net/pod_internal.h"

#define OWN_NS	 "/proc/self/ns/net"
#define FIRST_NS "/proc/1/ns/net"

static bool is_same(int ns, const char *path)
{
	struct stat a;
	struct stat b;

	return fstat(ns, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

static bool is_netns(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == NSFS_MAGIC &&
	       ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET;
}

/* It goes into the journal, a line each. */
static bool is_line(const char *path)
{
	for (; *path; path++)
		if (iscntrl((unsigned char)*path))
			return false;
	return true;
}

int net_ns_open(const char *path, uint64_t *ret_inode, struct err *e)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	struct stat st;

	if (!is_line(path))
		return err_set(e, -EINVAL, "the path of the network namespace is invalid");
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, -errno, "cannot open the network namespace %s", path);
	if (!is_netns(fd) || fstat(fd, &st) < 0)
		return err_set(e, -EINVAL, "%s is not a network namespace", path);
	if (is_same(fd, OWN_NS) || is_same(fd, FIRST_NS)) {
		err_set(e, -EOPNOTSUPP,
			"%s is the host's network, which a VM can't share: it has a kernel of its "
			"own",
			path);
		err_hint(e, "Run what needs the host's network (hostNetwork: true) without a VM");
		return -EOPNOTSUPP;
	}
	*ret_inode = st.st_ino;
	return TAKE_FD(fd);
}

int net_ns_run(int ns, int (*fn)(void *data), void *data)
{
	_cleanup_(close_fdp) int own = open(OWN_NS, O_RDONLY | O_CLOEXEC);
	int r;

	if (own < 0 || setns(ns, CLONE_NEWNET) < 0)
		return -errno;
	r = fn(data);
	return setns(own, CLONE_NEWNET) < 0 ? -ENOTRECOVERABLE : r;
}
