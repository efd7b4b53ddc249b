/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/vhost_user_relay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "storage/vhost_user_record.h"

enum state { ALONE, JOIN, RELAY, BROKEN };

/* What the daemon is asked in JOIN: before the record is told, and after it. */
enum question { ASK_FEATURES, ASK_PROTOCOL_FEATURES, TELL, ASK_AGAIN };

/**
 * struct peer - One of the two connections
 * @name:	For messages
 * @in:		Message that comes
 * @out:	Message that goes, when @sending
 */
struct peer {
	struct vhost_relay *relay;
	const char *name;
	int fd;
	struct loop_io *io;
	struct vhost_user_msg in;
	struct vhost_user_msg out;
	bool sending;
};

/**
 * struct vhost_relay - A stand-in, or what has become of it
 * @question:	Of JOIN
 * @told:	Of JOIN: messages of the record that the daemon was given
 * @timer:	Of JOIN: deadline
 */
struct vhost_relay {
	struct loop *loop;
	enum state state;
	struct peer monitor;
	struct peer daemon;
	struct vhost_user_record record;
	enum question question;
	size_t told;
	struct loop_timer *timer;
	vhost_relay_done broken;
	void *broken_data;
	vhost_relay_done done;
	void *done_data;
};

static void peer_close(struct peer *p)
{
	loop_io_free(TAKE_PTR(p->io));
	close_fdp(&p->fd);
	p->fd = -EBADF;
	vhost_user_done(&p->in);
	vhost_user_done(&p->out);
	p->sending = false;
}

/* Whether a message from this peer can be dealt with now. */
static bool may_receive(const struct peer *p)
{
	const struct vhost_relay *relay = p->relay;
	const struct peer *other = p == &relay->monitor ? &relay->daemon : &relay->monitor;

	switch (relay->state) {
	case ALONE:
		return !p->sending;
	case JOIN:
		return p == &relay->daemon;
	case RELAY:
		return !other->sending;
	case BROKEN:
		break;
	}
	return false;
}

static int watch(struct peer *p)
{
	if (!p->io)
		return 0;
	return loop_io_set(p->io, (may_receive(p) ? LOOP_READ : 0) | (p->sending ? LOOP_WRITE : 0));
}

static int flush(struct peer *p)
{
	int r = p->sending ? vhost_user_send(p->fd, &p->out) : 0;

	if (r <= 0)
		return r;
	vhost_user_done(&p->out);
	p->sending = false;
	return 0;
}

/* ---- the daemon joins ---- */

/* While it's told the record it has the descriptors on loan only. */
static void close_daemon(struct vhost_relay *relay)
{
	if (relay->state == JOIN)
		relay->daemon.out.n_fds = 0;
	peer_close(&relay->daemon);
}

/* Back to the stand-in, or on as a relay. */
static void end_join(struct vhost_relay *relay, const struct err *e)
{
	vhost_relay_done done = relay->done;

	loop_timer_free(TAKE_PTR(relay->timer));
	if (e)
		close_daemon(relay);
	else
		vhost_user_record_done(&relay->record);
	relay->state = e ? ALONE : RELAY;
	(void)watch(&relay->monitor);
	(void)watch(&relay->daemon);
	done(relay->done_data, e);
}

static void on_deadline(void *data)
{
	struct err e = { 0 };

	err_set(&e, -ETIMEDOUT, "virtiofsd did not answer in time");
	end_join(data, &e);
}

static void ask(struct vhost_relay *relay, enum question question, uint32_t request)
{
	relay->question = question;
	vhost_user_ask(&relay->daemon.out, request);
	relay->daemon.sending = true;
}

/* The next message of the record, as a loan: its descriptors stay here until the daemon is in. */
static void tell_next(struct vhost_relay *relay)
{
	while (relay->told < VHOST_USER_KEPT) {
		struct vhost_user_msg *m = relay->record.kept[relay->told++];

		if (!m)
			continue;
		relay->daemon.out = *m;
		relay->daemon.sending = true;
		return;
	}
	ask(relay, ASK_AGAIN, VHOST_USER_GET_FEATURES);
}

static int check_promise(uint64_t promised, const struct vhost_user_msg *m, const char *what,
			 struct err *e)
{
	uint64_t missing = promised & ~vhost_user_u64(m);

	if (!missing)
		return 0;
	err_set(e, -EOPNOTSUPP,
		"virtiofsd lacks %s %#" PRIx64 ", which the machine has been "
		"promised",
		what, missing);
	err_hint(e,
		 "Install a supported virtiofsd: that of QEMU 7.2 or a Rust one of 1.4 or later.");
	return -EOPNOTSUPP;
}

/* An answer. Return: 0, 1 when the daemon is in, or a negative errno */
static int join_answer(struct vhost_relay *relay, struct vhost_user_msg *m, struct err *e)
{
	uint32_t wanted = relay->question == ASK_PROTOCOL_FEATURES
				  ? VHOST_USER_GET_PROTOCOL_FEATURES
				  : VHOST_USER_GET_FEATURES;
	int r = 0;

	if (relay->question == TELL || m->request != wanted || !(m->flags & VHOST_USER_REPLY) ||
	    m->size != sizeof(uint64_t) || m->n_fds > 0)
		return err_set(e, -EPROTO, "virtiofsd answers what it wasn't asked");
	if (relay->question == ASK_FEATURES) {
		r = check_promise(VHOST_USER_FEATURES, m, "features", e);
		ask(relay, ASK_PROTOCOL_FEATURES, VHOST_USER_GET_PROTOCOL_FEATURES);
	} else if (relay->question == ASK_PROTOCOL_FEATURES) {
		r = check_promise(VHOST_USER_PROTOCOL_FEATURES, m, "protocol features", e);
		relay->question = TELL;
		relay->told = 0;
		tell_next(relay);
	} else {
		r = 1;
	}
	vhost_user_done(m);
	return r;
}

