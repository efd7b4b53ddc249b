/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/agent_client.h"
#include "sandbox/socket_list.h"
#include "sandbox/volume.h"
#include "shim/volume_disk.h"
#include "shim/volume_share.h"
#include "shim/volumes_internal.h"

#define SHM_DEFAULT	((uint64_t)64 << 20)
#define TERMINATION_MAX ((uint32_t)64 << 10) /* the kubelet reads the last 4 KiB */

void volume_drop(struct pod_volume *v)
{
	list_remove(&v->node);
	volume_free(v->copy);
	volume_disk_free(v->disk);
	ttrpc_cancel(v->fetch);
	free(v->path);
	free(v->name);
	free(v->source);
	free(v);
}

/* ---- the stage's end ---- */

static bool uses(const struct task *t, const struct pod_volume *v)
{
	for (size_t i = 0; i < t->create->n_uses; i++)
		if (t->create->uses[i] == v)
			return true;
	return false;
}

/* The task is freed by that. */
static void fail(struct task *t, const struct err *e)
{
	t->create->waiting = false;
	stages_next(&t->create->stages, e);
}

static void settle(struct task *t);

static uint32_t disk_lun(const struct pod_volume *v)
{
	return (uint32_t)strtoul(volume_disk_addr(v->disk)->source, NULL, 10);
}

static void on_devices(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct task *t = data;
	struct task_create *c = t->create;
	struct err err = { 0 };

	c->lookup = NULL;
	if (!e && devices_found(&c->devices, (const void *)msg, &c->plan, &err) == 0 &&
	    spec_devices_done(c->spec, &c->plan) < 0)
		err_oom(&err);
	if (!c->waiting)
		return;
	if (e || err.code)
		fail(t, e ? e : &err);
	else
		settle(t);
}

static int look_up_devices(struct task *t, struct err *e)
{
	Podvm__Agent__V1__LookupDevicesRequest req = PODVM__AGENT__V1__LOOKUP_DEVICES_REQUEST__INIT;
	struct task_create *c = t->create;
	uint32_t luns[DEVICES_MAX_DISKS];
	int r;

	c->looked_up = true;
	req.names = c->devices.names.v;
	req.n_names = c->devices.names.n;
	req.luns = luns;
	req.n_luns = c->devices.n_disks;
	for (size_t i = 0; i < req.n_luns; i++)
		luns[i] = disk_lun(c->devices.disks[i].volume);
	r = agent_call(sandbox_agent(t->shim->pod.sandbox), "LookupDevices", &req.base,
		       AGENT_TIMEOUT_MS, on_devices, t, &c->lookup);
	return r < 0 ? err_errno(e, r, "cannot ask the guest for devices") : STAGE_PENDING;
}

/* Disks have an address now. */
static void name_disks(struct task_create *c)
{
	for (size_t i = 0; i < c->config.n_mounts; i++) {
		if (!c->disks[i])
			continue;
		c->mounts[i].driver = volume_disk_addr(c->disks[i]->disk)->driver;
		c->mounts[i].source = volume_disk_addr(c->disks[i]->disk)->source;
	}
}

/* Return: 0 when everything is there, STAGE_PENDING or a negative errno */
static int look(struct task *t, struct err *e)
{
	struct task_create *c = t->create;

	if (c->lookup)
		return STAGE_PENDING;
	for (size_t i = 0; i < c->n_uses; i++)
		if (!c->uses[i]->ready)
			return STAGE_PENDING;
	if (!c->looked_up && c->devices.names.n + c->devices.n_disks > 0)
		return look_up_devices(t, e);
	name_disks(c);
	return 0;
}

/* Go on if everything is there. */
static void settle(struct task *t)
{
	struct err e = { 0 };
	int r = t->create->waiting ? look(t, &e) : STAGE_PENDING;

	if (r == STAGE_PENDING)
		return;
	if (r < 0) {
		fail(t, &e);
		return;
	}
	t->create->waiting = false;
	stages_next(&t->create->stages, NULL);
}

void volume_settled(struct pod_volume *v, const struct err *e)
{
	struct shim *shim = v->shim;
	struct task *t;
	struct task *tmp;

	v->ready = !e;
	/* What failed is nobody's any more: the next one who wants it begins anew. */
	if (e) {
		v->task = NULL;
		list_remove(&v->node);
	}
	list_for_each_safe (t, tmp, &shim->tasks, node) {
		if (!t->create || !t->create->waiting || !uses(t, v))
			continue;
		if (e)
			fail(t, e);
		else
			settle(t);
	}
	if (e)
		volume_drop(v);
}

static void on_copied(void *data, const struct err *e)
{
	volume_settled(data, e);
}

/* ---- what is copied ---- */

static struct volumes *get_volumes(struct shim *shim)
{
	struct volumes *vs = shim->volumes;

