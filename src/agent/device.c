/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/device.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/uevent.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define PART_TRIES 3

static int find_scsi_host(void)
{
	_cleanup_(closedirp) DIR *dir = opendir("/sys/class/scsi_host");
	struct dirent *d;

	if (!dir)
		return -errno;
	while ((d = readdir(dir))) {
		_cleanup_(freep) char *name = NULL;
		char path[300];
		uint64_t number;

		if (!str_starts(d->d_name, "host") || parse_u64(d->d_name + 4, 9999, &number) < 0)
			continue;
		snprintf(path, sizeof(path), "%s/proc_name", d->d_name);
		if (file_read(dirfd(dir), path, 64, &name, NULL) == 0 &&
		    str_starts(name, "virtio_scsi"))
			return (int)number;
	}
	return -ENODEV;
}

int device_scsi_host(void)
{
	static int host = -ENODEV;

	if (host < 0)
		host = find_scsi_host();
	return host;
}

static int node_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* A disk shows up in /sys a moment before it can be opened. */
static int node_opens(const char *path)
{
	_cleanup_(close_fdp) int fd = node_open(path);

	return MIN(fd, 0);
}

/* The block device that a SCSI device has got, if it has one yet. */
static int scsi_node(int host, unsigned int lun, char path[DEVICE_PATH_MAX])
{
	_cleanup_(closedirp) DIR *dir = NULL;
	char block[96];
	struct dirent *d;

	snprintf(block, sizeof(block), "/sys/class/scsi_device/%d:0:0:%u/device/block", host, lun);
	dir = opendir(block);
	while (dir && (d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		if (snprintf(path, DEVICE_PATH_MAX, "/dev/%s", d->d_name) >= DEVICE_PATH_MAX)
			return -ENAMETOOLONG;
		return 0;
	}
	return -ENODEV;
}

int device_scsi(unsigned int lun, uint64_t deadline_ms, char path[DEVICE_PATH_MAX], struct err *e)
{
	_cleanup_(close_fdp) int events = uevent_open();
	char scan[64];
	char target[32];
	char part[32];
	int host;
	int r;

	if (events < 0)
		return err_errno(e, events, "cannot listen for devices");
	host = device_scsi_host();
	if (host < 0)
		return err_errno(e, host, "there is no virtio-scsi controller");
	if (scsi_node(host, lun, path) == 0 && node_opens(path) == 0)
		return 0;
	snprintf(scan, sizeof(scan), "/sys/class/scsi_host/host%d/scan", host);
	snprintf(target, sizeof(target), "0 0 %u", lun);
	r = file_write(AT_FDCWD, scan, target);
	if (r < 0)
		return err_errno(e, r, "cannot scan for the disk at LUN %u", lun);
	/*
	 * The scan is over, the disk driver looks at what it found in its own time. It announces a
	 * disk that can be opened.
	 */
	snprintf(part, sizeof(part), "/%d:0:0:%u/block/", host, lun);
	do {
		r = uevent_wait(events, part, deadline_ms);
		if (r < 0)
			return err_errno(e, r, "there is no disk at LUN %u", lun);
	} while (scsi_node(host, lun, path) < 0 || (r > 0 && node_opens(path) < 0));
	return 0;
}

int device_scsi_find(unsigned int lun, char path[DEVICE_PATH_MAX])
{
	int host = device_scsi_host();
	int r = host < 0 ? host : scsi_node(host, lun, path);

	return r < 0 ? r : node_opens(path);
}

/* Write to one of the files of a SCSI device that mean orders. */
static int scsi_order(unsigned int lun, const char *order)
{
	int host = device_scsi_host();
	char path[96];

	if (host < 0)
		return host;
	snprintf(path, sizeof(path), "/sys/class/scsi_device/%d:0:0:%u/device/%s", host, lun,
		 order);
	return file_write(AT_FDCWD, path, "1");
}

int device_scsi_rescan(unsigned int lun)
{
	return scsi_order(lun, "rescan");
}

int device_scsi_remove(unsigned int lun)
{
	return scsi_order(lun, "delete");
}

static int blk_node(const char *serial, char path[DEVICE_PATH_MAX])
{
	_cleanup_(closedirp) DIR *dir = opendir("/sys/block");
	struct dirent *d;

	if (!dir)
		return -errno;
	while ((d = readdir(dir))) {
		_cleanup_(freep) char *text = NULL;
		char file[300];

		if (!str_starts(d->d_name, "vd"))
			continue;
		snprintf(file, sizeof(file), "%s/serial", d->d_name);
		if (file_read(dirfd(dir), file, 64, &text, NULL) < 0)
			continue;
		text[strcspn(text, "\n")] = '\0';
		if (!str_eq(text, serial))
			continue;
		if (snprintf(path, DEVICE_PATH_MAX, "/dev/%s", d->d_name) >= DEVICE_PATH_MAX)
			return -ENAMETOOLONG;
		return node_opens(path);
	}
	return -ENODEV;
}

int device_blk(const char *serial, uint64_t deadline_ms, char path[DEVICE_PATH_MAX], struct err *e)
{
	_cleanup_(close_fdp) int events = uevent_open();
	int r;

	if (events < 0)
		return err_errno(e, events, "cannot listen for devices");
	while (blk_node(serial, path) < 0) {
		r = uevent_wait(events, "/block/", deadline_ms);
		if (r < 0)
			return err_errno(e, r, "there is no disk with serial number %s", serial);
	}
	return 0;
}

static int change_part(int fd, int op, struct blkpg_partition *part)
{
	struct blkpg_ioctl_arg arg = { .op = op, .datalen = sizeof(*part), .data = part };

	return ioctl(fd, BLKPG, &arg) < 0 ? -errno : 0;
}

static int make_part(int fd, struct blkpg_partition *part)
{
	int r = change_part(fd, BLKPG_ADD_PARTITION, part);

	if (r == -EBUSY && change_part(fd, BLKPG_DEL_PARTITION, part) == 0)
		r = change_part(fd, BLKPG_ADD_PARTITION, part);
	return r;
}

/*
 * A disk can be opened a moment before the kernel looks for partitions on it, once, which drops
 * those that it finds none of. It doesn't look when one of them is open.
 */
int device_part(const char *disk, unsigned int number, uint64_t offset, uint64_t size,
		char path[DEVICE_PATH_MAX], struct err *e)
{
	_cleanup_(close_fdp) int fd = open(disk, O_RDONLY | O_CLOEXEC);
	struct blkpg_partition part = {
		.start = (long long)offset,
		.length = (long long)size,
		.pno = (int)number,
	};
	bool digit = isdigit((unsigned char)disk[strlen(disk) - 1]);
	int r = -ENOENT;

	if (fd < 0)
		return err_errno(e, -errno, "cannot open %s", disk);
	if (snprintf(path, DEVICE_PATH_MAX, "%s%s%u", disk, digit ? "p" : "", number) >=
	    DEVICE_PATH_MAX)
		return err_set(e, -ENAMETOOLONG, "the name of part %u is too long", number);
	for (int i = 0; i < PART_TRIES && (r == -ENOENT || r == -ENXIO); i++) {
		r = make_part(fd, &part);
		if (r == 0)
			r = node_open(path);
	}
	return r < 0 ? err_errno(e, r, "cannot make part %u of %s", number, disk) : r;
}
