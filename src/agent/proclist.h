/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_PROCLIST_H
#define PODVM_AGENT_PROCLIST_H

/* What runs in a container: pids from its cgroup, the rest from /proc. */

#include <stddef.h>
#include <stdint.h>

#define PROCLIST_MAX	 4096
#define PROCLIST_COMMAND 256

/** struct proc_stat - What is taken from /proc/PID/stat */
struct proc_stat {
	char comm[32];
	uint32_t ppid;
	uint64_t cpu_ticks; /* user and system */
	uint64_t rss_pages;
};

/**
 * proc_stat_parse() - Parse /proc/PID/stat, in which a process's name may hold anything
 *
 * Return: 0 or -EINVAL
 */
int proc_stat_parse(const char *text, struct proc_stat *ret);

/**
 * proc_command() - Make a command line printable
 * @raw:	Content of /proc/PID/cmdline: arguments, each ended by a NUL
 * @len:	Its length
 * @out:	Gets the arguments joined by blanks, '?' for what isn't printable ASCII
 */
void proc_command(const char *raw, size_t len, char out[PROCLIST_COMMAND + 1]);

#endif
