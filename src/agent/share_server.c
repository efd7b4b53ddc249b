/* SPDX-License-Identifier: Apache-2.0 */
/* The server of shared directories, a process with nothing but this. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent/share.h"
#include "agent/share_fuse.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fdpass.h"
#include "base/list.h"

#define SHARES_MAX 1024

/*
 * The host has an open descriptor for every file that this kernel remembers, and an inode in its
 * memory, which are charged to the pod. The kernel forgets only when it needs memory itself, so
 * it's asked to when there may be so many.
 */
#define NAMES_MAX 8192

/* A worker sends what it wants right after it has connected. */
#define HELLO_MS 10000

#define PORT_PIECE ((size_t)4096)

/* Messages of the host that are taken in one turn. */
#define MAX_PER_TURN 64

enum share_state {
	SHARE_NEW,	/* to be looked up */
	SHARE_LOOKING,	/* the host has been asked */
	SHARE_MOUNTING, /* the worker knows, and mounts it */
	SHARE_LIVE,
	SHARE_GONE, /* unmounted; the host is to be told */
};

/**
 * struct share - A file system
 * @number:	Never used for another one
 * @fuse:	The kernel's requests
 * @worker:	Connection of who mounts it, < 0 later
 * @root:	The host's node
 */
struct share {
	struct list node;
	enum share_state state;
	uint32_t number;
	int fuse;
	int worker;
	uint64_t root;
	char name[NAME_MAX + 1];
};

enum init_state { INIT_NONE, INIT_ASKED, INIT_DONE };

/**
 * struct server - All of it
 * @init_state, @init: What was agreed with the host
 * @destroy:	The last share has gone: the host may forget everything
 * @names:	Files that the kernel may have come to remember since it was asked to forget them
 * @out, @out_len, @out_sent: A message to the host, @out_len is 0: none
 * @in, @in_got: A message from the host
 */
struct server {
	int listener;
	int port;
	struct list shares;
	size_t n_shares;
	uint32_t last_number;
	enum init_state init_state;
	struct fuse_init_out init;
	bool destroy;
	size_t names;
	uint8_t *out;
	size_t out_len;
	size_t out_sent;
	uint8_t *in;
	size_t in_got;
	struct pollfd *polls;
	size_t n_polls;
};

static void share_free(struct server *s, struct share *share)
{
	list_remove(&share->node);
	s->n_shares--;
	close_fdp(&share->fuse);
	close_fdp(&share->worker);
	free(share);
	if (s->n_shares == 0 && s->init_state == INIT_DONE) {
		s->destroy = true;
		s->init_state = INIT_NONE;
	}
}

