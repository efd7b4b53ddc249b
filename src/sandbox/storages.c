/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/storages.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

/* A mount and the texts that it points to. */
struct item {
	Podvm__Agent__V1__Storage storage;
	Podvm__Agent__V1__DirectoryMode mode;
	Podvm__Agent__V1__FsGroup group;
	Podvm__Agent__V1__Verity verity;
	struct strv texts;
	struct strv options;
	struct strv directory;
};

static struct item *last(struct storages *st)
{
	return container_of(st->v[st->n - 1], struct item, storage);
}

static void item_free(struct item *it)
{
	strv_done(&it->texts);
	strv_done(&it->options);
	strv_done(&it->directory);
	free(it);
}

DEFINE_CLEANUP(item_freep, struct item *, item_free)

int storages_add(struct storages *st, const char *driver, const char *source, const char *fstype,
		 const char *mount_point)
{
	_cleanup_(item_freep) struct item *it = calloc(1, sizeof(*it));
	Podvm__Agent__V1__Storage **v;

	if (!it || strv_add_all(&it->texts, driver, source, fstype, mount_point, NULL) < 0)
		return -ENOMEM;
	v = realloc(st->v, (st->n + 1) * sizeof(Podvm__Agent__V1__Storage *));
	if (!v)
		return -ENOMEM;
	podvm__agent__v1__storage__init(&it->storage);
	it->storage.driver = it->texts.v[0];
	it->storage.source = it->texts.v[1];
	it->storage.fstype = it->texts.v[2];
	it->storage.mount_point = it->texts.v[3];
	st->v = v;
	st->v[st->n++] = &TAKE_PTR(it)->storage;
	return 0;
}

int storages_option(struct storages *st, const char *fmt, ...)
{
	struct item *it = last(st);
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = strv_addv(&it->options, fmt, ap);
	va_end(ap);
	it->storage.options = it->options.v;
	it->storage.n_options = it->options.n;
	return r;
}

int storages_name(struct storages *st, const char *name)
{
	struct item *it = last(st);

	if (strv_add(&it->texts, name) < 0)
		return -ENOMEM;
	it->storage.name = it->texts.v[it->texts.n - 1];
	return 0;
}

int storages_scratch(struct storages *st, const struct vmm_disk_addr *disk, const char *path)
{
	int r = storages_add(st, disk->driver, disk->source, "ext4", path);

	if (r == 0)
		r = storages_option(st, "discard");
	/* It's nearly empty: where what is gets looked up when it's needed. */
	if (r == 0)
		r = storages_option(st, "no_prefetch_block_bitmaps");
	/* The list of what isn't for data, by which damaged files are noticed, is long. */
	return r < 0 ? r : storages_option(st, "noblock_validity");
}

int storages_overlay(struct storages *st, const char *lower, const char *scratch,
		     const char *rootfs)
{
	int r = storages_add(st, "overlay", "", "", rootfs);

	if (r == 0)
		r = storages_option(st, "%s", lower);
	/* One device and one inode number for a file, in stat() as in readdir(). */
	if (r == 0)
		r = storages_option(st, "xino=on");
	if (r < 0 || !scratch)
		return r < 0 ? r : storages_option(st, "ro");
	r = storages_option(st, "upperdir=%s/upper", scratch);
	return r < 0 ? r : storages_option(st, "workdir=%s/work", scratch);
}

void storages_part(struct storages *st, unsigned int number, const struct disk_part *part)
{
	struct item *it = last(st);

	if (part->size > 0) {
		it->storage.part = number;
		it->storage.offset = part->offset;
		it->storage.size = part->size;
	}
	if (part->data == 0)
		return;
	podvm__agent__v1__verity__init(&it->verity);
	it->verity.data_size = part->data;
	it->verity.root_hash.data = (uint8_t *)part->root_hash;
	it->verity.root_hash.len = sizeof(part->root_hash);
	it->storage.verity = &it->verity;
}

void storages_directories(struct storages *st, const struct strv *directories)
{
	st->v[st->n - 1]->directories = directories->v;
	st->v[st->n - 1]->n_directories = directories->n;
}

int storages_directory(struct storages *st, const char *path, mode_t mode, uid_t uid, gid_t gid)
{
	struct item *it = last(st);

	if (strv_add(&it->directory, path) < 0)
		return -ENOMEM;
	podvm__agent__v1__directory_mode__init(&it->mode);
	it->mode.mode = mode;
	it->mode.uid = uid;
	it->mode.gid = gid;
	it->storage.directory_mode = &it->mode;
	storages_directories(st, &it->directory);
	return 0;
}

void storages_fs_group(struct storages *st, gid_t gid, bool on_mismatch)
{
	struct item *it = last(st);

	podvm__agent__v1__fs_group__init(&it->group);
	it->group.gid = gid;
	it->group.on_root_mismatch = on_mismatch;
	it->storage.fs_group = &it->group;
}

void storages_done(struct storages *st)
{
	while (st->n > 0) {
		item_free(last(st));
		st->n--;
	}
	free(st->v);
	st->v = NULL;
}
