/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_PRUNE_H
#define PODVM_STORAGE_PRUNE_H

/*
 * Which files of a cache go. What is in use stays, whatever the rules say; whoever removes a file
 * takes its lock, so one that comes into use meanwhile stays as well.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * struct prune_rules - What goes; all zero is nothing
 * @all:	Everything
 * @unneeded:	What nobody can want any more
 * @max_age:	What wasn't used for so many seconds, 0: as long as it likes
 * @max_bytes:	What was used longest ago, until the rest is no larger; 0: as large as it likes
 * @dry_run:	It's only told
 * @tell:	Told of each that goes, or would; may be NULL
 * @data:	For @tell
 */
struct prune_rules {
	bool all;
	bool unneeded;
	uint64_t max_age;
	uint64_t max_bytes;
	bool dry_run;
	void (*tell)(void *data, const char *name, uint64_t bytes);
	void *data;
};

/**
 * struct prune_item - A file of a cache
 * @name:	Of whoever asks
 * @bytes:	Its size
 * @used:	When it was used last, seconds since the epoch
 * @in_use:	Now
 * @unneeded:	Nobody can want it any more
 * @goes:	Set by prune_choose()
 */
struct prune_item {
	char name[80];
	uint64_t bytes;
	int64_t used;
	bool in_use;
	bool unneeded;
	bool goes;
};

/**
 * prune_choose() - Choose
 * @rules:	Rules
 * @items:	All files of the cache; sorted by it
 * @n:		How many
 * @now:	Seconds since the epoch
 */
void prune_choose(const struct prune_rules *rules, struct prune_item *items, size_t n, int64_t now);

/* What has gone, or would. */
struct prune_result {
	size_t removed;
	uint64_t freed;
};

/** prune_tell() - One goes: count it, and tell who wants to know */
void prune_tell(const struct prune_rules *rules, const char *name, uint64_t bytes,
		struct prune_result *result);

#endif
