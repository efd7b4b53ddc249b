/* SPDX-License-Identifier: Apache-2.0 */
/* A mount as containerd hands it over: lines of type, source, target and options. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "shim/rootfs_plan.h"

#define MOUNTS_MAX  6
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

/* One mount: type, source, target, options. Return: Where the next one begins, NULL: nowhere */
static char *take_mount(char *text, Containerd__Types__Mount *m, char **options)
{
	char **fields[] = { &m->type, &m->source, &m->target };
	char *line;

	m->options = options;
	for (size_t i = 0; (line = strsep(&text, "\n")) && strcmp(line, "--") != 0; i++) {
		if (i < ARRAY_SIZE(fields))
			*fields[i] = line;
		else if (m->n_options < OPTIONS_MAX)
			options[m->n_options++] = line;
	}
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) char *text = strndup((const char *)data, size);
	_cleanup_(rootfs_plan_done) struct rootfs_plan plan = { 0 };
	Containerd__Types__Mount mounts[MOUNTS_MAX];
	Containerd__Types__Mount *list[MOUNTS_MAX];
	char *options[MOUNTS_MAX][OPTIONS_MAX];
	char *rest = text;
	size_t n = 0;

	if (!text)
		return 0;
	while (rest && n < MOUNTS_MAX) {
		mounts[n] = (Containerd__Types__Mount)CONTAINERD__TYPES__MOUNT__INIT;
		list[n] = &mounts[n];
		rest = take_mount(rest, &mounts[n], options[n]);
		n++;
	}
	if (rootfs_plan(list, n, &plan) == 0)
		check(&plan);
	return 0;
}
