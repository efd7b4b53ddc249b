/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_TEMPLATE_INTERNAL_H
#define PODVM_SANDBOX_TEMPLATE_INTERNAL_H

/* What those share who make and keep templates (template_make.c, template_store.c). */

#include "oci/digest.h"

/**
 * template_hash() - Digest of a file of a template
 * @fd:		File, at any position
 * @out:	Gets hex digits
 *
 * Holes aren't read: the digest is that of its size and of all pages that aren't zeros.
 *
 * Return: 0 or a negative errno
 */
int template_hash(int fd, char out[SHA256_HEX_SIZE]);

/** template_note_checked() - These files have the digests that they should have */
int template_note_checked(const char *state_dir, const char *key, int memory_fd, int state_fd);

#endif
