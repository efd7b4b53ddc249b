/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/record.h"

#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "sandbox/event_log.h"
#include "shim/create.h"

#define COMMAND_MAX ((size_t)4096)

static struct rundir *rundir(const struct task *t)
{
	return &t->shim->pod.rundir;
}

/* Whether something is written about it. */
static bool is_recorded(const struct task *t)
{
	return t->record.id && rundir(t)->path;
}

static void failed(const struct task *t, int r)
{
	log_warn("cannot write the state of a container", "container=%s error=\"%s\"", t->id,
		 strerror(-r));
}

static void update(struct task *t, enum rundir_status status, const char *event)
{
	int r;

	t->record.status = status;
	r = rundir_write_container(rundir(t), &t->record);
	if (r < 0)
		failed(t, r);
	event_log_add(rundir(t), event, &t->record);
}

/* The words of process.args with blanks between, for people. */
static int set_command(struct rundir_state *st, struct json_object *spec)
{
	struct json_object *process = json_get(spec, "process", json_type_object);
	struct json_object *args = process ? json_get(process, "args", json_type_array) : NULL;
	_cleanup_(buf_done) struct buf text = { .limit = COMMAND_MAX };

	for (size_t i = 0; args && i < json_object_array_length(args); i++)
		if (buf_printf(&text, "%s%s", i ? " " : "",
			       json_object_get_string(json_object_array_get_idx(args, i))) < 0)
			break;
	return str_set(&st->command, buf_cstr(&text) ? buf_cstr(&text) : "");
}

void record_names(struct task *t, struct json_object *spec)
{
	const char *name = spec_annotation(spec, SPEC_CONTAINER_NAME);
	struct rundir_state *st = &t->record;
	int r;

	r = str_set(&st->name, name ? name : t->id);
	r = r < 0 ? r : str_set(&st->image, spec_annotation(spec, SPEC_IMAGE_NAME));
	r = r < 0 ? r : set_command(st, spec);
	if (r < 0)
		failed(t, r);
}

static int fill(struct task *t)
{
	struct rundir_state *st = &t->record;
	int r;

	st->created_ns = clock_real_ns();
	st->terminal = t->init.paths.terminal;
	r = str_set(&st->id, t->id);
	return r < 0 ? r : str_set(&st->namespace, t->shim->pod.run_state.namespace);
}

void record_created(struct task *t)
{
	int r;

	if (t->sandbox || !t->create->text || !rundir(t)->path)
		return;
	r = fill(t);
	if (r == 0)
		r = rundir_add_container(rundir(t), &t->record, t->create->text);
	if (r < 0)
		failed(t, r);
	else
		event_log_add(rundir(t), "create", &t->record);
}

void record_started(struct task *t)
{
	if (!is_recorded(t))
		return;
	t->record.started_ns = clock_real_ns();
	update(t, RUNDIR_RUNNING, "start");
}

void record_oom(struct task *t)
{
	if (!is_recorded(t))
		return;
	t->record.oom_killed = true;
	update(t, t->record.status, "oom");
}

void record_exited(struct task *t)
{
	if (!is_recorded(t) || t->record.status == RUNDIR_EXITED)
		return;
	t->record.finished_ns = t->init.exited_ns;
	t->record.exit_code = (int)t->init.exit_status;
	update(t, RUNDIR_EXITED, "exit");
}

void record_deleted(struct task *t)
{
	int r;

	if (!is_recorded(t))
		return;
	r = rundir_remove_container(rundir(t), t->id);
	if (r < 0)
		failed(t, r);
	event_log_add(rundir(t), "delete", &t->record);
}
