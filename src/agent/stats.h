/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_STATS_H
#define PODVM_AGENT_STATS_H

/* Numbers of a container, read from its cgroup. */

#include "proto/agent.pb-c.h"

#define STATS_COUNTERS	  128 /* of one file */
#define STATS_DEVICES	  64
#define STATS_HUGETLB	  8
#define STATS_FILESYSTEMS 64

/**
 * struct counters - The fields of a flat keyed file ("name 123\n" lines)
 * @text:	Content of the file, cut into names; owned
 * @list:	For the message
 * @n:		How many
 */
struct counters {
	char *text;
	Podvm__Agent__V1__Counter v[STATS_COUNTERS];
	Podvm__Agent__V1__Counter *list[STATS_COUNTERS];
	size_t n;
};

/** counters_parse() - Take what is well formed in @c->text, at most STATS_COUNTERS fields */
void counters_parse(struct counters *c);

/** stats_parse_io() - One line of io.stat, "8:0 rbytes=1 wios=2 ...". Return: 0 or -EINVAL */
int stats_parse_io(char *line, Podvm__Agent__V1__IoStats *ret);

#endif
