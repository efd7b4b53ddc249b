/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/uevent.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
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

/*
 * Take all announcements. Each begins with the device's path, "add@/devices/...".
 * Return: How many there were that count; *lost is set when some were lost, which count
 */
static int drain(int fd, const char *part, bool *lost)
{
	char text[8192];
	int found = 0;

	for (;;) {
		ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

		if (n < 0 && errno != ENOBUFS)
			return found;
		text[MAX(n, 0)] = '\0';
		*lost |= n < 0;
		found += n < 0 || strstr(text, part);
	}
}

int uevent_drain(int fd)
{
	bool lost = false;

	return drain(fd, "", &lost);
}

int uevent_wait(int fd, const char *part, uint64_t deadline_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	bool lost = false;

	for (;;) {
		uint64_t now = clock_ms();
		int r;

		if (drain(fd, part, &lost) > 0)
			return lost;
		if (now >= deadline_ms)
			return -ETIMEDOUT;
		r = poll(&p, 1, (int)MIN(deadline_ms - now, 60000));
		if (r < 0 && errno != EINTR)
			return -errno;
	}
}
