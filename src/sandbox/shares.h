/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_SHARES_H
#define PODVM_SANDBOX_SHARES_H

/*
 * What a pod mounts of the host. A machine has nothing for it at first. The first container that
 * asks gives it a channel, to which a relay (storage/fuse_relay.h) connects virtiofsd; the agent
 * mounts what is shared as FUSE file systems and speaks for them on that channel. When the daemon
 * or the relay goes, or the agent's process for this, the sandbox is lost.
 */

#include "base/list.h"
#include "sandbox/sandbox.h"

/** sandbox_start_shares(), sandbox_stop_shares() - Stage "shares" of a sandbox */
int sandbox_start_shares(void *obj, struct err *e);
void sandbox_stop_shares(void *obj);

/* Who waits for the daemon; to be taken out of the list (it's one of its own otherwise) to stop. */
struct share_wait {
	struct list node;
	sandbox_done done;
	void *data;
};

/**
 * sandbox_need_share() - A container wants to mount what is shared
 * @sb:		Running sandbox
 * @wait:	Initialised; in a list while it waits
 * @e:		Why the daemon can't be started
 *
 * Return: 0 when the daemon serves, STAGE_PENDING when @wait->done will be called, or a negative
 * errno. The next container may try again
 */
int sandbox_need_share(struct sandbox *sb, struct share_wait *wait, struct err *e);

#endif