	if (vs)
		return vs;
	vs = calloc(1, sizeof(*vs));
	if (!vs || volume_set_new(shim->pod.sandbox, &vs->set) < 0) {
		free(vs);
		return NULL;
	}
	list_init(&vs->list);
	shim->volumes = vs;
	return vs;
}

struct pod_volume *volume_find(const struct volumes *vs, const char *source)
{
	struct pod_volume *v;

	list_for_each (v, &vs->list, node)
		if (!v->task && str_eq(v->source, source))
			return v;
	return NULL;
}

void volume_use(struct task *t, struct pod_volume *v)
{
	t->create->uses[t->create->n_uses++] = v;
}

void volume_mount(struct task *t, const struct container_mount *m, struct pod_volume *disk)
{
	struct task_create *c = t->create;

	c->disks[c->config.n_mounts] = disk;
	c->mounts[c->config.n_mounts++] = *m;
	c->config.mounts = c->mounts;
}

const char *volume_mount_part(struct task *t, const char *source, const struct container_mount *m)
{
	struct strv *paths = &t->create->paths;
	struct container_mount bind = *m;

	if (strv_add(paths, source) < 0 ||
	    strv_addf(paths, "/run/podvm/binds/%s/%zu", t->id, t->create->config.n_mounts) < 0)
		return NULL;
	bind.driver = "bind";
	bind.source = paths->v[paths->n - 2];
	bind.mount_point = paths->v[paths->n - 1];
	volume_mount(t, &bind, NULL);
	return bind.mount_point;
}

/* Files of a container have a directory together. */
static int name_volume(struct pod_volume *v, const struct task *owner, unsigned int number)
{
	if (!owner || v->kind == VOLUME_EMPTYDIR) {
		v->path = str_printf("/run/podvm/volumes/%u", number);
		return v->path ? 0 : -ENOMEM;
	}
	v->path = str_printf("/run/podvm/files/%s", owner->id);
	v->name = str_printf("%u", number);
	return v->path && v->name ? 0 : -ENOMEM;
}

struct pod_volume *volume_new(struct shim *shim, struct task *owner, enum volume_kind kind,
			      const char *source)
{
	struct pod_volume *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	list_init(&v->node);
	v->shim = shim;
	v->task = owner;
	v->kind = kind;
	if (str_set(&v->source, source) < 0 || name_volume(v, owner, shim->volumes->n++) < 0) {
		volume_drop(v);
		return NULL;
	}
	list_append(&shim->volumes->list, &v->node);
	return v;
}

static int start_copy(struct pod_volume *v, const struct volume_config *config, struct err *e)
{
	int r = volume_add(v->shim->volumes->set, config, on_copied, v, &v->copy);
	char quoted[256];

	if (r < 0) {
		err_errno(e, r, "cannot bring %s into the guest",
			  log_quote(quoted, sizeof(quoted), v->source));
		volume_drop(v);
	}
	return r;
}

/* The copy of a directory or file for a task, which exists already perhaps. */
static int use_copy(struct task *t, struct task *owner, const char *source,
		    const struct volume_source *s, struct pod_volume **ret, struct err *e)
{
	struct pod_volume *v = owner ? NULL : volume_find(t->shim->volumes, source);
	int r = 0;

	if (!v) {
		struct volume_config config = {
			.source = source,
			.memory = s->kind == VOLUME_MEMORY,
			.size = s->size,
			.inodes = s->inodes,
			.fixed = s->kind == VOLUME_TERMINATION,
			.sockets = s->kind == VOLUME_SOCKET || s->kind == VOLUME_SOCKETS,
		};

		v = volume_new(t->shim, owner, s->kind, source);
		if (!v)
			return err_oom(e);
		v->dev = s->dev;
		v->ino = s->ino;
		config.path = v->path;
		config.name = v->name;
		r = start_copy(v, &config, e);
	}
	if (r < 0)
		return r;
	volume_use(t, v);
	*ret = v;
	return 0;
}

static int bind_directory(struct task *t, const struct spec_bind *b, const struct volume_source *s,
			  struct err *e)
{
	struct pod_volume *v;
	int r = use_copy(t, NULL, b->source, s, &v, e);

	return r == 0 && spec_bind_to(b, v->path) < 0 ? err_oom(e) : r;
}

static int bind_file(struct task *t, const struct spec_bind *b, const struct volume_source *s,
		     struct err *e)
{
	_cleanup_(freep) char *path = NULL;
	struct pod_volume *v;
	int r = use_copy(t, t, b->source, s, &v, e);

	if (r < 0)
		return r;
	path = str_printf("%s/%s", v->path, v->name);
	return !path || spec_bind_to(b, path) < 0 ? err_oom(e) : 0;
}

/*
 * Something in a file system in memory: it's mounted by the agent, because a container may have put
 * a link into its path.
 */
