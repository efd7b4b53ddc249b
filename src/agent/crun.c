/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/crun.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/child.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define CRUN	     "/usr/bin/crun"
#define NAME_MAX_LEN 64

static char *const environment[] = {
	(char[]){ "PATH=/usr/sbin:/usr/bin:/sbin:/bin" },
	NULL,
};

/* One run of `crun create` or `crun exec`. */
struct run {
	struct crun_job job;
	struct reaper *reaper;
	char name[NAME_MAX_LEN]; /* of its small files */
	int ready;		 /* of `exec`: closed when the program runs, or its process ends */
	struct loop_io *ready_watch;
	struct loop_timer *ready_timer;
};

/* What crun (1.8 and later ones) says when the program can't be run. */
static const struct {
	const char *text;
	int code;
} known_errors[] = {
	{ "executable file `", -ENOENT },     { "cannot find `` in $PATH", -ENOENT },
	{ "open executable", -EACCES },	      { "but it is not executable", -EACCES },
	{ "is not a regular file", -EACCES },
};

/* Length of what a terminal gets besides the message: colours and the time before it. */
static size_t decoration(const char *s)
{
	static const char stamp[] = "0000-00-00T00:00:00.000000Z: ";
	size_t n = 0;

	if (s[0] == '\x1b' && s[1] == '[') {
		n = 2 + strspn(s + 2, "0123456789;");
		return s[n] ? n + 1 : n;
	}
	while (stamp[n] && (stamp[n] == '0' ? s[n] >= '0' && s[n] <= '9' : s[n] == stamp[n]))
		n++;
	return stamp[n] ? 0 : n;
}

/* Several lines become one, without decoration. */
static void clean(char *said)
{
	char *out = said;

	for (char *s = said; *s;) {
		size_t skip = decoration(s);

		if (skip > 0) {
			s += skip;
			continue;
		}
		*out++ = *s == '\n' || *s == '\r' ? ' ' : *s;
		s++;
	}
	while (out > said && out[-1] == ' ')
		out--;
	*out = '\0';
}

void crun_error(struct err *e, const char *what, char *said, const struct err *why)
{
	int code = -EIO;

	clean(said);

	if (why->code == -ETIMEDOUT)
		code = -ETIMEDOUT;
	for (size_t i = 0; i < ARRAY_SIZE(known_errors); i++)
		if (strstr(said, known_errors[i].text))
			code = known_errors[i].code;
	err_set(e, code, "crun %s: %.768s", what, *said ? said : why->msg);
}

static const char *file_of(const struct run *run, const char *suffix, char buf[128])
{
	snprintf(buf, 128, DIR_AGENT "/%s%s", run->name, suffix);
	return buf;
}

static void remove_files(const struct run *run)
{
	char path[128];

	unlink(file_of(run, ".pid", path));
	unlink(file_of(run, ".json", path));
}

/* The pid that crun wrote, or a negative errno. */
static int read_pid(const struct run *run)
{
	_cleanup_(freep) char *text = NULL;
	char path[128];
	uint64_t pid;
	int r;

	r = file_read(AT_FDCWD, file_of(run, ".pid", path), 64, &text, NULL);
	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	if (parse_u64(text, INT32_MAX, &pid) < 0 || pid < 2)
		return -EPROTO;
	return (int)pid;
}

static int take_process(struct run *run, struct err *e)
{
	struct process *p = run->job.process;
	int pid = read_pid(run);
	int r;

	if (pid < 0)
		return err_errno(e, pid, "crun wrote no pid");
	r = streams_started(&p->io, run->job.columns, run->job.rows, e);
	if (r < 0) {
		kill(pid, SIGKILL);
		return r;
	}
	process_running(p, pid);
	return 0;
}

