/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_CHILD_H
#define PODVM_AGENT_CHILD_H

/*
 * Blocking work is a child process with a deadline: a program (crun), or a function of our own
 * that runs in a fork of the agent (mounting, unmounting, waiting for a cgroup to be empty). The
 * caller is answered at the deadline even if the child can't be killed because the kernel holds
 * it; the reaper collects it whenever it ends.
 */

#include <stdint.h>

#include "agent/reaper.h"
#include "base/err.h"
#include "base/spawn.h"

/**
 * typedef child_done - Ends a child's work
 * @data:	User data
 * @e:		NULL, or what went wrong: -ETIMEDOUT, -ECHILD (a program that failed), or a worker's
 *		own error
 */
typedef void (*child_done)(void *data, const struct err *e);

/**
 * child_run() - Run a program
 * @r:		Reaper
 * @s:		Program; its descriptors are borrowed until this returns
 * @timeout_ms:	Deadline; then it's killed
 * @done:	Called exactly once, later, unless this fails
 * @data:	For @done
 * @e:		Why it could not be started
 *
 * Return: 0 or a negative errno
 */
int child_run(struct reaper *r, const struct spawn *s, uint64_t timeout_ms, child_done done,
	      void *data, struct err *e);

/**
 * child_work() - Run a function in a forked child
 * @r:		Reaper
 * @name:	What it does, for messages; a constant
 * @fn:		Runs in the child, where nothing but descriptors 0-2 is open and the loop must not
 *		be used; returns 0 or a negative errno with the error set
 * @arg:	For @fn; the child sees a copy of it
 * @timeout_ms:	Deadline; then it's killed
 * @done:	Called exactly once, later, unless this fails
 * @data:	For @done
 * @e:		Why it could not be started
 *
 * Return: 0 or a negative errno
 */
int child_work(struct reaper *r, const char *name, int (*fn)(void *arg, struct err *e), void *arg,
	       uint64_t timeout_ms, child_done done, void *data, struct err *e);

#endif