/* Send what is to be sent. A message of the record isn't closed when it has gone. */
static int join_flush(struct vhost_relay *relay)
{
	struct peer *p = &relay->daemon;

	while (p->sending) {
		int r = vhost_user_send(p->fd, &p->out);

		if (r <= 0)
			return r;
		p->sending = false;
		p->out = (struct vhost_user_msg){ 0 };
		if (relay->question == TELL)
			tell_next(relay);
	}
	return 0;
}

static void on_join(struct vhost_relay *relay)
{
	struct peer *p = &relay->daemon;
	struct err e = { 0 };
	int r = vhost_user_recv(p->fd, &p->in);

	if (r == 1)
		r = join_answer(relay, &p->in, &e);
	if (r == 0)
		r = join_flush(relay);
	if (r == 0)
		r = watch(p);
	if (r < 0 && !e.code) {
		err_errno(&e, r, "virtiofsd doesn't serve the machine");
		err_hint(&e, "What it says is in the system's log.");
	}
	if (r != 0)
		end_join(relay, r < 0 ? &e : NULL);
}

/* ---- messages ---- */

static void break_up(struct vhost_relay *relay, const struct peer *p, int code)
{
	struct err e = { 0 };

	if (code == -ECONNRESET || code == -EPIPE)
		err_set(&e, -ECONNRESET, "%s has closed its connection for shared directories",
			p->name);
	else
		err_errno(&e, code, "shared directories: %s", p->name);
	relay->state = BROKEN;
	peer_close(&relay->monitor);
	peer_close(&relay->daemon);
	relay->broken(relay->broken_data, &e);
}

/* What has come goes to the other one, or to the record. */
static int pass_on(struct peer *p)
{
	struct vhost_relay *relay = p->relay;
	struct peer *to = p == &relay->monitor ? &relay->daemon : &relay->monitor;
	int r;

	if (relay->state == ALONE) {
		r = vhost_user_record_take(&relay->record, &p->in, &p->out);
		p->sending = r == 1;
		return r < 0 ? r : flush(p);
	}
	to->out = p->in;
	to->out.done = 0;
	to->sending = true;
	p->in = (struct vhost_user_msg){ 0 };
	return flush(to);
}

static void on_ready(void *data, int events)
{
	struct peer *p = data;
	struct vhost_relay *relay = p->relay;
	int r;

	if (relay->state == JOIN && p == &relay->daemon) {
		on_join(relay);
		return;
	}
	r = flush(p);
	if (r == 0 && may_receive(p)) {
		r = vhost_user_recv(p->fd, &p->in);
		if (r == 1)
			r = pass_on(p);
	}
	if (r >= 0)
		r = watch(&relay->monitor);
	if (r >= 0)
		r = watch(&relay->daemon);
	if (r < 0)
		break_up(relay, p, r);
}

/* ---- life ---- */

static int peer_open(struct peer *p, struct vhost_relay *relay, const char *name, int fd)
{
	p->relay = relay;
	p->name = name;
	p->fd = fd;
	return loop_io_new(relay->loop, fd, 0, on_ready, p, &p->io);
}

int vhost_relay_new(struct loop *loop, int fd, vhost_relay_done broken, void *data,
		    struct vhost_relay **ret)
{
	struct vhost_relay *relay = calloc(1, sizeof(*relay));
	int r;

	if (!relay) {
		close(fd);
		return -ENOMEM;
	}
	relay->loop = loop;
	relay->broken = broken;
	relay->broken_data = data;
	relay->daemon.fd = -EBADF;
	r = peer_open(&relay->monitor, relay, "the monitor", fd);
	if (r == 0)
		r = watch(&relay->monitor);
	if (r < 0) {
		vhost_relay_free(relay);
		return r;
	}
	*ret = relay;
	return 0;
}

int vhost_relay_join(struct vhost_relay *relay, int fd, uint64_t timeout_ms, vhost_relay_done done,
		     void *data)
{
	int r = relay->state == ALONE ? 0 : -EBUSY;

	if (r < 0) {
		close(fd);
		return r;
	}
	r = peer_open(&relay->daemon, relay, "virtiofsd", fd);
	if (r == 0)
		r = loop_timer_new(relay->loop, timeout_ms, on_deadline, relay, &relay->timer);
	if (r == 0)
		r = loop_io_set(relay->daemon.io, LOOP_READ | LOOP_WRITE);
	if (r == 0)
		r = loop_io_set(relay->monitor.io, 0);
	if (r < 0) {
		loop_timer_free(TAKE_PTR(relay->timer));
		peer_close(&relay->daemon);
		return r;
	}
	relay->state = JOIN;
	relay->done = done;
	relay->done_data = data;
	ask(relay, ASK_FEATURES, VHOST_USER_GET_FEATURES);
	return 0;
}

void vhost_relay_free(struct vhost_relay *relay)
{
	if (!relay)
		return;
	loop_timer_free(relay->timer);
	peer_close(&relay->monitor);
	close_daemon(relay);
	vhost_user_record_done(&relay->record);
	free(relay);
}
