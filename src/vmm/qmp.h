/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_VMM_QMP_H
#define PODVM_VMM_QMP_H

/*
 * Theory of operation
 *
 * A client of QEMU's machine protocol (docs/interop/qmp-spec.txt of QEMU) on a connected socket:
 * one JSON object a line, either way. The greeting is awaited and capabilities are negotiated
 * here; commands that are given earlier wait for that.
 *
 * Every command is a slot: an id, a deadline and a callback that is called exactly once. A slot
 * whose deadline has passed has been answered -ETIMEDOUT but stays, without its callback, until
 * QEMU's answer comes, so that the order of what was sent is known. When the connection ends,
 * whichever way, every slot fails with -ECONNRESET at once.
 *
 * A descriptor travels with the first byte of its command. QEMU keeps only the descriptors that
 * came last, so such a command is sent when no other one with a descriptor is unanswered.
 *
 * The peer is a process that a guest may have taken over, so it isn't trusted: a line longer than
 * QMP_LINE_MAX, JSON nested deeper than QMP_DEPTH_MAX, or anything that isn't QMP ends the
 * connection, and there are at most QMP_SLOTS_MAX commands under way.
 */

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"

#define QMP_LINE_MAX  ((size_t)256 << 10)
#define QMP_DEPTH_MAX 32
#define QMP_SLOTS_MAX 256

struct qmp;

/**
 * struct qmp_handlers - What happens by itself; any may be NULL. The client may be freed in them
 * @event:	An event; @data is its "data" member, borrowed, or NULL
 * @closed:	The connection has ended, after every slot has failed; the client still has to be
 *		freed. @e says why: -ECONNRESET for its end, -EPROTO for what wasn't QMP
 */
struct qmp_handlers {
	void (*event)(void *user, const char *name, struct json_object *data);
	void (*closed)(void *user, const struct err *e);
};

/**
 * typedef qmp_done - End of a command
 * @user:	From qmp_call()
 * @ret:	"return" of the answer, borrowed; NULL when it failed
 * @e:		NULL, or why it failed: -ECONNRESET, -ETIMEDOUT, -EOPNOTSUPP (no such command),
 *		-ENODEV (no such device), -EIO (any other error of QEMU's)
 */
typedef void (*qmp_done)(void *user, struct json_object *ret, const struct err *e);

/**
 * qmp_new() - A client on a connected socket
 * @loop:	Loop
 * @fd:		Non-blocking socket; taken, also when this fails
 * @handlers:	Callbacks, copied
 * @user:	For them
 * @ret:	The client
 *
 * Return: 0 or a negative errno
 */
int qmp_new(struct loop *loop, int fd, const struct qmp_handlers *handlers, void *user,
	    struct qmp **ret);

/**
 * qmp_call() - Give a command
 * @qmp:	Client
 * @command:	Its name
 * @args:	Arguments, the text of a JSON object; NULL: none
 * @fd:		Descriptor to send along, borrowed during the call; < 0: none
 * @timeout_ms:	Deadline
 * @done:	Called once, never before this returns, and not when this fails; NULL: nobody asks
 * @user:	For @done
 *
 * Return: 0, -ENOTCONN after the end of the connection, -EBUSY with too many slots, -ENOMEM
 */
int qmp_call(struct qmp *qmp, const char *command, const char *args, int fd, uint64_t timeout_ms,
	     qmp_done done, void *user);

/**
 * qmp_adopt() - As qmp_new(), on a connection that another client has used before
 * @fd:		From its qmp_hand_over()
 */
int qmp_adopt(struct loop *loop, int fd, const struct qmp_handlers *handlers, void *user,
	      struct qmp **ret);

/**
 * qmp_hand_over() - A connection for another client; this one is to be freed at once
 *
 * Return: Descriptor that the caller owns, -EBUSY when a command or a message is under way, or
 * another negative errno
 */
int qmp_hand_over(struct qmp *qmp);

/** qmp_drain() - Handle what has come in, without waiting: when the peer is known to be dead */
void qmp_drain(struct qmp *qmp);

/** qmp_free() - Close; slots fail with -ECONNRESET first, no handler is called. NULL is fine */
void qmp_free(struct qmp *qmp);

#endif
