/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/rehearsal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "oci/spec.h"
#include "sandbox/agent_client.h"
#include "sandbox/container.h"
#include "sandbox/storages.h"
#include "storage/scratch.h"

#define ID	 "rehearsal"
#define IMAGE	 "/run/podvm/images/" ID
#define SCRATCH	 "/run/podvm/scratch/" ID
#define PROGRAM	 "/init"
#define ARGUMENT "echo"
#define MEMORY	 ((uint64_t)64 << 20)

enum { DISK_IMAGE, DISK_SCRATCH, DISKS };

struct rehearsal_disk {
	struct rehearsal *rehearsal;
	struct vmm_disk_addr addr;
	bool plugged;
};

/**
 * struct rehearsal - One that is under way
 * @spec, @process: For CreateContainer and Exec
 * @pending:	Answers of the monitor that are awaited
 * @forgotten:	Nobody has it any more: it goes with the last of these answers
 * @e:		What makes the machine unfit
 */
struct rehearsal {
	struct vmm *vmm;
	struct ttrpc_client *agent;
	struct ttrpc_pending *call;
	uint64_t timeout_ms;
	char *spec;
	char *process;
	struct rehearsal_disk disks[DISKS];
	size_t pending;
	bool forgotten;
	struct err e;
	vmm_done done;
	void *data;
};

static void destroy(struct rehearsal *r)
{
	free(r->spec);
	free(r->process);
	free(r);
}

DEFINE_CLEANUP(destroyp, struct rehearsal *, destroy)

void rehearsal_free(struct rehearsal *r)
{
	if (!r)
		return;
	if (r->call)
		ttrpc_cancel(TAKE_PTR(r->call));
	r->forgotten = true;
	if (r->pending == 0)
		destroy(r);
}

/* ---- what the container is made of ---- */

static int make_spec(struct rehearsal *r, struct err *e)
{
	_cleanup_(oci_run_options_done) struct oci_run_options o = { 0 };
	_cleanup_(oci_exec_options_done) struct oci_exec_options x = { 0 };
	_cleanup_(freep) char *file = NULL;
	const struct oci_users nobody = { 0 };
	int code;

	o.cgroup_path = strdup("/pod/" ID);
	o.rootfs = str_printf(CONTAINER_ROOTFS, ID);
	file = str_printf(CONTAINER_FILE, ID, "hosts");
	if (!o.cgroup_path || !o.rootfs || !file ||
	    strv_add_all(&o.args, PROGRAM, ARGUMENT, NULL) < 0 ||
	    strv_add_all(&x.args, PROGRAM, ARGUMENT, NULL) < 0)
		return err_oom(e);
	/* As kubelet's pods have them. */
	o.cpu_shares = 1024;
	o.cpu_quota = o.cpu_period = 100000;
	o.memory = MEMORY;
	o.has_oom_score_adj = true;
	code = oci_run_add_mount(&o, "bind", file, "/etc/hosts", "ro", e);
	if (code == 0)
		code = oci_spec_build(&o, NULL, &nobody, &r->spec, e);
	return code < 0 ? code : oci_exec_build(r->spec, &x, &nobody, &r->process, e);
}

/* As container.c has them made for one with one image. */
static int fill_storages(const struct rehearsal *r, struct storages *st)
{
	_cleanup_(freep) char *rootfs = str_printf(CONTAINER_ROOTFS, ID);
	const struct vmm_disk_addr *image = &r->disks[DISK_IMAGE].addr;
	int code = rootfs ? storages_add(st, image->driver, image->source, "erofs", IMAGE)
			  : -ENOMEM;

	if (code == 0)
		code = storages_option(st, "ro");
	if (code == 0)
		code = storages_scratch(st, &r->disks[DISK_SCRATCH].addr, SCRATCH);
	return code < 0 ? code : storages_overlay(st, "lowerdir=" IMAGE, SCRATCH, rootfs);
}

/* ---- what happens ---- */

static void finish(struct rehearsal *r)
{
	if (r->forgotten)
		destroy(r);
	else
		r->done(r->data, r->e.code ? &r->e : NULL);
}

static void answered(struct rehearsal *r, const struct err *e)
{
	if (e && !r->e.code)
		r->e = *e;
	if (--r->pending == 0)
		finish(r);
}

static void on_unplugged(void *data, const struct err *e)
{
	answered(data, e);
}

