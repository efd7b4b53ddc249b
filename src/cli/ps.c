/* SPDX-License-Identifier: Apache-2.0 */
/* podvm ps: what state.json of every sandbox, and of the containers of pods, says. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "cli/target.h"
#include "oci/json.h"

#define USAGE	    "podvm ps [OPTIONS]"
#define COMMAND_LEN 20

struct ps {
	bool all;
	bool containers;
	bool quiet;
	bool no_trunc;
	bool json;
	const char *format;
};

/* "Up 5 minutes", "Exited (1) 3 seconds ago" */
static void status_text(const struct rundir_state *st, char *buf, size_t size)
{
	char ago[64];
	char *cut;

	switch (st->status) {
	case RUNDIR_CREATED:
		snprintf(buf, size, "Starting");
		break;
	case RUNDIR_STOPPING:
		snprintf(buf, size, "Stopping");
		break;
	case RUNDIR_RUNNING:
		cli_ago(ago, sizeof(ago), st->started_ns);
		cut = strstr(ago, " ago");
		if (cut)
			*cut = '\0';
		snprintf(buf, size, "Up %s", ago);
		break;
	case RUNDIR_EXITED:
		snprintf(buf, size, "Exited (%d) %s", st->exit_code,
			 cli_ago(ago, sizeof(ago), st->finished_ns));
		break;
	}
}

static void command_text(const char *command, bool whole, char *buf, size_t size)
{
	if (whole || strlen(command) <= COMMAND_LEN)
		snprintf(buf, size, "%s", command);
	else
		snprintf(buf, size, "%.*s...", COMMAND_LEN - 3, command);
}

static char *ports_text(char *const *ports)
{
	_cleanup_(freep) char *text = strdup("");

	for (; text && ports && *ports; ports++) {
		char *longer = str_printf("%s%s%s", text, *text ? ", " : "", *ports);

		free(text);
		text = longer;
	}
	return TAKE_PTR(text);
}

static int count_container(void *data, int dirfd, const struct rundir_state *st)
{
	size_t *n = data;

	(*n)++;
	return 0;
}

/* What a pod is, in place of a command. */
static char *pod_text(const struct target *t)
{
	size_t n = 0;

	if (rundir_each_container(&t->rd, count_container, &n) < 0)
		return NULL;
	return str_printf("pod of %s: %zu container%s", t->st.namespace, n, n == 1 ? "" : "s");
}

/* One line: of a sandbox, or of a container with the name of its pod before its own. */
static int add_row(struct table *table, const struct ps *ps, const struct rundir_state *st,
		   const char *name, const char *text)
{
	_cleanup_(freep) char *ports = ports_text(st->ports);
	char id[RUNDIR_CONTAINER_LEN + 1];
	char command[4096];
	char created[64];
	char status[96];

	if (!ports)
		return -ENOMEM;
	snprintf(id, sizeof(id), "%.*s", ps->no_trunc ? RUNDIR_CONTAINER_LEN : 12, st->id);
	command_text(text, ps->no_trunc || st->pod, command, sizeof(command));
	status_text(st, status, sizeof(status));
	return table_row(table, id, st->image, command,
			 cli_ago(created, sizeof(created), st->created_ns), status, ports, name);
}

/* The containers of a pod, as lines below it. */
struct members {
	struct table *table;
	const struct ps *ps;
	const struct target *pod;
};

static int add_member(void *data, int dirfd, const struct rundir_state *st)
{
	const struct members *m = data;
	_cleanup_(freep) char *name = str_printf("%s/%s", m->pod->st.name, st->name);

	if (!name)
		return -ENOMEM;
	if (st->status == RUNDIR_EXITED && !m->ps->all)
		return 0;
	return add_row(m->table, m->ps, st, name, st->command);
}

static int add_pod(struct table *table, const struct ps *ps, const struct target *t)
{
	struct members m = { .table = table, .ps = ps, .pod = t };
	_cleanup_(freep) char *text = pod_text(t);
	int r = text ? add_row(table, ps, &t->st, t->st.name, text) : -ENOMEM;

	return r == 0 && ps->containers ? rundir_each_container(&t->rd, add_member, &m) : r;
}

