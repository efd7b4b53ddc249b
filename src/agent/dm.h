/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_DM_H
#define PODVM_AGENT_DM_H

/*
 * dm-verity devices, made and removed by the kernel's own ioctls. A device is known by a name that
 * follows from the disk, so what a worker has left that was killed is found again. All of it
 * blocks, so it's for workers.
 */

#include <stdint.h>

#include "agent/device.h"
#include "base/err.h"
#include "proto/agent.pb-c.h"

#define DM_NAME_MAX 96

/* What verity_check() lets through, and how it is hashed. */
#define DM_BLOCK     4096
#define DM_HASH_SIZE 32

/**
 * dm_verity_create() - Make a device that reads a disk and checks what it reads
 * @name:	Of the device, shorter than DM_NAME_MAX; one of that name is removed before
 * @disk:	Node of the disk: data, and the tree behind it
 * @v:		Checked by storage_check()
 * @path:	Gets the node of the device
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int dm_verity_create(const char *name, const char *disk, const Podvm__Agent__V1__Verity *v,
		     char path[DEVICE_PATH_MAX], struct err *e);

/** dm_remove() - Remove a device; one that is in use goes when it's free. Return: 0 or -errno */
int dm_remove(const char *name);

#endif
