/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_SHARES_H
#define PODVM_SANDBOX_SHARES_H

/*
 * What virtiofs shows of the host. When it's known from the beginning (podvm run -v) the daemon
 * starts before the monitor. A pod's containers come later: the monitor gets a stand-in
 * (storage/vhost_user_relay.h), and the daemon starts with the first container that asks for it.
 */

#include "base/list.h"
#include "sandbox/sandbox.h"

/** sandbox_start_shares(), sandbox_stop_shares() - Stage "shares" of a sandbox */
int sandbox_start_shares(void *obj, struct err *e);
void sandbox_stop_shares(void *obj);

/** sandbox_add_shares() - The machine's virtiofs device, if it has one */
void sandbox_add_shares(struct sandbox *sb, struct vmm_config *config);

/** sandbox_shares_given() - The monitor has its own copy of what sandbox_add_shares() gave it */
void sandbox_shares_given(struct sandbox *sb);

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
