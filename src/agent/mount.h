/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_MOUNT_H
#define PODVM_AGENT_MOUNT_H

/*
 * Making one mount, for workers: it blocks. The new mount API is used throughout (fsopen,
 * open_tree, move_mount): it takes any number of overlay layers, says why a file system can't be
 * mounted, and mounts onto a descriptor, so that no path is looked up twice.
 */

#include <stdbool.h>
#include <stdint.h>

#include "agent/dm.h"
#include "base/err.h"
#include "base/str.h"
#include "proto/agent.pb-c.h"

/**
 * struct mount_options - Options of a mount, sorted by who takes them
 * @attr:	MOUNT_ATTR_* of the mount
 * @ro:		The file system itself is read-only as well
 * @recursive:	A bind mount takes what is mounted below along
 * @fs:		Options of the file system, "name" or "name=value"
 */
struct mount_options {
	uint64_t attr;
	bool ro;
	bool recursive;
	struct strv fs;
};

/**
 * mount_options_parse() - Sort options
 * @o:		Zeroed; freed with mount_options_done() in any case
 * @options:	Options
 * @n:		Their number
 *
 * Return: 0, -EINVAL (an empty one) or -ENOMEM
 */
int mount_options_parse(struct mount_options *o, char *const *options, size_t n);

/** mount_options_done() - Free what it holds */
void mount_options_done(struct mount_options *o);

/**
 * storage_check() - Check one storage as it came from the host
 * @s:		Storage
 * @e:		What is wrong with it
 *
 * Return: 0 or -EINVAL
 */
int storage_check(const Podvm__Agent__V1__Storage *s, struct err *e);

/** storage_verity_name() - Name of a storage's dm-verity device. Return: Whether it has one */
bool storage_verity_name(const Podvm__Agent__V1__Storage *s, char name[DM_NAME_MAX]);

/**
 * mount_storage() - Find the device and mount it
 * @s:		Checked storage
 * @deadline_ms: Of clock_ms(), for the device to appear
 * @e:		What failed, in the file system's own words where it has any
 *
 * When it fails nothing is mounted, but the storage's dm-verity device may be there.
 *
 * Return: 0 or a negative errno
 */
int mount_storage(const Podvm__Agent__V1__Storage *s, uint64_t deadline_ms, struct err *e);

/**
 * unmount_point() - Unmount; a mount that is in use is detached and goes when it's free
 * @path:	Where it is, below /run/podvm
 *
 * For workers: it changes the working directory. Failures are logged here.
 *
 * Return: 0 (also when nothing is mounted there) or a negative errno
 */
int unmount_point(const char *path);

#endif
