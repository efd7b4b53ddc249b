/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_KLOG_H
#define PODVM_AGENT_KLOG_H

/* GetLog: the kernel's messages, and ours among them, as the console would show them. */

#include <stddef.h>

#include "base/buf.h"

#define KLOG_MAX     ((size_t)1 << 20)
#define KLOG_DEFAULT ((size_t)64 << 10)

/**
 * klog_format() - Turn a record of /dev/kmsg into a line
 * @record:	"6,339,5140900,-;text\n KEY=value\n"
 * @len:	Its length
 * @out:	Gets "[    5.140900] text\n"; its oldest bytes go when it's full
 *
 * Return: 0, -EINVAL (no record) or -ENOMEM
 */
int klog_format(const char *record, size_t len, struct buf *out);

#endif
