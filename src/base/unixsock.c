/* SPDX-License-Identifier: Apache-2.0 */
#include "base/unixsock.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

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
