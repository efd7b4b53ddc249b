/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_DIRECT_VOLUME_H
#define PODVM_STORAGE_DIRECT_VOLUME_H

/*
 * Theory of operation
 *
 * A persistent volume that is a block device would be mounted by the host and then shared with the
 * machine; the device itself is better off in the machine, which can only have it if the host
 * doesn't mount it. So the CSI driver has to know: instead of mounting it says what it would have
 * mounted. The contract is that of Kata Containers' direct-assigned volumes, which CSI drivers
 * support: below one directory there is, for every volume, a directory whose name is the path at
 * which the kubelet expects the volume, in base64 (of URLs), with
 *
 *	mountInfo.json	{"volume-type": "block", "device": "/dev/sdx", "fstype": "ext4",
 *			 "metadata": {"fsGroup": "1000", "fsGroupChangePolicy": "OnRootMismatch"},
 *			 "options": ["noatime"]}
 *	ID		an empty file: the sandbox that has the volume
 *
 * Whoever can write there decides what devices pods get: it has to be root's alone.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"

#define DIRECT_VOLUME_MAX ((size_t)64 << 10) /* bytes of a mountInfo.json */

/**
 * struct direct_volume - A volume that is a device
 * @device:	Block device or file
 * @fstype:	Its file system, one that guests know
 * @options:	To mount it with
 * @readonly:	It's not written to
 * @fs_group:	Group that gets its files, 0: none
 * @fs_group_on_mismatch: ...unless the root directory has it already
 */
struct direct_volume {
	char *device;
	char *fstype;
	struct strv options;
	bool readonly;
	gid_t fs_group;
	bool fs_group_on_mismatch;
};

void direct_volume_done(struct direct_volume *v);

/**
 * direct_volume_parse() - Understand a mountInfo.json
 * @text:	Its text
 * @len:	Bytes
 * @ret:	All zero; gets the volume, to be released also on failure
 * @e:		Says what is wrong or not supported
 *
 * Return: 0 or a negative errno
 */
int direct_volume_parse(const char *text, size_t len, struct direct_volume *ret, struct err *e);

/**
 * direct_volume_read() - What is said about a volume
 * @dir:	Directory of the contract
 * @path:	Of the volume
 * @ret:	As above
 * @e:		What is wrong; not set for -ENOENT
 *
 * Return: 0, -ENOENT: nothing, or another negative errno
 */
int direct_volume_read(const char *dir, const char *path, struct direct_volume *ret, struct err *e);

/** direct_volume_add() - Say it: @text is checked and written. Return: 0 or a negative errno */
int direct_volume_add(const char *dir, const char *path, const char *text, struct err *e);

/** direct_volume_remove() - Forget it. Return: 0 (also when nothing was said) or an errno */
int direct_volume_remove(const char *dir, const char *path, struct err *e);

/** direct_volume_note() - Note the sandbox that has it. Return: 0 or a negative errno */
int direct_volume_note(const char *dir, const char *path, const char *sandbox, struct err *e);

/** direct_volume_users() - Append the sandboxes that have, or had, it. Return: 0 or an errno */
int direct_volume_users(const char *dir, const char *path, struct strv *ret, struct err *e);

#endif
