/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_TTRPC_UNPACK_H
#define PODVM_TTRPC_UNPACK_H

/*
 * Unpacking a peer's messages within limits of memory and stack.
 *
 * Two bytes on the wire can become an empty sub-message of 50 bytes on the heap, and protobuf-c
 * recurses without a limit into nested ones. So it allocates through a counter: at the limit it
 * gets no more memory, which ends the unpacking. As it allocates at every level, the same place
 * sees how deep the stack has become.
 */

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

/* The most memory that one message may take, all that it points to included. */
#define UNPACK_MAX_MEMORY ((size_t)16 << 20)

/**
 * ttrpc_unpack() - Unpack a message that nobody vouches for
 * @desc:	Its type
 * @data:	Packed message
 * @n:		Its length
 * @limit:	Bytes of memory it may take
 * @ret:	The message, freed by the caller with protobuf_c_message_free_unpacked(ret, NULL)
 * @ret_used:	Bytes of memory it takes, or NULL
 *
 * Return: 0, -EBADMSG (malformed or nested too deeply), or -ENOBUFS (limit, or out of memory)
 */
int ttrpc_unpack(const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t n,
		 size_t limit, ProtobufCMessage **ret, size_t *ret_used);

static inline void unpacked_freep(ProtobufCMessage **msg)
{
	protobuf_c_message_free_unpacked(*msg, NULL);
}

#endif
