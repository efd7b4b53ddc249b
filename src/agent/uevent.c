/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/uevent.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

int uevent_open(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	_cleanup_(close_fdp) int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
					     NETLINK_KOBJECT_UEVENT);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* An overrun (-ENOBUFS) says "something happened" just as well. */
int uevent_drain(int fd)
{
	char text[8192];
	int n = 0;

	while (recv(fd, text, sizeof(text), 0) >= 0 || errno == ENOBUFS)
		n++;
	return n;
}

int uevent_wait(int fd, uint64_t deadline_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	for (;;) {
		uint64_t now = clock_ms();
		int r;

		if (uevent_drain(fd) > 0)
			return 0;
		if (now >= deadline_ms)
			return -ETIMEDOUT;
		r = poll(&p, 1, (int)MIN(deadline_ms - now, 60000));
		if (r < 0 && errno != EINTR)
			return -errno;
	}
}
