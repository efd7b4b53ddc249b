/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_VOLUME_H
#define PODVM_AGENT_VOLUME_H

/*
 * Directories below /run/podvm that hold copies of the host's volumes, and file systems in memory
 * (UpdateVolume). The host says what changes, in the order in which whoever wrote the original
 * made its changes; so a program in a container that watches the copy sees what it would have seen
 * there. Sockets of the host are listened to (socket.h). A container may be allowed to write into
 * it and be malicious: nothing is opened through a symbolic link, and what is in the way of a
 * change is removed.
 */

#include "agent/socket.h"
#include "base/err.h"
#include "proto/agent.pb-c.h"

/**
 * volume_change() - Make one change
 * @volume:	Descriptor of the volume's directory
 * @sockets:	Where sockets are put
 * @c:		As it came from the host
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int volume_change(int volume, struct sockets *sockets, const Podvm__Agent__V1__VolumeChange *c,
		  struct err *e);

/**
 * device_lookup() - A device of the guest by its name
 * @name:	Path below /dev
 * @ret:	Filled in; not found when there is no device of that name
 */
void device_lookup(const char *name, Podvm__Agent__V1__Device *ret);

#endif
