/* SPDX-License-Identifier: Apache-2.0 */
#include "base/unixsock.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"

static int make_socket(const char *path, int type, struct sockaddr_un *addr)
{
	int fd;

	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if ((size_t)snprintf(addr->sun_path, sizeof(addr->sun_path), "%s", path) >=
	    sizeof(addr->sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? -errno : fd;
}

int unixsock_connect(const char *path, int type)
{
	struct sockaddr_un addr;
	_cleanup_(close_fdp) int fd = make_socket(path, type, &addr);

	if (fd < 0)
		return fd;
	return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : TAKE_FD(fd);
}

int unixsock_listen(const char *path, int type, int backlog)
{
	struct sockaddr_un addr;
	_cleanup_(close_fdp) int fd = make_socket(path, type, &addr);
	mode_t mask;
	int r;

	if (fd < 0)
		return fd;
	mask = umask(0177);
	r = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	umask(mask);
	if (r == 0 && listen(fd, backlog) < 0)
		r = -errno;
	return r < 0 ? r : TAKE_FD(fd);
}

static int queued(int fd)
{
	int n = 0;

	return ioctl(fd, SIOCINQ, &n) < 0 ? 0 : n;
}

static bool polls(int fd, short event)
{
	struct pollfd p = { .fd = fd, .events = event };

	return poll(&p, 1, 0) == 1 && (p.revents & event);
}

static ssize_t receive_once(int fd, void *data, size_t size)
{
	struct iovec iov = { data, size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT);

	if (n < 0)
		return -errno;
	if (msg.msg_flags & MSG_CTRUNC)
		return -EBADMSG;
	return msg.msg_flags & MSG_TRUNC ? -EMSGSIZE : n;
}

ssize_t unixsock_receive(int fd, void *data, size_t size)
{
	ssize_t n;

	do {
		n = receive_once(fd, data, size);
	} while (n == -EINTR || (n == 0 && (queued(fd) > 0 || !polls(fd, POLLRDHUP))));
	return n;
}

size_t unixsock_queued(int fd)
{
	int n = queued(fd);

	return n > 0 ? (size_t)n : 1;
}

bool unixsock_hung_up(int fd)
{
	return polls(fd, POLLHUP);
}
