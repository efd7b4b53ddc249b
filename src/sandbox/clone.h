/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_CLONE_H
#define PODVM_SANDBOX_CLONE_H

/*
 * A sandbox that starts as a copy of a template (template.h), if there is one, and boots otherwise.
 * What can't be copied boots: machines with more than one network device. When a copy doesn't come
 * up, the template is removed and the sandbox starts once more, by booting; nobody is told but the
 * log.
 *
 * The copy may be one that waits in the pool (pool.h). It's taken when the network is known,
 * because its network device is there already and is connected then. When such a machine doesn't
 * work, the sandbox starts once more, as if there were no pool.
 */

#include "sandbox/sandbox.h"
#include "sandbox/template.h"
#include "vmm/vmm.h"

/**
 * clone_take() - Take a machine of the pool, if one waits that will do
 * @sb:		Sandbox whose network is known
 * @nic:	Its network device
 * @taken:	Called when @sb->pooled is there, or it's known that there is none
 *
 * Return: 0 when there is nothing to wait for, STAGE_PENDING when @taken will be called
 */
int clone_take(struct sandbox *sb, enum template_nic nic, void (*taken)(struct sandbox *sb));

/** clone_untake() - End what was taken, unless the sandbox has made it its own */
void clone_untake(struct sandbox *sb);

/** clone_prepare() - Let a machine be a copy, if it can */
void clone_prepare(struct sandbox *sb, struct vmm_config *config);

/** clone_given() - The monitor has the template's files */
void clone_given(struct sandbox *sb);

/** clone_retry() - Whether a start that has failed should be tried again, without a template */
bool clone_retry(struct sandbox *sb, const struct err *e);

/** clone_booted() - The machine has booted: a template for the next one may be made */
void clone_booted(struct sandbox *sb);

/** clone_done() - Release what is left */
void clone_done(struct sandbox *sb);

#endif