static int bind_part(struct task *t, const struct spec_bind *b, const struct volume_source *s,
		     struct err *e)
{
	struct volume_source whole = { .kind = VOLUME_MEMORY };
	const struct container_mount none = { 0 };
	_cleanup_(freep) char *source = NULL;
	struct volume_config config = { .memory = true, .directory = s->name };
	struct pod_volume *v;
	struct pod_volume *part;
	const char *path;
	int r;

	whole.size = s->size;
	whole.inodes = s->inodes;
	r = use_copy(t, NULL, s->volume, &whole, &v, e);
	if (r < 0)
		return r;
	if (!*s->name)
		return spec_bind_to(b, v->path) < 0 ? err_oom(e) : 0;
	part = volume_new(t->shim, t, VOLUME_MEMORY_PART, s->volume);
	source = str_printf("%s/%s", v->path, s->name);
	if (!part || !source)
		return err_oom(e);
	config.source = s->volume;
	config.path = v->path;
	config.size = whole.size;
	config.inodes = whole.inodes;
	r = start_copy(part, &config, e);
	if (r < 0)
		return r;
	volume_use(t, part);
	path = volume_mount_part(t, source, &none);
	return !path || spec_bind_to(b, path) < 0 ? err_oom(e) : 0;
}

/* ---- everything else ---- */

static int bind_device(struct task *t, const struct spec_bind *b, const struct volume_source *s,
		       struct err *e)
{
	_cleanup_(freep) char *path = str_printf("/dev/%s", s->name);
	int r = devices_add(&t->create->devices, s->name, b->source, e);

	if (r < 0)
		return r;
	return !path || spec_bind_to(b, path) < 0 ? err_oom(e) : 0;
}

/* Its node is named when the guest has it. */
static int bind_block(struct task *t, const struct spec_bind *b, const struct volume_source *s,
		      struct err *e)
{
	struct task_create *c = t->create;
	struct pod_volume *v;
	int r = volume_disk_device(t, s->rdev, b->readonly, &v, e);

	return r < 0 ? r : devices_add_disk(&c->devices, v, NULL, b, e);
}

static int bind_shm(struct task *t, const struct spec_bind *b, struct err *e)
{
	struct statvfs st;
	bool known = statvfs(b->source, &st) == 0 && st.f_blocks > 0;

	t->create->config.shm = SPEC_SHM;
	t->create->config.shm_size = known ? (uint64_t)st.f_blocks * st.f_frsize : SHM_DEFAULT;
	return spec_bind_to(b, SPEC_SHM) < 0 ? err_oom(e) : 0;
}

static int bind_source(struct task *t, const struct spec_bind *b, const struct volume_source *s,
		       struct err *e)
{
	int r;

	switch (s->kind) {
	case VOLUME_DIRECTORY:
	case VOLUME_MEMORY:
		return bind_directory(t, b, s, e);
	case VOLUME_MEMORY_PART:
		return bind_part(t, b, s, e);
	case VOLUME_SOCKETS:
		/* It's a copy: what is written there would be lost. */
		return spec_bind_readonly(b) < 0 ? err_oom(e) : bind_directory(t, b, s, e);
	case VOLUME_FILE:
	case VOLUME_SOCKET:
	case VOLUME_TERMINATION:
		return bind_file(t, b, s, e);
	case VOLUME_DEVICE:
		return bind_device(t, b, s, e);
	case VOLUME_BLOCK:
		return bind_block(t, b, s, e);
	case VOLUME_EMPTYDIR:
	case VOLUME_IMAGE:
	case VOLUME_SHARE:
		break;
	}
	r = volume_disk_bind(t, b, s, e);
	return r == 0 ? volume_share_bind(t, b, e) : MIN(r, 0);
}

/* The configuration says which sockets of the host a pod may have. */
static int look_for_sockets(const struct task *t, const struct spec_bind *b,
			    struct volume_source *s, struct err *e)
{
	int r = 0;

	if (s->kind == VOLUME_SOCKET || s->kind == VOLUME_SHARE)
		r = socket_list_source(t->shim->pod.config.host_sockets, b->source, e);
	if (r > 0 && s->kind == VOLUME_SHARE)
		s->kind = VOLUME_SOCKETS;
	return MIN(r, 0);
}

static int bind(struct task *t, const struct spec_bind *b, struct err *e)
{
	_cleanup_(volume_source_done) struct volume_source s = { 0 };
	bool shm = str_eq(b->destination, "/dev/shm");
	char quoted[256];
	int r;

	/* The Sandbox service's containerd names a directory that nobody has made. */
	if (shm && access(b->source, F_OK) < 0 && errno == ENOENT)
		return bind_shm(t, b, e);
	r = volume_kind(b->source, b->destination, b->readonly, &s, e);
	if (b->slave && s.kind != VOLUME_SHARE)
		log_warn("what is mounted on the host later won't be seen in the pod",
			 "container=%s mount=%s", t->id,
			 log_quote(quoted, sizeof(quoted), b->destination));
	/* A volume there is the pod's wish for another one than every container has. */
	if (r == 0 && s.kind == VOLUME_SHARE && shm)
		return bind_shm(t, b, e);
	if (r == 0)
		r = look_for_sockets(t, b, &s, e);
	return r < 0 ? r : bind_source(t, b, &s, e);
}

