/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_CONTROL_H
#define PODVM_SANDBOX_CONTROL_H

/*
 * The control socket of a sandbox (proto/podvm/control/v1/control.proto): the owner's side.
 *
 * Methods of podvm.agent.v1.Agent that concern a running container are forwarded to the guest as
 * they are, so other commands speak the agent protocol to this socket. The ones that change what
 * the owner keeps track of (creating, removing, shutting down) are not forwarded.
 */

#include "sandbox/sandbox.h"

struct control;

/**
 * control_new() - Serve CONTROL_SOCKET in the run directory
 * @sb:		Sandbox
 * @stop:	Asked to stop the container; answers later with control_stopped(). NULL: somebody
 *		else's business, and refused
 * @data:	For @stop
 * @ret:	To be released with control_free()
 * @e:		Why not
 *
 * Return: 0 or a negative errno
 */
int control_new(struct sandbox *sb, void (*stop)(void *data, unsigned int timeout_ms), void *data,
		struct control **ret, struct err *e);

/**
 * typedef control_find_volume - Find a volume that is a disk of the machine
 * @data:	For the callback
 * @source:	Directory of the host
 * @path:	Gets where the guest mounts it, borrowed
 *
 * Return: The disk, borrowed, or NULL
 */
typedef const struct vmm_disk_addr *(*control_find_volume)(void *data, const char *source,
							   const char **path);

/** control_volumes() - Serve calls about volumes that @find knows */
void control_volumes(struct control *c, control_find_volume find, void *data);

/** control_stopped() - The container has ended: answer everybody who asked for it */
void control_stopped(struct control *c, unsigned int exit_status);

/** control_free() - Close and remove the socket; NULL is fine */
void control_free(struct control *c);

/**
 * control_connect() - A client on the control socket of a sandbox (any process)
 * @loop:	Loop
 * @rd:		Its run directory
 * @closed:	The owner has gone; may be NULL
 * @data:	For @closed
 * @ret:	To be released with ttrpc_client_free()
 * @e:		Says when the sandbox isn't running
 *
 * Return: 0 or a negative errno
 */
int control_connect(struct loop *loop, const struct rundir *rd, void (*closed)(void *data),
		    void *data, struct ttrpc_client **ret, struct err *e);

#endif
