/* SPDX-License-Identifier: Apache-2.0 */
/* User mode: passt as a child. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/spawn.h"
#include "net/internal.h"

#define PASST		 "passt"
#define READY_TIMEOUT_MS 10000
#define OUTPUT_MAX	 ((size_t)8 << 10)

struct net_user {
	struct net_config config;
	struct net_user_plan plan;
	struct net_probe probe;
	struct loop_child *child;
	struct loop_io *io;	/* the socket, until passt has answered */
	struct loop_io *output; /* its stderr */
	struct loop_timer *timer;
	int fd; /* our end of the socket pair */
	int output_fd;
	struct buf text; /* what it wrote to stderr: the last of it */
	pid_t pid;
	int guard;    /* for net_guard_remove() */
	bool started; /* `ready` has been called */
	void (*ready)(void *data, const struct err *e);
	void (*exited)(void *data, const struct err *e);
	void *data;
};

void net_user_free(struct net_user *user)
{
	if (!user)
		return;
	loop_io_free(user->io);
	loop_io_free(user->output);
	loop_timer_free(user->timer);
	loop_child_free(user->child);
	net_guard_remove(user->guard);
	close_fdp(&user->guard);
	close_fdp(&user->fd);
	close_fdp(&user->output_fd);
	buf_done(&user->text);
	net_config_done(&user->config);
	free(user);
}

DEFINE_CLEANUP(net_user_freep, struct net_user *, net_user_free)

/* Tells the caller, who may free everything. */
static void tell(struct net_user *user, const struct err *e)
{
	bool first = !user->started;

	user->started = true;
	loop_io_free(TAKE_PTR(user->io));
	loop_timer_free(TAKE_PTR(user->timer));
	if (first)
		user->ready(user->data, e);
	else
		user->exited(user->data, e);
}

static void on_timeout(void *data)
{
	struct net_user *user = data;
	struct err e = { 0 };

	err_set(&e, -ETIMEDOUT, PASST " did not answer within %d s", READY_TIMEOUT_MS / 1000);
	tell(user, &e);
}

static void on_joined(void *data)
{
	tell(data, NULL);
}

static void read_output(struct net_user *user)
{
	char chunk[1024];
	ssize_t n;

	while ((n = read(user->output_fd, chunk, sizeof(chunk))) > 0) {
		size_t room = OUTPUT_MAX - buf_len(&user->text);

		if ((size_t)n > room)
			buf_consume(&user->text, (size_t)n - room);
		(void)buf_append(&user->text, chunk, (size_t)n);
	}
	if (n == 0 || errno != EAGAIN)
		loop_io_free(TAKE_PTR(user->output));
}

static void on_output(void *data, int events)
{
	read_output(data);
}

/* Lines that passt of Debian 12 writes in any case: no syslog there, and that it drops root. */
static bool is_noise(const char *line)
{
	return !*line || str_starts(line, "Failed to send ") ||
	       str_starts(line, "Don't run as root");
}

