/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/logger.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/spawn.h"
#include "base/str.h"

/* Numbers of descriptors that the program expects. */
enum { LOGGER_STDOUT = 3, LOGGER_STDERR, LOGGER_READY };

static int hex_digit(char c)
{
	if (!isxdigit((unsigned char)c))
		return -1;
	return isdigit((unsigned char)c) ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* Take back the escapes of a URI, in place. A NUL in it is an error. */
static int unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (*s == '%') {
			int high = hex_digit(s[1]);
			int low = high < 0 ? -1 : hex_digit(s[2]);

			if (low < 0 || high + low == 0)
				return -EINVAL;
			*to++ = (char)(high * 16 + low);
			s += 2;
		} else {
			*to++ = *s == '+' ? ' ' : *s;
		}
	}
	*to = '\0';
	return 0;
}

/* "a=b&c" are the arguments a, b, c. */
static int add_arguments(char *query, struct strv *argv)
{
	char *save = NULL;
	int r = 0;

	for (char *pair = strtok_r(query, "&", &save); r == 0 && pair;
	     pair = strtok_r(NULL, "&", &save)) {
		char *value = strchr(pair, '=');

		if (value)
			*value++ = '\0';
		r = unescape(pair);
		if (r == 0)
			r = strv_add(argv, pair);
		if (r == 0 && value)
			r = unescape(value);
		if (r == 0 && value)
			r = strv_add(argv, value);
	}
	return r;
}

static int parse(const char *uri, struct strv *argv, struct err *e)
{
	_cleanup_(freep) char *path = strdup(uri + strlen(LOGGER_SCHEME));
	char *query = path ? strchr(path, '?') : NULL;
	char quoted[256];
	int r;

	if (!path)
		return err_oom(e);
	if (query)
		*query++ = '\0';
	r = *path == '/' ? strv_add(argv, path) : -EINVAL;
	if (r == 0 && query)
		r = add_arguments(query, argv);
	if (r == -EINVAL)
		return err_set(e, r, "%s names no log program",
			       log_quote(quoted, sizeof(quoted), uri));
	return r < 0 ? err_oom(e) : 0;
}

/* A pipe whose reading end is the program's. */
static int add_pipe(struct spawn *s, int read_ends[2], int *ret_write)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	read_ends[s->n_fds] = fds[0];
	*ret_write = fds[1];
	return spawn_fd(s, fds[0]);
}

static int start(struct strv *argv, struct strv *env, int fds[2], struct err *e)
{
	_cleanup_(close_fdp) int ready = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct spawn s = SPAWN_INIT;
	int read_ends[2] = { -EBADF, -EBADF };
	int r = ready < 0 ? -errno : 0;

	s.path = argv->v[0];
	s.argv = argv->v;
	s.envp = env->v;
	if (r == 0)
		r = add_pipe(&s, read_ends, &fds[0]);
	if (r == LOGGER_STDOUT)
		r = add_pipe(&s, read_ends, &fds[1]);
	if (r == LOGGER_STDERR)
		r = spawn_fd(&s, ready);
	r = r == LOGGER_READY ? spawn_start(&s, NULL, e)
			      : err_errno(e, r < 0 ? r : -EBADF, "cannot start the log program");
	for (int i = 0; i < 2; i++) {
		close_fdp(&read_ends[i]);
		if (r < 0) {
			close_fdp(&fds[i]);
			fds[i] = -EBADF;
		}
	}
	return r;
}

int logger_start(const char *uri, const char *id, const char *namespace, int fds[2], struct err *e)
{
	_cleanup_(strv_done) struct strv argv = { 0 };
	_cleanup_(strv_done) struct strv env = { 0 };
	int r;

	fds[0] = fds[1] = -EBADF;
	r = parse(uri, &argv, e);
	if (r < 0)
		return r;
	if (strv_addf(&env, "CONTAINER_ID=%s", id) < 0 ||
	    strv_addf(&env, "CONTAINER_NAMESPACE=%s", namespace) < 0)
		return err_oom(e);
	return start(&argv, &env, fds, e);
}
