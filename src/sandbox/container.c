/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/container.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "sandbox/agent_client.h"
#include "sandbox/disks.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/shares.h"
#include "sandbox/stages.h"
#include "sandbox/storages.h"

/* For mount points: a directory costs the guest 1 KiB or so. */
#define MEMORY_SCRATCH_SIZE "1m"

struct container {
	struct sandbox *sb;
	const struct container_config *config; /* while it's created */
	char *id;
	struct stages stages;
	sandbox_done done;
	void *data;
	struct disk_set *disks;	  /* those of the root, then the scratch disk */
	struct disk_set *leaving; /* while it's unplugged, at the end */
	struct err left;	  /* why it could not be removed */
	bool in_guest;		  /* CreateContainer was sent */
	bool alive;		  /* ...and its end isn't known */
	size_t n_files;		  /* written so far */
	struct share_wait share_wait;
	struct ttrpc_pending *call;
	struct ttrpc_pending *waiting;
	void (*exited)(void *data, const struct container_exit *exit, const struct err *e);
	void *exited_data;
};

static void set_alive(struct container *c, bool alive)
{
	if (c->alive == alive)
		return;
	c->alive = alive;
	c->sb->alive += alive ? 1 : -1;
}

static void on_disks(void *data, const struct err *e)
{
	struct container *c = data;

	stages_next(&c->stages, e);
}