static int print_table(const struct ps *ps, const struct targets *ts)
{
	_cleanup_(table_done) struct table table = { .columns = 7 };
	struct err e = { 0 };
	int r = table_row(&table, "CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS",
			  "NAMES");

	for (size_t i = 0; i < ts->n && r == 0; i++) {
		const struct target *t = &ts->v[i];

		r = t->st.pod ? add_pod(&table, ps, t)
			      : add_row(&table, ps, &t->st, t->st.name, t->st.command);
	}
	if (r < 0) {
		err_oom(&e);
		return cli_fail(&e);
	}
	table_print(&table);
	return 0;
}

static void print_id(const struct ps *ps, const struct rundir_state *st)
{
	printf("%.*s\n", ps->no_trunc ? RUNDIR_CONTAINER_LEN : 12, st->id);
}

static int print_member_id(void *data, int dirfd, const struct rundir_state *st)
{
	const struct ps *ps = data;

	if (st->status != RUNDIR_EXITED || ps->all)
		print_id(ps, st);
	return 0;
}

static void print_ids(struct ps *ps, const struct targets *ts)
{
	for (size_t i = 0; i < ts->n; i++) {
		print_id(ps, &ts->v[i].st);
		if (ps->containers)
			(void)rundir_each_container(&ts->v[i].rd, print_member_id, ps);
	}
}

static int print_json(const struct targets *ts)
{
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();
	struct err e = { 0 };

	if (!array) {
		err_oom(&e);
		return cli_fail(&e);
	}
	for (size_t i = 0; i < ts->n; i++) {
		struct json_object *state;
		int r = target_state_json(&ts->v[i], &state, &e);

		if (r == 0 && json_push(array, state) < 0)
			r = err_oom(&e);
		if (r == 0 && ts->v[i].st.pod)
			r = target_containers_json(&ts->v[i], state, &e);
		if (r < 0)
			return cli_fail(&e);
	}
	return cli_print_json(array);
}

static int check_options(struct ps *ps, int argc, int rest, struct err *e)
{
	char quoted[64];

	if (rest < argc)
		return err_set(e, -EINVAL, "ps takes no arguments");
	if (!ps->format || str_eq(ps->format, "table"))
		return 0;
	if (!str_eq(ps->format, "json"))
		return err_set(e, -EINVAL, "--format is \"table\" or \"json\", not %s",
			       log_quote(quoted, sizeof(quoted), ps->format));
	ps->json = true;
	return 0;
}

int cli_ps(struct cli *cli, int argc, char **argv)
{
	_cleanup_(targets_done) struct targets ts = { 0 };
	struct ps ps = { 0 };
	const struct cli_option options[] = {
		{ "all", 'a', CLI_FLAG, &ps.all, NULL, "Also those that have ended" },
		{ "containers", 'c', CLI_FLAG, &ps.containers, NULL,
		  "Also the containers of pods" },
		{ "quiet", 'q', CLI_FLAG, &ps.quiet, NULL, "Print ids only" },
		{ "no-trunc", 0, CLI_FLAG, &ps.no_trunc, NULL, "Don't shorten ids and commands" },
		{ "format", 0, CLI_STRING, &ps.format, "FORMAT", "\"table\" or \"json\"" },
		{ "json", 0, CLI_FLAG, &ps.json, NULL, "Short for --format json" },
	};
	struct err e = { 0 };
	int rest = 0;
	int r = cli_parse(USAGE, options, ARRAY_SIZE(options), argc, argv, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r < 0 || check_options(&ps, argc, rest, &e) < 0)
		return cli_fail(&e);
	r = targets_all(cli, ps.all ? 0 : TARGETS_RUNNING, &ts);
	if (r != 0)
		return r;
	if (ps.json)
		return print_json(&ts);
	if (!ps.quiet)
		return print_table(&ps, &ts);
	print_ids(&ps, &ts);
	return 0;
}
