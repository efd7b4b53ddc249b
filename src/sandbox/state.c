/* SPDX-License-Identifier: Apache-2.0 */
/* state.json: struct rundir_state from and to JSON, by one table of its fields. */
#include <errno.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "oci/json.h"
#include "sandbox/rundir-internal.h"
#include "sandbox/rundir.h"

#define STATE_MAX ((size_t)1 << 20)

static const char *const status_names[] = { "created", "running", "stopping", "exited" };

enum field_type { FIELD_STRING, FIELD_STRINGS, FIELD_U64, FIELD_INT, FIELD_BOOL, FIELD_STATUS };

#define FIELD(type, json, member)                                 \
	{                                                         \
		json, type, offsetof(struct rundir_state, member) \
	}

static const struct field {
	const char *name;
	enum field_type type;
	size_t offset;
} fields[] = {
	FIELD(FIELD_STRING, "id", id),
	FIELD(FIELD_STRING, "name", name),
	FIELD(FIELD_BOOL, "pod", pod),
	FIELD(FIELD_STRING, "namespace", namespace),
	FIELD(FIELD_STRING, "bundle", bundle),
	FIELD(FIELD_STATUS, "status", status),
	FIELD(FIELD_STRING, "image", image),
	FIELD(FIELD_STRING, "digest", digest),
	FIELD(FIELD_STRING, "command", command),
	FIELD(FIELD_STRING, "hostname", hostname),
	FIELD(FIELD_U64, "created_ns", created_ns),
	FIELD(FIELD_U64, "booted_ns", booted_ns),
	FIELD(FIELD_U64, "started_ns", started_ns),
	FIELD(FIELD_U64, "finished_ns", finished_ns),
	FIELD(FIELD_INT, "exit_code", exit_code),
	FIELD(FIELD_BOOL, "oom_killed", oom_killed),
	FIELD(FIELD_STRING, "error", error),
	FIELD(FIELD_INT, "pid", owner_pid),
	FIELD(FIELD_INT, "vmm_pid", vmm_pid),
	FIELD(FIELD_STRING, "vmm", vmm),
	FIELD(FIELD_STRING, "accel", accel),
	FIELD(FIELD_STRING, "template", template),
	FIELD(FIELD_INT, "vcpus", vcpus),
	FIELD(FIELD_U64, "memory", memory),
	FIELD(FIELD_STRING, "network", network),
	FIELD(FIELD_STRINGS, "ports", ports),
	FIELD(FIELD_BOOL, "terminal", terminal),
	FIELD(FIELD_BOOL, "auto_remove", auto_remove),
	FIELD(FIELD_STRING, "stop_signal", stop_signal),
	FIELD(FIELD_INT, "stop_timeout", stop_timeout),
};

const char *rundir_status_name(enum rundir_status status)
{
	return status_names[status];
}

/* JSON is UTF-8, but names of files and commands may be anything: '?' takes the place of the rest. */
struct json_object *state_text(const char *text)
{
	_cleanup_(freep) char *copy = strdup(text);

	for (uint8_t *p = (uint8_t *)copy; p && *p; p++) {
		size_t n = *p < 0x80 ? 1 : utf8_sequence(p);

		if (n == 0)
			*p = '?';
		else
			p += n - 1;
	}
	return copy ? json_object_new_string(copy) : NULL;
}

static struct json_object *strings_to_json(char **v)
{
	struct json_object *array = json_object_new_array();

	for (; array && v && *v; v++)
		json_object_array_add(array, json_object_new_string(*v));
	return array;
}

static struct json_object *field_to_json(const struct rundir_state *st, const struct field *f)
{
	const void *p = (const char *)st + f->offset;
	const char *s;

	switch (f->type) {
	case FIELD_STRING:
		s = *(char *const *)p;
		return state_text(s ? s : "");
	case FIELD_STRINGS:
		return strings_to_json(*(char **const *)p);
	case FIELD_U64:
		return json_object_new_uint64(*(const uint64_t *)p);
	case FIELD_INT:
		return json_object_new_int(*(const int *)p);
	case FIELD_BOOL:
		return json_object_new_boolean(*(const bool *)p);
	case FIELD_STATUS:
		return json_object_new_string(status_names[*(const enum rundir_status *)p]);
	}
	return NULL;
}

