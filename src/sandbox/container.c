/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/container.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "sandbox/agent_client.h"
#include "sandbox/shares.h"
#include "sandbox/stages.h"

#define MAX_STORAGES 5

struct container {
	struct sandbox *sb;
	const struct container_config *config; /* while it's created */
	char *id;
	struct stages stages;
	sandbox_done done;
	void *data;
	struct vmm_disk_addr image;
	struct vmm_disk_addr scratch;
	bool image_attached;
	bool scratch_attached;
	bool attaching; /* the monitor hasn't answered yet */
	bool freed;	/* by its owner; the answer is awaited */
	bool in_guest;	/* CreateContainer was sent */
	size_t n_files; /* written so far */
	struct share_wait share_wait;
	struct ttrpc_pending *call;
	struct ttrpc_pending *waiting;
	void (*exited)(void *data, const struct container_exit *exit, const struct err *e);
	void *exited_data;
};

/* What is being sent to CreateContainer: storages and the texts that they point to. */
struct storages {
	Podvm__Agent__V1__Storage items[MAX_STORAGES];
	Podvm__Agent__V1__Storage *pointers[MAX_STORAGES];
	size_t n;
	struct strv texts;
	char *options[MAX_STORAGES][3];
};

static void detach_image(void *obj);
static void detach_scratch(void *obj);
static void release(struct container *c);

static void on_disk(void *data, const struct err *e)
{
	struct container *c = data;

	c->attaching = false;
	if (!c->freed) {
		stages_next(&c->stages, e);
		return;
	}
	detach_scratch(c);
	detach_image(c);
	release(c);
}

static int attach_image(void *obj, struct err *e)
{
	struct container *c = obj;
	struct vmm_disk disk = { .fd = c->config->image_fd, .readonly = true, .serial = "image" };
	int r;

	if (c->config->image_fd < 0)
		return 0;
	r = vmm_attach_disk(sandbox_vmm(c->sb), &disk, &c->image, on_disk, c, e);
	if (r < 0)
		return r;
	c->image_attached = c->attaching = true;
	return STAGE_PENDING;
}

static int attach_scratch(void *obj, struct err *e)
{
	struct container *c = obj;
	struct vmm_disk disk = { .fd = c->config->scratch_fd,
				 .serial = "scratch",
				 .discard = true };
	int r;

	if (c->config->scratch_fd < 0)
		return 0;
	r = vmm_attach_disk(sandbox_vmm(c->sb), &disk, &c->scratch, on_disk, c, e);
	if (r < 0)
		return r;
	c->scratch_attached = c->attaching = true;
	return STAGE_PENDING;
}

static void on_detached(void *data, const struct err *e)
{
}

/* Nobody waits for a disk to go: when it can't, the machine keeps it until it ends. */
static void detach(struct container *c, struct vmm_disk_addr *addr, bool *attached)
{
	if (!*attached || c->attaching || !sandbox_vmm(c->sb))
		return;
	*attached = false;
	(void)vmm_detach_disk(sandbox_vmm(c->sb), addr, on_detached, NULL, NULL);
}

static void detach_image(void *obj)
{
	struct container *c = obj;

	detach(c, &c->image, &c->image_attached);
}

