/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/rootfs_plan.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

void rootfs_plan_done(struct rootfs_plan *plan)
{
	strv_done(&plan->layers);
	free(plan->upper);
	free(plan->source);
	free(plan->fstype);
	*plan = (struct rootfs_plan){ 0 };
}

/* Everything can be shared. */
static int share(struct rootfs_plan *plan, const char *why)
{
	rootfs_plan_done(plan);
	plan->why = why;
	return 0;
}

/* ---- overlay ---- */

static int add_layers(struct rootfs_plan *plan, const char *list)
{
	_cleanup_(freep) char *copy = strdup(list);
	char *rest = copy;
	char *dir;
	int r = 0;

	if (!copy)
		return -ENOMEM;
	while (r == 0 && (dir = strsep(&rest, ":"))) {
		/* An empty one begins layers of data, which only metacopy makes use of. */
		if (*dir != '/' || strchr(dir, '\\') || plan->layers.n == ROOTFS_MAX_LAYERS)
			return -EINVAL;
		r = strv_add(&plan->layers, dir);
	}
	return r;
}

/* Options that make no difference for what is read. */
static bool is_harmless(const char *option)
{
	static const char *const prefixes[] = {
		"workdir=",
		"index=",
		"xino=",
		"uuid=",
		"nfs_export=",
		"ro",
		"rw",
		"relatime",
		"noatime",
		"volatile",
		"metacopy=off",
		"redirect_dir=off",
		"redirect_dir=nofollow",
	};

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
		const char *p = prefixes[i];

		if (p[strlen(p) - 1] == '=' ? str_starts(option, p) : str_eq(option, p))
			return true;
	}
	return false;
}

static int plan_overlay(const Containerd__Types__Mount *m, struct rootfs_plan *plan)
{
	bool upper = false;
	int r = 0;

	plan->kind = ROOTFS_LAYERS;
	for (size_t i = 0; r == 0 && i < m->n_options; i++) {
		const char *o = m->options[i];

		if (str_starts(o, "lowerdir=") && plan->layers.n == 0) {
			r = add_layers(plan, o + strlen("lowerdir="));
		} else if (str_starts(o, "upperdir=/") && !upper) {
			upper = true;
			r = str_set(&plan->upper, o + strlen("upperdir="));
		} else if (!is_harmless(o)) {
			return share(plan, "an option of overlayfs that isn't known");
		}
	}
	if (r == -EINVAL || (r == 0 && plan->layers.n == 0))
		return share(plan, "the layers are no list of directories");
	return r;
}

/* ---- block devices ---- */

/* Those of the guest's kernel (guest/kernel/storage.config). */
static bool guest_knows(const char *fstype)
{
	static const char *const types[] = { "ext4", "ext3", "ext2", "erofs" };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (str_eq(fstype, types[i]))
			return true;
	return false;
}

static int plan_disk(const Containerd__Types__Mount *m, struct rootfs_plan *plan)
{
	if (!guest_knows(m->type))
		return share(plan, "the guest's kernel doesn't know the file system");
	plan->kind = ROOTFS_DISK;
	plan->readonly = str_eq(m->type, "erofs");
	for (size_t i = 0; i < m->n_options; i++) {
		if (str_eq(m->options[i], "ro"))
			plan->readonly = true;
		else if (str_starts(m->options[i], "offset=") ||
			 str_starts(m->options[i], "sizelimit="))
			return share(plan, "the file system is a part of a file");
	}
	if (str_set(&plan->source, m->source) < 0 || str_set(&plan->fstype, m->type) < 0)
		return -ENOMEM;
	return 0;
}

int rootfs_plan(Containerd__Types__Mount *const *mounts, size_t n, struct rootfs_plan *plan)
{
	const Containerd__Types__Mount *m = n > 0 ? mounts[0] : NULL;

	if (!m)
		return share(plan, "the spec names a directory");
	if (n > 1 || (*m->target && !str_eq(m->target, "/")))
		return share(plan, "it's made of more than one mount");
	if (str_eq(m->type, "overlay"))
		return plan_overlay(m, plan);
	if (*m->source != '/' || str_eq(m->type, "bind"))
		return share(plan, "it's a directory of the host");
	return plan_disk(m, plan);
}
