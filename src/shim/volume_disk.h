/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_VOLUME_DISK_H
#define PODVM_SHIM_VOLUME_DISK_H

/*
 * Theory of operation
 *
 * Volumes that are disks of the machine:
 *
 *	an emptyDir on the host's disk: an ext4 file system in a sparse file, which lies in the
 *	kubelet's directory of the volume (storage/scratch.h). When there are files already, which
 *	somebody has put there, the directory is shared instead
 *	a directory that a CSI driver has handed over without mounting it (storage/direct_volume.h)
 *	a block device, which a container gets as a device
 *
 * Such a disk is plugged when the first container asks for it and stays until the machine ends. The
 * agent mounts it for the first container that is there and unmounts it with the last; so all
 * containers of the pod see one file system, parts of it (subPath) included, and what they write
 * outlives them. In the guest an emptyDir is the directory "data" of its disk, with the attributes
 * that the kubelet has given to the one on the host.
 *
 * A device is opened so that nobody else on the host can have it mounted or give it to another
 * machine; whoever has it already is the reason for a refusal.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "shim/spec.h"
#include "shim/volume_kind.h"
#include "vmm/vmm.h"

struct pod_volume;
struct shim;
struct task;
struct volume_disk;

/**
 * volume_disk_bind() - Bring the source of a mount to the machine, if it's to be a disk
 * @t:		Task that is created
 * @b:		The mount
 * @s:		What its source is
 * @e:		What failed
 *
 * Return: 1, 0 when it isn't to be a disk, or a negative errno
 */
int volume_disk_bind(struct task *t, const struct spec_bind *b, const struct volume_source *s,
		     struct err *e);

/**
 * volume_disk_device() - Bring a block device to the machine
 * @t:		Task that is created
 * @rdev:	Its number
 * @readonly:	The container only reads it
 * @ret:	The volume
 * @e:		What failed, e.g. that it's in use
 *
 * Return: 0 or a negative errno
 */
int volume_disk_device(struct task *t, dev_t rdev, bool readonly, struct pod_volume **ret,
		       struct err *e);

/** volume_disk_addr() - Where the guest finds a disk that is ready */
const struct vmm_disk_addr *volume_disk_addr(const struct volume_disk *d);

/** volume_disk_find() - The disk that a directory of the host is (control_find_volume); of a shim */
const struct vmm_disk_addr *volume_disk_find(void *data, const char *source, const char **path);

/** volume_disk_free() - Unplug it if the machine still runs; NULL is fine */
void volume_disk_free(struct volume_disk *d);

#endif