static int bind_devices(struct task *t, struct err *e)
{
	struct task_create *c = t->create;
	int r = devices_of_spec(&c->devices, &c->plan, e);

	for (size_t i = 0; r == 0 && i < c->plan.n_devices; i++) {
		struct spec_device *d = &c->plan.devices[i];
		struct pod_volume *v;

		if (!d->block)
			continue;
		r = volume_disk_device(t, makedev(d->major, d->minor), d->readonly, &v, e);
		if (r == 0)
			r = devices_add_disk(&c->devices, v, d, NULL, e);
	}
	return r;
}

int volumes_prepare(void *obj, struct err *e)
{
	struct task *t = obj;
	struct task_create *c = t->create;
	int r = get_volumes(t->shim) ? bind_devices(t, e) : err_oom(e);

	for (size_t i = 0; r == 0 && i < c->plan.n_binds; i++)
		r = bind(t, &c->plan.binds[i], e);
	if (r == 0)
		r = look(t, e);
	c->waiting = r == STAGE_PENDING;
	return r;
}

void volumes_undo(void *obj)
{
	struct task *t = obj;
	_cleanup_(freep) char *path = str_printf("/run/podvm/files/%s", t->id);

	t->create->waiting = false;
	if (path && pod_running(&t->shim->pod))
		volume_remove(t->shim->pod.sandbox, path);
}

/* ---- termination logs ---- */

/* It's the kubelet's file, if it is still there. */
static int write_back(const struct pod_volume *v, const ProtobufCBinaryData *text)
{
	_cleanup_(close_fdp) int fd = open(v->source, O_WRONLY | O_NOFOLLOW | O_NONBLOCK |
							      O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != v->dev || st.st_ino != v->ino || !S_ISREG(st.st_mode))
		return -ESTALE;
	if (ftruncate(fd, 0) < 0)
		return -errno;
	return fd_write_all(fd, text->data, text->len);
}

static void on_fetched(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	const Podvm__Agent__V1__ReadVolumeResponse *resp = (const void *)msg;
	struct pod_volume *v = data;
	struct task *t = v->task;
	char text[512];
	int r = 0;

	v->fetch = NULL;
	if (resp && resp->data.len > 0 && resp->data.len <= TERMINATION_MAX)
		r = write_back(v, &resp->data);
	if (r < 0 || (e && e->code != -ECONNRESET))
		log_warn("the termination log is lost", "container=%s error=%s", t->id,
			 log_quote(text, sizeof(text), e ? e->msg : strerror(-r)));
	t->collecting = false;
	process_collected(&t->init);
}

void volumes_collect(struct task *t)
{
	Podvm__Agent__V1__ReadVolumeRequest req = PODVM__AGENT__V1__READ_VOLUME_REQUEST__INIT;
	struct pod_volume *v;

	if (!t->shim->volumes)
		return;
	list_for_each (v, &t->shim->volumes->list, node) {
		_cleanup_(freep) char *path = NULL;

		if (v->task != t || v->kind != VOLUME_TERMINATION || v->fetch)
			continue;
		path = str_printf("%s/%s", v->path, v->name);
		req.path = path;
		req.max = TERMINATION_MAX;
		t->collecting = path &&
				agent_call(sandbox_agent(t->shim->pod.sandbox), "ReadVolume",
					   &req.base, SHIM_DRAIN_MS, on_fetched, v, &v->fetch) == 0;
		return;
	}
}

/* ---- the end ---- */

void volumes_task_freed(struct task *t)
{
	struct pod_volume *v;
	struct pod_volume *tmp;

	if (!t->shim->volumes)
		return;
	list_for_each_safe (v, tmp, &t->shim->volumes->list, node)
		if (v->task == t)
			volume_drop(v);
}

void volumes_pod_ended(struct shim *shim)
{
	struct volumes *vs = shim->volumes;
	struct err e = { 0 };
	struct task *t;
	struct task *tmp;

	if (!vs)
		return;
	err_set(&e, -ECONNRESET, "the machine of the pod has ended");
	list_for_each_safe (t, tmp, &shim->tasks, node)
		if (t->create && t->create->waiting)
			fail(t, &e);
	while (!list_empty(&vs->list))
		volume_drop(list_entry(vs->list.next, struct pod_volume, node));
	volume_set_free(vs->set);
	free(vs);
	shim->volumes = NULL;
}
