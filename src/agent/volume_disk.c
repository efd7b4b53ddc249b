/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that are volumes: their device nodes, their growth, and what is used of them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/child.h"
#include "agent/device.h"
#include "agent/paths.h"
#include "agent/service.h"
#include "agent/volume.h"
#include "base/cleanup.h"
#include "base/fd.h"

#define NAMES_MAX 256
#define LUNS_MAX  64
#define LUN_MAX	  16383U

#define EXT4_RESIZE_FS _IOW('f', 16, uint64_t) /* to a number of blocks */

/**
 * struct disk_call - A call that a worker answers
 * @req:	Its request
 * @deadline_ms: Of the worker
 */
struct disk_call {
	struct ttrpc_call *call;
	const void *req;
	uint64_t deadline_ms;
};

/* A worker whose end answers the call. */
static void begin(struct agent *a, struct ttrpc_call *call, const ProtobufCMessage *msg,
		  const char *name, int (*work)(void *arg, struct err *e), child_done done)
{
	struct disk_call *c = calloc(1, sizeof(*c));
	uint64_t ms = call_timeout(call);
	struct err e = { 0 };

	if (!c) {
		reply_oom(call);
		return;
	}
	*c = (struct disk_call){ .call = call, .req = msg, .deadline_ms = clock_ms() + ms };
	if (child_work(&a->reaper, name, work, c, ms, done, c, &e) < 0) {
		ttrpc_reply_err(call, &e);
		free(c);
	}
}

static void on_done(void *data, const struct err *e)
{
	struct disk_call *c = data;

	if (e)
		ttrpc_reply_err(c->call, e);
	else
		reply_empty(c->call);
	free(c);
}

/* ---- devices ---- */

static void disk_lookup(uint32_t lun, char path[DEVICE_PATH_MAX], PB(Device) * ret)
{
	struct stat st;

	if (device_scsi_find(lun, path) < 0 || lstat(path, &st) < 0 || !S_ISBLK(st.st_mode))
		return;
	ret->found = true;
	ret->block = true;
	ret->major = major(st.st_rdev);
	ret->minor = minor(st.st_rdev);
	ret->name = path + strlen("/dev/");
}

static void answer_lookup(struct ttrpc_call *call, const PB(LookupDevicesRequest) * req)
{
	PB(LookupDevicesResponse) resp = PODVM__AGENT__V1__LOOKUP_DEVICES_RESPONSE__INIT;
	PB(Device) devices[NAMES_MAX + LUNS_MAX];
	PB(Device) * pointers[NAMES_MAX + LUNS_MAX];
	char paths[LUNS_MAX][DEVICE_PATH_MAX];

	resp.devices = pointers;
	resp.n_devices = req->n_names + req->n_luns;
	for (size_t i = 0; i < resp.n_devices; i++) {
		podvm__agent__v1__device__init(&devices[i]);
		pointers[i] = &devices[i];
	}
	for (size_t i = 0; i < req->n_names; i++)
		device_lookup(req->names[i], &devices[i]);
	for (size_t i = 0; i < req->n_luns; i++)
		disk_lookup(req->luns[i], paths[i], &devices[req->n_names + i]);
	ttrpc_reply(call, &resp.base);
}

/* Worker: wait until all disks are there. */
static int work_lookup(void *arg, struct err *e)
{
	const struct disk_call *c = arg;
	const PB(LookupDevicesRequest) *req = c->req;
	char path[DEVICE_PATH_MAX];
	int r = 0;

	for (size_t i = 0; r == 0 && i < req->n_luns; i++)
		r = device_scsi(req->luns[i], c->deadline_ms, path, e);
	return r;
}

static void looked_up(void *data, const struct err *e)
{
	struct disk_call *c = data;

	if (e)
		ttrpc_reply_err(c->call, e);
	else
		answer_lookup(c->call, c->req);
	free(c);
}