/* crun failed or was killed: what it may have started must not live on unsupervised. */
static void give_up(struct run *run, const struct err *why, struct err *e)
{
	char said[1024];
	int pid = read_pid(run);

	if (pid > 0)
		kill(pid, SIGKILL);
	streams_said(&run->job.process->io, said, sizeof(said));
	crun_error(e, run->job.bundle ? "create" : "exec", said, why);
}

static void run_free(struct run *run)
{
	loop_io_free(run->ready_watch);
	loop_timer_free(run->ready_timer);
	close_fdp(&run->ready);
	remove_files(run);
	free(run);
}

static void finish(struct run *run, const struct err *e)
{
	reaper_release(run->reaper);
	run->job.done(run->job.data, e->code ? e : NULL);
	run_free(run);
}

/* The program was found, but the kernel can't execute it: its interpreter is missing, or so. */
static void refuse(struct run *run, struct err *e)
{
	const struct err why = { .msg = "the program can't be executed" };
	char said[1024];

	streams_said(&run->job.process->io, said, sizeof(said));
	crun_error(e, "exec", said, &why);
	e->code = strstr(e->msg, strerror(ENOENT)) ? -ENOENT : -EACCES;
}

static void started(struct run *run)
{
	struct err e = { 0 };
	int pid = read_pid(run);

	if (run->job.spec && pid > 0 && reaper_never_ran(run->reaper, pid))
		refuse(run, &e);
	else if (take_process(run, &e) < 0)
		error_internal(&e);
	finish(run, &e);
}

static void on_ready(void *data, int events)
{
	started(data);
}

static void on_ready_timeout(void *data)
{
	started(data);
}

/* crun has ended; the process that it made is about to become the program. */
static void wait_ready(struct run *run)
{
	struct loop *loop = run->reaper->loop;

	if (!run->job.spec ||
	    loop_io_new(loop, run->ready, LOOP_READ, on_ready, run, &run->ready_watch) < 0 ||
	    loop_timer_new(loop, run->job.timeout_ms, on_ready_timeout, run, &run->ready_timer) < 0)
		started(run);
}

static void on_end(void *data, const struct err *why)
{
	struct run *run = data;
	struct err e = { 0 };

	if (!why) {
		wait_ready(run);
		return;
	}
	give_up(run, why, &e);
	finish(run, &e);
}

static int build_args(const struct run *run, struct strv *argv)
{
	const struct process *p = run->job.process;
	char path[128];
	int r;

	r = strv_add_all(argv, "crun", "--root", DIR_CRUN, "--cgroup-manager=cgroupfs",
			 run->job.bundle ? "create" : "exec", "--pid-file",
			 file_of(run, ".pid", path), NULL);
	if (r == 0 && run->job.bundle)
		r = strv_add_all(argv, "--bundle", run->job.bundle, NULL);
	else if (r == 0)
		r = strv_add_all(argv, "--detach", "--process", file_of(run, ".json", path), NULL);
	if (r == 0 && p->io.terminal)
		r = strv_add_all(argv, "--console-socket", p->io.console_path, NULL);
	return r < 0 ? r : strv_add(argv, p->container->id);
}

static int spawn_crun(struct run *run, struct err *e)
{
	_cleanup_(strv_done) struct strv argv = { 0 };
	_cleanup_(close_fdp) int theirs = -EBADF;
	struct spawn s = SPAWN_INIT;
	int fds[2];
	int r;

	r = build_args(run, &argv);
	if (r < 0)
		return err_oom(e);
	s.path = CRUN;
	s.argv = argv.v;
	s.envp = environment;
	streams_give(&run->job.process->io, &s);
	/* No descriptor above 2 survives the execution of the program, that's crun's business. */
	if (run->job.spec) {
		if (pipe2(fds, O_CLOEXEC) < 0)
			return err_errno(e, -errno, "cannot make a pipe");
		run->ready = fds[0];
		theirs = fds[1];
		(void)spawn_fd(&s, theirs);
	}
	return child_run(run->reaper, &s, run->job.timeout_ms, on_end, run, e);
}

