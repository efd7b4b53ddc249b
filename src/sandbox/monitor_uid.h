/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_MONITOR_UID_H
#define PODVM_SANDBOX_MONITOR_UID_H

/*
 * Every monitor of this host runs as a user of its own, from a range that nobody else uses, so that
 * one that a guest has taken over can't touch the others. A number is taken by a lock on a byte of
 * one file; it's free again when its owner closes the file or dies.
 */

#include <sys/types.h>

#define MONITOR_UIDS 65536

/**
 * monitor_uid_take() - A user that runs no monitor
 * @state_dir:	Directory of the file
 * @base:	First number of the range
 * @ret:	The number
 *
 * Return: A descriptor that keeps it taken, -ENOSPC or another negative errno
 */
int monitor_uid_take(const char *state_dir, uid_t base, uid_t *ret);

#endif