HANDLER(serve_lookup_devices)
{
	const PB(LookupDevicesRequest) *req = (const void *)msg;

	if (req->n_names > NAMES_MAX || req->n_luns > LUNS_MAX) {
		ttrpc_reply_error(call, TTRPC_INVALID_ARGUMENT, "more than %d devices", NAMES_MAX);
		return;
	}
	for (size_t i = 0; i < req->n_luns; i++)
		if (req->luns[i] > LUN_MAX) {
			ttrpc_reply_error(call, TTRPC_INVALID_ARGUMENT, "%u is no LUN",
					  req->luns[i]);
			return;
		}
	if (req->n_luns == 0)
		answer_lookup(call, req);
	else
		begin(data, call, msg, "waiting for disks", work_lookup, looked_up);
}

/* ---- growth ---- */

static int open_volume(const char *path, struct err *e)
{
	_cleanup_(close_fdp) int root = open(DIR_PODVM, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *rel = path_below(path, DIR_PODVM);
	int fd;

	if (!rel)
		return err_set(e, -EINVAL, "%.256s is not below " DIR_PODVM, path);
	fd = root < 0 ? -errno : open_beneath(root, rel, O_RDONLY | O_DIRECTORY, 0);
	return fd < 0 ? err_errno(e, fd, "cannot open %s", path) : fd;
}

static int check_size(unsigned int lun, uint64_t size, struct err *e)
{
	char node[DEVICE_PATH_MAX];
	_cleanup_(close_fdp) int fd = -EBADF;
	uint64_t now;
	int r;

	r = device_scsi_rescan(lun);
	if (r == 0)
		r = device_scsi_find(lun, node);
	if (r < 0)
		return err_errno(e, r, "there is no disk at LUN %u", lun);
	fd = open(node, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &now) < 0)
		return err_errno(e, -errno, "cannot open %s", node);
	if (now < size)
		return err_set(e, -EIO, "%s has %llu bytes and not %llu", node,
			       (unsigned long long)now, (unsigned long long)size);
	return 0;
}

/* Worker */
static int work_grow(void *arg, struct err *e)
{
	const struct disk_call *c = arg;
	const PB(GrowVolumeRequest) *req = c->req;
	_cleanup_(close_fdp) int fd = -EBADF;
	struct statfs fs;
	uint64_t blocks;
	int r;

	r = check_size(req->lun, req->size, e);
	if (r < 0 || !*req->path)
		return r;
	fd = open_volume(req->path, e);
	if (fd < 0)
		return fd;
	if (fstatfs(fd, &fs) < 0)
		return err_errno(e, -errno, "cannot look at %s", req->path);
	if (fs.f_type != EXT4_SUPER_MAGIC)
		return err_set(e, -EOPNOTSUPP, "only ext4 can grow while it's mounted");
	blocks = req->size / (uint64_t)fs.f_bsize;
	return ioctl(fd, EXT4_RESIZE_FS, &blocks) < 0
		       ? err_errno(e, -errno, "the file system can't grow")
		       : 0;
}

HANDLER(serve_grow_volume)
{
	const PB(GrowVolumeRequest) *req = (const void *)msg;

	if (req->lun > LUN_MAX) {
		ttrpc_reply_error(call, TTRPC_INVALID_ARGUMENT, "%u is no LUN", req->lun);
		return;
	}
	begin(data, call, msg, "growing a volume", work_grow, on_done);
}

/* ---- use ---- */

HANDLER(serve_stat_volume)
{
	const PB(StatVolumeRequest) *req = (const void *)msg;
	PB(StatVolumeResponse) resp = PODVM__AGENT__V1__STAT_VOLUME_RESPONSE__INIT;
	struct err e = { 0 };
	_cleanup_(close_fdp) int fd = open_volume(req->path, &e);
	struct statfs fs;
	uint64_t block;

	if (fd < 0 || fstatfs(fd, &fs) < 0) {
		if (fd >= 0)
			err_errno(&e, -errno, "cannot look at %s", req->path);
		ttrpc_reply_err(call, &e);
		return;
	}
	block = (uint64_t)fs.f_frsize;
	resp.bytes = block * fs.f_blocks;
	resp.bytes_used = block * (fs.f_blocks - fs.f_bfree);
	resp.bytes_available = block * fs.f_bavail;
	resp.inodes = fs.f_files;
	resp.inodes_used = fs.f_files - fs.f_ffree;
	resp.inodes_free = fs.f_ffree;
	ttrpc_reply(call, &resp.base);
}
