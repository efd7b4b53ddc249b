/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"

#define MAX_OPTIONS 64
#define HELP_CODE   1000

static void print_help(const char *usage, const struct cli_option *options, size_t n)
{
	printf("Usage: %s\n\nOptions:\n", usage);
	for (size_t i = 0; i < n; i++) {
		const struct cli_option *o = &options[i];
		char left[64];
		char letter[8] = "   ";

		if (o->letter)
			snprintf(letter, sizeof(letter), "-%c,", o->letter);
		snprintf(left, sizeof(left), "%s --%s%s%s", letter, o->name, o->value ? " " : "",
			 o->value ? o->value : "");
		printf("  %-32s %s\n", left, o->help);
	}
	printf("  %-32s %s\n", "    --help", "Show this");
}

static int set_value(const struct cli_option *o, const char *value, struct err *e)
{
	char quoted[128];
	uint64_t number;
	int r = 0;

	switch (o->type) {
	case CLI_FLAG:
		*(bool *)o->target = true;
		break;
	case CLI_STRING:
		*(const char **)o->target = value;
		break;
	case CLI_LIST:
		if (strv_add(o->target, value) < 0)
			return err_oom(e);
		break;
	case CLI_UINT:
		r = parse_u64(value, UINT_MAX, &number);
		if (r == 0)
			*(unsigned int *)o->target = (unsigned int)number;
		break;
	case CLI_SIZE:
		r = parse_size(value, o->target);
		break;
	}
	if (r < 0)
		return err_set(e, -EINVAL, "--%s doesn't take %s", o->name,
			       log_quote(quoted, sizeof(quoted), value));
	return 0;
}

static const struct cli_option *find_option(const struct cli_option *options, size_t n, int code)
{
	if (code > HELP_CODE)
		return &options[code - HELP_CODE - 1];
	for (size_t i = 0; i < n; i++)
		if (options[i].letter == code)
			return &options[i];
	return NULL;
}

/* Tables for getopt_long(3); "+": the first argument that is no option ends them. */
static void make_tables(const struct cli_option *options, size_t n, struct option *longs,
			char *shorts)
{
	char *s = shorts;

	*s++ = '+';
	*s++ = ':';
	for (size_t i = 0; i < n; i++) {
		int has_arg = options[i].type == CLI_FLAG ? no_argument : required_argument;

		longs[i] = (struct option){ options[i].name, has_arg, NULL,
					    (int)(HELP_CODE + 1 + i) };
		if (!options[i].letter)
			continue;
		*s++ = options[i].letter;
		if (has_arg == required_argument)
			*s++ = ':';
	}
	if (!find_option(options, n, 'h'))
		*s++ = 'h';
	*s = '\0';
	longs[n] = (struct option){ "help", no_argument, NULL, HELP_CODE };
	longs[n + 1] = (struct option){ 0 };
}

int cli_parse(const char *usage, const struct cli_option *options, size_t n, int argc, char **argv,
	      int *ret_rest, struct err *e)
{
	struct option longs[MAX_OPTIONS + 2];
	char shorts[3 * MAX_OPTIONS + 4];
	const struct cli_option *o;
	char quoted[128];
	int code;
	int r;

	if (n > MAX_OPTIONS)
		return err_set(e, -EINVAL, "too many options");
	make_tables(options, n, longs, shorts);
	opterr = 0;
	optind = 0; /* glibc: start anew */
	while ((code = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		o = code == '?' || code == ':' ? NULL : find_option(options, n, code);
		if (code == HELP_CODE || (code == 'h' && !o)) {
			print_help(usage, options, n);
			return CLI_HELP_SHOWN;
		}
		if (!o) {
			/* A letter may stand in a group, a long option has an argument of its own. */
			char letter[] = { '-', (char)optopt, '\0' };
			bool is_long = optopt == 0 || optopt > HELP_CODE;

			err_set(e, -EINVAL, "%s %s",
				code == ':' ? "a value is missing after" : "unknown option",
				log_quote(quoted, sizeof(quoted),
					  is_long ? argv[optind - 1] : letter));
			err_hint(e, "usage: %s\n--help lists the options", usage);
			return -EINVAL;
		}
		r = set_value(o, optarg, e);
		if (r < 0)
			return r;
	}
	*ret_rest = optind;
	return 0;
}

static void print_commands(FILE *to, const char *verb, const struct cli_verb *commands, size_t n)
{
	fprintf(to, "Usage: podvm %s COMMAND [OPTIONS] [ARGUMENTS]\n\nCommands:\n", verb);
	for (size_t i = 0; i < n; i++)
		fprintf(to, "  %-10s%s\n", commands[i].name, commands[i].summary);
}

int cli_group(struct cli *cli, const char *verb, const struct cli_verb *commands, size_t n,
	      int argc, char **argv)
{
	struct err e = { 0 };
	char quoted[64];

	if (argc < 2) {
		print_commands(stderr, verb, commands, n);
		return CLI_FAILED;
	}
	if (str_eq(argv[1], "--help") || str_eq(argv[1], "-h")) {
		print_commands(stdout, verb, commands, n);
		return 0;
	}
	for (size_t i = 0; i < n; i++)
		if (str_eq(argv[1], commands[i].name))
			return commands[i].main(cli, argc - 1, argv + 1);
	err_set(&e, -EINVAL, "unknown command %s", log_quote(quoted, sizeof(quoted), argv[1]));
	err_hint(&e, "'podvm %s --help' lists the commands", verb);
	return cli_fail(&e);
}
