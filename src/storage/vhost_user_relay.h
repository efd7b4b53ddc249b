/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_VHOST_USER_RELAY_H
#define PODVM_STORAGE_VHOST_USER_RELAY_H

/*
 * Theory of operation
 *
 * A machine that can't be given devices later (QEMU's microvm) has to have its virtiofs device from
 * the beginning, but whether a pod will ever share a directory with the host is known only when its
 * containers are created. So the device is connected to a stand-in first:
 *
 *	ALONE	answers the monitor's questions as a daemon would and keeps what it sets
 *		(vhost_user_record.h). The guest's driver finds its device; it asks the file system
 *		nothing before somebody mounts it.
 *	JOIN	a daemon has been started. It's asked whether it has everything that was promised,
 *		is told everything that was kept, and asked once more: its answer means that all has
 *		arrived. What the monitor says meanwhile waits in its socket.
 *	RELAY	whole messages go both ways as they come, with their descriptors. They are few: the
 *		guest's requests don't come this way, but by the rings in its memory and by eventfds.
 *
 * When a daemon doesn't do, the stand-in is alone again, and another one may be tried. At most one
 * message is under way in each direction, so nothing piles up.
 */

#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"

struct vhost_relay;

typedef void (*vhost_relay_done)(void *data, const struct err *e);

/**
 * vhost_relay_new() - A stand-in
 * @loop:	Loop
 * @fd:		Socket whose other end the monitor has; taken, also when this fails
 * @broken:	Called once when one of the peers has gone or said something impossible; the relay
 *		still has to be freed
 * @data:	For @broken
 * @ret:	The stand-in
 *
 * Return: 0 or a negative errno
 */
int vhost_relay_new(struct loop *loop, int fd, vhost_relay_done broken, void *data,
		    struct vhost_relay **ret);

/**
 * vhost_relay_join() - Bring in the daemon
 * @relay:	Stand-in that is alone
 * @fd:		Socket whose other end the daemon has; taken, also when this fails
 * @timeout_ms:	How long it may take to answer
 * @done:	Called with NULL when it serves the monitor, or with what failed
 * @data:	For @done
 *
 * Return: 0 (@done will be called unless the relay is freed) or a negative errno (it will not)
 */
int vhost_relay_join(struct vhost_relay *relay, int fd, uint64_t timeout_ms, vhost_relay_done done,
		     void *data);

/** vhost_relay_free() - Close both connections; NULL is fine */
void vhost_relay_free(struct vhost_relay *relay);

#endif
