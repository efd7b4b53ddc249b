/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that grows. Its CPUs are all there from its start, and the guest brings into use what
 * it is told. Memory comes on q35: the size of the virtio-mem device is raised, the guest plugs the
 * memory itself and QEMU tells (once a second at most) how far it is. A guest that takes less than
 * it could, or has no driver, isn't waited for any longer than QEMU_RESIZE_TIMEOUT_MS.
 */
#include <inttypes.h>

#include "vmm/qemu.h"

/**
 * struct resize_op - A machine that is growing
 * @memory:	What it is to have
 * @timer:	Deadline for the guest to plug its memory, while that is awaited
 */
struct resize_op {
	struct qemu *q;
	uint64_t memory;
	struct loop_timer *timer;
	vmm_done done;
	void *data;
};

static void finish(struct resize_op *op, const struct err *e)
{
	vmm_done done = op->done;
	void *data = op->data;

	op->q->resize = NULL;
	loop_timer_free(op->timer);
	free(op);
	done(data, e);
}

/* One that is answered by nobody any more ends with its connection. */
static bool is_over(const struct err *e)
{
	return e && e->code == -ECONNRESET;
}

static void on_deadline(void *data)
{
	struct resize_op *op = data;
	struct err e = { 0 };

	err_set(&e, -ETIMEDOUT,
		"the guest has plugged %" PRIu64 " MiB of memory in time, not %" PRIu64,
		op->q->vmm->memory >> 20, op->memory >> 20);
	finish(op, &e);
}

static void on_requested(void *user, struct json_object *ret, const struct err *e)
{
	struct resize_op *op = user;
	struct err err = { 0 };

	if (is_over(e))
		return;
	if (!e && op->q->vmm->memory < op->memory &&
	    loop_timer_new(op->q->vmm->loop, QEMU_RESIZE_TIMEOUT_MS, on_deadline, op, &op->timer) <
		    0)
		e = (err_oom(&err), &err);
	if (e || !op->timer)
		finish(op, e);
}

static void grow_memory(struct resize_op *op)
{
	_cleanup_(freep) char *args = NULL;
	struct err e = { 0 };
	int r = -ENOMEM;

	if (op->memory <= op->q->vmm->memory) {
		finish(op, NULL);
		return;
	}
	if (!op->q->pci) {
		err_set(&e, -EOPNOTSUPP, "QEMU's microvm can't be given memory");
		err_hint(&e, "use machine q35 for what is to grow");
		finish(op, &e);
		return;
	}
	args = str_printf(
		"{\"path\":\"/machine/peripheral/spare0\",\"property\":\"requested-size\","
		"\"value\":%" PRIu64 "}",
		op->memory - op->q->boot_memory);
	if (args)
		r = qmp_call(op->q->qmp, "qom-set", args, -1, QEMU_COMMAND_TIMEOUT_MS, on_requested,
			     op);
	if (r < 0) {
		err_errno(&e, r, "qom-set");
		finish(op, &e);
	}
}

void qemu_memory_changed(struct qemu *q, uint64_t plugged)
{
	struct resize_op *op = q->resize;

	/* The guest says it, and can't have plugged more than there is. */
	q->vmm->memory = q->boot_memory + MIN(plugged, q->spare_memory);
	if (op && op->timer && q->vmm->memory >= op->memory)
		finish(op, NULL);
}

void qemu_resize_failed(struct qemu *q, const struct err *e)
{
	if (q->resize)
		finish(q->resize, e);
}

/* In whole pieces, and no more than there is. */
static uint64_t possible_memory(const struct qemu *q, uint64_t memory)
{
	uint64_t more = memory > q->boot_memory ? memory - q->boot_memory : 0;

	if (!q->pci)
		return memory;
	more = MIN(more, q->spare_memory);
	more += (QEMU_MEMORY_PIECE - more % QEMU_MEMORY_PIECE) % QEMU_MEMORY_PIECE;
	return q->boot_memory + more;
}

static void on_begin(void *data)
{
	struct resize_op *op = data;

	loop_timer_free(TAKE_PTR(op->timer));
	grow_memory(op);
}

int qemu_resize(struct vmm *vmm, unsigned int vcpus, uint64_t memory, vmm_done done, void *data,
		struct err *e)
{
	struct qemu *q = vmm->state;
	struct resize_op *op;

	if (q->resize)
		return err_set(e, -EBUSY, "the machine is growing already");
	op = calloc(1, sizeof(*op));
	if (!op)
		return err_oom(e);
	*op = (struct resize_op){
		.q = q, .memory = possible_memory(q, memory), .done = done, .data = data
	};
	/* Not from within this call. */
	if (loop_timer_new(vmm->loop, 0, on_begin, op, &op->timer) < 0) {
		free(op);
		return err_oom(e);
	}
	vmm->vcpus = MAX(vmm->vcpus, MIN(vcpus, q->max_vcpus));
	q->resize = op;
	return 0;
}