static int plug_disks(void *obj, struct err *e)
{
	struct container *c = obj;
	struct vmm_disk disks[DISK_SET_MAX];
	size_t n = c->config->n_disks;

	if (n == 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		disks[i] = (struct vmm_disk){ .fd = c->config->disks[i].fd,
					      .readonly = !c->config->disks[i].writable,
					      .serial = "root" };
	if (c->config->scratch == CONTAINER_SCRATCH_DISK)
		disks[n++] = (struct vmm_disk){ .fd = c->config->scratch_fd,
						.serial = "scratch",
						.discard = true,
						.unsafe = c->config->scratch_unsafe };
	return disk_set_plug(c->sb, disks, n, on_disks, c, &c->disks, e);
}

static void unplug_disks(void *obj)
{
	struct container *c = obj;

	if (c->disks)
		disk_set_unplug(TAKE_PTR(c->disks), NULL, NULL);
}

static int send_file(struct container *c, struct err *e);

static void on_file(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct container *c = data;
	struct err err = { 0 };
	int r;

	c->call = NULL;
	if (e) {
		stages_next(&c->stages, e);
		return;
	}
	c->n_files++;
	if (c->n_files == c->config->n_files) {
		stages_next(&c->stages, NULL);
		return;
	}
	r = send_file(c, &err);
	if (r < 0)
		stages_next(&c->stages, &err);
}

static int send_file(struct container *c, struct err *e)
{
	Podvm__Agent__V1__WriteFileRequest req = PODVM__AGENT__V1__WRITE_FILE_REQUEST__INIT;
	const struct container_file *f = &c->config->files[c->n_files];
	_cleanup_(freep) char *path = str_printf(CONTAINER_FILE, c->id, f->name);
	int r;

	if (!path)
		return err_oom(e);
	req.path = path;
	req.data.data = (uint8_t *)f->text;
	req.data.len = strlen(f->text);
	req.mode = f->mode;
	req.last = true;
	r = agent_call(sandbox_agent(c->sb), "WriteFile", &req.base, AGENT_TIMEOUT_MS, on_file, c,
		       &c->call);
	return r < 0 ? err_errno(e, r, "cannot send %s to the guest", f->name) : 0;
}

static int write_files(void *obj, struct err *e)
{
	struct container *c = obj;
	int r;

	if (c->config->n_files == 0)
		return 0;
	r = send_file(c, e);
	return r < 0 ? r : STAGE_PENDING;
}

static int add_shm(struct storages *st, const char *path, uint64_t size)
{
	int r = storages_add(st, "tmpfs", "", "", path);

	if (r == 0)
		r = storages_option(st, "size=%llu", (unsigned long long)size);
	return r < 0 ? r : storages_option(st, "mode=1777");
}

/* A disk, or one of the file systems on it. */
static int add_disk(const struct container *c, struct storages *st, size_t i, size_t k,
		    const char *mount_point)
{
	const struct vmm_disk_addr *addr = disk_set_addr(c->disks, i);
	const struct container_disk *disk = &c->config->disks[i];
	int r = storages_add(st, addr->driver, addr->source, disk->fstype, mount_point);

	if (r == 0 && disk->n_parts > 0)
		storages_part(st, (unsigned int)k + 1, &disk->parts[k]);
	if (r < 0)
		return r;
	return disk->writable ? storages_name(st, CONTAINER_LAYER) : storages_option(st, "ro");
}

/* The read-only disks, mounted beside each other, and the option that joins them. */
static int add_layers(const struct container *c, struct storages *st, struct buf *lower)
{
	int r = buf_printf(lower, "lowerdir=");

	for (size_t i = 0; r == 0 && i < c->config->n_disks; i++) {
		const char *source = disk_set_addr(c->disks, i)->source;
		size_t n = MAX(c->config->disks[i].n_parts, 1);

		for (size_t k = 0; r == 0 && k < n; k++) {
			char path[96];
			char part[24] = "";

			if (n > 1)
				snprintf(part, sizeof(part), ".%zu", k + 1);
			snprintf(path, sizeof(path), "/run/podvm/images/%s%s", source, part);
			r = buf_printf(lower, "%s%s", i + k > 0 ? ":" : "", path);
			if (r == 0)
				r = add_disk(c, st, i, k, path);
		}
	}
	return r;
}

static int add_scratch(const struct container *c, struct storages *st, const char *path)
{
	const struct vmm_disk_addr *addr;
	int r;

	if (c->config->scratch == CONTAINER_SCRATCH_MEMORY) {
		r = storages_add(st, "tmpfs", "", "", path);
		if (r == 0)
			r = storages_option(st, "size=" MEMORY_SCRATCH_SIZE);
		return r < 0 ? r : storages_option(st, "mode=0755");
	}
	addr = disk_set_addr(c->disks, c->config->n_disks);
	r = storages_scratch(st, addr, path);
	return r < 0 ? r : storages_name(st, CONTAINER_LAYER);
}

static int add_overlay(const struct container *c, struct storages *st, const char *rootfs)
{
	_cleanup_(freep) char *scratch = str_printf("/run/podvm/scratch/%s", c->id);
	_cleanup_(buf_done) struct buf lower = { 0 };
	bool writable = c->config->scratch != CONTAINER_NO_SCRATCH;
	int r;

	if (!scratch)
		return -ENOMEM;
	r = add_layers(c, st, &lower);
	if (r == 0 && writable)
		r = add_scratch(c, st, scratch);
	if (r == 0 && !buf_cstr(&lower))
		r = -ENOMEM;
	if (r == 0)
		r = storages_overlay(st, buf_cstr(&lower), writable ? scratch : NULL, rootfs);
	if (r == 0 && writable && c->config->directories)
		storages_directories(st, c->config->directories);
	return r;
}

static int add_root(const struct container *c, struct storages *st)
{
	_cleanup_(freep) char *rootfs = str_printf(CONTAINER_ROOTFS, c->id);

	if (!rootfs)
		return -ENOMEM;
	if (c->config->n_disks > 1 || c->config->disks[0].n_parts > 1 ||
	    c->config->scratch != CONTAINER_NO_SCRATCH)
		return add_overlay(c, st, rootfs);
	return add_disk(c, st, 0, 0, rootfs);
}

static int add_share(struct storages *st, const char *name)
{
	_cleanup_(freep) char *path = str_printf(CONTAINER_SHARED "/%s", name);

	return path ? storages_add(st, "share", name, "", path) : -ENOMEM;
}

static int add_mount(struct storages *st, const struct container_mount *m)
{
	int r = storages_add(st, m->driver, m->source, m->fstype ?: "", m->mount_point);

	for (size_t i = 0; r == 0 && m->options && i < m->options->n; i++)
		r = storages_option(st, "%s", m->options->v[i]);
	if (r == 0 && m->directory)
		r = storages_directory(st, m->directory, m->mode, m->uid, m->gid);
	if (r == 0 && m->name)
		r = storages_name(st, m->name);
	if (r == 0 && m->part)
		storages_part(st, 0, m->part);
	if (r == 0 && m->fs_group)
		storages_fs_group(st, m->fs_group, m->fs_group_on_mismatch);
	return r;
}

static int fill_storages(const struct container *c, struct storages *st)
{
	int r = c->config->n_disks ? add_root(c, st) : 0;

	for (size_t i = 0; r == 0 && i < c->config->n_shares; i++)
		r = add_share(st, c->config->shares[i]);
	for (size_t i = 0; r == 0 && i < c->config->n_mounts; i++)
		r = add_mount(st, &c->config->mounts[i]);
	if (r == 0 && c->config->shm)
		r = add_shm(st, c->config->shm, c->config->shm_size);
	return r;
}

static void on_created(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct container *c = data;

	c->call = NULL;
	stages_next(&c->stages, e);
}

static int create(void *obj, struct err *e)
{
	Podvm__Agent__V1__CreateContainerRequest req =
		PODVM__AGENT__V1__CREATE_CONTAINER_REQUEST__INIT;
	struct container *c = obj;
	_cleanup_(storages_done) struct storages st = { 0 };
	int r;

	r = fill_storages(c, &st);
	if (r == 0) {
		req.container_id = c->id;
		req.spec.data = (uint8_t *)c->config->spec;
		req.spec.len = strlen(c->config->spec);
		req.storages = st.v;
		req.n_storages = st.n;
		req.terminal = c->config->terminal;
		req.stdin = c->config->input;
		req.columns = c->config->columns;
		req.rows = c->config->rows;
		r = agent_call(sandbox_agent(c->sb), "CreateContainer", &req.base, AGENT_TIMEOUT_MS,
			       on_created, c, &c->call);
	}
	if (r < 0)
		return err_errno(e, r, "cannot send the container to the guest");
	c->in_guest = true;
	set_alive(c, true);
	return STAGE_PENDING;
}

static void on_undone(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	disk_set_unplug(data, NULL, NULL);
}

/* Its disks are unplugged when the guest doesn't use them any more. */
static void uncreate(void *obj)
{
	Podvm__Agent__V1__ContainerRequest req = PODVM__AGENT__V1__CONTAINER_REQUEST__INIT;
	struct container *c = obj;
	struct disk_set *disks;

	if (!c->in_guest)
		return;
	disks = TAKE_PTR(c->disks);
	req.container_id = c->id;
	if (agent_call(sandbox_agent(c->sb), "RemoveContainer", &req.base, AGENT_TIMEOUT_MS,
		       disks ? on_undone : agent_ignore, disks, NULL) < 0 &&
	    disks)
		disk_set_unplug(disks, NULL, NULL);
}

static void on_share(void *data, const struct err *e)
{
	struct container *c = data;

	stages_next(&c->stages, e);
}

static int need_share(void *obj, struct err *e)
{
	struct container *c = obj;

	return c->config->n_shares > 0 ? sandbox_need_share(c->sb, &c->share_wait, e) : 0;
}

static void stop_waiting(void *obj)
{
	struct container *c = obj;

	list_remove(&c->share_wait.node);
}

static const struct stage create_stages[] = {
	{ "shares", need_share, stop_waiting },
	{ "disks", plug_disks, unplug_disks },
	{ "files", write_files, NULL },
	{ "create", create, uncreate },
};

static void on_stages_done(void *obj, const struct err *e)
{
	struct container *c = obj;

	sandbox_note_timings(c->sb, &c->stages);
	c->config = NULL;
	c->done(c->data, e);
}

int container_create(struct sandbox *sb, const struct container_config *config, sandbox_done done,
		     void *data, struct container **ret)
{
	struct container *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->sb = sb;
	c->config = config;
	c->done = done;
	c->data = data;
	list_init(&c->share_wait.node);
	c->share_wait.done = on_share;
	c->share_wait.data = c;
	r = str_set(&c->id, config->id);
	if (r == 0)
		r = stages_run(&c->stages, sandbox_loop(sb), create_stages,
			       ARRAY_SIZE(create_stages), 0, on_stages_done, c);
	if (r < 0) {
		container_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

static void on_unplugged(void *data)
{
	struct container *c = data;

	c->leaving = NULL;
	c->done(c->data, c->left.code ? &c->left : NULL);
}

/* The files of its writable disks are free when the monitor has closed them. */
static void on_removed(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct container *c = data;

	c->call = NULL;
	if (e)
		c->left = *e;
	else
		set_alive(c, false);
	c->leaving = TAKE_PTR(c->disks);
	if (c->leaving)
		disk_set_unplug(c->leaving, on_unplugged, c);
	else
		on_unplugged(c);
}

int container_remove(struct container *c, sandbox_done done, void *data)
{
	Podvm__Agent__V1__ContainerRequest req = PODVM__AGENT__V1__CONTAINER_REQUEST__INIT;

	c->done = done;
	c->data = data;
	req.container_id = c->id;
	return agent_call(sandbox_agent(c->sb), "RemoveContainer", &req.base, AGENT_TIMEOUT_MS,
			  on_removed, c, &c->call);
}

static void on_started(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct container *c = data;

	c->call = NULL;
	c->done(c->data, e);
}

int container_start(struct container *c, sandbox_done done, void *data)
{
	Podvm__Agent__V1__ContainerRequest req = PODVM__AGENT__V1__CONTAINER_REQUEST__INIT;

	c->done = done;
	c->data = data;
	req.container_id = c->id;
	return agent_call(sandbox_agent(c->sb), "StartContainer", &req.base, AGENT_TIMEOUT_MS,
			  on_started, c, &c->call);
}

static void on_waited(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	const Podvm__Agent__V1__WaitResponse *resp = (const void *)msg;
	struct container *c = data;
	struct container_exit exit = { 0 };

	c->waiting = NULL;
	if (resp) {
		exit.status = resp->exit_status;
		exit.oom_killed = resp->oom_killed;
		set_alive(c, false);
	}
	c->exited(c->exited_data, resp ? &exit : NULL, e);
}

int container_wait(struct container *c,
		   void (*cb)(void *data, const struct container_exit *exit, const struct err *e),
		   void *data)
{
	Podvm__Agent__V1__ProcessRequest req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;

	c->exited = cb;
	c->exited_data = data;
	req.container_id = c->id;
	return agent_call(sandbox_agent(c->sb), "Wait", &req.base, 0, on_waited, c, &c->waiting);
}

void container_free(struct container *c)
{
	if (!c)
		return;
	stages_abort(&c->stages);
	ttrpc_cancel(c->call);
	ttrpc_cancel(c->waiting);
	disk_set_free(c->disks);
	disk_set_cancel(c->leaving);
	free(c->id);
	free(c);
}
