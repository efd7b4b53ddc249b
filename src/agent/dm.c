/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/dm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/str.h"

#define CONTROL	     "/dev/mapper/control"
#define SECTOR	     512
#define PARAMS_MAX   512
#define CREATE_TRIES 2

/* A request with room for the one target of a table. */
struct request {
	struct dm_ioctl head;
	struct dm_target_spec target;
	char params[PARAMS_MAX];
};

static void prepare(struct request *req, const char *name, uint32_t flags)
{
	*req = (struct request){
		.head = {
			.version = { DM_VERSION_MAJOR, 0, 0 },
			.data_size = sizeof(*req),
			.data_start = offsetof(struct request, target),
			.flags = flags,
		},
	};
	snprintf(req->head.name, sizeof(req->head.name), "%s", name);
}

static int call(int control, unsigned long command, struct request *req)
{
	return ioctl(control, command, req) < 0 ? -errno : 0;
}

static int remove_device(int control, const char *name)
{
	struct request req;
	int r;

	prepare(&req, name, DM_DEFERRED_REMOVE);
	r = call(control, DM_DEV_REMOVE, &req);
	return r == -ENXIO ? 0 : r;
}

int dm_remove(const char *name)
{
	_cleanup_(close_fdp) int control = open(CONTROL, O_RDWR | O_CLOEXEC);

	return control < 0 ? -errno : remove_device(control, name);
}

/* Return: 0 with the device's number in @req, or a negative errno */
static int create(int control, const char *name, struct request *req)
{
	int r = -EBUSY;

	for (int i = 0; r == -EBUSY && i < CREATE_TRIES; i++) {
		if (i > 0)
			(void)remove_device(control, name);
		prepare(req, name, 0);
		r = call(control, DM_DEV_CREATE, req);
	}
	return r;
}

static int load(int control, const char *name, const char *disk, const Podvm__Agent__V1__Verity *v)
{
	unsigned long long blocks = v->data_size / DM_BLOCK;
	char hash[2 * DM_HASH_SIZE + 1];
	struct request req;

	for (size_t i = 0; i < DM_HASH_SIZE; i++)
		snprintf(hash + 2 * i, 3, "%02x", v->root_hash.data[i]);
	prepare(&req, name, DM_READONLY_FLAG);
	req.head.target_count = 1;
	req.target.length = v->data_size / SECTOR;
	snprintf(req.target.target_type, sizeof(req.target.target_type), "verity");
	/* Version, disk, disk with the tree, block sizes, blocks of data, where the tree begins. */
	snprintf(req.params, sizeof(req.params), "1 %s %s %d %d %llu %llu sha256 %s -", disk, disk,
		 DM_BLOCK, DM_BLOCK, blocks, blocks, hash);
	return call(control, DM_TABLE_LOAD, &req);
}

/* A table takes effect when the device is resumed. */
static int resume(int control, const char *name)
{
	struct request req;

	prepare(&req, name, 0);
	return call(control, DM_DEV_SUSPEND, &req);
}

int dm_verity_create(const char *name, const char *disk, const Podvm__Agent__V1__Verity *v,
		     char path[DEVICE_PATH_MAX], struct err *e)
{
	_cleanup_(close_fdp) int control = open(CONTROL, O_RDWR | O_CLOEXEC);
	struct request req;
	int r;

	if (control < 0)
		return err_errno(e, -errno, "cannot open " CONTROL);
	r = create(control, name, &req);
	if (r < 0)
		return err_errno(e, r, "cannot make a dm-verity device");
	snprintf(path, DEVICE_PATH_MAX, "/dev/dm-%u", minor(req.head.dev));
	r = load(control, name, disk, v);
	if (r == 0)
		r = resume(control, name);
	if (r < 0) {
		(void)remove_device(control, name);
		return err_errno(e, r, "cannot check %s by dm-verity", disk);
	}
	return 0;
}