static void unplug(struct rehearsal *r)
{
	/* Not over until all have been told to go. */
	r->pending++;
	for (size_t i = 0; i < DISKS; i++) {
		struct err e = { 0 };

		if (!r->disks[i].plugged)
			continue;
		r->pending++;
		if (vmm_detach_disk(r->vmm, &r->disks[i].addr, on_unplugged, r, &e) < 0)
			answered(r, &e);
	}
	answered(r, NULL);
}

static void on_prepared(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct rehearsal *r = data;

	r->call = NULL;
	if (e)
		r->e = *e;
	unplug(r);
}

/* The disks are there; without them there is no container. */
static int prepare(struct rehearsal *r)
{
	Podvm__Agent__V1__PrepareTemplateRequest req =
		PODVM__AGENT__V1__PREPARE_TEMPLATE_REQUEST__INIT;
	Podvm__Agent__V1__CreateContainerRequest create =
		PODVM__AGENT__V1__CREATE_CONTAINER_REQUEST__INIT;
	_cleanup_(storages_done) struct storages st = { 0 };
	bool complete = r->disks[DISK_IMAGE].plugged && r->disks[DISK_SCRATCH].plugged;

	if (complete && fill_storages(r, &st) == 0) {
		create.container_id = (char *)ID;
		create.spec.data = (uint8_t *)r->spec;
		create.spec.len = strlen(r->spec);
		create.storages = st.v;
		create.n_storages = st.n;
		create.stdin = true;
		req.container = &create;
		req.process.data = (uint8_t *)r->process;
		req.process.len = strlen(r->process);
	}
	return agent_call(r->agent, "PrepareTemplate", &req.base, r->timeout_ms, on_prepared, r,
			  &r->call);
}

static void log_failure(const struct err *e)
{
	char text[512];

	log_warn("no container is started for practice", "error=%s",
		 log_quote(text, sizeof(text), e->msg));
}

static void on_plugged(void *data, const struct err *e)
{
	struct rehearsal_disk *d = data;
	struct rehearsal *r = d->rehearsal;
	int code;

	d->plugged = !e;
	if (e && !r->forgotten)
		log_failure(e);
	if (--r->pending > 0)
		return;
	if (r->forgotten) {
		destroy(r);
		return;
	}
	code = prepare(r);
	if (code == 0)
		return;
	err_errno(&r->e, code, "cannot call the agent");
	unplug(r);
}

static int plug_disk(struct rehearsal *r, int i, const struct vmm_disk *disk, struct err *e)
{
	struct rehearsal_disk *d = &r->disks[i];
	int code;

	d->rehearsal = r;
	code = vmm_attach_disk(r->vmm, disk, &d->addr, on_plugged, d, e);
	r->pending += code == 0;
	return code;
}

static int plug(struct rehearsal *r, const struct sandbox_config *c, struct err *e)
{
	_cleanup_(freep) char *dir = str_printf("%s/../scratch", c->templates);
	_cleanup_(close_fdp) int image = open(c->image->rootfs_path, O_RDONLY | O_CLOEXEC);
	_cleanup_(close_fdp) int scratch = -EBADF;
	struct vmm_disk disk = { .readonly = true };
	int code;

	if (!dir)
		return err_oom(e);
	if (image < 0)
		return err_errno(e, -errno, "cannot open %s", c->image->rootfs_path);
	scratch = scratch_create(dir, SCRATCH_SIZE_DEFAULT, e);
	if (scratch < 0)
		return scratch;
	disk.fd = image;
	code = plug_disk(r, DISK_IMAGE, &disk, e);
	disk = (struct vmm_disk){ .fd = scratch, .discard = true, .unsafe = true };
	return code < 0 ? code : plug_disk(r, DISK_SCRATCH, &disk, e);
}

int rehearsal_start(const struct sandbox_config *c, struct vmm *vmm, struct ttrpc_client *agent,
		    uint64_t timeout_ms, vmm_done done, void *data, struct rehearsal **ret,
		    struct err *e)
{
	_cleanup_(destroyp) struct rehearsal *r = calloc(1, sizeof(*r));
	struct err why = { 0 };
	int code = 0;

	if (!r)
		return err_oom(e);
	r->vmm = vmm;
	r->agent = agent;
	r->timeout_ms = timeout_ms;
	r->done = done;
	r->data = data;
	if (make_spec(r, &why) < 0 || plug(r, c, &why) < 0)
		log_failure(&why);
	if (r->pending == 0)
		code = prepare(r);
	if (code < 0)
		return err_errno(e, code, "cannot call the agent");
	*ret = TAKE_PTR(r);
	return 0;
}
