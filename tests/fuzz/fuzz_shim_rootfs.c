/* SPDX-License-Identifier: Apache-2.0 */
/* A mount as containerd hands it over: lines of type, source, target and options. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "shim/rootfs_plan.h"

#define OPTIONS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the rest of the shim relies on. */
static void check(const struct rootfs_plan *p)
{
	switch (p->kind) {
	case ROOTFS_SHARED:
		if (!p->why || p->upper || p->source || p->layers.n > 0)
			abort();
		break;
	case ROOTFS_LAYERS:
		if (p->layers.n == 0 || p->layers.n > ROOTFS_MAX_LAYERS ||
		    (p->upper && *p->upper != '/'))
			abort();
		for (size_t i = 0; i < p->layers.n; i++)
			if (p->layers.v[i][0] != '/' || strchr(p->layers.v[i], ':'))
				abort();
		break;
	case ROOTFS_DISK:
		if (*p->source != '/' || !*p->fstype)
			abort();
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) char *text = strndup((const char *)data, size);
	_cleanup_(rootfs_plan_done) struct rootfs_plan plan = { 0 };
	Containerd__Types__Mount m = CONTAINERD__TYPES__MOUNT__INIT;
	Containerd__Types__Mount *list[] = { &m };
	char *options[OPTIONS_MAX];
	char **fields[] = { &m.type, &m.source, &m.target };
	char *rest = text;
	char *line;

	if (!text)
		return 0;
	m.options = options;
	for (size_t i = 0; (line = strsep(&rest, "\n")); i++) {
		if (i < ARRAY_SIZE(fields))
			*fields[i] = line;
		else if (m.n_options < OPTIONS_MAX)
			options[m.n_options++] = line;
	}
	if (rootfs_plan(list, 1, &plan) == 0)
		check(&plan);
	return 0;
}
