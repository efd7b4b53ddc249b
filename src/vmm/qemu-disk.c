/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that come and go while the machine runs: LUNs of the one virtio-scsi controller.
 *
 * Plugging is three commands: the descriptor is passed into a set, a block node is opened on the
 * set, a SCSI disk is made of the node. Unplugging undoes them in the reverse order; so does a
 * plugging that fails half way. The two tables below mirror each other.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "vmm/qemu.h"

#define STEPS 3

/* Descriptor sets of disks; set 1 is the root image's. */
#define FDSET_BASE 100

/**
 * struct disk_op - A disk being plugged or unplugged
 * @lun:	Its LUN, from which all names are made
 * @driver:	QEMU's block driver for what the descriptor is
 * @disk:	What to plug; its descriptor is only good for the first step, its serial for none
 * @serial:	Copy of the serial
 * @steps:	plug_steps or unplug_steps
 * @i:		The step under way
 * @deleted:	The guest has let go of the disk
 * @timer:	Deadline for that, while it is awaited
 * @e:		The first error, code 0: none
 * @dirty:	Something could not be undone: the LUN stays in use
 */
struct disk_op {
	struct list link;
	struct qemu *q;
	unsigned int lun;
	const char *driver;
	struct vmm_disk disk;
	char serial[24];
	const struct step *steps;
	size_t i;
	bool deleted;
	struct loop_timer *timer;
	struct err e;
	bool dirty;
	vmm_done done;
	void *data;
};

struct step {
	const char *command;
	char *(*args)(const struct disk_op *op);
};

static char *add_fd_args(const struct disk_op *op)
{
	return str_printf("{\"fdset-id\":%u,\"opaque\":\"disk%u\"}", FDSET_BASE + op->lun, op->lun);
}

static char *blockdev_add_args(const struct disk_op *op)
{
	return str_printf(
		"{\"driver\":\"%s\",\"node-name\":\"disk%u\","
		"\"filename\":\"/dev/fdset/%u\",\"read-only\":%s,\"discard\":\"%s\","
		"\"cache\":{\"no-flush\":%s},\"aio\":\"threads\"}",
		op->driver, op->lun, FDSET_BASE + op->lun, op->disk.readonly ? "true" : "false",
		op->disk.discard ? "unmap" : "ignore", op->disk.unsafe ? "true" : "false");
}

/* An I/O error is the guest's to handle. */
static char *device_add_args(const struct disk_op *op)
{
	return str_printf("{\"driver\":\"scsi-hd\",\"id\":\"disk%u\",\"drive\":\"disk%u\","
			  "\"bus\":\"scsi0.0\",\"channel\":0,\"scsi-id\":0,\"lun\":%u,"
			  "\"serial\":\"%s\",\"werror\":\"report\",\"rerror\":\"report\"}",
			  op->lun, op->lun, op->lun, op->serial);
}

static char *device_del_args(const struct disk_op *op)
{
	return str_printf("{\"id\":\"disk%u\"}", op->lun);
}

static char *blockdev_del_args(const struct disk_op *op)
{
	return str_printf("{\"node-name\":\"disk%u\"}", op->lun);
}

static char *remove_fd_args(const struct disk_op *op)
{
	return str_printf("{\"fdset-id\":%u}", FDSET_BASE + op->lun);
}

static const struct step plug_steps[STEPS] = {
	{ "add-fd", add_fd_args },
	{ "blockdev-add", blockdev_add_args },
	{ "device_add", device_add_args },
};

static const struct step unplug_steps[STEPS] = {
	{ "device_del", device_del_args },
	{ "blockdev-del", blockdev_del_args },
	{ "remove-fd", remove_fd_args },
};

static void op_free(struct disk_op *op)
{
	list_remove(&op->link);
	loop_timer_free(op->timer);
	free(op);
}

static void op_finish(struct disk_op *op)
{
	vmm_done done = op->done;
	void *data = op->data;
	struct err e = op->e;
	bool attached = op->steps == plug_steps;

	if (!attached && !op->dirty)
		op->q->luns &= ~(UINT64_C(1) << op->lun);
	op_free(op);
	done(data, e.code ? &e : NULL);
}

static void on_step(void *user, struct json_object *ret, const struct err *e);

/* Give the command of the step under way. */
static int op_step(struct disk_op *op)
{
	_cleanup_(freep) char *args = op->steps[op->i].args(op);
	bool first = op->steps == plug_steps && op->i == 0;

	if (!args)
		return -ENOMEM;
	return qmp_call(op->q->qmp, op->steps[op->i].command, args, first ? op->disk.fd : -1,
			QEMU_COMMAND_TIMEOUT_MS, on_step, op);
}

/* After a failure: undo what a plugging has done; an unplugging goes on with the rest. */
static void op_turn_back(struct disk_op *op, const struct err *e)
{
	if (!op->e.code)
		op->e = *e;
	if (op->steps == plug_steps) {
		op->steps = unplug_steps;
		op->i = STEPS - op->i;
	} else {
		op->dirty = true;
		op->i++;
	}
}

/* Go on with step op->i, or with what follows its failure, or be done. */
static void op_continue(struct disk_op *op)
{
	while (op->i < STEPS) {
		struct err e = { 0 };
		int r = op_step(op);

		if (r == 0)
			return;
		err_errno(&e, r, "%s", op->steps[op->i].command);
		op_turn_back(op, &e);
	}
	op_finish(op);
}

static void on_unplug_deadline(void *data)
{
	struct disk_op *op = data;
	struct err e = { 0 };

	loop_timer_free(TAKE_PTR(op->timer));
	err_set(&e, -ETIMEDOUT, "the guest did not let go of disk %u in time", op->lun);
	op_turn_back(op, &e);
	op_continue(op);
}

