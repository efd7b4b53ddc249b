/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_NETLINK_H
#define PODVM_AGENT_NETLINK_H

/*
 * As much of rtnetlink as a guest needs: building a request with attributes, sending it, waiting
 * for its acknowledgement, and walking through a dump. The kernel answers within the call, so this
 * doesn't disturb the loop. (Debian has no static libmnl, and the agent is static.)
 */

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define NL_REQUEST_MAX 1024

/**
 * struct nl_request - A message under construction
 * @buf:	The message
 * @len:	Bytes of it
 * @overflow:	Something did not fit; sending it fails
 */
struct nl_request {
	_Alignas(struct nlmsghdr) uint8_t buf[NL_REQUEST_MAX];
	size_t len;
	bool overflow;
};

/**
 * nl_start() - Begin a message
 * @req:	Message
 * @type:	RTM_*
 * @flags:	NLM_F_* besides REQUEST and ACK
 * @header:	struct ifinfomsg, rtmsg, ...
 * @size:	Its size
 */
void nl_start(struct nl_request *req, uint16_t type, uint16_t flags, const void *header,
	      size_t size);

/** nl_attr() - Append an attribute */
void nl_attr(struct nl_request *req, uint16_t type, const void *data, size_t size);

/** nl_attr_u32() - Append an attribute that is a number */
void nl_attr_u32(struct nl_request *req, uint16_t type, uint32_t value);

/** nl_nest() - Begin an attribute that holds attributes. Return: For nl_nest_end() */
size_t nl_nest(struct nl_request *req, uint16_t type);

/** nl_nest_end() - End it */
void nl_nest_end(struct nl_request *req, size_t nest);

/** nl_open() - A route socket. Return: Descriptor or a negative errno */
int nl_open(void);

/** typedef nl_message - Takes one message of an answer */
typedef void (*nl_message)(void *data, const struct nlmsghdr *msg);

/**
 * nl_call() - Send a message and wait for the whole answer
 * @fd:		Socket
 * @req:	Message; with NLM_F_DUMP the answer is a list
 * @cb:		Called per message of it, may be NULL
 * @data:	For @cb
 *
 * Return: 0, -ETIMEDOUT, or the kernel's negative errno
 */
int nl_call(int fd, struct nl_request *req, nl_message cb, void *data);

/**
 * nl_parse() - Walk through the messages of one datagram
 * @buf:	Datagram, aligned as struct nlmsghdr
 * @len:	Its length
 * @cb:		Called per message that is whole and neither an acknowledgement nor the end
 * @data:	For @cb
 *
 * Return: 1 at the end of a list or an acknowledgement, 0 when more is to come, or a negative
 * errno (the kernel's, -EPROTO: not netlink)
 */
int nl_parse(const void *buf, size_t len, nl_message cb, void *data);

/**
 * nl_find() - Find an attribute
 * @msg:	Message
 * @header:	Size of the header that comes before the attributes
 * @type:	Attribute
 * @size:	Gets its size
 *
 * Return: Its data or NULL
 */
const void *nl_find(const struct nlmsghdr *msg, size_t header, uint16_t type, size_t *size);

#endif
