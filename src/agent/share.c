/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/share.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/prctl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/child.h"
#include "agent/paths.h"
#include "agent/service.h"
#include "agent/transport.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fdpass.h"
#include "base/log.h"

static const struct sockaddr_un address = { .sun_family = AF_UNIX,
					    .sun_path = DIR_AGENT "/share.sock" };

#define PORT_WAIT_MS 30000

#define DROP_CACHES "/proc/sys/vm/drop_caches"
#define DROP_NAMES  "2"

/* ---- the server's process ---- */

__attribute__((noreturn)) static void server_main(int listener)
{
	struct err e = { 0 };
	int port;
	int r;

	(void)prctl(PR_SET_NAME, "podvm-fs");
	/* Memory that it needs must not come from writing to the file systems that it serves. */
	(void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	(void)setsid();
	/* Nobody waits for those that it starts. */
	(void)signal(SIGCHLD, SIG_IGN);
	if (listener != 3 && dup3(listener, 3, O_CLOEXEC) < 0)
		_exit(1);
	close_range(4, ~0U, 0);
	port = transport_open_port(SHARE_PORT, clock_ms() + PORT_WAIT_MS, &e);
	if (port < 0) {
		log_error("no shared directories", "error=\"%s\"", e.msg);
		_exit(1);
	}
	r = share_server_run(3, port);
	log_error("shared directories have gone", "error=\"%s\"", strerror(-r));
	_exit(1);
}

/* Nobody else can be doing this: workers run one after the other. */
static int start_server(void)
{
	_cleanup_(close_fdp) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	pid_t pid;

	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 8) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		server_main(fd);
	return 0;
}

/* ---- what is remembered ---- */

int share_forget(void)
{
	return file_write(AT_FDCWD, DROP_CACHES, DROP_NAMES);
}

static int work_forget(void *arg, struct err *e)
{
	int r = share_forget();

	return r < 0 ? err_errno(e, r, "cannot write to " DROP_CACHES) : 0;
}

static void on_forgotten(void *data, const struct err *e)
{
	if (e)
		ttrpc_reply_err(data, e);
	else
		reply_empty(data);
}

HANDLER(serve_forget_files)
{
	struct agent *a = data;
	struct err e = { 0 };

	if (child_work(&a->reaper, "forgetting files", work_forget, NULL, call_timeout(call),
		       on_forgotten, call, &e) < 0)
		ttrpc_reply_err(call, &e);
}

/* ---- the worker ---- */

static int connect_server(int fd)
{
	int r;

	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return 0;
	/* One that was there and has gone leaves file systems that don't work. It isn't replaced. */
	if (errno != ENOENT)
		return -errno;
	r = start_server();
	if (r == 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		r = -errno;
	return r;
}

static int receive_answer(int fd, uint64_t deadline_ms, struct share_answer *answer)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now = clock_ms();
	uint64_t left = deadline_ms > now ? deadline_ms - now : 0;
	int r = poll(&p, 1, (int)MIN(left, (uint64_t)INT_MAX));

	if (r <= 0)
		return r < 0 ? -errno : -ETIMEDOUT;
	return recv(fd, answer, sizeof(*answer), 0) == (ssize_t)sizeof(*answer) ? 0 : -ECONNRESET;
}

int share_mount_begin(const char *name, uint64_t deadline_ms, struct share_mount *ret,
		      struct err *e)
{
	struct share_answer answer = { 0 };
	int r;

	ret->fuse = open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (ret->fuse < 0)
		return err_errno(e, -errno, "cannot open /dev/fuse");
	ret->server = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	r = ret->server < 0 ? -errno : connect_server(ret->server);
	if (r == 0)
		r = fdpass_send(ret->server, name, strlen(name), &ret->fuse, 1);
	if (r == 0)
		r = receive_answer(ret->server, deadline_ms, &answer);
	if (r < 0)
		return err_errno(e, r, "the server of shared directories");
	if (answer.error)
		return err_errno(e, answer.error, "the host doesn't share it");
	ret->mode = answer.mode & S_IFMT;
	return 0;
}

void share_mount_done(struct share_mount *m)
{
	close_fdp(&m->fuse);
	close_fdp(&m->server);
	*m = SHARE_MOUNT_INIT;
}
