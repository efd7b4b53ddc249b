/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_GUEST_IMAGE_H
#define PODVM_SANDBOX_GUEST_IMAGE_H

/*
 * The guest image: kernel, root file system and manifest.json that guest/image/build.sh makes and
 * docs/guest-image.md describes. All sandboxes of a machine share it, read-only.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/* A file of the image as the manifest tells. */
struct guest_file {
	char *file;
	char *sha256;
	uint64_t size;
};

/**
 * struct guest_image - An image that was found complete
 * @dir:	Its directory
 * @version:	Of the image
 * @arch:	"x86_64"
 * @agent_version: Of podvm-agent in it
 * @kernel:	Kernel, and @kernel_version what uname -r will say
 * @rootfs:	Root file system, and the dm-verity root hash of it
 * @cmdline:	Kernel command line that every monitor needs: common part and root device
 * @kernel_path: Path of the kernel (may be one given by the user instead)
 * @rootfs_path: Path of the root file system
 * @packages:	"NAME VERSION LICENCE" of everything in it that isn't ours
 */
struct guest_image {
	char *dir;
	char *version;
	char *arch;
	char *agent_version;
	struct guest_file kernel;
	char *kernel_version;
	struct guest_file rootfs;
	char *root_hash;
	char *cmdline;
	char *kernel_path;
	char *rootfs_path;
	struct strv packages;
};

/**
 * guest_image_open() - Read the manifest and check that the files are there in their sizes
 * @dir:	Directory
 * @debug:	Use the flavour with a shell
 * @ret:	To be released with guest_image_done()
 * @e:		Says what is missing and how to make it
 *
 * Return: 0 or a negative errno
 */
int guest_image_open(const char *dir, bool debug, struct guest_image *ret, struct err *e);

/**
 * guest_image_verify() - Check the files against the digests of the manifest
 *
 * Reads all of them. Return: 0, -EBADMSG for a wrong digest, or another negative errno
 */
int guest_image_verify(const struct guest_image *image, struct err *e);

void guest_image_done(struct guest_image *image);

#endif
