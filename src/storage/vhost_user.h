/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_VHOST_USER_H
#define PODVM_STORAGE_VHOST_USER_H

/*
 * Messages of vhost-user, the protocol by which a device's virtqueues are served by another process
 * (docs/interop/vhost-user.rst of QEMU). It runs on a stream socket: a header, a payload, and
 * descriptors that come with the first bytes. The peer may be in foreign hands: a message that is
 * longer than any of a file system's, or has more descriptors, ends the connection.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VHOST_USER_MAX_PAYLOAD 512
#define VHOST_USER_MAX_FDS     8 /* VHOST_MEMORY_BASELINE_NREGIONS */
#define VHOST_USER_HEADER      12

enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
};

#define VHOST_USER_VERSION 1U	     /* of the protocol, in flags */
#define VHOST_USER_REPLY   (1U << 2) /* flag: it's an answer */

/**
 * struct vhost_user_msg - A message that comes, goes or is kept
 * @done:	Bytes that have come or gone, the header's included
 * @request, @flags, @size: Header
 * @payload:	@size bytes
 * @fds:	Descriptors that belong to the message
 */
struct vhost_user_msg {
	size_t done;
	struct {
		uint32_t request;
		uint32_t flags;
		uint32_t size;
		uint8_t payload[VHOST_USER_MAX_PAYLOAD];
	} __attribute__((packed));
	int fds[VHOST_USER_MAX_FDS];
	size_t n_fds;
};

/** vhost_user_u64() - The first eight bytes of a payload as a number, 0 when there are fewer */
uint64_t vhost_user_u64(const struct vhost_user_msg *m);

/** vhost_user_ask() - Make a message without payload; @m holds no descriptors */
void vhost_user_ask(struct vhost_user_msg *m, uint32_t request);

/**
 * vhost_user_recv() - Go on receiving a message
 * @fd:		Socket
 * @m:		All zero for a new one
 *
 * Never waits. Return: 1 when it's complete, 0 when more is to come, -ECONNRESET at the end of the
 * connection, -EPROTO, or another negative errno; vhost_user_done() frees it in any case
 */
int vhost_user_recv(int fd, struct vhost_user_msg *m);

/** vhost_user_send() - Go on sending one. Return: 1 when it has gone, 0 when not all, or an errno */
int vhost_user_send(int fd, struct vhost_user_msg *m);

/** vhost_user_done() - Close its descriptors and make it all zero */
void vhost_user_done(struct vhost_user_msg *m);

#endif
