/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_END_H
#define PODVM_CLI_END_H

/* Ending sandboxes: what `podvm stop` and `podvm rm -f` share. */

#include "cli/target.h"

/* Take the timeout that the container was started with (--stop-timeout). */
#define END_OWN_TIMEOUT ((unsigned int)-1)

/**
 * end_targets() - Stop sandboxes, all at once, and wait until nothing of them runs
 * @ts:		Sandboxes; what has ended already is fine, what containerd owns is refused
 * @what:	What is done, for messages: "stop"
 * @seconds:	Between the stop signal and SIGKILL, or END_OWN_TIMEOUT
 * @each:	Called for each one as it has ended (@e is NULL) or couldn't be ended
 * @data:	For @each
 *
 * One that is starting is interrupted; one whose owner doesn't answer in time is destroyed.
 *
 * Return: 0 or a negative errno when it couldn't even begin, with @e set
 */
int end_targets(struct targets *ts, const char *what, unsigned int seconds,
		void (*each)(void *data, struct target *t, const struct err *e), void *data,
		struct err *e);

#endif
