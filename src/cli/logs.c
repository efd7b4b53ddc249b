/* SPDX-License-Identifier: Apache-2.0 */
/*
 * podvm logs: what a container has printed, stdout to stdout and stderr to stderr. Following it is
 * waiting for changes of its run directory (inotify) and for the end of the sandbox's owner
 * (pidfd). Of a pod, whose containers' output containerd has, or with --machine: see machine_log.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/log_reader.h"
#include "cli/machine_log.h"
#include "cli/target.h"
#include "loop/loop.h"

#define USAGE "podvm logs [OPTIONS] NAME"

/* An entry that is kept until it's known whether it's one of the last. */
struct kept {
	struct list node;
	struct log_line line;
	char stamp[48];
	char text[];
};

/**
 * struct logs - What is to be shown
 * @tail:	Lines at the end of the log, -1: all of it
 * @kept:	Entries of the last @kept_lines lines
 * @open:	Per stream: its last entry wasn't the end of a line
 * @ended:	Nothing will follow
 * @result:	Of the last reading
 */
struct logs {
	bool follow;
	bool timestamps;
	bool machine;
	int64_t tail;
	struct list kept;
	int64_t kept_lines;
	bool open[2];
	struct target target;
	struct log_reader *reader;
	int inotify_fd;
	int result;
	bool ended;
};

DEFINE_CLEANUP(loop_freep, struct loop *, loop_free)

static int print_line(struct logs *logs, const struct log_line *line)
{
	FILE *to = line->error ? stderr : stdout;

	if (line->error)
		fflush(stdout); /* in the order in which it came */
	if (logs->timestamps && !logs->open[line->error])
		fprintf(to, "%s ", line->stamp);
	fwrite(line->text, 1, line->len, to);
	if (line->whole)
		fputc('\n', to);
	logs->open[line->error] = !line->whole;
	return ferror(to) ? -EPIPE : 0;
}

static void drop_entry(struct kept *k)
{
	list_remove(&k->node);
	free(k);
}

/* Drop the first line: the entries of its stream up to the end of a line. */
static void drop_line(struct logs *logs)
{
	struct kept *first = list_entry(logs->kept.next, struct kept, node);
	bool error = first->line.error;
	bool whole = false;
	struct kept *k;
	struct kept *tmp;

	list_for_each_safe (k, tmp, &logs->kept, node) {
		if (whole || k->line.error != error)
			continue;
		whole = k->line.whole;
		drop_entry(k);
	}
	logs->kept_lines--;
}

static int keep_line(struct logs *logs, const struct log_line *line)
{
	struct kept *k;

	if (logs->tail == 0)
		return 0;
	k = malloc(sizeof(*k) + line->len);
	if (!k)
		return -ENOMEM;
	k->line = *line;
	k->line.stamp = k->stamp;
	k->line.text = k->text;
	snprintf(k->stamp, sizeof(k->stamp), "%s", line->stamp);
	memcpy(k->text, line->text, line->len);
	list_append(&logs->kept, &k->node);
	if (!logs->open[line->error])
		logs->kept_lines++;
	logs->open[line->error] = !line->whole;
	while (logs->kept_lines > logs->tail)
		drop_line(logs);
	return 0;
}

/* What isn't a line of ours (the disk was full in the middle of one) is skipped. */
static int on_line(void *data, char *text, size_t len)
{
	struct log_line line;

	return log_line_parse(text, len, &line) < 0 ? 0 : print_line(data, &line);
}

static int on_early_line(void *data, char *text, size_t len)
{
	struct log_line line;

	return log_line_parse(text, len, &line) < 0 ? 0 : keep_line(data, &line);
}

/* What is there when we come. */
static int print_existing(struct logs *logs)
{
	struct kept *k;
	struct kept *tmp;
	int r;

	if (logs->tail < 0)
		return log_reader_read(logs->reader, on_line, logs);
	r = log_reader_read(logs->reader, on_early_line, logs);
	logs->open[0] = logs->open[1] = false;
	list_for_each_safe (k, tmp, &logs->kept, node) {
		if (r == 0)
			r = print_line(logs, &k->line);
		drop_entry(k);
	}
	return r;
}

/* Whether nothing will follow: the container has ended, or was removed. */
static bool has_ended(struct logs *logs)
{
	struct rundir_state st = { 0 };
	bool ended = rundir_read_state(&logs->target.rd, &st, NULL) < 0 ||
		     st.status == RUNDIR_EXITED;

	rundir_state_done(&st);
	return ended;
}

static void read_more(struct logs *logs, bool ended)
{
	logs->result = log_reader_read(logs->reader, on_line, logs);
	fflush(stdout);
	logs->ended = ended || logs->result != 0;
}

/* Asked for the end before reading: what was written before it has been read then. */
static void on_change(void *data, int events)
{
	struct logs *logs = data;
	char buf[4096];

	while (read(logs->inotify_fd, buf, sizeof(buf)) > 0)
		;
	read_more(logs, has_ended(logs));
}

