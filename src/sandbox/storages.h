/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_STORAGES_H
#define PODVM_SANDBOX_STORAGES_H

/*
 * The list of mounts that CreateContainer takes: built in the order in which the guest will make
 * them, it owns all its texts.
 *
 *	_cleanup_(storages_done) struct storages st = { 0 };
 *
 *	r = storages_add(&st, "tmpfs", "", "", "/run/podvm/shm");
 *	if (r == 0)
 *		r = storages_option(&st, "mode=1777");
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/str.h"
#include "proto/agent.pb-c.h"
#include "storage/parts.h"
#include "vmm/vmm.h"

/**
 * struct storages - Mounts
 * @v:	For the request, NULL while it's empty
 * @n:	How many
 */
struct storages {
	Podvm__Agent__V1__Storage **v;
	size_t n;
};

/** storages_add() - Append a mount without options. Return: 0 or -ENOMEM */
int storages_add(struct storages *st, const char *driver, const char *source, const char *fstype,
		 const char *mount_point);

/** storages_option() - Append an option to the mount that was added last. Return: 0 or -ENOMEM */
int storages_option(struct storages *st, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * storages_part() - What is mounted of the disk that was added last, and how it's checked
 * @st:		Storages
 * @number:	Of the part, if it isn't the whole disk
 * @part:	The part; borrowed
 */
void storages_part(struct storages *st, unsigned int number, const struct disk_part *part);

/**
 * storages_scratch() - Append the file system that a container writes to
 * @st:		Storages
 * @disk:	A disk of scratch_create()
 * @path:	Where it's mounted
 *
 * Return: 0 or -ENOMEM
 */
int storages_scratch(struct storages *st, const struct vmm_disk_addr *disk, const char *path);

/**
 * storages_overlay() - Append a container's root file system
 * @st:		Storages
 * @lower:	Its layers, the option lowerdir=
 * @scratch:	Where storages_scratch() is mounted, NULL: nothing can be written
 * @rootfs:	Where it's mounted
 *
 * Return: 0 or -ENOMEM
 */
int storages_overlay(struct storages *st, const char *lower, const char *scratch,
		     const char *rootfs);

/** storages_name() - What statistics call the one that was added last. Return: 0 or -ENOMEM */
int storages_name(struct storages *st, const char *name);

/** storages_directories() - Directories to make in the one that was added last; borrowed */
void storages_directories(struct storages *st, const struct strv *directories);

/** storages_directory() - As storages_directories(), one with attributes. Return: 0 or -ENOMEM */
int storages_directory(struct storages *st, const char *path, mode_t mode, uid_t uid, gid_t gid);

/** storages_fs_group() - Group that gets the files of the one that was added last */
void storages_fs_group(struct storages *st, gid_t gid, bool on_mismatch);

void storages_done(struct storages *st);

#endif
