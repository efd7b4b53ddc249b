/* SPDX-License-Identifier: Apache-2.0 */
/*
 * podvm events: what happens to containers and pods, from the log that whoever does it writes
 * (sandbox/event_log.h). Following it is waiting for changes of its directory (inotify).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/log_reader.h"
#include "loop/loop.h"
#include "oci/json.h"
#include "sandbox/event_log.h"

#define USAGE "podvm events [OPTIONS]"

DEFINE_CLEANUP(loop_freep, struct loop *, loop_free)

/**
 * struct event - A line of the log; strings are borrowed from the tree
 */
struct event {
	uint64_t time_ns;
	const char *event;
	bool pod;
	const char *id;
	const char *sandbox;
	const char *name;
	const char *namespace;
	const char *image;
	int64_t exit_code; /* < 0: it's no exit */
};

struct events {
	bool json;
	bool past;
	bool no_stream;
	bool skip;
	int inotify_fd;
	int result;
	bool ended;
	struct log_reader *reader;
};

static const char *text_of(struct json_object *obj, const char *name)
{
	struct json_object *s = json_get(obj, name, json_type_string);

	return s ? json_object_get_string(s) : "";
}

static bool read_event(struct json_object *obj, struct event *ret)
{
	struct json_object *at = json_get(obj, "time_ns", json_type_int);
	struct json_object *pod = json_get(obj, "pod", json_type_boolean);
	struct json_object *code = json_get(obj, "exit_code", json_type_int);

	*ret = (struct event){
		.time_ns = at ? json_object_get_uint64(at) : 0,
		.event = text_of(obj, "event"),
		.pod = pod && json_object_get_boolean(pod),
		.id = text_of(obj, "id"),
		.sandbox = text_of(obj, "sandbox"),
		.name = text_of(obj, "name"),
		.namespace = text_of(obj, "namespace"),
		.image = text_of(obj, "image"),
		.exit_code = code ? json_object_get_int64(code) : -1,
	};
	return *ret->event && *ret->id;
}

static void print_pair(const char *name, const char *value)
{
	if (!*value)
		return;
	printf(" %s=", name);
	cli_printable(value, (int)strlen(value));
}

static void print_event(const struct event *ev)
{
	cli_print_time(stdout, ev->time_ns);
	printf(" %-9s %-6s ", ev->pod ? "pod" : "container", ev->event);
	cli_printable(ev->id, (int)strlen(ev->id));
	print_pair("name", ev->name);
	print_pair("namespace", ev->namespace);
	if (!ev->pod && !str_eq(ev->id, ev->sandbox))
		print_pair("pod", ev->sandbox);
	print_pair("image", ev->image);
	if (ev->exit_code >= 0)
		printf(" exit_code=%d", (int)ev->exit_code);
	putchar('\n');
}

/* What isn't an event (the disk was full in the middle of one) is skipped. */
static int on_line(void *data, char *line, size_t len)
{
	_cleanup_(json_putp) struct json_object *obj = NULL;
	struct events *events = data;
	struct event ev;

	if (events->skip || json_parse(line, len, EVENT_LOG, &obj, NULL) < 0 ||
	    !read_event(obj, &ev))
		return 0;
	if (events->json)
		printf("%.*s\n", (int)len, line);
	else
		print_event(&ev);
	return ferror(stdout) ? -EPIPE : 0;
}

static void read_more(struct events *events)
{
	events->result = log_reader_read(events->reader, on_line, events);
	if (fflush(stdout) != 0)
		events->result = -EPIPE;
	events->ended = events->result != 0;
}

static void on_change(void *data, int what)
{
	struct events *events = data;
	char buf[4096];

	while (read(events->inotify_fd, buf, sizeof(buf)) > 0)
		;
	read_more(events);
}

static int follow(struct events *events, const char *dir, struct err *e)
{
	_cleanup_(close_fdp) int inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	_cleanup_(loop_freep) struct loop *loop = NULL;
	struct loop_io *io;
	int r;

	if (inotify_fd < 0 ||
	    inotify_add_watch(inotify_fd, dir, IN_MODIFY | IN_CREATE | IN_ONLYDIR) < 0)
		return err_errno(e, -errno, "cannot watch %s", dir);
	events->inotify_fd = inotify_fd;
	r = loop_new(&loop);
	if (r == 0)
		r = loop_io_new(loop, inotify_fd, LOOP_READ, on_change, events, &io);
	if (r < 0)
		return err_errno(e, r, "cannot watch %s", dir);
	/* What came between the first reading and the watch. */
	read_more(events);
	if (!events->ended)
		(void)loop_run_until(loop, &events->ended, -1);
	return events->result;
}

static int show(struct events *events, const char *dir, struct err *e)
{
	_cleanup_(close_fdp) int dirfd = -EBADF;
	int r = mkdir_p(dir, 0711);

	dirfd = r < 0 ? r : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return err_errno(e, r < 0 ? r : -errno, "cannot open %s", dir);
	r = log_reader_new(dirfd, EVENT_LOG, &events->reader);
	if (r < 0)
		return err_oom(e);
	events->skip = !events->past;
	read_more(events);
	events->skip = false;
	r = events->result;
	if (r == 0 && !events->no_stream)
		r = follow(events, dir, e);
	log_reader_free(events->reader);
	/* Who read this has gone; it isn't an error of ours. */
	if (r == -EPIPE)
		return 0;
	return r < 0 && !e->code ? err_errno(e, r, "cannot read the events") : r;
}

int cli_events(struct cli *cli, int argc, char **argv)
{
	struct events events = { 0 };
	const struct cli_option options[] = {
		{ "all", 'a', CLI_FLAG, &events.past, NULL, "Begin with what has happened" },
		{ "no-stream", 0, CLI_FLAG, &events.no_stream, NULL,
		  "Only what has happened; don't wait" },
		{ "json", 0, CLI_FLAG, &events.json, NULL, "As JSON, an object a line" },
	};
	struct err e = { 0 };
	int rest = 0;
	int r = cli_parse(USAGE, options, ARRAY_SIZE(options), argc, argv, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0 && rest < argc)
		r = err_set(&e, -EINVAL, "events takes no arguments");
	events.past |= events.no_stream;
	if (r < 0 || show(&events, cli->config.state, &e) < 0)
		return cli_fail(&e);
	return 0;
}
