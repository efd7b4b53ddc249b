/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/host_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/unixsock.h"
#include "sandbox/agent_client.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/socket_list.h"
#include "sandbox/socket_relay.h"

#define BACKOFF_MS	 1000
#define RETRY_MS	 10 /* a full backlog; doubled each time */
#define RETRY_MAX_MS	 640
#define CONNECT_LIMIT_MS 300000 /* longer than anybody waits */
#define LOG_MAX		 16	/* lines about connections: a guest could fill the log */

/**
 * struct host_sockets - What a guest may connect to
 * @sockets:	struct host_socket
 * @number:	That was given last
 * @connections: struct host_connection
 * @id:		That the next connection gets
 * @accept:	Accept
 * @backoff:	Runs while Accept would fail again
 * @logged:	Lines
 */
struct host_sockets {
	struct loop *loop;
	struct ttrpc_client *agent;
	const char *list;
	struct list sockets;
	size_t n_sockets;
	uint32_t number;
	struct list connections;
	size_t n_connections;
	uint64_t sequence;
	char id[24];
	struct ttrpc_pending *accept;
	struct loop_timer *backoff;
	unsigned int logged;
};

/**
 * struct host_socket - A socket
 * @dir, @dir_dev, @dir_ino: Directory
 * @dev, @ino, @ctime: The file whose type is known; another one may get its number
 * @type:	SOCK_STREAM or SOCK_SEQPACKET; 0: nobody listened, so it may be either
 */
struct host_socket {
	struct list node;
	const void *owner;
	char *key;
	uint32_t number;
	char *dir;
	dev_t dir_dev;
	ino_t dir_ino;
	char *name;
	dev_t dev;
	ino_t ino;
	struct timespec ctime;
	int type;
};

/**
 * struct host_connection - A connection
 * @socket:	Number of its socket
 * @relay:	Once it's connected
 * @retry:	Until it's tried again, @pause_ms after the last time
 * @deadline_ms: Until when
 * @removal:	RemoveProcess, its end
 */
struct host_connection {
	struct list node;
	struct host_sockets *owner;
	char id[24];
	uint32_t socket;
	struct socket_relay *relay;
	struct loop_timer *retry;
	uint64_t pause_ms;
	uint64_t deadline_ms;
	struct ttrpc_pending *removal;
};

/* ---- directories ---- */

static int open_dir(const char *path)
{
	struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
				.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };
	int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

int socket_dir_init(struct socket_dir *d, const char *path, bool single, struct err *e)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	struct stat st;
	int r = socket_list_names(path, &d->names, e);

	if (r < 0)
		return r;
	d->single = single;
	d->path = single ? strndup(path, (size_t)MAX(strrchr(path, '/') - path, 1)) : strdup(path);
	if (!d->path)
		return err_oom(e);
	fd = open_dir(d->path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, fd < 0 ? fd : -errno, "cannot open %s", path);
	d->dev = st.st_dev;
	d->ino = st.st_ino;
	return 0;
}

void socket_dir_done(struct socket_dir *d)
{
	free(TAKE_PTR(d->path));
	strv_done(&d->names);
}

/* O_PATH descriptor of a socket in a directory that has to be the one that was looked at. */
static int open_socket(const char *dir, dev_t dev, ino_t ino, const char *name)
{
	_cleanup_(close_fdp) int parent = open_dir(dir);
	_cleanup_(close_fdp) int fd = -EBADF;
	struct stat st;

	if (parent < 0)
		return parent;
	if (fstat(parent, &st) < 0 || st.st_dev != dev || st.st_ino != ino)
		return -ESTALE;
	fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return S_ISSOCK(st.st_mode) ? TAKE_FD(fd) : -ENOTSOCK;
}

/* Return: Connected socket or a negative errno */
static int connect_to(int file, int type)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	return unixsock_connect(path, type);
}

static int try_type(int file, int type)
{
	_cleanup_(close_fdp) int fd = connect_to(file, type);

	return MIN(fd, 0);
}

/* The kernel compares types first: with a wrong one nothing else happens. */
static int find_type(int file)
{
	int r = try_type(file, SOCK_DGRAM);

	if (r == -ECONNREFUSED)
		return 0;
	if (r != -EPROTOTYPE)
		return SOCK_DGRAM;
	return try_type(file, SOCK_SEQPACKET) == -EPROTOTYPE ? SOCK_STREAM : SOCK_SEQPACKET;
}

/* ---- connections ---- */

static void note(struct host_sockets *hs, const char *what, const char *why)
{
	char text[256];

	if (hs->logged == LOG_MAX)
		return;
	hs->logged++;
	log_warn(what, "reason=%s%s", log_quote(text, sizeof(text), why),
		 hs->logged == LOG_MAX ? " (further ones aren't logged)" : "");
}

