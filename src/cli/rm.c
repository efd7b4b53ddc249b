/* SPDX-License-Identifier: Apache-2.0 */
/* podvm rm */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/end.h"

#define USAGE		"podvm rm [OPTIONS] NAME..."
#define OWNER_ENDING_MS 20000

/* One whose container has ended may still be putting things away. */
static int wait_for_owner(const struct target *t, struct err *e)
{
	_cleanup_(close_fdp) int owner = target_owner(t);

	if (owner < 0 || target_wait_owner(owner, OWNER_ENDING_MS) == 0)
		return 0;
	return err_set(e, -EBUSY, "process %d of container %.12s doesn't end", t->st.owner_pid,
		       t->rd.id);
}

static int remove_target(struct target *t, struct err *e)
{
	int r = wait_for_owner(t, e);

	return r < 0 ? r : rundir_remove(&t->rd, e);
}

static int refuse(const struct target *t, struct err *e)
{
	err_set(e, -EBUSY, "container %.12s is running", t->rd.id);
	err_hint(e, "stop it first, or use 'podvm rm -f' to kill and remove it");
	return -EBUSY;
}

static void on_ended(void *data, struct target *t, const struct err *e)
{
	int *code = data;
	struct err err = { 0 };

	if (e)
		*code = cli_fail(e);
	else if (remove_target(t, &err) < 0)
		*code = cli_fail(&err);
	else
		puts(t->what);
}

static int remove_ended(struct targets *ts)
{
	int code = 0;

	for (size_t i = 0; i < ts->n; i++) {
		struct target *t = &ts->v[i];
		struct err e = { 0 };
		int r = target_ours(t, "remove", &e);

		if (r == 0)
			r = target_running(t) ? refuse(t, &e) : remove_target(t, &e);
		if (r < 0)
			code = cli_fail(&e);
		else
			puts(t->what);
	}
	return code;
}

static int get_targets(struct cli *cli, bool all, bool force, char **names, struct targets *ts)
{
	if (force && !all && *names)
		return targets_named(cli, names, /* ignore= */ true, ts);
	return targets_get(cli, all, TARGETS_OURS, names, USAGE, ts);
}

int cli_rm(struct cli *cli, int argc, char **argv)
{
	_cleanup_(targets_done) struct targets ts = { 0 };
	int code;
	bool force = false;
	bool all = false;
	const struct cli_option options[] = {
		{ "force", 'f', CLI_FLAG, &force, NULL,
		  "Kill those that run; missing ones are fine" },
		{ "all", 'a', CLI_FLAG, &all, NULL, "All of them" },
	};
	struct err e = { 0 };
	int rest = 0;
	int r = cli_parse(USAGE, options, ARRAY_SIZE(options), argc, argv, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r < 0)
		return cli_fail(&e);
	code = get_targets(cli, all, force, argv + rest, &ts);
	if (!force)
		return MAX(code, remove_ended(&ts));
	if (end_targets(&ts, "remove", 0, on_ended, &code, &e) < 0)
		code = cli_fail(&e);
	return code;
}