int crun_start(const struct crun_job *job, struct err *e)
{
	struct agent *a = job->process->container->agent;
	struct run *run = calloc(1, sizeof(*run));
	char path[128];
	int r = 0;

	if (!run)
		return err_oom(e);
	run->job = *job;
	run->reaper = &a->reaper;
	run->ready = -EBADF;
	snprintf(run->name, sizeof(run->name), "run-%llu", (unsigned long long)++a->sequence);
	if (job->spec) {
		r = file_replace(AT_FDCWD, file_of(run, ".json", path), job->spec, job->spec_len,
				 0600);
		if (r < 0)
			err_errno(e, r, "cannot write the process specification");
	}
	if (r == 0)
		r = spawn_crun(run, e);
	streams_given(&job->process->io);
	if (r < 0) {
		error_internal(e);
		run_free(run);
		return r;
	}
	reaper_hold(&a->reaper);
	return 0;
}

/* ---- update ---- */

struct update {
	int said;
	char path[128];
	void (*done)(void *data, const struct err *e);
	void *data;
};

static void update_free(struct update *u)
{
	close_fdp(&u->said);
	unlink(u->path);
	free(u);
}

DEFINE_CLEANUP(update_freep, struct update *, update_free)

static void on_updated(void *data, const struct err *why)
{
	_cleanup_(update_freep) struct update *u = data;
	char said[1024] = "";
	struct err e = { 0 };
	ssize_t n;

	if (why) {
		n = read(u->said, said, sizeof(said) - 1);
		said[MAX(n, 0)] = '\0';
		crun_error(&e, "update", said, why);
	}
	u->done(u->data, why ? &e : NULL);
}

int crun_update(struct container *c, const void *resources, size_t len, uint64_t timeout_ms,
		void (*done)(void *data, const struct err *e), void *data, struct err *e)
{
	_cleanup_(update_freep) struct update *u = calloc(1, sizeof(*u));
	_cleanup_(strv_done) struct strv argv = { 0 };
	_cleanup_(close_fdp) int said_w = -EBADF;
	struct spawn s = SPAWN_INIT;
	int fds[2];
	int r;

	if (!u)
		return err_oom(e);
	u->said = -EBADF;
	u->done = done;
	u->data = data;
	snprintf(u->path, sizeof(u->path), DIR_AGENT "/update-%llu",
		 (unsigned long long)++c->agent->sequence);
	r = file_replace(AT_FDCWD, u->path, resources, len, 0600);
	if (r < 0 || pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_errno(e, r < 0 ? r : -errno, "cannot write the resources");
	u->said = fds[0];
	said_w = fds[1];
	r = strv_add_all(&argv, "crun", "--root", DIR_CRUN, "--cgroup-manager=cgroupfs", "update",
			 "-r", u->path, c->id, NULL);
	if (r < 0)
		return err_oom(e);
	s.path = CRUN;
	s.argv = argv.v;
	s.envp = environment;
	s.stderr_fd = said_w;
	r = child_run(&c->agent->reaper, &s, timeout_ms, on_updated, u, e);
	if (r == 0)
		TAKE_PTR(u);
	return r;
}

/* ---- what crun isn't needed for ---- */

/*
 * A created container's init waits in a read of this FIFO (crun's libcrun/status.c; the same since
 * 1.0). As in `crun start`, the file goes first and the byte last.
 */
int crun_release(const char *id)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	char path[sizeof(DIR_CRUN) + ID_MAX + 16];

	snprintf(path, sizeof(path), DIR_CRUN "/%s/exec.fifo", id);
	fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || unlink(path) < 0)
		return -errno;
	return write(fd, "", 1) == 1 ? 0 : -errno;
}

int crun_forget(const char *id)
{
	char path[sizeof(DIR_CRUN) + ID_MAX + 2];

	snprintf(path, sizeof(path), DIR_CRUN "/%s", id);
	return rm_rf(AT_FDCWD, path);
}
