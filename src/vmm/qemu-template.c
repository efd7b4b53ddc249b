/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Templates with QEMU: its migration, without the memory.
 *
 * The memory is a file that QEMU maps, shared, while the template's guest boots; the capability
 * x-ignore-shared leaves it out of the stream, so that's the state of devices only. A copy has the
 * same devices and maps the file privately. Migration happens without `stop` before it: then the
 * stream says that the machine was running, and a copy runs as soon as it has read it.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "vmm/qemu.h"

#define CAPABILITIES                                               \
	"{\"capabilities\": ["                                     \
	"{\"capability\": \"x-ignore-shared\", \"state\": true}, " \
	"{\"capability\": \"events\", \"state\": true}]}"

/* ---- saving ---- */

struct save_op {
	struct qemu *qemu;
	struct loop_timer *deadline;
	vmm_done done;
	void *data;
};

static void save_finish(struct qemu *q, const struct err *e)
{
	struct save_op op;

	if (!q->save)
		return;
	op = *q->save;
	free(TAKE_PTR(q->save));
	loop_timer_free(op.deadline);
	op.done(op.data, e);
}

static void on_save_deadline(void *data)
{
	struct err e = { 0 };

	err_set(&e, -ETIMEDOUT, "QEMU took too long to write its state");
	save_finish(data, &e);
}

static void on_save_command(void *user, struct json_object *ret, const struct err *e)
{
	if (e)
		save_finish(user, e);
}

void qemu_migrated(struct qemu *q, const char *status)
{
	struct err e = { 0 };

	if (str_eq(status, "completed")) {
		save_finish(q, NULL);
	} else if (str_eq(status, "failed")) {
		err_set(&e, -EIO, "QEMU could not write its state");
		save_finish(q, &e);
	}
}

void qemu_save_failed(struct qemu *q, const struct err *e)
{
	save_finish(q, e);
}

static int save_commands(struct qemu *q, int fd)
{
	int r = qmp_call(q->qmp, "migrate-set-capabilities", CAPABILITIES, -1,
			 QEMU_COMMAND_TIMEOUT_MS, on_save_command, q);

	if (r == 0)
		r = qmp_call(q->qmp, "getfd", "{\"fdname\": \"state\"}", fd,
			     QEMU_COMMAND_TIMEOUT_MS, on_save_command, q);
	if (r == 0)
		r = qmp_call(q->qmp, "migrate", "{\"uri\": \"fd:state\"}", -1,
			     QEMU_COMMAND_TIMEOUT_MS, on_save_command, q);
	return r;
}

int qemu_save(struct vmm *vmm, int fd, vmm_done done, void *data, struct err *e)
{
	struct qemu *q = vmm->state;
	struct save_op *op = calloc(1, sizeof(*op));
	int r;

	if (!op)
		return err_oom(e);
	*op = (struct save_op){ .qemu = q, .done = done, .data = data };
	q->stopped = true;
	r = loop_timer_new(vmm->loop, QEMU_SAVE_TIMEOUT_MS, on_save_deadline, q, &op->deadline);
	if (r == 0) {
		q->save = op;
		r = save_commands(q, fd);
	}
	if (r == 0)
		return 0;
	q->save = NULL;
	loop_timer_free(op->deadline);
	free(op);
	return err_errno(e, r, "cannot ask QEMU to write its state");
}

/* ---- loading ---- */

int qemu_load(struct qemu *q, qmp_done failed)
{
	char uri[48];
	int r = qmp_call(q->qmp, "migrate-set-capabilities", CAPABILITIES, -1,
			 QEMU_COMMAND_TIMEOUT_MS, failed, q);

	snprintf(uri, sizeof(uri), "{\"uri\": \"fd:%d\"}", q->state_fd);
	if (r == 0)
		r = qmp_call(q->qmp, "migrate-incoming", uri, -1, QEMU_COMMAND_TIMEOUT_MS, failed,
			     q);
	return r;
}

/* ---- what it depends on ---- */

static int describe_file(const char *path, struct buf *text, struct err *e)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_errno(e, -errno, "cannot find %s", path);
	return buf_printf(text, "%s %llx:%llx %lld %lld.%09ld\n", path,
			  (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
			  (long long)st.st_size, (long long)st.st_ctim.tv_sec,
			  st.st_ctim.tv_nsec) < 0
		       ? err_oom(e)
		       : 0;
}

/* The command line of the machine that makes it: it says everything but what its files hold. */
int qemu_describe(const struct vmm_config *config, enum vmm_accel accel, struct buf *text,
		  struct err *e)
{
	_cleanup_(freep) char *binary = NULL;
	_cleanup_(strv_done) struct strv argv = { 0 };
	struct vmm_config making = *config;
	struct qemu_machine m = { .config = &making, .accel = accel };
	struct spawn s = SPAWN_INIT;
	int r;

	making.template = VMM_TEMPLATE_MAKE;
	r = qemu_find(config, accel, &binary, e);
	if (r == 0)
		r = qemu_is_pci(config->machine, &m.pci, e);
	if (r < 0)
		return r;
	m.binary = binary;
	r = qemu_cmdline(&m, &argv, &s, e);
	if (r == 0)
		r = describe_file(binary, text, e);
	if (r == 0)
		r = describe_file(config->kernel, text, e);
	for (size_t i = 0; r == 0 && i < argv.n; i++)
		if (buf_printf(text, "%s\n", argv.v[i]) < 0)
			r = err_oom(e);
	return r;
}
