/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_LOCK_H
#define PODVM_STORAGE_LOCK_H

/**
 * lock_wait() - Take a flock(2) lock, with a deadline
 * @fd:		File or directory; the lock belongs to this open file description
 * @op:		LOCK_SH or LOCK_EX
 * @timeout_ms:	Deadline; 0: take it now or not at all
 *
 * flock(2) knows no deadline, and neither signals nor polling are for a library. So a child that
 * shares the open file description takes the lock for us and can be killed while it waits.
 *
 * Return: 0, -EWOULDBLOCK (@timeout_ms is 0), -ETIMEDOUT or another negative errno
 */
int lock_wait(int fd, int op, int timeout_ms);

#endif