static void connection_free(struct host_connection *c)
{
	list_remove(&c->node);
	c->owner->n_connections--;
	socket_relay_free(c->relay);
	loop_timer_free(c->retry);
	ttrpc_cancel(c->removal);
	free(c);
}

static void on_removed(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct host_connection *c = data;

	c->removal = NULL;
	connection_free(c);
}

/* It counts until the agent has closed it. */
static void end(struct host_connection *c)
{
	Podvm__Agent__V1__ProcessRequest req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;

	socket_relay_free(TAKE_PTR(c->relay));
	loop_timer_free(TAKE_PTR(c->retry));
	req.container_id = (char *)"";
	req.exec_id = c->id;
	if (agent_call(c->owner->agent, "RemoveProcess", &req.base, 0, on_removed, c, &c->removal) <
	    0)
		connection_free(c);
}

static void on_relay_done(void *data, const struct err *e)
{
	struct host_connection *c = data;

	if (e && e->code != -ECONNRESET)
		note(c->owner, "a connection of the pod to a host socket was closed", e->msg);
	end(c);
}

static struct host_socket *find_number(struct host_sockets *hs, uint32_t number)
{
	struct host_socket *s;

	list_for_each (s, &hs->sockets, node)
		if (s->number == number)
			return s;
	return NULL;
}

/* Return: Descriptor or a negative errno (-EAGAIN: its backlog is full) */
static int connect_host(struct host_sockets *hs, uint32_t number)
{
	struct host_socket *s = find_number(hs, number);
	_cleanup_(close_fdp) int file = -EBADF;

	if (!s)
		return -ENOENT;
	file = open_socket(s->dir, s->dir_dev, s->dir_ino, s->name);
	return file < 0 ? file : connect_to(file, s->type ?: SOCK_STREAM);
}

static int relay(struct host_connection *c, int fd)
{
	struct socket_relay_config config = {
		.loop = c->owner->loop,
		.agent = c->owner->agent,
		.id = c->id,
		.fd = fd,
		.done = on_relay_done,
		.data = c,
	};
	int r = socket_relay_new(&config, &c->relay);

	if (r < 0)
		close(fd);
	return r;
}

static void on_retry(void *data);

static void try_connect(struct host_connection *c)
{
	int r = connect_host(c->owner, c->socket);

	loop_timer_free(TAKE_PTR(c->retry));
	if (r == -EAGAIN && clock_ms() < c->deadline_ms) {
		r = loop_timer_new(c->owner->loop, c->pause_ms, on_retry, c, &c->retry);
		c->pause_ms = MIN(2 * c->pause_ms, (uint64_t)RETRY_MAX_MS);
	} else if (r >= 0) {
		r = relay(c, r);
	}
	if (r == 0)
		return;
	if (r != -ECONNREFUSED && r != -ENOENT)
		note(c->owner, "cannot connect to a host socket", strerror(-r));
	end(c);
}

static void on_retry(void *data)
{
	try_connect(data);
}

static void ask(struct host_sockets *hs);

static void on_backoff_over(void *data)
{
	struct host_sockets *hs = data;

	loop_timer_free(TAKE_PTR(hs->backoff));
	ask(hs);
}

static void back_off(struct host_sockets *hs, const char *why)
{
	note(hs, "the pod can't connect to host sockets", why);
	(void)loop_timer_new(hs->loop, BACKOFF_MS, on_backoff_over, hs, &hs->backoff);
}

static void on_refused(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct host_sockets *hs = data;

	hs->accept = NULL;
	ask(hs);
}

/* The next one is asked for when this one has gone. */
static void refuse(struct host_sockets *hs)
{
	Podvm__Agent__V1__ProcessRequest req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;
	int r;

	note(hs, "a connection of the pod to a host socket was refused", "there are too many");
	req.container_id = (char *)"";
	req.exec_id = hs->id;
	r = agent_call(hs->agent, "RemoveProcess", &req.base, 0, on_refused, hs, &hs->accept);
	if (r < 0 && r != -ENOTCONN)
		back_off(hs, strerror(-r));
}

static void connection_new(struct host_sockets *hs, uint32_t number)
{
	struct host_connection *c = NULL;

	if (hs->n_connections < HOST_SOCKETS_CONNECTIONS)
		c = calloc(1, sizeof(*c));
	if (!c) {
		refuse(hs);
		return;
	}
	c->owner = hs;
	c->socket = number;
	c->pause_ms = RETRY_MS;
	c->deadline_ms = clock_ms() + CONNECT_LIMIT_MS;
	snprintf(c->id, sizeof(c->id), "%s", hs->id);
	list_append(&hs->connections, &c->node);
	hs->n_connections++;
	try_connect(c);
	ask(hs);
}

static void on_accepted(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	const Podvm__Agent__V1__AcceptResponse *resp = (const void *)msg;
	struct host_sockets *hs = data;

	hs->accept = NULL;
	if (!e) {
		connection_new(hs, resp->socket);
		return;
	}
	if (e->code != -ECONNRESET)
		back_off(hs, e->msg);
}

