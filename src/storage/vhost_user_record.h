/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_VHOST_USER_RECORD_H
#define PODVM_STORAGE_VHOST_USER_RECORD_H

/*
 * What a monitor tells the daemon of a file system, while there is no daemon: questions are
 * answered as every virtiofsd would, and of what it sets the last word is kept, for the daemon
 * that comes later. This is the part without sockets.
 *
 * What is promised is little: what the C daemon of Debian 12 and the Rust one of Debian 13 have in
 * common, and what a guest's driver needs. Anything that wasn't promised is a protocol error.
 */

#include <stddef.h>

#include "storage/vhost_user.h"

/* VIRTIO_F_VERSION_1, VHOST_USER_F_PROTOCOL_FEATURES, VIRTIO_RING_F_EVENT_IDX and _INDIRECT_DESC */
#define VHOST_USER_FEATURES (1ULL << 32 | 1ULL << 30 | 1ULL << 29 | 1ULL << 28)

/* VHOST_USER_PROTOCOL_F_REPLY_ACK, VHOST_USER_PROTOCOL_F_MQ */
#define VHOST_USER_PROTOCOL_FEATURES (1ULL << 3 | 1ULL << 0)

#define VHOST_USER_RINGS 2 /* one of high priority, one for requests */
#define VHOST_USER_KEPT	 (4 + 7 * VHOST_USER_RINGS)

/**
 * struct vhost_user_record - What was set; all zero: nothing
 * @kept:	In the order of a replay, NULL where nothing was said
 */
struct vhost_user_record {
	struct vhost_user_msg *kept[VHOST_USER_KEPT];
};

/**
 * vhost_user_record_take() - A message has come
 * @r:		Record
 * @m:		Message; its descriptors are taken or closed, and it's all zero afterwards
 * @answer:	Gets an answer to be sent
 *
 * Return: 1 with an answer, 0 without, -EPROTO: that isn't what a monitor would say, -ENOMEM
 */
int vhost_user_record_take(struct vhost_user_record *r, struct vhost_user_msg *m,
			   struct vhost_user_msg *answer);

/** vhost_user_record_done() - Forget everything */
void vhost_user_record_done(struct vhost_user_record *r);

#endif
