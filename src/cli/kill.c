/* SPDX-License-Identifier: Apache-2.0 */
/* podvm kill: a signal to the first process of containers. */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/target.h"
#include "oci/spec.h"
#include "proto/agent.pb-c.h"

#define USAGE "podvm kill [OPTIONS] NAME..."

static int send_signal(const struct target *t, int signum, struct err *e)
{
	Podvm__Agent__V1__SignalRequest req = PODVM__AGENT__V1__SIGNAL_REQUEST__INIT;

	if (target_ours(t, "kill", e) < 0)
		return e->code;
	if (t->st.pod) {
		err_set(e, -EINVAL, "a pod has no process of its own");
		err_hint(e, "'podvm rm -f %s' ends it", t->what);
		return -EINVAL;
	}
	if (!target_running(t)) {
		err_set(e, -ESRCH, "container %.12s isn't running", t->rd.id);
		err_hint(e, "'podvm ps -a' shows how it ended");
		return -ESRCH;
	}
	req.container_id = t->st.id;
	req.exec_id = (char *)"";
	req.signal = (uint32_t)signum;
	return target_call(t, "Signal", &req.base, NULL, e);
}

int cli_kill(struct cli *cli, int argc, char **argv)
{
	_cleanup_(targets_done) struct targets ts = { 0 };
	const char *signame = "KILL";
	bool all = false;
	const struct cli_option options[] = {
		{ "signal", 's', CLI_STRING, &signame, "SIGNAL", "Name or number; default: KILL" },
		{ "all", 'a', CLI_FLAG, &all, NULL, "All that run" },
	};
	struct err e = { 0 };
	char quoted[64];
	int signum;
	int rest = 0;
	int code;
	int r = cli_parse(USAGE, options, ARRAY_SIZE(options), argc, argv, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r < 0)
		return cli_fail(&e);
	signum = oci_signal_parse(signame);
	if (signum < 0) {
		err_set(&e, signum, "there is no signal %s",
			log_quote(quoted, sizeof(quoted), signame));
		return cli_fail(&e);
	}
	code = targets_get(cli, all, TARGETS_RUNNING | TARGETS_OURS, argv + rest, USAGE, &ts);
	for (size_t i = 0; i < ts.n; i++) {
		if (send_signal(&ts.v[i], signum, &e) < 0)
			code = cli_fail(&e);
		else
			puts(ts.v[i].what);
	}
	return code;
}
