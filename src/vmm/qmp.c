/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qmp.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "base/str.h"
#include "vmm/vmm-internal.h"

#define NEGOTIATION_TIMEOUT_MS 60000

/**
 * struct slot - A command under way
 * @id:		What the answer will name
 * @fd:		Our copy of the descriptor that travels along, until it has been sent
 * @with_fd:	There is or was such a descriptor
 * @sent:	Bytes of @text that QEMU has been given
 * @done:	NULL: nobody asks (any more)
 */
struct slot {
	struct list link;
	struct qmp *qmp;
	uint64_t id;
	char *command;
	char *text;
	size_t len;
	size_t sent;
	int fd;
	bool with_fd;
	struct loop_timer *timer;
	qmp_done done;
	void *user;
};

/**
 * struct qmp - A client
 * @slots:	Commands in the order in which they were given, hence sent
 * @scanned:	Unread bytes of @in that are known to hold no end of a line
 * @greeted:	The greeting has come: commands may be sent
 * @busy:	Callbacks of ours that are on the stack; the memory lives until the last returns
 * @why:	Why the connection has ended
 */
struct qmp {
	struct loop *loop;
	struct loop_io *io;
	int fd;
	struct qmp_handlers handlers;
	void *user;
	struct buf in;
	size_t scanned;
	struct json_tokener *tokener;
	struct list slots;
	size_t n_slots;
	uint64_t last_id;
	bool greeted;
	unsigned int busy;
	bool freed;
	struct err why;
};

static void slot_free(struct slot *slot)
{
	list_remove(&slot->link);
	slot->qmp->n_slots--;
	loop_timer_free(slot->timer);
	close_fdp(&slot->fd);
	free(slot->command);
	free(slot->text);
	free(slot);
}

/* Free a slot, then tell its caller, who may free the client. */
static void slot_finish(struct slot *slot, struct json_object *ret, const struct err *e)
{
	qmp_done done = slot->done;
	void *user = slot->user;

	slot_free(slot);
	if (done)
		done(user, ret, e);
}

static void enter(struct qmp *qmp)
{
	qmp->busy++;
}

static void leave(struct qmp *qmp)
{
	if (--qmp->busy == 0 && qmp->freed) {
		buf_done(&qmp->in);
		json_tokener_free(qmp->tokener);
		free(qmp);
	}
}

static void fail_slots(struct qmp *qmp)
{
	while (!list_empty(&qmp->slots)) {
		struct slot *slot = list_entry(qmp->slots.next, struct slot, link);
		struct err e = { 0 };

		err_set(&e, -ECONNRESET, "%s: %s", slot->command, qmp->why.msg);
		slot_finish(slot, NULL, &e);
	}
}

/* End the connection for the reason in qmp->why. */
static void disconnect(struct qmp *qmp)
{
	if (qmp->fd < 0)
		return;
	loop_io_free(TAKE_PTR(qmp->io));
	close(TAKE_FD(qmp->fd));
	fail_slots(qmp);
	if (!qmp->freed && qmp->handlers.closed)
		qmp->handlers.closed(qmp->user, &qmp->why);
}

static int lost(struct qmp *qmp)
{
	return err_set(&qmp->why, -ECONNRESET, "the VMM closed its control connection");
}

/* ---- sending ---- */

static ssize_t send_with_fd(int sock, const char *text, size_t len, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)text, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
							 .cmsg_level = SOL_SOCKET,
							 .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(fd));
	}
	return sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Return: 0 when all of it is sent, -EAGAIN, or another negative errno */
static int send_slot(struct qmp *qmp, struct slot *slot)
{
	while (slot->sent < slot->len) {
		ssize_t n = send_with_fd(qmp->fd, slot->text + slot->sent, slot->len - slot->sent,
					 slot->fd);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		slot->sent += (size_t)n;
		if (slot->fd >= 0)
			close(TAKE_FD(slot->fd));
	}
	return 0;
}

/* Send what may be sent now. Return: 0 or a negative errno when the connection is lost */
static int flush_slots(struct qmp *qmp)
{
	bool fd_under_way = false;
	struct slot *slot;

	if (!qmp->greeted)
		return 0;
	list_for_each (slot, &qmp->slots, link) {
		int r;

		if (slot->sent == 0 && slot->with_fd && fd_under_way)
			break;
		fd_under_way = fd_under_way || slot->with_fd;
		r = send_slot(qmp, slot);
		if (r == -EAGAIN)
			return loop_io_set(qmp->io, LOOP_READ | LOOP_WRITE);
		if (r < 0)
			return r;
	}
	return loop_io_set(qmp->io, LOOP_READ);
}

static void on_deadline(void *data)
{
	struct slot *slot = data;
	struct qmp *qmp = slot->qmp;
	struct err e = { 0 };

	err_set(&e, -ETIMEDOUT, "%s: the VMM did not answer in time", slot->command);
	loop_timer_free(TAKE_PTR(slot->timer));
	enter(qmp);
	if (slot->sent == 0) {
		slot_finish(slot, NULL, &e);
	} else {
		qmp_done done = slot->done;

		slot->done = NULL;
		if (done)
			done(slot->user, NULL, &e);
	}
	leave(qmp);
}

