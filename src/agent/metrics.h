/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_METRICS_H
#define PODVM_AGENT_METRICS_H

#include <errno.h>
#include <stdint.h>

#include "proto/agent.pb-c.h"

#define METRICS_DEVICES 32

/** meminfo_field() - Bytes of a line of /proc/meminfo, 0 when there is no such line */
uint64_t meminfo_field(const char *text, const char *name);

/** net_dev_parse() - One line of /proc/net/dev, which is cut. Return: 0 or -EINVAL */
int net_dev_parse(char *line, Podvm__Agent__V1__NetworkStats *ret);

#endif
