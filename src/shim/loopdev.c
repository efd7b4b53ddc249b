/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/loopdev.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"

/* How often another process may have taken the device that was free. */
#define TRIES 64

/* Return: Descriptor, -EBUSY when another process was faster, or another negative errno */
static int take_free(int control, const struct loop_config *config, char path[LOOPDEV_PATH_MAX])
{
	_cleanup_(close_fdp) int fd = -EBADF;
	int number = ioctl(control, LOOP_CTL_GET_FREE);

	if (number < 0)
		return -errno;
	snprintf(path, LOOPDEV_PATH_MAX, "/dev/loop%d", number);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, LOOP_CONFIGURE, config) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int loopdev_attach(const char *file, bool readonly, char path[LOOPDEV_PATH_MAX], struct err *e)
{
	_cleanup_(close_fdp) int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	_cleanup_(close_fdp) int backing = open(file, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	struct loop_config config = {
		.fd = (unsigned int)backing,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR | (readonly ? LO_FLAGS_READ_ONLY : 0),
	};
	int r = -EBUSY;

	if (backing < 0)
		return err_errno(e, -errno, "cannot open %s", file);
	if (control < 0)
		return err_errno(e, -errno, "cannot open /dev/loop-control");
	for (int i = 0; r == -EBUSY && i < TRIES; i++)
		r = take_free(control, &config, path);
	return r < 0 ? err_errno(e, r, "cannot make a loop device of %s", file) : r;
}
