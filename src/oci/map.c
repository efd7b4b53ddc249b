/* SPDX-License-Identifier: Apache-2.0 */

/* Pairs of strings: labels, annotations, sysctls. */

#include <errno.h>
#include <stdlib.h>

#include "oci/internal.h"
#include "oci/oci.h"

int oci_map_append(struct oci_map *map, const char *key, const char *value)
{
	struct oci_pair *v;
	struct oci_pair pair = { 0 };

	v = reallocarray(map->v, map->n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	map->v = v;
	if (str_set(&pair.key, key) < 0 || str_set(&pair.value, value) < 0) {
		free(pair.key);
		return -ENOMEM;
	}
	map->v[map->n++] = pair;
	return 0;
}

int oci_map_add(struct oci_map *map, const char *key, const char *value)
{
	for (size_t i = 0; i < map->n; i++)
		if (str_eq(map->v[i].key, key))
			return str_set(&map->v[i].value, value);
	return oci_map_append(map, key, value);
}

const char *oci_map_get(const struct oci_map *map, const char *key)
{
	for (size_t i = 0; i < map->n; i++)
		if (str_eq(map->v[i].key, key))
			return map->v[i].value;
	return NULL;
}

void oci_map_done(struct oci_map *map)
{
	for (size_t i = 0; i < map->n; i++) {
		free(map->v[i].key);
		free(map->v[i].value);
	}
	free(map->v);
	*map = (struct oci_map){ 0 };
}
