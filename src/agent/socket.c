/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/connection.h"
#include "agent/paths.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/fd.h"

#define BACKLOG 128

/**
 * struct listener - A socket
 * @fd:		To which we listen
 * @file:	Its inode
 * @watch:	Watched while the host waits for a connection
 */
struct listener {
	struct list node;
	struct sockets *owner;
	uint32_t number;
	int fd;
	int file;
	struct loop_io *watch;
};

static void listener_free(struct listener *l)
{
	list_remove(&l->node);
	l->owner->n--;
	loop_io_free(l->watch);
	close_fdp(&l->fd);
	close_fdp(&l->file);
	free(l);
}

/* ---- connections ---- */

static void watch_all(struct sockets *s, bool on)
{
	struct listener *l;

	list_for_each (l, &s->list, node)
		(void)loop_io_set(l->watch, on ? LOOP_READ : 0);
}

static void on_acceptable(void *data, int events)
{
	struct listener *l = data;
	struct sockets *s = l->owner;
	PB(AcceptResponse) resp = PODVM__AGENT__V1__ACCEPT_RESPONSE__INIT;
	int fd;
	int r;

	if (!s->call)
		return;
	fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	r = fd < 0 ? -errno : connection_accepted(s->agent, s->id, fd);
	watch_all(s, false);
	resp.socket = l->number;
	if (r < 0)
		ttrpc_reply_error(TAKE_PTR(s->call), ttrpc_code_from_errno(r),
				  "cannot accept a connection: %s", strerror(-r));
	else
		ttrpc_reply(TAKE_PTR(s->call), &resp.base);
}

HANDLER(serve_accept)
{
	const PB(AcceptRequest) *req = (const void *)msg;
	struct agent *a = data;
	struct sockets *s = &a->sockets;

	if (!connection_id_valid(req->connection_id)) {
		ttrpc_reply_error(call, TTRPC_INVALID_ARGUMENT, "invalid id");
		return;
	}
	if (s->call) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION,
				  "a connection is waited for already");
		return;
	}
	s->call = call;
	snprintf(s->id, sizeof(s->id), "%s", req->connection_id);
	watch_all(s, true);
}

/* ---- sockets ---- */

static bool same_inode(int a, int b)
{
	struct stat x;
	struct stat y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* The socket of this number, if it is what has the name. */
static struct listener *find(struct sockets *s, int parent, const char *name, uint32_t number)
{
	_cleanup_(close_fdp) int file = open_beneath(parent, name, O_PATH | O_NOFOLLOW, 0);
	struct listener *l;

	if (file < 0)
		return NULL;
	list_for_each (l, &s->list, node)
		if (l->number == number && same_inode(l->file, file))
			return l;
	return NULL;
}

/* Of the inode, whatever has its name meanwhile. */
static int set_attributes(int file, const PB(VolumeChange) * c)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	if (fchownat(file, "", c->uid, c->gid, AT_EMPTY_PATH) < 0 ||
	    chmod(path, c->mode & 07777) < 0)
		return -errno;
	return 0;
}

/* Return: O_PATH descriptor of the inode or a negative errno */
static int bind_to(int fd, int parent, const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_(close_fdp) int file = -EBADF;
	struct stat st;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s", parent, name);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	file = open_beneath(parent, name, O_PATH | O_NOFOLLOW, 0);
	if (file < 0)
		return file;
	return fstat(file, &st) == 0 && S_ISSOCK(st.st_mode) ? TAKE_FD(file) : -ESTALE;
}

static int add(struct sockets *s, uint32_t number, int *fd, int *file)
{
	struct listener *l = calloc(1, sizeof(*l));
	int r = l ? loop_io_new(s->agent->loop, *fd, s->call ? LOOP_READ : 0, on_acceptable, l,
				&l->watch)
		  : -ENOMEM;

	if (r < 0) {
		free(l);
		return r;
	}
	l->owner = s;
	l->number = number;
	l->fd = TAKE_FD(*fd);
	l->file = TAKE_FD(*file);
	list_append(&s->list, &l->node);
	s->n++;
	return 0;
}

/* It gets its name when it's complete. */
static int make(struct sockets *s, int parent, const char *name, const PB(VolumeChange) * c)
{
	int type = c->messages ? SOCK_SEQPACKET : SOCK_STREAM;
	_cleanup_(close_fdp) int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	_cleanup_(close_fdp) int file = -EBADF;
	char tmp[32];
	int r;

	if (fd < 0)
		return -errno;
	snprintf(tmp, sizeof(tmp), "..socket-%u", c->socket);
	r = rm_rf(parent, tmp);
	if (r < 0)
		return r;
	file = r = bind_to(fd, parent, tmp);
	if (r >= 0)
		r = set_attributes(file, c);
	if (r == 0)
		r = rename_over(parent, tmp, name);
	if (r == 0)
		r = add(s, c->socket, &fd, &file);
	if (r < 0)
		(void)rm_rf(parent, tmp);
	return r;
}

int socket_put(struct sockets *s, int parent, const char *name, const PB(VolumeChange) * c)
{
	struct listener *l = find(s, parent, name, c->socket);

	if (l)
		return set_attributes(l->file, c);
	sockets_sweep(s);
	return s->n < SOCKETS_MAX ? make(s, parent, name, c) : -ENFILE;
}

void sockets_sweep(struct sockets *s)
{
	struct listener *l;
	struct listener *tmp;

	list_for_each_safe (l, tmp, &s->list, node) {
		struct stat st;

		if (fstat(l->file, &st) < 0 || st.st_nlink == 0)
			listener_free(l);
	}
}

void sockets_init(struct sockets *s, struct agent *a)
{
	s->agent = a;
	list_init(&s->list);
}

void sockets_done(struct sockets *s)
{
	while (!list_empty(&s->list))
		listener_free(list_entry(s->list.next, struct listener, node));
	if (s->call)
		ttrpc_reply_error(TAKE_PTR(s->call), TTRPC_CANCELED, "the agent ends");
}