static void answer_worker(struct share *share, int error, uint32_t mode)
{
	const struct share_answer answer = { error, mode };

	(void)send(share->worker, &answer, sizeof(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- to the host ---- */

/* Something of our own to tell, before what the kernel wants. */
static void prepare_own(struct server *s)
{
	struct share *share;
	struct share *tmp;

	if (s->destroy) {
		s->destroy = false;
		s->out_len = share_make_destroy(s->out);
		return;
	}
	list_for_each_safe (share, tmp, &s->shares, node) {
		if (share->state == SHARE_GONE) {
			s->out_len = share_make_forget(s->out, share->number, share->root);
			share_free(s, share);
			return;
		}
		if (share->state != SHARE_NEW || s->init_state == INIT_ASKED)
			continue;
		if (s->init_state == INIT_NONE) {
			s->out_len = share_make_init(s->out);
			s->init_state = INIT_ASKED;
			return;
		}
		s->out_len = share_make_lookup(s->out, share->number, share->name);
		share->state = SHARE_LOOKING;
		return;
	}
}

static int flush(struct server *s)
{
	while (s->out_sent < s->out_len) {
		ssize_t n = write(s->port, s->out + s->out_sent, s->out_len - s->out_sent);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		s->out_sent += (size_t)n;
	}
	s->out_len = s->out_sent = 0;
	return 0;
}

/* By another process: this one has to be there for what the kernel asks meanwhile. */
static void forget_names(void)
{
	if (fork() != 0)
		return;
	/* With the port open it would hide that its parent has gone. */
	close_range(3, ~0U, 0);
	_exit(share_forget() < 0);
}

static void count_names(struct server *s, size_t n)
{
	s->names += n;
	if (s->names <= NAMES_MAX)
		return;
	s->names = 0;
	forget_names();
}

static void read_kernel(struct server *s, struct share *share)
{
	const struct share_view view = { share->number, share->root, &s->init };
	uint8_t answer[SHARE_ANSWER_MAX];
	ssize_t n = read(share->fuse, s->out, SHARE_MESSAGE_MAX);
	size_t len;

	if (n < 0) {
		/* ENOENT: who asked has gone meanwhile. ENODEV: it was unmounted. */
		if (errno != EAGAIN && errno != EINTR && errno != ENOENT)
			share->state = SHARE_GONE;
		return;
	}
	if ((size_t)n < sizeof(struct fuse_in_header))
		return;
	count_names(s, share_names(s->out, (size_t)n));
	len = share_request(&view, s->out, (size_t)n, answer);
	if (len > 0)
		(void)!write(share->fuse, answer, len);
	else
		s->out_len = (size_t)n;
}

/* ---- from the host ---- */

static void take_init(struct server *s, const struct fuse_out_header *head, size_t len)
{
	struct share *share;
	struct share *tmp;

	if (s->init_state != INIT_ASKED || head->unique != SHARE_OWN)
		return; /* it's of a DESTROY */
	s->init = (struct fuse_init_out){ 0 };
	memcpy(&s->init, s->in + sizeof(*head), MIN(sizeof(s->init), len - sizeof(*head)));
	s->init_state = INIT_NONE;
	if (head->error == 0 && s->init.major == FUSE_KERNEL_VERSION) {
		s->init_state = INIT_DONE;
		return;
	}
	list_for_each_safe (share, tmp, &s->shares, node) {
		answer_worker(share, head->error ?: -EPROTO, 0);
		share_free(s, share);
	}
}

static void take_lookup(struct server *s, struct share *share, const struct fuse_out_header *head,
			size_t len)
{
	struct fuse_entry_out entry = { 0 };

	memcpy(&entry, s->in + sizeof(*head), MIN(sizeof(entry), len - sizeof(*head)));
	if (head->error || entry.nodeid == 0) {
		answer_worker(share, head->error ?: -ENOENT, 0);
		share_free(s, share);
		return;
	}
	share->root = entry.nodeid;
	share->state = SHARE_MOUNTING;
	answer_worker(share, 0, entry.attr.mode);
}

static struct share *find_share(const struct server *s, uint32_t number)
{
	struct share *share;

	list_for_each (share, &s->shares, node)
		if (share->number == number)
			return share;
	return NULL;
}

static void take_reply(struct server *s, size_t len)
{
	struct fuse_out_header head;
	struct share *share;
	uint32_t number;

	memcpy(&head, s->in, sizeof(head));
	number = share_reply(&head);
	memcpy(s->in, &head, sizeof(head));
	share = find_share(s, number);
	if (number == 0)
		take_init(s, &head, len);
	else if (share && share->state == SHARE_LOOKING)
		take_lookup(s, share, &head, len);
	else if (share)
		(void)!write(share->fuse, s->in, len); /* ENOENT: who asked has gone */
}

/*
 * A read of the port returns what is left of one of the driver's buffers, which are as large as
 * what QEMU puts into each. With a list of such pieces one call takes many.
 */
static ssize_t read_port(int port, uint8_t *to, size_t len)
{
	struct iovec pieces[SHARE_MESSAGE_MAX / PORT_PIECE];
	int n = 0;

	for (size_t at = 0; at < len; at += PORT_PIECE)
		pieces[n++] = (struct iovec){ to + at, MIN(len - at, PORT_PIECE) };
	return readv(port, pieces, n);
}

/* Return: 1 when something has come, 0 when there is nothing now, or a negative errno */
static int read_host(struct server *s)
{
	size_t wanted = sizeof(struct fuse_out_header);
	struct fuse_out_header head;
	ssize_t n;

	if (s->in_got >= wanted) {
		memcpy(&head, s->in, sizeof(head));
		if (head.len < sizeof(head) || head.len > SHARE_MESSAGE_MAX)
			return -EPROTO;
		wanted = head.len;
	}
	if (s->in_got < wanted) {
		n = read_port(s->port, s->in + s->in_got, wanted - s->in_got);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (n == 0)
			return -ECONNRESET;
		s->in_got += (size_t)n;
		return 1;
	}
	s->in_got = 0;
	take_reply(s, wanted);
	return 1;
}

/* ---- workers ---- */

static int receive_share(int fd, struct share *share)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t n;

	if (poll(&p, 1, HELLO_MS) <= 0 ||
	    fdpass_receive(fd, share->name, sizeof(share->name) - 1, &share->fuse, 1, &n) <= 0)
		return -ECONNRESET;
	return n == 1 ? 0 : -EPROTO;
}

static int grow_polls(struct server *s)
{
	size_t n = 2 * (s->n_polls + 1);
	struct pollfd *v = realloc(s->polls, n * sizeof(*v));

	if (!v)
		return -ENOMEM;
	s->polls = v;
	s->n_polls = n;
	return 0;
}

static void accept_worker(struct server *s)
{
	_cleanup_(close_fdp) int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
	_cleanup_(freep) struct share *share = calloc(1, sizeof(*share));

	if (fd < 0 || !share || s->n_shares == SHARES_MAX || s->last_number == SHARE_NUMBER_MAX ||
	    (s->n_polls < s->n_shares + 3 && grow_polls(s) < 0) || receive_share(fd, share) < 0)
		return;
	share->number = ++s->last_number;
	share->worker = TAKE_FD(fd);
	list_append(&s->shares, &TAKE_PTR(share)->node);
	s->n_shares++;
}

/* It closes its connection when it has mounted the share, or if it can't. */
static void worker_left(struct share *share)
{
	if (share->state == SHARE_MOUNTING)
		share->state = SHARE_LIVE;
	else
		share->state = SHARE_GONE;
	close_fdp(&share->worker);
	share->worker = -EBADF;
}

/* ---- the loop ---- */

/* What is waited for: workers, the host, then each share in the order of the list. */
static size_t fill_polls(struct server *s)
{
	bool sending = s->out_len > 0;
	struct share *share;
	size_t n = 2;

	s->polls[0] = (struct pollfd){ .fd = s->listener, .events = POLLIN };
	s->polls[1] = (struct pollfd){ .fd = s->port,
				       .events = (short)(POLLIN | (sending ? POLLOUT : 0)) };
	list_for_each (share, &s->shares, node) {
		int fd = share->state == SHARE_MOUNTING		  ? share->worker
			 : share->state == SHARE_LIVE && !sending ? share->fuse
								  : -1;

		s->polls[n++] = (struct pollfd){ .fd = fd, .events = POLLIN };
	}
	return n;
}

/* A request of each share that has one; those that find no room come first the next time. */
static int serve_shares(struct server *s, size_t n)
{
	struct share *share;
	struct share *tmp;
	size_t i = 2;
	int r = 0;

	list_for_each_safe (share, tmp, &s->shares, node) {
		if (i == n || r < 0)
			break;
		if (!s->polls[i++].revents)
			continue;
		if (share->state == SHARE_MOUNTING) {
			worker_left(share);
		} else if (share->state == SHARE_LIVE && s->out_len == 0) {
			read_kernel(s, share);
			r = flush(s);
			list_remove(&share->node);
			list_append(&s->shares, &share->node);
		}
	}
	return r;
}

static int turn(struct server *s)
{
	size_t n;
	int r = 1;

	while (s->out_len == 0) {
		prepare_own(s);
		if (s->out_len == 0)
			break;
		r = flush(s);
		if (r < 0)
			return r;
	}
	n = fill_polls(s);
	if (poll(s->polls, n, -1) < 0)
		return errno == EINTR ? 0 : -errno;
	r = flush(s);
	if (r == 0 && s->polls[1].revents & (POLLIN | POLLHUP))
		r = 1;
	for (int i = 0; r == 1 && i < MAX_PER_TURN; i++)
		r = read_host(s);
	if (r >= 0)
		r = serve_shares(s, n);
	if (r >= 0 && s->polls[0].revents)
		accept_worker(s);
	return r;
}

/* A port that waits: its host may still have to open the other end. */
static int greet_host(struct server *s)
{
	int r;

	s->out_len = share_make_init(s->out);
	s->init_state = INIT_ASKED;
	r = flush(s);
	return r < 0 ? r : fd_nonblock(s->port);
}

int share_server_run(int listener, int port)
{
	struct server s = { .listener = listener, .port = port };
	int r = -ENOMEM;

	list_init(&s.shares);
	s.out = malloc(SHARE_MESSAGE_MAX);
	s.in = malloc(SHARE_MESSAGE_MAX);
	if (s.out && s.in)
		r = grow_polls(&s);
	if (r == 0)
		r = greet_host(&s);
	while (r >= 0)
		r = turn(&s);
	while (!list_empty(&s.shares))
		share_free(&s, list_entry(s.shares.next, struct share, node));
	free(s.polls);
	free(s.out);
	free(s.in);
	return r;
}
