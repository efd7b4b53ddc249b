/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/prune.h"

#include <stdlib.h>

static bool is_too_old(const struct prune_rules *rules, const struct prune_item *it, int64_t now)
{
	return rules->max_age && now > it->used && (uint64_t)(now - it->used) > rules->max_age;
}

static int by_use(const void *a, const void *b)
{
	const struct prune_item *x = a;
	const struct prune_item *y = b;

	return (x->used > y->used) - (x->used < y->used);
}

void prune_choose(const struct prune_rules *rules, struct prune_item *items, size_t n, int64_t now)
{
	uint64_t bytes = 0;

	if (n > 1)
		qsort(items, n, sizeof(*items), by_use);
	for (size_t i = 0; i < n; i++) {
		struct prune_item *it = &items[i];

		it->goes = !it->in_use && (rules->all || (rules->unneeded && it->unneeded) ||
					   is_too_old(rules, it, now));
		if (!it->goes)
			bytes += it->bytes;
	}
	for (size_t i = 0; rules->max_bytes && i < n && bytes > rules->max_bytes; i++) {
		if (items[i].in_use || items[i].goes)
			continue;
		items[i].goes = true;
		bytes -= items[i].bytes;
	}
}

void prune_tell(const struct prune_rules *rules, const char *name, uint64_t bytes,
		struct prune_result *result)
{
	result->removed++;
	result->freed += bytes;
	if (rules->tell)
		rules->tell(rules->data, name, bytes);
}