static void detach_scratch(void *obj)
{
	struct container *c = obj;

	detach(c, &c->scratch, &c->scratch_attached);
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

/* The texts belong to @st->texts, options to the caller. */
static int add_storage(struct storages *st, const char *driver, const char *source,
		       const char *fstype, const char *mount_point, const char *option)
{
	Podvm__Agent__V1__Storage *s = &st->items[st->n];

	podvm__agent__v1__storage__init(s);
	s->driver = (char *)driver;
	s->source = (char *)source;
	s->fstype = (char *)fstype;
	if (strv_add(&st->texts, mount_point) < 0)
		return -ENOMEM;
	s->mount_point = st->texts.v[st->texts.n - 1];
	if (option) {
		st->options[st->n][0] = (char *)option;
		s->options = st->options[st->n];
		s->n_options = 1;
	}
	st->pointers[st->n++] = s;
	return 0;
}

static int add_overlay(struct storages *st, const char *rootfs, const char *image,
		       const char *scratch)
{
	Podvm__Agent__V1__Storage *s = &st->items[st->n];
	size_t first = st->texts.n + 1;
	int r;

	r = add_storage(st, "overlay", "", "", rootfs, NULL);
	if (r == 0)
		r = strv_addf(&st->texts, "lowerdir=%s", image);
	if (r == 0)
		r = strv_addf(&st->texts, "upperdir=%s/upper", scratch);
	if (r == 0)
		r = strv_addf(&st->texts, "workdir=%s/work", scratch);
	if (r < 0)
		return r;
	for (size_t i = 0; i < 3; i++)
		st->options[st->n - 1][i] = st->texts.v[first + i];
	s->options = st->options[st->n - 1];
	s->n_options = 3;
	return 0;
}

static int add_shm(struct storages *st, const char *path, uint64_t size)
{
	Podvm__Agent__V1__Storage *s = &st->items[st->n];
	int r;

	r = add_storage(st, "tmpfs", "", "", path, NULL);
	if (r == 0)
		r = strv_addf(&st->texts, "size=%llu", (unsigned long long)size);
	if (r < 0)
		return r;
	st->options[st->n - 1][0] = st->texts.v[st->texts.n - 1];
	st->options[st->n - 1][1] = (char *)"mode=1777";
	s->options = st->options[st->n - 1];
	s->n_options = 2;
	return 0;
}

static int fill_disks(struct container *c, struct storages *st)
{
	_cleanup_(freep) char *rootfs = str_printf(CONTAINER_ROOTFS, c->id);
	_cleanup_(freep) char *image = str_printf("/run/podvm/images/%s", c->image.source);
	_cleanup_(freep) char *scratch = str_printf("/run/podvm/scratch/%s", c->id);
	bool readonly = c->config->scratch_fd < 0;
	int r;

	if (!rootfs || !image || !scratch)
		return -ENOMEM;
	r = add_storage(st, c->image.driver, c->image.source, "erofs", readonly ? rootfs : image,
			"ro");
	if (r == 0 && !readonly)
		r = add_storage(st, c->scratch.driver, c->scratch.source, "ext4", scratch,
				"discard");
	if (r == 0 && !readonly)
		r = add_overlay(st, rootfs, image, scratch);
	if (r == 0 && !readonly && c->config->directories) {
		st->items[st->n - 1].directories = c->config->directories->v;
		st->items[st->n - 1].n_directories = c->config->directories->n;
	}
	return r;
}

static int fill_storages(struct container *c, struct storages *st)
{
	int r = c->config->image_fd < 0 ? 0 : fill_disks(c, st);

	if (r == 0 && c->config->shared)
		r = add_storage(st, "virtiofs", CONTAINER_SHARED_TAG, "", CONTAINER_SHARED, NULL);
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
	struct storages st = { 0 };
	int r;

	r = fill_storages(c, &st);
	if (r == 0) {
		req.container_id = c->id;
		req.spec.data = (uint8_t *)c->config->spec;
		req.spec.len = strlen(c->config->spec);
		req.storages = st.pointers;
		req.n_storages = st.n;
		req.terminal = c->config->terminal;
		req.stdin = c->config->input;
		req.columns = c->config->columns;
		req.rows = c->config->rows;
		r = agent_call(sandbox_agent(c->sb), "CreateContainer", &req.base, AGENT_TIMEOUT_MS,
			       on_created, c, &c->call);
	}
	strv_done(&st.texts);
	if (r < 0)
		return err_errno(e, r, "cannot send the container to the guest");
	c->in_guest = true;
	return STAGE_PENDING;
}

static void uncreate(void *obj)
{
	Podvm__Agent__V1__ContainerRequest req = PODVM__AGENT__V1__CONTAINER_REQUEST__INIT;
	struct container *c = obj;

	if (!c->in_guest)
		return;
	req.container_id = c->id;
	(void)agent_call(sandbox_agent(c->sb), "RemoveContainer", &req.base, AGENT_TIMEOUT_MS,
			 agent_ignore, NULL, NULL);
}

static void on_share(void *data, const struct err *e)
{
	struct container *c = data;

	stages_next(&c->stages, e);
}

/* The guest's file system driver waits without end for a daemon that isn't there. */
static int need_share(void *obj, struct err *e)
{
	struct container *c = obj;

	return c->config->shared ? sandbox_need_share(c->sb, &c->share_wait, e) : 0;
}

static void stop_waiting(void *obj)
{
	struct container *c = obj;

	list_remove(&c->share_wait.node);
}

static const struct stage create_stages[] = {
	{ "shares", need_share, stop_waiting },
	{ "image", attach_image, detach_image },
	{ "scratch", attach_scratch, detach_scratch },
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

static void on_removed(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct container *c = data;

	c->call = NULL;
	detach_scratch(c);
	detach_image(c);
	c->done(c->data, e);
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

static void on_signalled(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	char text[512];

	if (e)
		log_info("signal was not delivered", "error=%s",
			 log_quote(text, sizeof(text), e->msg));
}

void container_signal(struct container *c, int signum)
{
	Podvm__Agent__V1__SignalRequest req = PODVM__AGENT__V1__SIGNAL_REQUEST__INIT;

	req.container_id = c->id;
	req.signal = (uint32_t)signum;
	(void)agent_call(sandbox_agent(c->sb), "Signal", &req.base, AGENT_TIMEOUT_MS, on_signalled,
			 NULL, NULL);
}

void container_resize(struct container *c, unsigned int columns, unsigned int rows)
{
	Podvm__Agent__V1__ResizeTerminalRequest req =
		PODVM__AGENT__V1__RESIZE_TERMINAL_REQUEST__INIT;

	req.container_id = c->id;
	req.columns = columns;
	req.rows = rows;
	(void)agent_call(sandbox_agent(c->sb), "ResizeTerminal", &req.base, AGENT_TIMEOUT_MS,
			 agent_ignore, NULL, NULL);
}

static void release(struct container *c)
{
	free(c->id);
	free(c);
}

void container_free(struct container *c)
{
	if (!c)
		return;
	stages_abort(&c->stages);
	ttrpc_cancel(c->call);
	ttrpc_cancel(c->waiting);
	/* The monitor's answer can't be cancelled. */
	c->freed = c->attaching;
	if (!c->freed)
		release(c);
}
