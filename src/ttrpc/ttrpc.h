/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_TTRPC_TTRPC_H
#define PODVM_TTRPC_TTRPC_H

/*
 * Theory of operation
 *
 * ttrpc (containerd/ttrpc, PROTOCOL.md) is protobuf RPC in frames on a stream socket: a header of
 * 10 bytes (payload length u32 BE, stream id u32 BE, type u8, flags u8), then a Request or a
 * Response message. Calls are unary: one Request, one Response with the same stream id. Clients
 * use odd stream ids that rise. A frame's payload has at most 4 MiB: a longer one is discarded as
 * it comes in, and its call answered with RESOURCE_EXHAUSTED.
 *
 * A connection is either a client's or a server's side of a socket; both work on any connected
 * stream descriptor (unix socket, vsock, a virtio-serial port). Nothing blocks: frames are
 * collected as they arrive in whatever pieces, answers are queued and written as the peer takes
 * them. A peer that doesn't read stops being read once 8 MiB of answers are queued, until half of
 * them are gone, so it can't make us grow. A client with 8 MiB of requests that the peer doesn't
 * take makes no further calls. A connection that is at rest holds no buffers.
 *
 * The server finds the method in protobuf-c's service descriptors, unpacks the request and calls
 * the handler, which answers now or later: up to 2048 calls of a connection are under way at a
 * time, with up to 64 MiB of unpacked requests (16 MiB each). What is above a limit is answered
 * RESOURCE_EXHAUSTED, what is malformed INVALID_ARGUMENT, and the connection goes on. The client
 * matches answers to its calls by stream id. Every pending call ends exactly once: with its answer,
 * with its deadline (-ETIMEDOUT), or with the connection (-ECONNRESET), all of them at once.
 *
 * Every object may be freed from any callback. Callbacks run from the loop, never inside the
 * function that starts something; only freeing calls those that the freeing ends.
 *
 * Errors on the wire are gRPC codes; ttrpc_code_to_errno() and ttrpc_code_from_errno() translate.
 * Their texts are made valid UTF-8 without control characters on the way out and on the way in.
 *
 * A descriptor that isn't a socket is written with write(2): the process has to ignore SIGPIPE if
 * it may be a pipe or a tty.
 */

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"

#define TTRPC_HEADER_SIZE 10
#define TTRPC_MAX_PAYLOAD ((uint32_t)4 << 20)

enum ttrpc_code {
	TTRPC_OK = 0,
	TTRPC_CANCELED = 1,
	TTRPC_UNKNOWN = 2,
	TTRPC_INVALID_ARGUMENT = 3,
	TTRPC_DEADLINE_EXCEEDED = 4,
	TTRPC_NOT_FOUND = 5,
	TTRPC_ALREADY_EXISTS = 6,
	TTRPC_PERMISSION_DENIED = 7,
	TTRPC_RESOURCE_EXHAUSTED = 8,
	TTRPC_FAILED_PRECONDITION = 9,
	TTRPC_OUT_OF_RANGE = 11,
	TTRPC_UNIMPLEMENTED = 12,
	TTRPC_INTERNAL = 13,
	TTRPC_UNAVAILABLE = 14,
};

/** ttrpc_code_to_errno() - Negative errno of a code (0 for TTRPC_OK) */
int ttrpc_code_to_errno(enum ttrpc_code code);

/** ttrpc_code_from_errno() - Code of a negative errno (TTRPC_UNKNOWN for one without its own) */
enum ttrpc_code ttrpc_code_from_errno(int err);

/* ---- server ---- */

struct ttrpc_server;
struct ttrpc_call;

/**
 * typedef ttrpc_handler - Serves one method
 * @call:	The call; must be answered exactly once with ttrpc_reply*() (now or later)
 * @req:	The unpacked request, freed when the call has been answered
 * @data:	The service's user data
 */
typedef void (*ttrpc_handler)(struct ttrpc_call *call, const ProtobufCMessage *req, void *data);

/**
 * struct ttrpc_service - One service
 * @desc:	Its descriptor
 * @name:	Name on the wire; NULL: the descriptor's (one descriptor can be served by two names)
 * @handlers:	One per method of the descriptor, in its order; NULL: answered UNIMPLEMENTED
 * @data:	For the handlers
 */
struct ttrpc_service {
	const ProtobufCServiceDescriptor *desc;
	const char *name;
	const ttrpc_handler *handlers;
	void *data;
};

/**
 * ttrpc_server_new() - A server without connections
 * @loop:	Loop
 * @services:	Array, borrowed as long as the server lives
 * @n:		Its length
 * @ret:	The server
 *
 * Return: 0 or -ENOMEM
 */
int ttrpc_server_new(struct loop *loop, const struct ttrpc_service *services, size_t n,
		     struct ttrpc_server **ret);

/**
 * ttrpc_server_listen() - Accept connections on a listening stream socket
 * @s:		Server
 * @fd:		Listening socket; taken, also on failure
 *
 * Return: 0 or a negative errno
 */
int ttrpc_server_listen(struct ttrpc_server *s, int fd);

/**
 * ttrpc_server_add() - Serve one connection
 * @s:		Server
 * @fd:		Connected stream; taken, also on failure
 * @closed:	Called when the peer is gone and the connection has been freed; may be NULL
 * @data:	For @closed
 *
 * Return: 0 or a negative errno
 */
int ttrpc_server_add(struct ttrpc_server *s, int fd, void (*closed)(void *data), void *data);

/**
 * ttrpc_server_free() - Close everything; NULL is fine
 *
 * Calls that are not answered yet stay valid, their answers go nowhere; their cancel callbacks are
 * called. The connections' closed callbacks aren't: they tell what the owner doesn't know.
 */
void ttrpc_server_free(struct ttrpc_server *s);

