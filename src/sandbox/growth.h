/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_GROWTH_H
#define PODVM_SANDBOX_GROWTH_H

/*
 * A sandbox that grows: the monitor gives CPUs and memory, then the agent brings them into use.
 * Wishes are fulfilled one after the other; a sandbox never shrinks.
 */

#include "sandbox/sandbox.h"

struct growth;

/**
 * sandbox_grow() - Give a running sandbox CPUs and memory
 * @sb:		Sandbox
 * @vcpus:	How many CPUs it should have
 * @memory:	Bytes that its machine should have
 * @done:	Called with NULL when the guest uses them, or as much as the machine may have, or
 *		with what failed (-EOPNOTSUPP: this machine can't grow)
 * @data:	For @done
 * @ret:	The wish, valid until @done is called
 * @e:		Why it can't be
 *
 * Return: 0 when it's that large already, STAGE_PENDING when @done will be called, or a negative
 * errno
 */
int sandbox_grow(struct sandbox *sb, unsigned int vcpus, uint64_t memory, sandbox_done done,
		 void *data, struct growth **ret, struct err *e);

/** growth_cancel() - Don't call back; what has begun goes on. NULL is fine */
void growth_cancel(struct growth *g);

#endif
