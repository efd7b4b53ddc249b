/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_REHEARSAL_H
#define PODVM_SANDBOX_REHEARSAL_H

/*
 * A guest without identity starts a container for practice, before it's saved as a template or
 * waits in the pool (agent/rehearsal.h says what for, and what it leaves: nothing). Here is what
 * the container is made of: the guest's own root image as the image, plugged once more as a disk,
 * an empty scratch disk, and the spec of `podvm run` without options. Both disks are unplugged
 * again.
 *
 * That it doesn't work is logged, and nothing else: the guest is as good as it was. It's an error
 * when something is left of it.
 */

#include "loop/loop.h"
#include "sandbox/sandbox.h"
#include "ttrpc/ttrpc.h"
#include "vmm/vmm.h"

struct rehearsal;

/**
 * rehearsal_start() - Have a guest practise
 * @c:		Its sandbox; borrowed
 * @vmm:	The machine
 * @agent:	Connection to its agent, which has answered Hello
 * @timeout_ms:	Deadline of what the guest does
 * @done:	Called once, with NULL, or what makes the machine unfit for anything
 * @data:	For @done
 * @ret:	What is under way, to be freed, also after @done
 * @e:		What failed at once
 *
 * Return: 0 or a negative errno
 */
int rehearsal_start(const struct sandbox_config *c, struct vmm *vmm, struct ttrpc_client *agent,
		    uint64_t timeout_ms, vmm_done done, void *data, struct rehearsal **ret,
		    struct err *e);

/** rehearsal_free() - Forget it, before connection and machine go; NULL is fine */
void rehearsal_free(struct rehearsal *r);

#endif
