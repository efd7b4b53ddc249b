/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_RUNDIR_INTERNAL_H
#define PODVM_SANDBOX_RUNDIR_INTERNAL_H

/* What the files that make up rundir.h share. */

#include "oci/json.h"
#include "sandbox/rundir.h"

/** state_write() - state.json of a directory */
int state_write(int dirfd, const struct rundir_state *st);

/** state_read() - And back; @dir is what messages call the directory */
int state_read(int dirfd, const char *dir, struct rundir_state *st, struct err *e);

/** state_text() - A string for JSON, in which '?' takes the place of what is no text */
struct json_object *state_text(const char *text);

/** name_valid() - Whether a directory of at most @max characters may be called so */
bool name_valid(const char *name, size_t max);

#endif
