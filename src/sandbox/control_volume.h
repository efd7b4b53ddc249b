/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_CONTROL_VOLUME_H
#define PODVM_SANDBOX_CONTROL_VOLUME_H

/* Calls of the control socket about a volume that is a disk of the machine. */

#include "sandbox/sandbox.h"
#include "ttrpc/ttrpc.h"
#include "vmm/vmm.h"

/**
 * control_volume_stat() - Answer what is used of a volume
 * @sb:		Sandbox
 * @path:	Where the guest mounts it
 */
void control_volume_stat(struct sandbox *sb, const char *path, struct ttrpc_call *call);

/**
 * control_volume_grow() - Its device has grown: let the machine and its file system know
 * @sb:		Sandbox
 * @addr:	The disk
 * @path:	Where the guest mounts it
 * @size:	Bytes that the device has now
 */
void control_volume_grow(struct sandbox *sb, const struct vmm_disk_addr *addr, const char *path,
			 uint64_t size, struct ttrpc_call *call);

#endif
