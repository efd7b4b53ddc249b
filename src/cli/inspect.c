/* SPDX-License-Identifier: Apache-2.0 */
/*
 * podvm inspect: everything that is known about containers and pods, as JSON: state.json, where its
 * files are, its runtime spec, and of a machine that runs what the guest and the host's processes
 * use.
 */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/procs.h"
#include "cli/target.h"
#include "oci/json.h"
#include "proto/agent.pb-c.h"

#define USAGE	 "podvm inspect NAME..."
#define SPEC_MAX ((size_t)4 << 20)

static int add_path(struct json_object *paths, const struct target *t, const char *name,
		    const char *file)
{
	_cleanup_(freep) char *path = str_printf("%s/%s", t->rd.path, file);

	return path ? json_add_string(paths, name, path) : -ENOMEM;
}

static int add_paths(struct json_object *obj, const struct target *t)
{
	struct json_object *paths = json_add_object(obj, "paths");
	const char *log = t->st.pod ? "shim.log" : "log";

	/* containerd has the output of its containers. */
	if (!paths || json_add_string(paths, "run_dir", t->rd.path) < 0 ||
	    (t->dir < 0 && add_path(paths, t, "log", log) < 0) ||
	    add_path(paths, t, "console", "console.log") < 0)
		return -ENOMEM;
	return 0;
}

/* The spec as it is; there is none before the container was created. */
static int add_spec(struct json_object *obj, const struct target *t, struct err *e)
{
	_cleanup_(freep) char *text = NULL;
	struct json_object *spec;
	size_t len;
	int r = file_read(target_dir(t), "config.json", SPEC_MAX, &text, &len);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_errno(e, r, "cannot read %s/config.json", t->rd.path);
	r = json_parse(text, len, "config.json", &spec, e);
	if (r < 0)
		return r;
	return json_add(obj, "spec", spec) < 0 ? err_oom(e) : 0;
}

static int add_guest(struct json_object *live, const struct target *t)
{
	Podvm__Agent__V1__GetMetricsRequest req = PODVM__AGENT__V1__GET_METRICS_REQUEST__INIT;
	const Podvm__Agent__V1__GetMetricsResponse *m;
	ProtobufCMessage *msg;
	struct json_object *guest;
	bool ok;

	/* It may be starting or ending: then there's nothing to tell. */
	if (target_call(t, "GetMetrics", &req.base, &msg, NULL) < 0)
		return 0;
	m = (const void *)msg;
	guest = json_add_object(live, "guest");
	ok = guest && json_add_u64(guest, "uptime_ns", m->uptime_ns) == 0 &&
	     json_add_u64(guest, "memory_total", m->memory_total) == 0 &&
	     json_add_u64(guest, "memory_free", m->memory_free) == 0 &&
	     json_add_u64(guest, "memory_available", m->memory_available) == 0 &&
	     json_add_u64(guest, "memory_cached", m->memory_cached) == 0 &&
	     json_add_u64(guest, "agent_rss", m->agent_rss) == 0 &&
	     json_add_u64(guest, "agent_cpu_ns", m->agent_cpu_ns) == 0 &&
	     json_add_u64(guest, "processes", m->processes) == 0;
	protobuf_c_message_free_unpacked(msg, NULL);
	return ok ? 0 : -ENOMEM;
}

static int add_processes(struct json_object *live, const struct target *t)
{
	_cleanup_(freep) struct host_process *v = NULL;
	struct json_object *array = json_add_array(live, "processes");
	size_t n = 0;
	int r = array ? host_processes(t->st.owner_pid, t->st.vmm_pid, &v, &n) : -ENOMEM;

	return r < 0 ? r : host_processes_json(array, v, n);
}

static int add_live(struct json_object *obj, const struct target *t)
{
	struct json_object *live;

	/* What the machine uses is told with it, not with each of its containers. */
	if (!target_running(t) || t->dir >= 0)
		return 0;
	live = json_add_object(obj, "live");
	if (!live || add_guest(live, t) < 0)
		return -ENOMEM;
	return add_processes(live, t);
}

static int describe(const struct target *t, struct json_object *array, struct err *e)
{
	struct json_object *obj;
	int r = target_state_json(t, &obj, e);

	if (r < 0)
		return r;
	if (json_push(array, obj) < 0 || add_paths(obj, t) < 0)
		return err_oom(e);
	r = add_spec(obj, t, e);
	if (r == 0 && t->st.pod)
		r = target_containers_json(t, obj, e);
	if (r < 0)
		return r;
	r = add_live(obj, t);
	return r < 0 ? err_errno(e, r, "cannot tell what %.12s uses", t->rd.id) : 0;
}

int cli_inspect(struct cli *cli, int argc, char **argv)
{
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();
	_cleanup_(targets_done) struct targets ts = { 0 };
	struct err e = { 0 };
	int rest = 0;
	int code;
	int r = cli_parse(USAGE, NULL, 0, argc, argv, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r < 0 || (!array && err_oom(&e) < 0))
		return cli_fail(&e);
	code = targets_get(cli, /* all= */ false, 0, argv + rest, USAGE, &ts);
	for (size_t i = 0; i < ts.n; i++)
		if (describe(&ts.v[i], array, &e) < 0)
			code = cli_fail(&e);
	return cli_print_json(array) < 0 ? CLI_FAILED : code;
}
