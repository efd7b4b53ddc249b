/* SPDX-License-Identifier: Apache-2.0 */

/* SHA-256 of files and names, as hexadecimal digits. */

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/image_store_internal.h"

#define CHUNK ((size_t)256 << 10)

DEFINE_CLEANUP(md_freep, EVP_MD_CTX *, EVP_MD_CTX_free)

static int finish(EVP_MD_CTX *md, char out[IMAGE_SHA256_SIZE])
{
	unsigned char sum[EVP_MAX_MD_SIZE];

	if (EVP_DigestFinal_ex(md, sum, NULL) != 1)
		return -EIO;
	for (size_t i = 0; i < 32; i++)
		snprintf(out + 2 * i, 3, "%02x", sum[i]);
	return 0;
}

int sha256_file(int fd, char out[IMAGE_SHA256_SIZE])
{
	_cleanup_(md_freep) EVP_MD_CTX *md = EVP_MD_CTX_new();
	_cleanup_(freep) void *chunk = malloc(CHUNK);
	off_t offset = 0;
	ssize_t n;

	if (!md || !chunk || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	while ((n = pread(fd, chunk, CHUNK, offset)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (EVP_DigestUpdate(md, chunk, (size_t)n) != 1)
			return -EIO;
		offset += n;
	}
	return finish(md, out);
}

int sha256_text(const char *text, char out[IMAGE_SHA256_SIZE])
{
	_cleanup_(md_freep) EVP_MD_CTX *md = EVP_MD_CTX_new();

	if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1 ||
	    EVP_DigestUpdate(md, text, strlen(text)) != 1)
		return -ENOMEM;
	return finish(md, out);
}
