/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_TTRPC_FRAME_H
#define PODVM_TTRPC_FRAME_H

/*
 * Frames on a connected stream, the part that client and server have in common (ttrpc.h tells
 * the format).
 *
 * In: bytes are collected until a frame is whole, then it is handed over in place. A frame above
 * the limit is announced without its payload, which is dropped as it comes.
 * Out: messages are packed into a queue of frames that are written when the peer takes them, many
 * in one system call. With a pause limit the connection hands over no frames and reads nothing
 * while more than that is queued, until half of it is gone.
 *
 * The end of the stream and every error are reported once, always from the loop and never from
 * frame_conn_send(). A failed write is not the end yet: answers that the peer sent before it went
 * are handed over first.
 */

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/loop.h"

struct frame_conn;

enum frame_type { FRAME_REQUEST = 1, FRAME_RESPONSE = 2, FRAME_DATA = 3 };

/**
 * struct frame - One frame that came in
 * @length:	Of the payload
 * @stream:	Stream id
 * @type:	enum frame_type or something unknown
 * @flags:	For streams, 0 in unary calls
 * @payload:	Valid during the callback; NULL: it's too long and is being dropped
 */
struct frame {
	uint32_t length;
	uint32_t stream;
	uint8_t type;
	uint8_t flags;
	const uint8_t *payload;
};

/**
 * struct frame_ops - What the owner of a connection does
 * @frame:	A frame came in; may free the connection
 * @lost:	The stream ended or failed (negative errno): to be freed, nothing follows
 */
struct frame_ops {
	void (*frame)(void *data, const struct frame *f);
	void (*lost)(void *data, int code);
};

/**
 * frame_conn_new() - Frames on a descriptor
 * @loop:	Loop
 * @fd:		Connected stream socket or character device; taken, also on failure
 * @pause_above: Bytes in the queue above which nothing is read; 0: it's always read
 * @ops:	Callbacks
 * @data:	For @ops
 * @ret:	The connection
 *
 * Return: 0 or a negative errno
 */
int frame_conn_new(struct loop *loop, int fd, size_t pause_above, const struct frame_ops *ops,
		   void *data, struct frame_conn **ret);

/** frame_conn_free() - Close; no callback follows. Also from a callback. NULL is fine */
void frame_conn_free(struct frame_conn *c);

/**
 * frame_conn_send() - Queue a frame whose payload is a message
 * @c:		Connection
 * @stream:	Stream id
 * @type:	Type
 * @head:	Request or Response without its payload field
 * @field:	Number of the payload field
 * @body:	Message that is packed into the payload field, or NULL
 *
 * Return: 0, -ENOTCONN, -EMSGSIZE (nothing was sent), -ENOMEM
 */
int frame_conn_send(struct frame_conn *c, uint32_t stream, enum frame_type type,
		    const ProtobufCMessage *head, unsigned int field, const ProtobufCMessage *body);

/** frame_conn_break() - Give the connection up: it is reported lost soon */
void frame_conn_break(struct frame_conn *c);

/** frame_conn_queued() - Bytes of memory that wait to be written */
size_t frame_conn_queued(const struct frame_conn *c);

#endif
