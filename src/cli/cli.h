/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_CLI_H
#define PODVM_CLI_CLI_H

/*
 * The podvm command: one file per verb. A verb parses its options by a table, does its work, and
 * returns the exit code of the process: 0, or 125 when podvm itself failed (`podvm run` and `podvm
 * exec`: the container's code, 126, 127). Errors go to stderr through cli_fail(), output that
 * others read to stdout.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "base/str.h"
#include "config/config.h"
#include "sandbox/rundir.h"

#define CLI_FAILED     125 /* podvm's own failure */
#define CLI_CANNOT_RUN 126 /* the command isn't executable */
#define CLI_NOT_FOUND  127 /* there is no such command */

/**
 * struct cli - What every verb gets
 * @config:	Configuration in force
 */
struct cli {
	struct config config;
};

/**
 * struct cli_verb - A verb
 * @name:	As typed
 * @main:	argv[0] is the verb
 * @summary:	One line for --help
 */
struct cli_verb {
	const char *name;
	int (*main)(struct cli *cli, int argc, char **argv);
	const char *summary;
};

int cli_run(struct cli *cli, int argc, char **argv);
int cli_exec(struct cli *cli, int argc, char **argv);
int cli_ps(struct cli *cli, int argc, char **argv);
int cli_inspect(struct cli *cli, int argc, char **argv);
int cli_logs(struct cli *cli, int argc, char **argv);
int cli_stop(struct cli *cli, int argc, char **argv);
int cli_kill(struct cli *cli, int argc, char **argv);
int cli_rm(struct cli *cli, int argc, char **argv);
int cli_events(struct cli *cli, int argc, char **argv);
int cli_stats(struct cli *cli, int argc, char **argv);
int cli_image(struct cli *cli, int argc, char **argv);
int cli_template(struct cli *cli, int argc, char **argv);
int cli_pool(struct cli *cli, int argc, char **argv);
int cli_volume(struct cli *cli, int argc, char **argv);
int cli_check(struct cli *cli, int argc, char **argv);

/* ---- options ---- */

enum cli_option_type {
	CLI_FLAG,   /* bool */
	CLI_STRING, /* const char *, points into argv; the last one wins */
	CLI_LIST,   /* struct strv, every one is appended */
	CLI_UINT,   /* unsigned int */
	CLI_SIZE,   /* uint64_t, as parse_size() takes it */
};

/**
 * struct cli_option - One option
 * @name:	Long name
 * @letter:	Short name, 0: none
 * @type:	Type of @target
 * @target:	Where its value goes
 * @value:	What the value is called in the help, NULL for a flag
 * @help:	One line
 */
struct cli_option {
	const char *name;
	char letter;
	enum cli_option_type type;
	void *target;
	const char *value;
	const char *help;
};

/* What cli_parse() answers when --help was asked for and shown. */
#define CLI_HELP_SHOWN 1

/**
 * cli_parse() - Parse the options of a verb
 * @usage:	"podvm run [OPTIONS] IMAGE [COMMAND...]", for the help
 * @options:	Table
 * @n:		Its length
 * @argc, @argv: With the verb as argv[0]
 * @ret_rest:	Index of the first argument that isn't an option; options after it are left alone
 * @e:		Says which option is wrong
 *
 * Return: 0, CLI_HELP_SHOWN, or -EINVAL
 */
int cli_parse(const char *usage, const struct cli_option *options, size_t n, int argc, char **argv,
	      int *ret_rest, struct err *e);

/**
 * cli_group() - Run the command of a verb that has several ("podvm image ls")
 * @verb:	The verb's name
 * @commands:	Table
 * @n:		Its length
 * @argc, @argv: With the verb as argv[0]
 *
 * Return: The exit code
 */
int cli_group(struct cli *cli, const char *verb, const struct cli_verb *commands, size_t n,
	      int argc, char **argv);

/* ---- output ---- */

/** cli_fail() - Print an error to stderr. Return: CLI_FAILED */
int cli_fail(const struct err *e);

/**
 * cli_progress() - Show how far something long is, in one line of a terminal; nothing elsewhere
 * @what:	What is being done; NULL: done, the line is cleared
 * @now, @total: How much of it in any unit; @total 0: unknown
 */
void cli_progress(const char *what, uint64_t now, uint64_t total);

/** cli_printable() - Print foreign text to stdout with control characters as '?', cut to @width */
void cli_printable(const char *text, int width);

/** cli_print_time() - "2026-11-21T10:00:00.123Z" of a time in nanoseconds since the epoch */
void cli_print_time(FILE *to, uint64_t time_ns);

/** cli_ago() - "3 seconds ago" of a time in nanoseconds since the epoch */
const char *cli_ago(char *buf, size_t size, uint64_t time_ns);

/** cli_human_size() - "12.3MB" as podman prints sizes (units of 1000) */
const char *cli_human_size(char *buf, size_t size, uint64_t bytes);

#endif
