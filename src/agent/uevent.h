/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_UEVENT_H
#define PODVM_AGENT_UEVENT_H

/*
 * Waiting for devices. The kernel announces every change of a device on a netlink socket. What it
 * says is not believed: an announcement, or one of a kind of devices, only means that it's worth
 * looking again. Open the socket before the first look, and none is missed.
 */

#include <stdint.h>

/** uevent_open() - A socket for the kernel's announcements. Return: Descriptor or negative errno */
int uevent_open(void);

/** uevent_drain() - Empty the socket. Return: How many announcements there were */
int uevent_drain(int fd);

/**
 * uevent_wait() - Block until something was announced
 * @fd:		From uevent_open()
 * @part:	Of the device's path: only those that have it count; "": all
 * @deadline_ms: Of clock_ms()
 *
 * Return: 0, 1 when some were lost, -ETIMEDOUT or another negative errno
 */
int uevent_wait(int fd, const char *part, uint64_t deadline_ms);

#endif
