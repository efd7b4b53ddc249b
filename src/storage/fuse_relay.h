/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_FUSE_RELAY_H
#define PODVM_STORAGE_FUSE_RELAY_H

/*
 * Theory of operation
 *
 * How a guest gets at directories of the host without sharing its memory with anybody:
 *
 *	guest's kernel -- /dev/fuse -- agent == channel == this == vhost_fs.h -- virtiofsd
 *
 * The agent passes on what the guest's kernel asks of the file system, and here it's passed on to
 * virtiofsd: messages of the FUSE protocol (linux/fuse.h), each of which begins with its length. A
 * request is read into a free slot of the daemon's queue and submitted; what the daemon answers is
 * written to the channel in the order in which it comes. When all slots are in use, or the guest
 * doesn't take its replies, nothing more is read from the channel, and the guest waits: what is
 * under way is bounded by the slots, and nothing here waits.
 *
 * The guest may send anything. Of a request only the header is looked at, in a copy that the daemon
 * can't change: an impossible length ends the relay, and what no guest of ours asks for (operations
 * for interrupting, notifying and mapping, and those that are unknown) is answered ENOSYS right
 * here. Everything else is the daemon's to judge.
 */

#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"

struct fuse_relay;

/** struct fuse_relay_handlers - @ready: the daemon serves; @broken: called once, nothing after it */
struct fuse_relay_handlers {
	void (*ready)(void *data);
	void (*broken)(void *data, const struct err *e);
};

/**
 * fuse_relay_new() - Connect a guest to a daemon
 * @loop:	Loop
 * @guest:	Our end of the channel, a non-blocking socket; borrowed. Nothing is read from it
 *		before the daemon is ready
 * @daemon:	Connected socket of the daemon (virtiofs_spawn()); taken, also when this fails
 * @timeout_ms:	How long the daemon may take until it's ready
 * @handlers:	Callbacks, copied
 * @data:	For them
 * @ret:	The relay
 *
 * Return: 0 or a negative errno
 */
int fuse_relay_new(struct loop *loop, int guest, int daemon, uint64_t timeout_ms,
		   const struct fuse_relay_handlers *handlers, void *data, struct fuse_relay **ret);

/** fuse_relay_free() - Close the daemon's connection; NULL is fine. Not from within a callback */
void fuse_relay_free(struct fuse_relay *relay);

#endif