static struct slot *slot_new(struct qmp *qmp, const char *command, const char *args)
{
	struct slot *slot = calloc(1, sizeof(*slot));

	if (!slot)
		return NULL;
	slot->qmp = qmp;
	slot->fd = -EBADF;
	slot->id = ++qmp->last_id;
	slot->command = strdup(command);
	slot->text = str_printf("{\"execute\":\"%s\",\"id\":%" PRIu64 ",\"arguments\":%s}\n",
				command, slot->id, args ? args : "{}");
	list_append(&qmp->slots, &slot->link);
	qmp->n_slots++;
	if (!slot->command || !slot->text) {
		slot_free(slot);
		return NULL;
	}
	slot->len = strlen(slot->text);
	return slot;
}

static int slot_arm(struct slot *slot, int fd, uint64_t timeout_ms)
{
	if (fd >= 0) {
		slot->with_fd = true;
		slot->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (slot->fd < 0)
			return -errno;
	}
	return loop_timer_new(slot->qmp->loop, timeout_ms, on_deadline, slot, &slot->timer);
}

int qmp_call(struct qmp *qmp, const char *command, const char *args, int fd, uint64_t timeout_ms,
	     qmp_done done, void *user)
{
	struct slot *slot;
	int r;

	if (qmp->fd < 0 || qmp->freed)
		return -ENOTCONN;
	if (qmp->n_slots == QMP_SLOTS_MAX)
		return -EBUSY;
	slot = slot_new(qmp, command, args);
	if (!slot)
		return -ENOMEM;
	r = slot_arm(slot, fd, timeout_ms);
	/* Before the greeting nothing may be sent, and the socket would be writable all the time. */
	if (r == 0 && qmp->greeted)
		r = loop_io_set(qmp->io, LOOP_READ | LOOP_WRITE);
	if (r < 0) {
		slot_free(slot);
		return r;
	}
	slot->done = done;
	slot->user = user;
	return 0;
}

/* ---- receiving ---- */

DEFINE_CLEANUP(json_putp, struct json_object *, json_object_put)

static int protocol_error(struct qmp *qmp, const char *what)
{
	return err_set(&qmp->why, -EPROTO, "the VMM's control connection: %s", what);
}

static const char *string_member(struct json_object *obj, const char *key)
{
	struct json_object *value = NULL;

	if (!json_object_object_get_ex(obj, key, &value) ||
	    !json_object_is_type(value, json_type_string))
		return NULL;
	return json_object_get_string(value);
}

/* QEMU's error object as an error of ours. */
static void set_error(struct err *e, const char *command, struct json_object *error)
{
	const char *class = string_member(error, "class");
	const char *desc = string_member(error, "desc");
	char text[512];
	int code = -EIO;

	if (class && str_eq(class, "CommandNotFound"))
		code = -EOPNOTSUPP;
	else if (class && str_eq(class, "DeviceNotFound"))
		code = -ENODEV;
	printable(text, sizeof(text), desc ? desc : "", desc ? strlen(desc) : 0);
	err_set(e, code, "%s: %s", command, text);
}

static struct slot *find_slot(struct qmp *qmp, struct json_object *id)
{
	struct slot *slot;

	if (!json_object_is_type(id, json_type_int))
		return NULL;
	list_for_each (slot, &qmp->slots, link)
		if (slot->id == json_object_get_uint64(id) && slot->sent == slot->len)
			return slot;
	return NULL;
}

static int handle_answer(struct qmp *qmp, struct json_object *msg)
{
	struct json_object *id = NULL;
	struct json_object *ret = NULL;
	struct json_object *error = NULL;
	struct slot *slot;
	struct err e = { 0 };

	json_object_object_get_ex(msg, "id", &id);
	slot = find_slot(qmp, id);
	if (!slot)
		return protocol_error(qmp, "an answer to nothing that was asked");
	if (json_object_object_get_ex(msg, "error", &error))
		set_error(&e, slot->command, error);
	else
		json_object_object_get_ex(msg, "return", &ret);
	slot_finish(slot, ret, error ? &e : NULL);
	return 0;
}

static int handle_greeting(struct qmp *qmp, struct json_object *msg)
{
	if (!json_object_object_get_ex(msg, "QMP", NULL))
		return protocol_error(qmp, "no greeting");
	qmp->greeted = true;
	return 0;
}

static int handle_message(struct qmp *qmp, struct json_object *msg)
{
	struct json_object *data = NULL;
	const char *event;

	if (!json_object_is_type(msg, json_type_object))
		return protocol_error(qmp, "not an object");
	if (!qmp->greeted)
		return handle_greeting(qmp, msg);
	event = string_member(msg, "event");
	if (!event)
		return handle_answer(qmp, msg);
	if (json_object_object_get_ex(msg, "data", &data) &&
	    !json_object_is_type(data, json_type_object))
		data = NULL;
	if (qmp->handlers.event)
		qmp->handlers.event(qmp->user, event, data);
	return 0;
}

