/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Channels that a running guest is given: ports of the virtio-serial controller, each connected to
 * a socket. QEMU plugs ports into it on every machine type.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "vmm/qemu.h"

struct channel_op {
	struct qemu *q;
	char name[32];
	size_t step;
	vmm_done done;
	void *data;
};

static char *getfd_args(const struct channel_op *op)
{
	return str_printf("{\"fdname\":\"%s\"}", op->name);
}

static char *chardev_args(const struct channel_op *op)
{
	return str_printf("{\"id\":\"%s\",\"backend\":{\"type\":\"socket\",\"data\":{"
			  "\"addr\":{\"type\":\"fd\",\"data\":{\"str\":\"%s\"}},"
			  "\"server\":false}}}",
			  op->name, op->name);
}

static char *port_args(const struct channel_op *op)
{
	return str_printf("{\"driver\":\"virtserialport\",\"bus\":\"serial0.0\",\"id\":\"" QEMU_PORT
			  "%s\","
			  "\"chardev\":\"%s\",\"name\":\"%s\"}",
			  op->name, op->name, op->name);
}

static const struct {
	const char *command;
	char *(*args)(const struct channel_op *op);
} steps[] = {
	{ "getfd", getfd_args },
	{ "chardev-add", chardev_args },
	{ "device_add", port_args },
};

static void op_finish(struct channel_op *op, const struct err *e)
{
	vmm_done done = op->done;
	void *data = op->data;

	free(op);
	done(data, e);
}

static void on_step(void *user, struct json_object *ret, const struct err *e);

static int op_step(struct channel_op *op, int fd)
{
	_cleanup_(freep) char *args = steps[op->step].args(op);

	if (!args)
		return -ENOMEM;
	return qmp_call(op->q->qmp, steps[op->step].command, args, fd, QEMU_COMMAND_TIMEOUT_MS,
			on_step, op);
}

static void on_step(void *user, struct json_object *ret, const struct err *e)
{
	struct channel_op *op = user;
	struct err err = { 0 };
	int r;

	if (e || ++op->step == ARRAY_SIZE(steps)) {
		op_finish(op, e);
		return;
	}
	r = op_step(op, -1);
	if (r < 0) {
		err_errno(&err, r, "%s", steps[op->step].command);
		op_finish(op, &err);
	}
}

int qemu_add_channel(struct vmm *vmm, const char *name, int *ret_fd, vmm_done done, void *data,
		     struct err *e)
{
	struct channel_op *op = calloc(1, sizeof(*op));
	_cleanup_(close_fdp) int theirs = -EBADF;
	_cleanup_(close_fdp) int ours = -EBADF;
	int r;

	if (!op)
		return err_oom(e);
	op->q = vmm->state;
	op->done = done;
	op->data = data;
	snprintf(op->name, sizeof(op->name), "%s", name);
	r = vmm_socketpair(&ours, &theirs);
	if (r == 0)
		r = op_step(op, theirs);
	if (r < 0) {
		free(op);
		return err_errno(e, r, "cannot make channel %s", name);
	}
	*ret_fd = TAKE_FD(ours);
	return 0;
}
