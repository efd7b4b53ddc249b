/* SPDX-License-Identifier: Apache-2.0 */
#include "ttrpc/unpack.h"

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>

/*
 * protobuf-c 1.4.1 takes 960 bytes of stack per level (measured on amd64), so this is some 130
 * levels; messages of sane protocols have less than ten.
 */
#define MAX_STACK ((size_t)128 << 10)

/**
 * struct counter - What one unpacking may still take
 * @left:	Bytes of memory
 * @full:	It wanted more
 * @stack:	Where the stack was at the start
 */
struct counter {
	size_t left;
	bool full;
	const char *stack;
};

static void *count_alloc(void *data, size_t size)
{
	struct counter *c = data;
	const char *here = __builtin_frame_address(0);
	size_t usable;
	void *p;

	if ((size_t)(c->stack - here) > MAX_STACK)
		return NULL;
	p = size <= c->left ? malloc(size) : NULL;
	usable = malloc_usable_size(p);
	if (!p || usable > c->left) {
		free(p);
		c->full = true;
		return NULL;
	}
	c->left -= usable;
	return p;
}

static void count_free(void *data, void *p)
{
	struct counter *c = data;

	c->left += malloc_usable_size(p);
	free(p);
}

int ttrpc_unpack(const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t n,
		 size_t limit, ProtobufCMessage **ret, size_t *ret_used)
{
	struct counter c = { .left = limit, .stack = __builtin_frame_address(0) };
	ProtobufCAllocator alloc = { count_alloc, count_free, &c };
	ProtobufCMessage *msg = protobuf_c_message_unpack(desc, &alloc, n, data);

	if (!msg)
		return c.full ? -ENOBUFS : -EBADMSG;
	if (ret_used)
		*ret_used = limit - c.left;
	*ret = msg;
	return 0;
}
