/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_LAYER_ENTRY_H
#define PODVM_STORAGE_LAYER_ENTRY_H

/* One entry of a layer: how it changes the tree. Only for layer.c. */

#include <archive.h>
#include <archive_entry.h>

#include "storage/layer.h"
#include "storage/tree.h"

/**
 * struct layer_job - One layer while it is applied
 * @target:	Where to
 * @tree:	Its tree
 * @tar:	The archive, for the data of the current entry
 * @source_error: Why there are no more uncompressed bytes; the message was recorded then
 */
struct layer_job {
	struct layer_target *target;
	struct tree tree;
	struct archive *tar;
	int source_error;
};

/** layer_limit() - Record that the limit @what (of @limit @unit) was hit. Return: -EFBIG */
int layer_limit(struct err *e, const char *what, uint64_t limit, const char *unit);

/** layer_archive_error() - Record why libarchive failed. Return: negative errno */
int layer_archive_error(const struct layer_job *job, struct err *e);

/**
 * layer_entry_apply() - Make, replace or remove what the entry tells
 * @job:	The layer
 * @entry:	Its current entry
 * @e:		Says which entry and what is wrong
 *
 * Return: 0 or a negative errno
 */
int layer_entry_apply(struct layer_job *job, struct archive_entry *entry, struct err *e);

#endif