static void on_owner_ended(void *data, int events)
{
	read_more(data, /* ended= */ true);
}

static int watch(struct logs *logs, struct loop *loop, int owner, struct err *e)
{
	struct loop_io *io;
	int r;

	if (inotify_add_watch(logs->inotify_fd, logs->target.rd.path,
			      IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_ONLYDIR) < 0)
		return err_errno(e, -errno, "cannot watch %s", logs->target.rd.path);
	r = loop_io_new(loop, logs->inotify_fd, LOOP_READ, on_change, logs, &io);
	if (r == 0)
		r = loop_io_new(loop, owner, LOOP_READ, on_owner_ended, logs, &io);
	return r < 0 ? err_errno(e, r, "cannot watch %s", logs->target.rd.path) : 0;
}

static int follow(struct logs *logs, struct err *e)
{
	_cleanup_(close_fdp) int owner = target_owner(&logs->target);
	_cleanup_(close_fdp) int inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	_cleanup_(loop_freep) struct loop *loop = NULL;
	int r;

	if (owner < 0) {
		read_more(logs, /* ended= */ true);
		return logs->result;
	}
	if (inotify_fd < 0)
		return err_errno(e, -errno, "cannot use inotify");
	logs->inotify_fd = inotify_fd;
	r = loop_new(&loop);
	if (r < 0)
		return err_errno(e, r, "cannot make an event loop");
	r = watch(logs, loop, owner, e);
	if (r < 0)
		return r;
	on_change(logs, LOOP_READ);
	if (!logs->ended)
		(void)loop_run_until(loop, &logs->ended, -1);
	return logs->result;
}

static int show_machine(struct logs *logs, struct err *e)
{
	struct machine_log log = { 0 };
	int r;

	if (logs->follow)
		return err_set(e, -EINVAL, "what a machine has to say can't be followed");
	r = machine_log_read(&logs->target, &log, e);
	if (r == 0)
		machine_log_print(&log, logs->tail);
	machine_log_done(&log);
	return r;
}

static int refuse_member(const struct target *t, struct err *e)
{
	err_set(e, -EINVAL, "containerd has the output of %s", t->what);
	err_hint(e,
		 "use kubectl, crictl or nerdctl logs; 'podvm logs %.12s' shows what the machine "
		 "of its pod has to say",
		 t->rd.id);
	return -EINVAL;
}

static int show_container(struct logs *logs, struct err *e)
{
	int r = log_reader_new(logs->target.rd.fd, "log", &logs->reader);
	if (r == 0)
		r = print_existing(logs);
	if (r == 0 && logs->follow)
		r = follow(logs, e);
	log_reader_free(logs->reader);
	/* Who read this has gone; it isn't an error of ours. */
	if (r == -EPIPE)
		return 0;
	return r < 0 && !e->code ? err_errno(e, r, "cannot read the log") : r;
}

static int show(struct cli *cli, struct logs *logs, const char *what, struct err *e)
{
	int r = target_open(cli, what, &logs->target, e);

	if (r < 0)
		return r;
	if (logs->machine || logs->target.st.pod)
		r = show_machine(logs, e);
	else if (logs->target.dir >= 0)
		r = refuse_member(&logs->target, e);
	else
		r = show_container(logs, e);
	target_done(&logs->target);
	return r;
}

static int check_options(struct logs *logs, const char *tail, int argc, int rest, struct err *e)
{
	char quoted[64];
	uint64_t n;

	if (argc - rest != 1) {
		err_set(e, -EINVAL, "logs takes the name of one container or pod");
		err_hint(e, "usage: " USAGE);
		return -EINVAL;
	}
	if (!tail || str_eq(tail, "-1") || str_eq(tail, "all"))
		return 0;
	if (parse_u64(tail, INT64_MAX, &n) < 0)
		return err_set(e, -EINVAL, "--tail is a number of lines, not %s",
			       log_quote(quoted, sizeof(quoted), tail));
	logs->tail = (int64_t)n;
	return 0;
}

int cli_logs(struct cli *cli, int argc, char **argv)
{
	struct logs logs = { .tail = -1, .target = { .rd = RUNDIR_INIT, .dir = -EBADF } };
	const char *tail = NULL;
	const struct cli_option options[] = {
		{ "follow", 'f', CLI_FLAG, &logs.follow, NULL, "Go on until the container ends" },
		{ "tail", 'n', CLI_STRING, &tail, "LINES", "Begin with the last so many lines" },
		{ "machine", 0, CLI_FLAG, &logs.machine, NULL,
		  "What the monitor, the guest's kernel and its agent say" },
		{ "timestamps", 't', CLI_FLAG, &logs.timestamps, NULL, "Show when it was printed" },
	};
	struct err e = { 0 };
	int rest = 0;
	int r = cli_parse(USAGE, options, ARRAY_SIZE(options), argc, argv, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	list_init(&logs.kept);
	if (r < 0 || check_options(&logs, tail, argc, rest, &e) < 0 ||
	    show(cli, &logs, argv[rest], &e) < 0)
		return cli_fail(&e);
	return 0;
}
