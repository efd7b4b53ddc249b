/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/rootfs_plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "shim/mount_format.h"
#include "storage/snapshot.h"

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
		"fsync=",
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

/* ---- an overlay of files ---- */

/* The directory beside the file of containerd's erofs snapshotter, by which it's found again. */
static char *layer_dir(const Containerd__Types__Mount *m)
{
	const char *slash = strrchr(m->source, '/');

	if (!str_eq(m->type, "erofs") || *m->source != '/' || !str_eq(slash + 1, SNAPSHOT_BLOB) ||
	    strpbrk(m->source, ":\\"))
		return NULL;
	for (size_t i = 0; i < m->n_options; i++)
		if (!str_eq(m->options[i], "ro") && !str_eq(m->options[i], "loop"))
			return NULL;
	return str_printf("%.*s/fs", (int)(slash - m->source), m->source);
}

/* As it would be when the files before it were mounted in those directories. */
static int plan_formatted(const Containerd__Types__Mount *m, const struct strv *dirs,
			  struct rootfs_plan *plan)
{
	_cleanup_(strv_done) struct strv options = { 0 };
	Containerd__Types__Mount overlay = *m;
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->n_options; i++) {
		_cleanup_(freep) char *option = NULL;

		r = mount_format(m->options[i], dirs->v, dirs->n, &option);
		if (r == 0)
			r = strv_add(&options, option);
	}
	if (r < 0)
		return r == -EINVAL ? share(plan, "an overlay of mounts that isn't understood") : r;
	overlay.options = options.v;
	overlay.n_options = options.n;
	return plan_overlay(&overlay, plan);
}

static int plan_stack(Containerd__Types__Mount *const *mounts, size_t n, struct rootfs_plan *plan)
{
	_cleanup_(strv_done) struct strv dirs = { 0 };

	if (!str_eq(mounts[n - 1]->type, MOUNT_FORMAT_OVERLAY))
		return share(plan, "it's made of more than one mount");
	for (size_t i = 0; i < n - 1; i++) {
		_cleanup_(freep) char *dir = layer_dir(mounts[i]);

		if (!dir)
			return share(plan, "not all of its layers are files of one layer");
		if (strv_add(&dirs, dir) < 0)
			return -ENOMEM;
	}
	return plan_formatted(mounts[n - 1], &dirs, plan);
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
	if (*m->target && !str_eq(m->target, "/"))
		return share(plan, "it's mounted below its top");
	if (n > 1)
		return plan_stack(mounts, n, plan);
	if (str_eq(m->type, "overlay"))
		return plan_overlay(m, plan);
	if (*m->source != '/' || str_eq(m->type, "bind"))
		return share(plan, "it's a directory of the host");
	return plan_disk(m, plan);
}