/* device_del only asks; the disk is gone when QEMU says so. */
static int await_deleted(struct disk_op *op)
{
	return loop_timer_new(op->q->vmm->loop, QEMU_UNPLUG_TIMEOUT_MS, on_unplug_deadline, op,
			      &op->timer);
}

static void on_step(void *user, struct json_object *ret, const struct err *e)
{
	struct disk_op *op = user;

	if (e && e->code == -ECONNRESET) {
		op->e = *e;
		op->dirty = true;
		op_finish(op);
		return;
	}
	if (e) {
		op_turn_back(op, e);
	} else if (op->steps[op->i].args == device_del_args && !op->deleted) {
		if (await_deleted(op) == 0)
			return;
		op->dirty = true;
		op->i++;
	} else {
		op->i++;
	}
	op_continue(op);
}

void qemu_disk_deleted(struct qemu *q, const char *device)
{
	struct disk_op *op;
	uint64_t lun;

	if (!str_starts(device, "disk") || parse_u64(device + 4, VMM_MAX_DISKS - 1, &lun) < 0)
		return;
	list_for_each (op, &q->ops, link) {
		if (op->lun != lun || op->steps != unplug_steps || op->deleted)
			continue;
		op->deleted = true;
		if (op->timer) {
			loop_timer_free(TAKE_PTR(op->timer));
			op->i++;
			op_continue(op);
		}
		return;
	}
}

void qemu_disks_failed(struct qemu *q, const struct err *e)
{
	while (!list_empty(&q->ops)) {
		struct disk_op *op = list_entry(q->ops.next, struct disk_op, link);

		op->e = *e;
		op->dirty = true;
		op_finish(op);
	}
}

static struct disk_op *op_new(struct qemu *q, unsigned int lun, const struct step *steps,
			      vmm_done done, void *data)
{
	struct disk_op *op = calloc(1, sizeof(*op));

	if (!op)
		return NULL;
	op->q = q;
	op->lun = lun;
	op->steps = steps;
	op->done = done;
	op->data = data;
	list_append(&q->ops, &op->link);
	return op;
}

/* QEMU takes a descriptor from a set only when it was opened the way that it wants to use it. */
static int check_disk(const struct vmm_disk *disk, const char **ret_driver, struct err *e)
{
	int mode = fcntl(disk->fd, F_GETFL);
	struct stat st;

	if (mode < 0 || fstat(disk->fd, &st) < 0)
		return err_errno(e, -errno, "cannot use the disk");
	if ((mode & O_ACCMODE) != (disk->readonly ? O_RDONLY : O_RDWR))
		return err_set(e, -EINVAL, "a %s disk must be opened that way",
			       disk->readonly ? "read-only" : "writable");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, -EINVAL, "a disk must be a file or a block device");
	for (const char *p = disk->serial; p && *p; p++)
		if (*p <= ' ' || *p > '~' || *p == '"' || *p == '\\')
			return err_set(e, -EINVAL, "the disk's serial number isn't plain text");
	if (disk->serial && strlen(disk->serial) > 20)
		return err_set(e, -EINVAL, "the disk's serial number is too long");
	*ret_driver = S_ISBLK(st.st_mode) ? "host_device" : "file";
	return 0;
}

static int free_lun(const struct qemu *q)
{
	for (int lun = 0; lun < VMM_MAX_DISKS; lun++)
		if (!(q->luns & UINT64_C(1) << lun))
			return lun;
	return -ENOSPC;
}

int qemu_attach_disk(struct vmm *vmm, const struct vmm_disk *disk, struct vmm_disk_addr *ret,
		     vmm_done done, void *data, struct err *e)
{
	struct qemu *q = vmm->state;
	int lun = free_lun(q);
	const char *driver = NULL;
	struct disk_op *op;
	int r;

	r = check_disk(disk, &driver, e);
	if (r < 0)
		return r;
	if (lun < 0)
		return err_set(e, lun, "the machine has %d disks already", VMM_MAX_DISKS);
	op = op_new(q, (unsigned int)lun, plug_steps, done, data);
	if (!op)
		return err_oom(e);
	op->driver = driver;
	op->disk = *disk;
	snprintf(op->serial, sizeof(op->serial), "%s", disk->serial ? disk->serial : "");
	r = op_step(op);
	if (r < 0) {
		op_free(op);
		return err_errno(e, r, "cannot plug a disk");
	}
	q->luns |= UINT64_C(1) << lun;
	snprintf(ret->driver, sizeof(ret->driver), "scsi");
	snprintf(ret->source, sizeof(ret->source), "%d", lun);
	return 0;
}

int qemu_detach_disk(struct vmm *vmm, const struct vmm_disk_addr *addr, vmm_done done, void *data,
		     struct err *e)
{
	struct qemu *q = vmm->state;
	struct disk_op *op;
	uint64_t lun;
	int r;

	if (!str_eq(addr->driver, "scsi") || parse_u64(addr->source, VMM_MAX_DISKS - 1, &lun) < 0 ||
	    !(q->luns & UINT64_C(1) << lun))
		return err_set(e, -ENODEV, "there is no disk %s:%s", addr->driver, addr->source);
	op = op_new(q, (unsigned int)lun, unplug_steps, done, data);
	if (!op)
		return err_oom(e);
	r = op_step(op);
	if (r < 0) {
		op_free(op);
		return err_errno(e, r, "cannot unplug disk %s", addr->source);
	}
	return 0;
}
