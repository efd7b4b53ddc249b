/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_VHOST_FS_H
#define PODVM_STORAGE_VHOST_FS_H

/*
 * Theory of operation
 *
 * virtiofsd serves the virtqueues of a file system device, by vhost-user. Here is the other side of
 * it, which is usually a monitor with a guest's driver in its memory. We have no guest's memory: a
 * memfd of our own holds one request queue and a buffer for each of VHOST_FS_SLOTS requests. So the
 * daemon is used as it comes, with its own confinement, and maps nothing of the guest.
 *
 *	memfd:	descriptors | available ring | used ring | slot 0 | slot 1 | ...
 *
 * A slot has two descriptors that never change their places: the request, and what is left of the
 * slot behind it, for the reply. The pages of a slot are allocated when it's used first, and the
 * lowest free slots are used first.
 *
 * The daemon may have been taken over by a guest that fooled it. Of what it writes, only numbers in
 * the used ring matter here; they are checked and end the connection when they are impossible. The
 * memfd is sealed, so that it can't be made shorter under us. What a reply says may change at any
 * time while it's read.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"

#define VHOST_FS_SLOTS 16

/* A request with 512 KiB of data, or a reply, and their headers. */
#define VHOST_FS_MESSAGE_MAX ((size_t)516 << 10)

struct vhost_fs;

/**
 * struct vhost_fs_handlers - What happens by itself. Nothing may be freed in them but by @broken
 * @ready:	The daemon serves; requests may be submitted
 * @answered:	The daemon is done with a slot: its reply has @len bytes, 0: there is none
 * @broken:	The daemon has gone, isn't one, or doesn't answer; called once, and nothing after it
 */
struct vhost_fs_handlers {
	void (*ready)(void *data);
	void (*answered)(void *data, unsigned int slot, size_t len);
	void (*broken)(void *data, const struct err *e);
};

/**
 * vhost_fs_new() - Set up a daemon
 * @loop:	Loop
 * @fd:		Connected socket of the daemon (virtiofs_spawn()); taken, also when this fails
 * @timeout_ms:	How long it may take until it's ready
 * @handlers:	Callbacks, copied
 * @data:	For them
 * @ret:	The connection
 *
 * Return: 0 or a negative errno
 */
int vhost_fs_new(struct loop *loop, int fd, uint64_t timeout_ms,
		 const struct vhost_fs_handlers *handlers, void *data, struct vhost_fs **ret);

/** vhost_fs_request() - Where a slot's request goes: VHOST_FS_MESSAGE_MAX bytes */
uint8_t *vhost_fs_request(struct vhost_fs *fs, unsigned int slot);

/** vhost_fs_reply() - Where a slot's reply is, once it's answered */
const uint8_t *vhost_fs_reply(struct vhost_fs *fs, unsigned int slot);

/**
 * vhost_fs_submit() - Give a slot that isn't under way to the daemon
 * @len:	Length of the request
 * @reply_max:	Room for the reply: no more than the slot has behind the request
 */
void vhost_fs_submit(struct vhost_fs *fs, unsigned int slot, size_t len, size_t reply_max);

/** vhost_fs_free() - Close the connection, which ends the daemon; NULL is fine */
void vhost_fs_free(struct vhost_fs *fs);

#endif
