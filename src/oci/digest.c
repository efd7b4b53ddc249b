/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <nettle/base16.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "oci/digest.h"

#define CHUNK ((size_t)256 << 10)

void sha256_hex(struct sha256_ctx *ctx, char out[SHA256_HEX_SIZE])
{
	uint8_t sum[SHA256_DIGEST_SIZE];

	sha256_digest(ctx, sizeof(sum), sum);
	base16_encode_update(out, sizeof(sum), sum);
	out[SHA256_HEX_SIZE - 1] = '\0';
}

int sha256_file(int fd, char out[SHA256_HEX_SIZE])
{
	_cleanup_(freep) void *chunk = malloc(CHUNK);
	struct sha256_ctx ctx;
	off_t offset = 0;
	ssize_t n;

	if (!chunk)
		return -ENOMEM;
	sha256_init(&ctx);
	while ((n = pread(fd, chunk, CHUNK, offset)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		sha256_update(&ctx, (size_t)n, chunk);
		offset += n;
	}
	sha256_hex(&ctx, out);
	return 0;
}

void sha256_text(const char *text, char out[SHA256_HEX_SIZE])
{
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	sha256_update(&ctx, strlen(text), (const uint8_t *)text);
	sha256_hex(&ctx, out);
}
