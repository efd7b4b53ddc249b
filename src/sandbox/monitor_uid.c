/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/monitor_uid.h"

#include <errno.h>
#include <fcntl.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

/* Return: 0, or -EAGAIN when somebody else has it */
static int lock_byte(int fd, off_t n)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = n, .l_len = 1 };

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

int monitor_uid_take(const char *state_dir, uid_t base, uid_t *ret)
{
	_cleanup_(freep) char *path = str_printf("%s/monitor-uids", state_dir);
	_cleanup_(close_fdp) int fd = -EBADF;
	int r;

	if (!path)
		return -ENOMEM;
	r = mkdir_p(state_dir, 0711);
	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	for (uid_t n = 0; n < MONITOR_UIDS; n++) {
		r = lock_byte(fd, (off_t)n);
		if (r == -EAGAIN)
			continue;
		if (r < 0)
			return r;
		*ret = base + n;
		return TAKE_FD(fd);
	}
	return -ENOSPC;
}