static void ask(struct host_sockets *hs)
{
	Podvm__Agent__V1__AcceptRequest req = PODVM__AGENT__V1__ACCEPT_REQUEST__INIT;
	int r;

	if (hs->accept || hs->backoff)
		return;
	snprintf(hs->id, sizeof(hs->id), "s%llu", (unsigned long long)hs->sequence++);
	req.connection_id = hs->id;
	r = agent_call(hs->agent, "Accept", &req.base, 0, on_accepted, hs, &hs->accept);
	if (r < 0 && r != -ENOTCONN)
		back_off(hs, strerror(-r));
}

/* ---- sockets ---- */

static void socket_free(struct host_sockets *hs, struct host_socket *s)
{
	list_remove(&s->node);
	hs->n_sockets--;
	free(s->key);
	free(s->dir);
	free(s->name);
	free(s);
}

static struct host_socket *find(struct host_sockets *hs, const struct socket_offer *o)
{
	struct host_socket *s;

	list_for_each (s, &hs->sockets, node)
		if (s->owner == o->owner && str_eq(s->key, o->key))
			return s;
	return NULL;
}

static struct host_socket *add(struct host_sockets *hs, const struct socket_offer *o)
{
	struct host_socket *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	list_append(&hs->sockets, &s->node);
	hs->n_sockets++;
	s->owner = o->owner;
	s->dir_dev = o->dir->dev;
	s->dir_ino = o->dir->ino;
	if (str_set(&s->key, o->key) == 0 && str_set(&s->dir, o->dir->path) == 0 &&
	    str_set(&s->name, o->name) == 0)
		return s;
	socket_free(hs, s);
	return NULL;
}

static bool is_file(const struct host_socket *s, const struct stat *st)
{
	return s->dev == st->st_dev && s->ino == st->st_ino &&
	       s->ctime.tv_sec == st->st_ctim.tv_sec && s->ctime.tv_nsec == st->st_ctim.tv_nsec;
}

int host_sockets_offer(struct host_sockets *hs, const struct socket_offer *o, uint32_t *number,
		       bool *messages)
{
	struct host_socket *s = find(hs, o);
	_cleanup_(close_fdp) int file = -EBADF;
	struct stat st;
	int type;

	if (!socket_list_has(hs->list, &o->dir->names, o->dir->single ? NULL : o->name))
		return -EPERM;
	file = open_socket(o->dir->path, o->dir->dev, o->dir->ino, o->name);
	if (file < 0 || fstat(file, &st) < 0)
		return file < 0 ? file : -errno;
	if (!s || !s->type || !is_file(s, &st)) {
		type = find_type(file);
		if (type == SOCK_DGRAM)
			return -EPROTOTYPE;
		if (!s && hs->n_sockets == HOST_SOCKETS_MAX)
			return -ENFILE;
		s = s ?: add(hs, o);
		if (!s)
			return -ENOMEM;
		/* Another type is another socket to the guest. */
		if (!s->number || (s->type == SOCK_SEQPACKET) != (type == SOCK_SEQPACKET))
			s->number = ++hs->number;
		s->type = type;
		s->dev = st.st_dev;
		s->ino = st.st_ino;
		s->ctime = st.st_ctim;
	}
	*number = s->number;
	*messages = s->type == SOCK_SEQPACKET;
	ask(hs);
	return 0;
}

void host_sockets_keep(struct host_sockets *hs, const void *owner,
		       bool (*keep)(const void *data, const char *key), const void *data)
{
	struct host_socket *s;
	struct host_socket *tmp;

	list_for_each_safe (s, tmp, &hs->sockets, node)
		if (s->owner == owner && (!keep || !keep(data, s->key)))
			socket_free(hs, s);
}

int host_sockets_new(struct loop *loop, struct ttrpc_client *agent, const char *list,
		     struct host_sockets **ret)
{
	struct host_sockets *hs = calloc(1, sizeof(*hs));

	if (!hs)
		return -ENOMEM;
	hs->loop = loop;
	hs->agent = agent;
	hs->list = list;
	list_init(&hs->sockets);
	list_init(&hs->connections);
	*ret = hs;
	return 0;
}

void host_sockets_free(struct host_sockets *hs)
{
	if (!hs)
		return;
	while (!list_empty(&hs->connections))
		connection_free(list_entry(hs->connections.next, struct host_connection, node));
	while (!list_empty(&hs->sockets))
		socket_free(hs, list_entry(hs->sockets.next, struct host_socket, node));
	ttrpc_cancel(hs->accept);
	loop_timer_free(hs->backoff);
	free(hs);
}

struct host_sockets *sandbox_sockets(struct sandbox *sb)
{
	if (!sb->sockets)
		(void)host_sockets_new(sb->loop, sb->agent, sb->config->host_sockets ?: "",
				       &sb->sockets);
	return sb->sockets;
}
