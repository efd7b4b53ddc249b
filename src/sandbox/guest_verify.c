/* SPDX-License-Identifier: Apache-2.0 */
/* Checking the guest image against its digests. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "oci/digest.h"
#include "sandbox/guest_image.h"

static int verify_file(const char *path, const struct guest_file *file, struct err *e)
{
	_cleanup_(close_fdp) int fd = open(path, O_RDONLY | O_CLOEXEC);
	char hex[SHA256_HEX_SIZE];
	int r;

	if (fd < 0)
		return err_errno(e, -errno, "cannot open %s", path);
	r = sha256_file(fd, hex);
	if (r < 0)
		return err_errno(e, r, "cannot read %s", path);
	if (!str_eq(hex, file->sha256)) {
		err_set(e, -EBADMSG, "%s is damaged: its SHA-256 is %s instead of %s", path, hex,
			file->sha256);
		err_hint(e, "build or install it again: make image, make install");
		return -EBADMSG;
	}
	return 0;
}

int guest_image_verify(const struct guest_image *image, struct err *e)
{
	int r = verify_file(image->kernel_path, &image->kernel, e);

	return r < 0 ? r : verify_file(image->rootfs_path, &image->rootfs, e);
}