/* The last line that tells something, or NULL. */
static const char *last_words(struct net_user *user)
{
	const char *found = NULL;
	char *save = NULL;

	if (buf_append(&user->text, "", 1) < 0)
		return NULL;
	for (char *line = strtok_r((char *)buf_head(&user->text), "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		if (!is_noise(line))
			found = line;
	return found;
}

static void on_exit_of_child(void *data, int code)
{
	struct net_user *user = data;
	struct err e = { 0 };
	const char *words;
	char quoted[512];

	user->pid = 0;
	if (user->output)
		read_output(user);
	words = last_words(user);
	if (code > 128 && !words)
		err_set(&e, -EPIPE, PASST " was ended by signal %d", code - 128);
	else
		err_set(&e, -EPIPE, PASST " ended (%d)%s%s", code, words ? ": " : "",
			words ? log_quote(quoted, sizeof(quoted), words) : "");
	tell(user, &e);
}

static void on_socket(void *data, int events)
{
	struct net_user *user = data;
	int r = net_probe_read(&user->probe);

	if (r > 0)
		tell(user, NULL);
	else if (r < 0) /* it's about to end and to be noticed, or the timer is */
		loop_io_free(TAKE_PTR(user->io));
}

/* Plans, and makes sure that passt will be able to bind its ports. */
static int prepare(struct net_user *user, const struct net_user_options *options, struct err *e)
{
	struct net_dns dns = { 0 };
	struct net_host host;
	int r;

	r = net_ports_check(options->ports, options->n_ports, e);
	if (r == 0)
		r = net_ports_free(options->ports, options->n_ports, e);
	if (r == 0)
		r = net_dns_host(&dns, e);
	if (r == 0) {
		net_host_read(&host);
		r = net_user_plan(options, &host, &dns, &user->plan, &user->config, e);
	}
	net_dns_done(&dns);
	return r;
}

/* Return: pidfd or a negative errno */
static int spawn_passt(struct net_user *user, const struct net_user_options *options, int sock,
		       int output, struct err *e)
{
	_cleanup_(strv_done) struct strv argv = { 0 };
	struct spawn spawn = SPAWN_INIT;
	int target = spawn_fd(&spawn, sock);
	int r;

	if (net_user_argv(options, &user->plan, target, &argv) < 0)
		return err_oom(e);
	spawn.path = str_empty(options->binary) ? PASST : options->binary;
	spawn.argv = argv.v;
	spawn.new_session = true; /* Ctrl-C on our terminal is for the container */
	spawn.stderr_fd = output;
	r = net_guard_spawn(&spawn, &user->pid, &user->guard, e);
	if (r == -ENOENT)
		err_hint(e, "Install the package passt, or run without a network: --net none");
	return r;
}

static int start_child(struct loop *loop, struct net_user *user,
		       const struct net_user_options *options, int sock, struct err *e)
{
	_cleanup_(close_fdp) int output = -EBADF;
	int pidfd;
	int fds[2];
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "cannot make a pipe");
	user->output_fd = fds[0];
	output = fds[1];
	pidfd = spawn_passt(user, options, sock, output, e);
	if (pidfd < 0)
		return pidfd;
	r = loop_child_new(loop, pidfd, on_exit_of_child, user, &user->child);
	if (r == 0)
		r = fd_nonblock(user->output_fd);
	if (r == 0)
		r = loop_io_new(loop, user->output_fd, LOOP_READ, on_output, user, &user->output);
	return r < 0 ? err_errno(e, r, "cannot watch " PASST) : 0;
}

/* An end of the socket that fails is left to the child's exit, which says why. */
static int start_probe(struct loop *loop, struct net_user *user, struct err *e)
{
	int r;

	/* The other end is a machine's already. */
	if (user->fd < 0) {
		r = loop_timer_new(loop, 0, on_joined, user, &user->timer);
		return r < 0 ? err_errno(e, r, "cannot begin") : 0;
	}
	r = net_probe_start(&user->probe, user->fd, &user->plan);
	if (r == 0)
		r = loop_io_new(loop, user->fd, LOOP_READ, on_socket, user, &user->io);
	else
		r = 0;
	if (r == 0)
		r = loop_timer_new(loop, READY_TIMEOUT_MS, on_timeout, user, &user->timer);
	return r < 0 ? err_errno(e, r, "cannot watch " PASST) : 0;
}

static int make_pair(struct net_user *user, int *ret, struct err *e)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(e, -errno, "cannot make a socket");
	user->fd = fds[0];
	*ret = fds[1];
	return 0;
}

int net_user_start(struct loop *loop, const struct net_user_options *options, int peer,
		   void (*ready)(void *data, const struct err *e),
		   void (*exited)(void *data, const struct err *e), void *data,
		   struct net_user **ret, struct err *e)
{
	_cleanup_(net_user_freep) struct net_user *user = calloc(1, sizeof(*user));
	_cleanup_(close_fdp) int sock = peer;
	int r;

	if (!user)
		return err_oom(e);
	user->fd = user->output_fd = user->guard = -EBADF;
	user->text.limit = OUTPUT_MAX + 1;
	user->ready = ready;
	user->exited = exited;
	user->data = data;
	r = prepare(user, options, e);
	if (r == 0 && sock < 0)
		r = make_pair(user, &sock, e);
	if (r == 0)
		r = start_child(loop, user, options, sock, e);
	if (r == 0)
		r = start_probe(loop, user, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(user);
	return 0;
}

const struct net_config *net_user_config(const struct net_user *user)
{
	return &user->config;
}

int net_user_fd(struct net_user *user)
{
	return user->started ? TAKE_FD(user->fd) : -EBADF;
}

int net_user_pid(const struct net_user *user)
{
	return user->pid;
}

void net_user_recover(void)
{
	_cleanup_(close_fdp) int cgroup = net_guard_parent();

	net_guard_remove(cgroup);
}
