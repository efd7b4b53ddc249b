/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/fuse_relay.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "storage/vhost_fs.h"

/* Messages that are read in one turn of the loop. */
#define MAX_PER_TURN 16

/**
 * struct slot - A request that is under way
 * @node:	In the relay's list of free ones or of replies, or in none
 * @head:	Of the reply
 * @body:	What follows it, NULL: nothing
 */
struct slot {
	struct list node;
	struct fuse_out_header head;
	const uint8_t *body;
};

/**
 * struct fuse_relay - Between a guest and a daemon
 * @ready:	The daemon serves
 * @head, @got:	Header of the request that is being read, and how many bytes of it all have come
 * @slot:	Where it goes, NULL: the header isn't complete
 * @replies:	Slots to be written, in order
 * @sent:	Bytes of the first reply that have gone
 */
struct fuse_relay {
	struct fuse_relay_handlers handlers;
	void *data;
	int guest;
	struct loop_io *io;
	struct vhost_fs *fs;
	bool ready;
	struct fuse_in_header head;
	size_t got;
	struct slot *slot;
	struct list replies;
	size_t sent;
	struct list unused;
	struct slot slots[VHOST_FS_SLOTS];
};

static unsigned int slot_number(const struct fuse_relay *relay, const struct slot *s)
{
	return (unsigned int)(s - relay->slots);
}

/* The lowest ones first: their memory is there already. */
static void put_unused(struct fuse_relay *relay, struct slot *s)
{
	struct list *at = relay->unused.next;

	while (at != &relay->unused && list_entry(at, struct slot, node) < s)
		at = at->next;
	list_append(at, &s->node);
}

static void watch(struct fuse_relay *relay)
{
	bool room = relay->slot || !list_empty(&relay->unused);

	if (relay->io)
		(void)loop_io_set(relay->io,
				  (relay->ready && room ? LOOP_READ : 0) |
					  (list_empty(&relay->replies) ? 0 : LOOP_WRITE));
}

static void break_up(struct fuse_relay *relay, const struct err *e)
{
	loop_io_free(TAKE_PTR(relay->io));
	relay->ready = false;
	relay->handlers.broken(relay->data, e);
}

/* ---- replies ---- */

/* Return: 1 when it has gone, 0 when the guest can't take more now, or a negative errno */
static int send_reply(struct fuse_relay *relay, const struct slot *s)
{
	while (relay->sent < s->head.len) {
		const size_t h = sizeof(s->head);
		size_t in_head = MIN(relay->sent, h);
		struct iovec iov[] = {
			{ (uint8_t *)&s->head + in_head, h - in_head },
			{ (uint8_t *)s->body + (relay->sent - in_head),
			  s->head.len - h - (relay->sent - in_head) },
		};
		struct msghdr msg = { .msg_iov = iov, .msg_iovlen = s->body ? 2 : 1 };
		ssize_t n = sendmsg(relay->guest, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		relay->sent += (size_t)n;
	}
	return 1;
}

static int send_replies(struct fuse_relay *relay)
{
	while (!list_empty(&relay->replies)) {
		struct slot *s = list_entry(relay->replies.next, struct slot, node);
		int r = send_reply(relay, s);

		if (r <= 0)
			return r;
		relay->sent = 0;
		list_remove(&s->node);
		put_unused(relay, s);
	}
	return 0;
}

static void refuse(struct fuse_relay *relay, struct slot *s)
{
	s->head = (struct fuse_out_header){ .len = sizeof(s->head),
					    .error = -ENOSYS,
					    .unique = relay->head.unique };
	s->body = NULL;
	list_append(&relay->replies, &s->node);
}

static void on_answered(void *data, unsigned int number, size_t len)
{
	struct fuse_relay *relay = data;
	struct slot *s = &relay->slots[number];
	const uint8_t *reply = vhost_fs_reply(relay->fs, number);
	struct err e = { 0 };

	if (!relay->io)
		return;
	if (len == 0) {
		put_unused(relay, s);
	} else {
		memcpy(&s->head, reply, sizeof(s->head));
		s->body = reply + sizeof(s->head);
		list_append(&relay->replies, &s->node);
		if (len < sizeof(s->head) || s->head.len != len) {
			err_set(&e, -EPROTO, "virtiofsd answers with nonsense");
			break_up(relay, &e);
			return;
		}
	}
	if (send_replies(relay) < 0) {
		err_set(&e, -ECONNRESET, "the guest doesn't take what virtiofsd answers");
		break_up(relay, &e);
		return;
	}
	watch(relay);
}

/* ---- requests ---- */

/*
 * What the daemon gets. It has never seen requests to interrupt others, which virtiofs doesn't
 * have; notifications, mappings of files and devices are nothing that it offered.
 */
static bool is_passed(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_INTERRUPT:
	case FUSE_NOTIFY_REPLY:
	case FUSE_SETUPMAPPING:
	case FUSE_REMOVEMAPPING:
		return false;
	default:
		return opcode >= FUSE_LOOKUP && opcode <= FUSE_TMPFILE;
	}
}