/** ttrpc_reply() - Answer a call; frees @call. The message is packed at once, not kept */
void ttrpc_reply(struct ttrpc_call *call, const ProtobufCMessage *resp);

/** ttrpc_reply_error() - Answer a call with an error; frees @call */
void ttrpc_reply_error(struct ttrpc_call *call, enum ttrpc_code code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** ttrpc_reply_err() - Answer a call with an error object ("msg", and "; hint" if any) */
void ttrpc_reply_err(struct ttrpc_call *call, const struct err *e);

/** ttrpc_call_timeout_ms() - Milliseconds the client gives this call, 0: no deadline */
uint64_t ttrpc_call_timeout_ms(const struct ttrpc_call *call);

/**
 * ttrpc_call_restart_ids() - The client may begin again with its stream ids
 *
 * Call this before the answer; the client has no other call under way. For a server that is copied
 * while it runs: every copy gets a client of its own on what it takes for the same connection.
 */
void ttrpc_call_restart_ids(struct ttrpc_call *call);

/** ttrpc_call_method() - The method's descriptor (for the log, and for services that forward) */
const ProtobufCMethodDescriptor *ttrpc_call_method(const struct ttrpc_call *call);

/** ttrpc_call_request() - The unpacked request, as the handler got it */
const ProtobufCMessage *ttrpc_call_request(const struct ttrpc_call *call);

/**
 * ttrpc_call_on_cancel() - Be told when a call's connection has gone
 * @call:	Call that has not been answered
 * @cb:		Called at most once, while @call still is to be answered (its answer goes nowhere);
 *		NULL: don't
 * @data:	For @cb
 */
void ttrpc_call_on_cancel(struct ttrpc_call *call, void (*cb)(void *data), void *data);

/* ---- client ---- */

struct ttrpc_client;
struct ttrpc_pending;

/**
 * typedef ttrpc_done - Ends one call of the client
 * @data:	User data
 * @resp:	The answer, freed after the callback; NULL on error
 * @e:		NULL, or what went wrong: code -ETIMEDOUT, -ECONNRESET, -EPROTO (a malformed
 *		answer), -EMSGSIZE (it's too long), or the errno of the peer's status with its
 *		message
 */
typedef void (*ttrpc_done)(void *data, const ProtobufCMessage *resp, const struct err *e);

/**
 * ttrpc_client_new() - A client on a connected stream
 * @loop:	Loop
 * @fd:		Descriptor; taken, also on failure
 * @closed:	Called once when the connection is lost, after every pending call has failed; the
 *		client still has to be freed. May be NULL
 * @data:	For @closed
 * @ret:	The client
 *
 * Return: 0 or a negative errno
 */
int ttrpc_client_new(struct loop *loop, int fd, void (*closed)(void *data), void *data,
		     struct ttrpc_client **ret);

/**
 * ttrpc_client_next() - Where another client has to go on that gets our connection
 * ttrpc_client_continue() - Go on there; before the first call
 */
uint32_t ttrpc_client_next(const struct ttrpc_client *c);
void ttrpc_client_continue(struct ttrpc_client *c, uint32_t next);

/**
 * ttrpc_client_on_slow() - Be told when the peer hasn't answered a call for some time
 * @c:		Client
 * @ms:		How long, for calls with a deadline that are made from now on
 * @cb:		Called each time that a call has waited so long (again), and after the callback of
 *		one whose deadline has passed
 * @data:	For @cb
 */
void ttrpc_client_on_slow(struct ttrpc_client *c, uint64_t ms, void (*cb)(void *data), void *data);

/** ttrpc_client_free() - Close; pending calls fail with -ECONNRESET first. NULL is fine */
void ttrpc_client_free(struct ttrpc_client *c);

/**
 * ttrpc_call() - Call a method
 * @c:		Client
 * @service:	Descriptor of the service
 * @method:	Name of the method
 * @req:	Request, packed at once, not kept
 * @timeout_ms:	Deadline; 0: none but the connection's life. It's sent to the server as well
 * @done:	Called exactly once, never before this function has returned; not called when this
 *		function fails
 * @data:	For @done
 * @ret:	The pending call, or NULL when nobody will cancel it
 *
 * Return: 0 or a negative errno (-ENOTCONN, -EMSGSIZE, -ENOBUFS: the peer doesn't take what was
 * sent before, -ENOENT: no such method, -ENOMEM)
 */
int ttrpc_call(struct ttrpc_client *c, const ProtobufCServiceDescriptor *service,
	       const char *method, const ProtobufCMessage *req, uint64_t timeout_ms,
	       ttrpc_done done, void *data, struct ttrpc_pending **ret);

/** ttrpc_client_queued() - Bytes of requests that the peer hasn't taken yet */
size_t ttrpc_client_queued(const struct ttrpc_client *c);

/**
 * ttrpc_cancel() - Forget a pending call: @done will not be called, a late answer is dropped
 * @p:		Call whose @done hasn't returned yet (while that runs, nothing happens), or NULL
 */
void ttrpc_cancel(struct ttrpc_pending *p);

/**
 * ttrpc_call_sync() - Call and pump the loop until the answer is there (command line, tests)
 *
 * Not for callbacks: a loop can't be run inside itself. The client must not be freed meanwhile.
 *
 * @ret:	The unpacked answer, freed by the caller with protobuf_c_message_free_unpacked(ret,
 *		NULL); may be NULL
 *
 * Return: 0 or a negative errno, with @e set
 */
int ttrpc_call_sync(struct loop *loop, struct ttrpc_client *c,
		    const ProtobufCServiceDescriptor *service, const char *method,
		    const ProtobufCMessage *req, uint64_t timeout_ms, ProtobufCMessage **ret,
		    struct err *e);

#endif
