/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/procio.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "shim/logger.h"

#define FILE_SCHEME "file://"

/* containerd 2's streaming isn't there yet. */
static int check(const char *uri, bool output, struct err *e)
{
	char quoted[256];

	if (!*uri || *uri == '/')
		return 0;
	if (output && (str_starts(uri, FILE_SCHEME "/") || str_starts(uri, LOGGER_SCHEME "/")))
		return 0;
	return err_set(e, -EINVAL, "%s isn't supported for standard streams: a fifo%s is",
		       log_quote(quoted, sizeof(quoted), uri),
		       output ? ", file:///path or binary:///path" : "");
}

int procio_paths_set(struct procio_paths *p, const char *in, const char *out, const char *err,
		     bool terminal, struct err *e)
{
	int r;

	r = check(in, false, e);
	if (r == 0)
		r = check(out, true, e);
	if (r == 0)
		r = check(err, true, e);
	if (r < 0)
		return r;
	p->terminal = terminal;
	if (str_set(&p->stdin, in) < 0 || str_set(&p->stdout, out) < 0 ||
	    str_set(&p->stderr, err) < 0)
		return err_oom(e);
	return 0;
}

void procio_paths_done(struct procio_paths *p)
{
	free(p->stdin);
	free(p->stdout);
	free(p->stderr);
	*p = (struct procio_paths){ 0 };
}

void procio_init(struct procio *io)
{
	*io = (struct procio){ .fds = { -EBADF, -EBADF }, .in = -EBADF, .done = true };
}

static int open_file(const char *path, struct err *e)
{
	_cleanup_(freep) char *copy = strdup(path);
	int fd;
	int r;

	if (!copy)
		return err_oom(e);
	r = mkdir_p(dirname(copy), 0755);
	if (r < 0)
		return err_errno(e, r, "cannot make the directory of %s", path);
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);
	return fd < 0 ? err_errno(e, -errno, "cannot open %s", path) : fd;
}

/* Return: Descriptor, -EBADF for none, or another negative errno with @e set */
static int open_stream(const char *uri, struct err *e)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	struct stat st;

	if (str_empty(uri))
		return -EBADF;
	if (str_starts(uri, FILE_SCHEME))
		return open_file(uri + strlen(FILE_SCHEME), e);
	fd = open(uri, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot open %s", uri);
	if (!S_ISFIFO(st.st_mode))
		return err_set(e, -EINVAL, "%s is no fifo", uri);
	return TAKE_FD(fd);
}

static void on_logger_exit(void *data, int code)
{
	struct procio *io = data;

	if (code != 0)
		log_warn("the log program failed", "code=%d", code);
	loop_child_free(TAKE_PTR(io->logger));
	/* Its end is waited for when there's nothing more to write. */
	if (!io->streams_done || io->done)
		return;
	io->done = true;
	io->cb(io->data);
}

static int start_logger(struct procio *io, const char *uri, const struct streams_config *config,
			const char *namespace, struct err *e)
{
	int pidfd = logger_start(uri, config->container_id, namespace, io->fds, e);
	int r;

	if (pidfd < 0)
		return pidfd;
	r = loop_child_new(config->loop, pidfd, on_logger_exit, io, &io->logger);
	return r < 0 ? err_errno(e, r, "cannot watch the log program") : 0;
}

static int open_all(struct procio *io, const struct procio_paths *paths,
		    const struct streams_config *config, const char *namespace, struct err *e)
{
	io->in = open_stream(paths->stdin, e);
	if (io->in < 0 && io->in != -EBADF)
		return io->in;
	if (str_starts(paths->stdout, LOGGER_SCHEME))
		return start_logger(io, paths->stdout, config, namespace, e);
	io->fds[STREAMS_STDOUT] = open_stream(paths->stdout, e);
	if (io->fds[STREAMS_STDOUT] < 0 && io->fds[STREAMS_STDOUT] != -EBADF)
		return io->fds[STREAMS_STDOUT];
	if (paths->terminal)
		return 0;
	io->fds[STREAMS_STDERR] = open_stream(paths->stderr, e);
	if (io->fds[STREAMS_STDERR] < 0 && io->fds[STREAMS_STDERR] != -EBADF)
		return io->fds[STREAMS_STDERR];
	return 0;
}

static void close_outputs(struct procio *io)
{
	for (int i = 0; i < STREAMS_COUNT; i++)
		if (io->fds[i] >= 0)
			close(TAKE_FD(io->fds[i]));
}

static void on_done(void *data, const struct err *e)
{
	struct procio *io = data;
	char text[256];

	if (e && e->code != -ECONNRESET)
		log_warn("output was lost", "error=%s", log_quote(text, sizeof(text), e->msg));
	/* The readers see the end now, not when the task is deleted. Input may go on. */
	close_outputs(io);
	io->streams_done = true;
	if (io->logger)
		return;
	io->done = true;
	io->cb(io->data);
}

int procio_start(struct procio *io, const struct procio_paths *paths,
		 const struct streams_config *config, const char *namespace, void (*cb)(void *data),
		 void *data, struct err *e)
{
	struct streams_config c = *config;
	int r;

	r = open_all(io, paths, config, namespace, e);
	if (r == 0) {
		io->cb = cb;
		io->data = data;
		c.terminal = paths->terminal;
		c.fds[STREAMS_STDOUT] = io->fds[STREAMS_STDOUT];
		c.fds[STREAMS_STDERR] = io->fds[STREAMS_STDERR];
		c.stdin_fd = io->in;
		c.done = on_done;
		c.data = io;
		r = streams_new(&c, &io->streams);
		if (r < 0)
			err_errno(e, r, "cannot relay the standard streams");
	}
	if (r < 0) {
		procio_done(io);
		return r;
	}
	io->done = io->streams_done = false;
	return 0;
}

void procio_close_input(struct procio *io)
{
	if (io->in >= 0)
		close(TAKE_FD(io->in));
}

void procio_done(struct procio *io)
{
	streams_free(TAKE_PTR(io->streams));
	procio_close_input(io);
	close_outputs(io);
	loop_child_free(TAKE_PTR(io->logger));
	io->done = true;
}