/* Return: Bytes that have come, 0: none now, or a negative errno */
static ssize_t receive(struct fuse_relay *relay, void *to, size_t n)
{
	ssize_t r = recv(relay->guest, to, n, MSG_DONTWAIT);

	if (r < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return r == 0 ? -ECONNRESET : r;
}

static int begin_request(struct fuse_relay *relay)
{
	if (relay->head.len < sizeof(relay->head) || relay->head.len > VHOST_FS_MESSAGE_MAX)
		return -EPROTO;
	relay->slot = list_entry(relay->unused.next, struct slot, node);
	list_remove(&relay->slot->node);
	return 0;
}

/* QEMU's daemon fills all the room there is with what it reads, however little was asked for. */
static size_t reply_max(struct fuse_relay *relay, unsigned int number)
{
	struct fuse_read_in in;

	if (relay->head.opcode != FUSE_READ || relay->head.len < sizeof(relay->head) + sizeof(in))
		return SIZE_MAX;
	memcpy(&in, vhost_fs_request(relay->fs, number) + sizeof(relay->head), sizeof(in));
	return sizeof(struct fuse_out_header) + (size_t)in.size;
}

static void end_request(struct fuse_relay *relay)
{
	struct slot *s = TAKE_PTR(relay->slot);
	unsigned int number = slot_number(relay, s);

	relay->got = 0;
	if (!is_passed(relay->head.opcode)) {
		refuse(relay, s);
		return;
	}
	memcpy(vhost_fs_request(relay->fs, number), &relay->head, sizeof(relay->head));
	vhost_fs_submit(relay->fs, number, relay->head.len, reply_max(relay, number));
}

/* Return: 1 when a request has come as a whole, 0 when there is no more now, or a negative errno */
static int read_request(struct fuse_relay *relay)
{
	const size_t h = sizeof(relay->head);
	ssize_t n = 1;
	int r;

	while (relay->got < h) {
		n = receive(relay, (uint8_t *)&relay->head + relay->got, h - relay->got);
		if (n <= 0)
			return (int)n;
		relay->got += (size_t)n;
	}
	r = relay->slot ? 0 : begin_request(relay);
	while (r == 0 && relay->got < relay->head.len) {
		uint8_t *to = vhost_fs_request(relay->fs, slot_number(relay, relay->slot));

		n = receive(relay, to + relay->got, relay->head.len - relay->got);
		if (n <= 0)
			return (int)n;
		relay->got += (size_t)n;
	}
	if (r == 0)
		end_request(relay);
	return r < 0 ? r : 1;
}

static int read_requests(struct fuse_relay *relay)
{
	int r = 1;

	for (int i = 0; r == 1 && i < MAX_PER_TURN; i++) {
		if (!relay->slot && list_empty(&relay->unused))
			return 0;
		r = read_request(relay);
	}
	return MIN(r, 0);
}

static void on_guest(void *data, int events)
{
	struct fuse_relay *relay = data;
	struct err e = { 0 };
	int r = relay->ready ? read_requests(relay) : 0;

	if (r == 0)
		r = send_replies(relay);
	if (r == 0) {
		watch(relay);
		return;
	}
	if (r == -EPROTO)
		err_set(&e, r, "the guest sends what is no request to a file system");
	else
		err_errno(&e, r, "the channel for shared directories has gone");
	break_up(relay, &e);
}

/* ---- life ---- */

static void on_ready(void *data)
{
	struct fuse_relay *relay = data;

	relay->ready = true;
	watch(relay);
	relay->handlers.ready(relay->data);
}

static void on_broken(void *data, const struct err *e)
{
	struct fuse_relay *relay = data;

	if (relay->io)
		break_up(relay, e);
}

int fuse_relay_new(struct loop *loop, int guest, int daemon, uint64_t timeout_ms,
		   const struct fuse_relay_handlers *handlers, void *data, struct fuse_relay **ret)
{
	static const struct vhost_fs_handlers fs_handlers = { on_ready, on_answered, on_broken };
	struct fuse_relay *relay = calloc(1, sizeof(*relay));
	int r;

	if (!relay) {
		close(daemon);
		return -ENOMEM;
	}
	relay->handlers = *handlers;
	relay->data = data;
	relay->guest = guest;
	list_init(&relay->replies);
	list_init(&relay->unused);
	for (size_t i = 0; i < VHOST_FS_SLOTS; i++)
		list_append(&relay->unused, &relay->slots[i].node);
	r = vhost_fs_new(loop, daemon, timeout_ms, &fs_handlers, relay, &relay->fs);
	if (r == 0)
		r = loop_io_new(loop, guest, 0, on_guest, relay, &relay->io);
	if (r < 0) {
		fuse_relay_free(relay);
		return r;
	}
	*ret = relay;
	return 0;
}

void fuse_relay_free(struct fuse_relay *relay)
{
	if (!relay)
		return;
	loop_io_free(relay->io);
	vhost_fs_free(relay->fs);
	free(relay);
}
