/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/event_log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "oci/json.h"
#include "sandbox/log_file.h"
#include "sandbox/rundir-internal.h"

/* When it happened, if the state knows. */
static uint64_t time_of(const char *event, const struct rundir_state *st)
{
	uint64_t ns = 0;

	if (str_eq(event, "create"))
		ns = st->created_ns;
	else if (str_eq(event, "start"))
		ns = st->started_ns;
	else if (str_eq(event, "exit"))
		ns = st->finished_ns;
	return ns ? ns : clock_real_ns();
}

static int add_text(struct json_object *obj, const char *name, const char *text)
{
	return json_add(obj, name, state_text(text ? text : ""));
}

static int fill(struct json_object *obj, const struct rundir *rd, const char *event,
		const struct rundir_state *st)
{
	int r = json_add_u64(obj, "time_ns", time_of(event, st));

	r = r < 0 ? r : json_add_string(obj, "event", event);
	r = r < 0 ? r : json_add_bool(obj, "pod", st->pod);
	r = r < 0 ? r : json_add_string(obj, "id", st->id);
	r = r < 0 ? r : json_add_string(obj, "sandbox", rd->id);
	r = r < 0 ? r : add_text(obj, "name", st->name);
	r = r < 0 ? r : add_text(obj, "namespace", st->namespace);
	r = r < 0 ? r : add_text(obj, "image", st->image);
	if (r == 0 && str_eq(event, "exit"))
		r = json_add_int(obj, "exit_code", st->exit_code);
	return r;
}

static int append(const struct rundir *rd, const char *event, const struct rundir_state *st)
{
	_cleanup_(json_putp) struct json_object *obj = json_object_new_object();
	_cleanup_(close_fdp) int dir = openat(rd->fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(freep) char *line = NULL;
	int r;

	if (!obj || dir < 0)
		return obj ? -errno : -ENOMEM;
	r = fill(obj, rd, event, st);
	if (r < 0)
		return r;
	line = str_printf("%s\n",
			  json_object_to_json_string_ext(
				  obj, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	if (!line)
		return -ENOMEM;
	return log_file_append(dir, EVENT_LOG, EVENT_LOG_MAX, line);
}

void event_log_add(const struct rundir *rd, const char *event, const struct rundir_state *st)
{
	int r = append(rd, event, st);

	if (r < 0)
		log_warn("cannot write an event", "event=%s sandbox=%s error=%d", event, rd->id, r);
}
