/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking the guest image against its digests. Apart from the rest, so that programs that don't
 * check (the shim) do without libcrypto and what it takes of memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "sandbox/guest_image.h"

DEFINE_CLEANUP(digest_freep, EVP_MD_CTX *, EVP_MD_CTX_free)

static int hash_file(const char *path, char hex[65], struct err *e)
{
	_cleanup_(close_fdp) int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_(digest_freep) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char chunk[65536];
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int len = 0;
	ssize_t n;

	if (fd < 0)
		return err_errno(e, -errno, "cannot open %s", path);
	if (!ctx || !EVP_DigestInit_ex(ctx, EVP_sha256(), NULL))
		return err_oom(e);
	while ((n = fd_read_full(fd, chunk, sizeof(chunk))) > 0)
		if (!EVP_DigestUpdate(ctx, chunk, (size_t)n))
			return err_oom(e);
	if (n < 0)
		return err_errno(e, (int)n, "cannot read %s", path);
	if (!EVP_DigestFinal_ex(ctx, digest, &len))
		return err_oom(e);
	for (unsigned int i = 0; i < len && i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	return 0;
}

static int verify_file(const char *path, const struct guest_file *file, struct err *e)
{
	char hex[65] = "";
	int r = hash_file(path, hex, e);

	if (r < 0)
		return r;
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
