/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_DEVICE_H
#define PODVM_AGENT_DEVICE_H

/*
 * Finding disks: by LUN on the virtio-scsi controller (plugged while the guest runs; the kernel
 * scans only what we ask it to, scsi_mod.scan=manual), or by serial number of a virtio-blk disk.
 * Nearly all of it blocks, so it's for workers.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define DEVICE_PATH_MAX 64

/**
 * device_scsi_host() - Number of the SCSI host that disks come to, the first that is a virtio one
 *
 * It's looked for once: whoever is going to fork knows it in its children.
 *
 * Return: Number or a negative errno
 */
int device_scsi_host(void);

/**
 * device_scsi() - The disk at a LUN
 * @lun:	Logical unit, 0-16383
 * @deadline_ms: Of clock_ms()
 * @path:	Gets its node, "/dev/sda"
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int device_scsi(unsigned int lun, uint64_t deadline_ms, char path[DEVICE_PATH_MAX], struct err *e);

/** device_scsi_find() - As device_scsi(), of a disk that is there already; doesn't block */
int device_scsi_find(unsigned int lun, char path[DEVICE_PATH_MAX]);

/** device_scsi_rescan() - Let the kernel find out the size of a disk again. Return: 0 or an errno */
int device_scsi_rescan(unsigned int lun);

/** device_scsi_remove() - Flush and forget the disk at a LUN, so that the host may unplug it */
int device_scsi_remove(unsigned int lun);

/**
 * device_blk() - The virtio-blk disk of a serial number
 * @serial:	Serial number, at most 20 bytes
 * @deadline_ms: Of clock_ms()
 * @path:	Gets its node, "/dev/vdb"
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int device_blk(const char *serial, uint64_t deadline_ms, char path[DEVICE_PATH_MAX], struct err *e);

/**
 * device_part() - A part of a disk as a device of its own
 * @disk:	Node of the disk
 * @number:	Of the part, 1-255; one of that number is removed before
 * @offset:	Where it begins
 * @size:	Its bytes
 * @path:	Gets its node, "/dev/sda1"
 * @e:		What failed
 *
 * Parts need no table on the disk, and they go with the disk.
 *
 * Return: Descriptor of it, to be closed when it's in use, or a negative errno
 */
int device_part(const char *disk, unsigned int number, uint64_t offset, uint64_t size,
		char path[DEVICE_PATH_MAX], struct err *e);

#endif
