/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Images that are no layout yet: skopeo makes one of them. What it prints is passed on line by
 * line, and its last line is the reason when it fails.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/spawn.h"
#include "oci/internal.h"

#define FETCH_TIMEOUT_MS (30 * 60 * 1000)
#define LINE_SIZE	 1024
#define POLICY_SYSTEM	 "/etc/containers/policy.json"
#define POLICY_USER	 ".config/containers/policy.json"

/* skopeo refuses to work without a policy, which Debian's package only recommends. */
static bool have_policy(void)
{
	const char *home = getenv("HOME");
	_cleanup_(freep) char *path = home ? str_printf("%s/" POLICY_USER, home) : NULL;

	return access(POLICY_SYSTEM, R_OK) == 0 || (path && access(path, R_OK) == 0);
}

static int make_argv(const struct oci_ref *ref, const char *dest,
		     const struct oci_fetch_options *options, struct strv *argv)
{
	_cleanup_(freep) char *source = oci_ref_text(ref);
	int r;

	if (!source)
		return -ENOMEM;
	r = strv_add_all(argv, "skopeo", "--override-os", "linux", "--override-arch", OCI_ARCH,
			 NULL);
	if (r == 0 && !have_policy())
		r = strv_add(argv, "--insecure-policy");
	if (r == 0)
		r = strv_add(argv, "copy");
	if (r == 0 && options && options->authfile)
		r = strv_add_all(argv, "--authfile", options->authfile, NULL);
	if (r == 0)
		r = strv_add(argv, source);
	return r < 0 ? r : strv_addf(argv, "oci:%s:latest", dest);
}

/**
 * struct lines - Output that is cut into lines
 * @options:	Whom to tell, may be NULL
 * @text:	The line that is being collected; what doesn't fit is dropped
 * @len:	Its bytes
 * @last:	The last line that was not empty
 */
struct lines {
	const struct oci_fetch_options *options;
	char text[LINE_SIZE];
	size_t len;
	char last[LINE_SIZE];
};

static void end_line(struct lines *l)
{
	l->text[l->len] = '\0';
	if (l->len == 0)
		return;
	memcpy(l->last, l->text, l->len + 1);
	l->len = 0;
	if (l->options && l->options->progress)
		l->options->progress(l->options->data, l->last);
}

static void feed_lines(struct lines *l, const char *data, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (data[i] == '\n' || data[i] == '\r')
			end_line(l);
		else if ((unsigned char)data[i] >= ' ' && data[i] != 0x7f && l->len < LINE_SIZE - 1)
			l->text[l->len++] = data[i];
	}
}

static int read_output(int fd, uint64_t deadline, struct lines *l)
{
	char chunk[4096];

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t now = clock_ms();
		ssize_t n;
		int r;

		if (now >= deadline)
			return -ETIMEDOUT;
		r = poll(&p, 1, (int)(deadline - now));
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r <= 0)
			continue;
		n = read(fd, chunk, sizeof(chunk));
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		feed_lines(l, chunk, (size_t)n);
	}
	end_line(l);
	return 0;
}

/* The part of skopeo's log line (time=... level=fatal msg="...") that is meant for people. */
static const char *reason(char *line)
{
	char *msg = strstr(line, "msg=\"");
	char *out;

	if (!msg)
		return line;
	msg += strlen("msg=\"");
	out = msg;
	for (char *in = msg; *in && *in != '"'; in++) {
		bool escaped = *in == '\\' && in[1];

		in += escaped;
		*out++ = escaped && *in == 'n' ? ' ' : *in;
	}
	*out = '\0';
	return msg;
}

static int run(struct strv *argv, struct lines *l, struct err *e)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_(close_fdp) int pidfd = -EBADF;
	_cleanup_(close_fdp) int pipe_r = -EBADF;
	_cleanup_(close_fdp) int pipe_w = -EBADF;
	uint64_t deadline = clock_ms() + FETCH_TIMEOUT_MS;
	uint64_t now;
	int fds[2];
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "cannot run skopeo");
	pipe_r = fds[0];
	pipe_w = fds[1];
	s.path = "skopeo";
	s.argv = argv->v;
	s.stdout_fd = s.stderr_fd = pipe_w;
	pidfd = spawn_start(&s, NULL, e);
	if (pidfd < 0)
		return pidfd;
	close(TAKE_FD(pipe_w));
	r = read_output(pipe_r, deadline, l);
	now = clock_ms();
	/* Also after a failure: the wait kills the child at once and reaps it. */
	if (r == 0)
		r = spawn_wait(pidfd, now < deadline ? (int)(deadline - now) : 0);
	else
		spawn_wait(pidfd, 0);
	if (r < 0)
		return err_errno(e, r, "skopeo did not end in time");
	return r;
}

static int check(const struct oci_ref *ref, const char *dest, struct err *e)
{
	_cleanup_(freep) char *skopeo = NULL;
	int r;

	if (ref->transport == OCI_DIR || strchr(dest, ':'))
		return err_set(e, -EINVAL, "cannot make an OCI layout %s of it", dest);
	if (ref->path && access(ref->path, R_OK) < 0)
		return err_errno(e, -errno, "cannot read image %s", ref->path);
	r = find_program("skopeo", &skopeo);
	if (r == -ENOENT) {
		err_set(e, r, "image needs the program skopeo, which is not installed");
		err_hint(e, "apt-get install skopeo");
	} else if (r < 0) {
		err_errno(e, r, "cannot run skopeo");
	}
	return r;
}

int oci_fetch(const struct oci_ref *ref, const char *dest, const struct oci_fetch_options *options,
	      struct err *e)
{
	_cleanup_(strv_done) struct strv argv = { 0 };
	struct lines lines = { .options = options };
	int r;

	r = check(ref, dest, e);
	if (r < 0)
		return r;
	if (make_argv(ref, dest, options, &argv) < 0)
		return err_oom(e);
	r = run(&argv, &lines, e);
	if (r < 0)
		return r;
	if (r > 0)
		return err_set(e, -ECHILD, "cannot get image %s: %s", argv.v[argv.n - 2],
			       lines.last[0] ? reason(lines.last) : "skopeo failed");
	return 0;
}
