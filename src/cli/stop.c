/* SPDX-License-Identifier: Apache-2.0 */
/* podvm stop */
#include <stdio.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/end.h"

#define USAGE "podvm stop [OPTIONS] NAME..."

static void on_ended(void *data, struct target *t, const struct err *e)
{
	int *code = data;

	if (e)
		*code = cli_fail(e);
	else
		puts(t->what);
}

int cli_stop(struct cli *cli, int argc, char **argv)
{
	_cleanup_(targets_done) struct targets ts = { 0 };
	unsigned int seconds = END_OWN_TIMEOUT;
	bool all = false;
	const struct cli_option options[] = {
		{ "time", 't', CLI_UINT, &seconds, "SECONDS",
		  "Before SIGKILL (as --stop-timeout)" },
		{ "all", 'a', CLI_FLAG, &all, NULL, "All that run" },
	};
	struct err e = { 0 };
	int rest = 0;
	int code;
	int r = cli_parse(USAGE, options, ARRAY_SIZE(options), argc, argv, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r < 0)
		return cli_fail(&e);
	code = targets_get(cli, all, TARGETS_RUNNING | TARGETS_OURS, argv + rest, USAGE, &ts);
	if (end_targets(&ts, "stop", seconds, on_ended, &code, &e) < 0)
		code = cli_fail(&e);
	return code;
}
