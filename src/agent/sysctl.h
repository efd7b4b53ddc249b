/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_SYSCTL_H
#define PODVM_AGENT_SYSCTL_H

/* Kernel parameters, as files below /proc/sys. */

#include <stddef.h>

#include "base/err.h"

/**
 * sysctl_path() - File of a parameter, as sysctl(8) finds it
 * @name:	"net.ipv4.ip_forward", or with slashes "net/ipv4/conf/eth0.1/forwarding". The
 *		separator that comes first is the one that separates; the other one, if any, stands
 *		for it within a component
 * @path:	Gets the path relative to /proc/sys
 * @size:	Its size
 *
 * Return: 0 or -EINVAL
 */
int sysctl_path(const char *name, char *path, size_t size);

/** sysctl_set() - Set a parameter. Return: 0 or a negative errno */
int sysctl_set(const char *name, const char *value, struct err *e);

#endif
