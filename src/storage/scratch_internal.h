/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_SCRATCH_INTERNAL_H
#define PODVM_STORAGE_SCRATCH_INTERNAL_H

/* What the scratch*.c files share; others see scratch.h. */

#include "storage/scratch.h"

/**
 * scratch_create_in() - As scratch_create(), with the file itself in another directory
 * @templates:	Where templates are kept
 * @dirfd:	Where the file is; < 0: there as well
 * @journal:	It will be mounted again, also after a crash
 */
int scratch_create_in(const char *templates, int dirfd, uint64_t size, bool journal, struct err *e);

#endif
