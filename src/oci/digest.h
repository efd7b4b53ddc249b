/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_OCI_DIGEST_H
#define PODVM_OCI_DIGEST_H

/*
 * SHA-256, the digest of everything that OCI names by its content. It's nettle's: libcrypto takes
 * five million instructions until it's ready for its first digest, more than all the rest of a
 * container's start on the host.
 */

#include <nettle/sha2.h>
#include <stddef.h>

#define SHA256_HEX_SIZE (2 * SHA256_DIGEST_SIZE + 1)

/** sha256_hex() - End of a digest (sha256_init(), sha256_update()): its hexadecimal digits */
void sha256_hex(struct sha256_ctx *ctx, char out[SHA256_HEX_SIZE]);

/** sha256_file() - SHA-256 of an open file from its start. Return: 0 or a negative errno */
int sha256_file(int fd, char out[SHA256_HEX_SIZE]);

/** sha256_text() - SHA-256 of a string */
void sha256_text(const char *text, char out[SHA256_HEX_SIZE]);

#endif