static int handle_line(struct qmp *qmp, const char *line, size_t len)
{
	_cleanup_(json_putp) struct json_object *msg = NULL;

	while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == ' '))
		len--;
	if (len == 0)
		return 0;
	json_tokener_reset(qmp->tokener);
	msg = json_tokener_parse_ex(qmp->tokener, line, (int)len);
	if (!msg || json_tokener_get_parse_end(qmp->tokener) != len)
		return protocol_error(qmp, "not JSON");
	return handle_message(qmp, msg);
}

/* Handle the complete lines that are in the buffer. */
static int handle_lines(struct qmp *qmp)
{
	while (buf_len(&qmp->in) > 0 && qmp->fd >= 0) {
		const char *line = (const char *)buf_head(&qmp->in);
		const char *nl = memchr(line + qmp->scanned, '\n',
					buf_len(&qmp->in) - qmp->scanned);
		int r;

		qmp->scanned = nl ? 0 : buf_len(&qmp->in);
		if (!nl)
			return 0;
		r = handle_line(qmp, line, (size_t)(nl - line));
		if (r < 0)
			return r;
		buf_consume(&qmp->in, (size_t)(nl - line) + 1);
	}
	return 0;
}

/* Return: 1 when there may be more, 0 when there is nothing now, or a negative errno */
static int receive(struct qmp *qmp)
{
	char chunk[4096];
	ssize_t n = recv(qmp->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
	int r;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return lost(qmp);
	r = buf_append(&qmp->in, chunk, (size_t)n);
	if (r == -ENOBUFS)
		return protocol_error(qmp, "a line that is too long");
	if (r < 0)
		return err_errno(&qmp->why, r, "the VMM's control connection");
	r = handle_lines(qmp);
	return r < 0 ? r : 1;
}

static void on_ready(void *data, int events)
{
	struct qmp *qmp = data;
	int r = 0;

	enter(qmp);
	if (events & LOOP_READ)
		r = receive(qmp);
	if (r >= 0 && qmp->fd >= 0 && flush_slots(qmp) < 0)
		r = lost(qmp);
	if (r < 0)
		disconnect(qmp);
	leave(qmp);
}

void qmp_drain(struct qmp *qmp)
{
	int r = 1;

	enter(qmp);
	while (r > 0 && qmp->fd >= 0)
		r = receive(qmp);
	if (r < 0)
		disconnect(qmp);
	leave(qmp);
}

/* ---- life ---- */

static void on_negotiated(void *user, struct json_object *ret, const struct err *e)
{
	struct qmp *qmp = user;

	if (!e || qmp->fd < 0)
		return;
	qmp->why = *e;
	disconnect(qmp);
}

/* A client that hasn't asked anything. Takes the descriptor, also when it fails. */
static int open_client(struct loop *loop, int fd, const struct qmp_handlers *handlers, void *user,
		       struct qmp **ret)
{
	struct qmp *qmp = calloc(1, sizeof(*qmp));
	int r = -ENOMEM;

	if (!qmp) {
		close(fd);
		return -ENOMEM;
	}
	list_init(&qmp->slots);
	qmp->loop = loop;
	qmp->fd = fd;
	qmp->handlers = *handlers;
	qmp->user = user;
	qmp->in.limit = QMP_LINE_MAX;
	qmp->tokener = json_tokener_new_ex(QMP_DEPTH_MAX);
	if (qmp->tokener) {
		json_tokener_set_flags(qmp->tokener,
				       JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
		r = loop_io_new(loop, fd, LOOP_READ, on_ready, qmp, &qmp->io);
	}
	if (r < 0) {
		qmp_free(qmp);
		return r;
	}
	*ret = qmp;
	return 0;
}

int qmp_new(struct loop *loop, int fd, const struct qmp_handlers *handlers, void *user,
	    struct qmp **ret)
{
	struct qmp *qmp;
	int r = open_client(loop, fd, handlers, user, &qmp);

	if (r < 0)
		return r;
	r = qmp_call(qmp, "qmp_capabilities", NULL, -1, NEGOTIATION_TIMEOUT_MS, on_negotiated, qmp);
	if (r < 0) {
		qmp_free(qmp);
		return r;
	}
	*ret = qmp;
	return 0;
}

int qmp_adopt(struct loop *loop, int fd, const struct qmp_handlers *handlers, void *user,
	      struct qmp **ret)
{
	int r = open_client(loop, fd, handlers, user, ret);

	if (r == 0)
		(*ret)->greeted = true;
	return r;
}

int qmp_hand_over(struct qmp *qmp)
{
	int fd;

	if (!qmp || qmp->fd < 0)
		return -ENOTCONN;
	if (!qmp->greeted || qmp->n_slots > 0 || buf_len(&qmp->in) > 0)
		return -EBUSY;
	fd = fcntl(qmp->fd, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? -errno : fd;
}

void qmp_free(struct qmp *qmp)
{
	if (!qmp || qmp->freed)
		return;
	enter(qmp);
	qmp->freed = true;
	err_set(&qmp->why, -ECONNRESET, "the control connection was closed");
	disconnect(qmp);
	leave(qmp);
}