int state_write(int dirfd, const struct rundir_state *st)
{
	_cleanup_(json_putp) struct json_object *root = json_object_new_object();
	const char *text;

	if (!root)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		struct json_object *v = field_to_json(st, &fields[i]);

		if (!v || json_object_object_add(root, fields[i].name, v) < 0)
			return -ENOMEM;
	}
	text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY |
							    JSON_C_TO_STRING_NOSLASHESCAPE);
	if (!text)
		return -ENOMEM;
	return file_replace(dirfd, "state.json", text, strlen(text), 0600);
}

int rundir_write_state(struct rundir *rd, const struct rundir_state *st)
{
	return state_write(rd->fd, st);
}

static int strings_from_json(struct json_object *v, char ***ret)
{
	_cleanup_(strv_done) struct strv sv = { 0 };
	int r = json_string_array(v, &sv);

	if (r < 0)
		return r;
	*ret = TAKE_PTR(sv.v);
	sv.n = 0;
	return 0;
}

static int status_from_json(struct json_object *v, enum rundir_status *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(status_names); i++) {
		if (!str_eq(json_object_get_string(v), status_names[i]))
			continue;
		*ret = (enum rundir_status)i;
		return 0;
	}
	return -EINVAL;
}

static int field_from_json(struct rundir_state *st, const struct field *f, struct json_object *v)
{
	static const json_type types[] = {
		[FIELD_STRING] = json_type_string, [FIELD_STRINGS] = json_type_array,
		[FIELD_U64] = json_type_int,	   [FIELD_INT] = json_type_int,
		[FIELD_BOOL] = json_type_boolean,  [FIELD_STATUS] = json_type_string,
	};
	void *p = (char *)st + f->offset;

	if (!json_object_is_type(v, types[f->type]))
		return -EINVAL;
	switch (f->type) {
	case FIELD_STRING:
		return str_set(p, json_object_get_string(v));
	case FIELD_STRINGS:
		return strings_from_json(v, p);
	case FIELD_U64:
		*(uint64_t *)p = json_object_get_uint64(v);
		return 0;
	case FIELD_INT:
		*(int *)p = json_object_get_int(v);
		return 0;
	case FIELD_BOOL:
		*(bool *)p = json_object_get_boolean(v);
		return 0;
	case FIELD_STATUS:
		return status_from_json(v, p);
	}
	return -EINVAL;
}

int state_read(int dirfd, const char *dir, struct rundir_state *st, struct err *e)
{
	_cleanup_(json_putp) struct json_object *root = NULL;
	_cleanup_(freep) char *text = NULL;
	int r;

	r = file_read(dirfd, "state.json", STATE_MAX, &text, NULL);
	if (r < 0)
		return err_errno(e, r, "cannot read %s/state.json", dir);
	r = json_parse(text, strlen(text), "state.json", &root, e);
	if (r < 0)
		return r;
	*st = (struct rundir_state){ 0 };
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		struct json_object *v;

		r = -EINVAL;
		if (json_object_object_get_ex(root, fields[i].name, &v))
			r = field_from_json(st, &fields[i], v);
		if (r < 0) {
			rundir_state_done(st);
			return err_set(e, r, "%s/state.json is damaged: %s", dir, fields[i].name);
		}
	}
	return 0;
}

int rundir_read_state(const struct rundir *rd, struct rundir_state *st, struct err *e)
{
	return state_read(rd->fd, rd->path, st, e);
}

void rundir_state_done(struct rundir_state *st)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		void *p = (char *)st + fields[i].offset;

		if (fields[i].type == FIELD_STRING)
			free(*(char **)p);
		if (fields[i].type == FIELD_STRINGS) {
			for (char **v = *(char ***)p; v && *v; v++)
				free(*v);
			free(*(char ***)p);
		}
	}
	*st = (struct rundir_state){ 0 };
}
