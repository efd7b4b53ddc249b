/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/cli.h"

static const struct cli_verb verbs[] = {
	{ "run", cli_run, "Run a command in a new container, in a microVM of its own" },
	{ "exec", cli_exec, "Run a command in a running container" },
	{ "ps", cli_ps, "List containers" },
	{ "inspect", cli_inspect, "Show everything about a container as JSON" },
	{ "logs", cli_logs, "Show the output of a container, or what a machine has to say" },
	{ "stats", cli_stats, "Show what containers use" },
	{ "events", cli_events, "Show what happens to containers and pods" },
	{ "stop", cli_stop, "Stop containers" },
	{ "kill", cli_kill, "Send a signal to containers" },
	{ "rm", cli_rm, "Remove containers" },
	{ "image", cli_image, "Manage images, and the guest image" },
	{ "template", cli_template, "Manage the templates that machines are copies of" },
	{ "pool", cli_pool, "Keep machines waiting for pods" },
	{ "volume", cli_volume, "Hand block devices to pods as volumes, for CSI drivers" },
	{ "check", cli_check, "Find out what this machine can do" },
};

static void print_help(FILE *to)
{
	fputs("Usage: podvm [--log-level LEVEL] VERB [OPTIONS] [ARGUMENTS]\n\n"
	      "Runs containers in microVMs of their own.\n\nVerbs:\n",
	      to);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		fprintf(to, "  %-10s%s\n", verbs[i].name, verbs[i].summary);
	fputs("\n'podvm VERB --help' shows the options of a verb. See podvm(1).\n", to);
}

static int usage_error(const char *what, const char *arg)
{
	struct err e = { 0 };
	char quoted[128];

	err_set(&e, -1, "%s %s", what, log_quote(quoted, sizeof(quoted), arg));
	err_hint(&e, "'podvm --help' lists the verbs");
	return cli_fail(&e);
}

static int run_verb(const struct cli_verb *verb, const char *log_level, int argc, char **argv)
{
	struct cli cli = { .config = CONFIG_INIT };
	struct err e = { 0 };
	int level;
	int code;

	if (config_load(&cli.config, &e) < 0) {
		err_stage(&e, "configuration");
		return cli_fail(&e);
	}
	level = (int)cli.config.log_level;
	if (log_level)
		level = log_parse_level(log_level);
	if (level < 0) {
		config_done(&cli.config);
		return usage_error("unknown log level", log_level);
	}
	log_init(STDERR_FILENO, LOG_FORMAT_TEXT, (enum log_level)level);
	code = verb->main(&cli, argc, argv);
	config_done(&cli.config);
	if (fflush(stdout) != 0)
		return CLI_FAILED;
	return code;
}

int main(int argc, char **argv)
{
	const char *log_level = NULL;
	int i = 1;

	signal(SIGPIPE, SIG_IGN);
	for (; i < argc && argv[i][0] == '-'; i++) {
		if (str_eq(argv[i], "--help") || str_eq(argv[i], "-h")) {
			print_help(stdout);
			return 0;
		} else if (str_eq(argv[i], "--version") || str_eq(argv[i], "-v")) {
			puts("podvm " PODVM_VERSION);
			return 0;
		} else if (str_eq(argv[i], "--log-level") && i + 1 < argc) {
			log_level = argv[++i];
		} else if (str_starts(argv[i], "--log-level=")) {
			log_level = strchr(argv[i], '=') + 1;
		} else {
			return usage_error("unknown option", argv[i]);
		}
	}
	if (i == argc) {
		print_help(stderr);
		return CLI_FAILED;
	}
	for (size_t v = 0; v < ARRAY_SIZE(verbs); v++)
		if (str_eq(argv[i], verbs[v].name))
			return run_verb(&verbs[v], log_level, argc - i, argv + i);
	return usage_error("unknown verb", argv[i]);
}
