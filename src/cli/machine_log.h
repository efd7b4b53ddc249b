/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_MACHINE_LOG_H
#define PODVM_CLI_MACHINE_LOG_H

/*
 * What all parts of a machine have to say, in the order of time: the shim of a pod, the monitor,
 * the guest's kernel and its agent. Of a guest that runs it's the kernel's log (the agent writes
 * there as well), of one that doesn't what was on its console.
 */

#include "cli/target.h"

/**
 * struct log_entry - A line
 * @time_ns:	When, since the epoch
 * @order:	Where it stood, among those of the same time
 * @source:	"shim", "monitor", "kernel", "agent"
 * @text:	Without the time, a newline and what the source is told by
 */
struct log_entry {
	uint64_t time_ns;
	size_t order;
	const char *source;
	char *text;
};

struct machine_log {
	struct log_entry *v;
	size_t n;
};

/**
 * machine_log_read() - Read all there is
 * @t:		Sandbox
 * @ret:	All zero; released with machine_log_done()
 * @e:		What can't be read
 *
 * Return: 0 or a negative errno
 */
int machine_log_read(const struct target *t, struct machine_log *ret, struct err *e);

/** machine_log_add_shim() - A line as log.h writes it. Return: 0 or -ENOMEM */
int machine_log_add_shim(struct machine_log *log, const char *line, size_t len);

/**
 * machine_log_add_guest() - Lines of the kernel's log or the console, "[    0.123456] text"
 * @booted_ns:	When the kernel began; lines without a time have that of the line before
 *
 * Return: 0 or -ENOMEM
 */
int machine_log_add_guest(struct machine_log *log, uint64_t booted_ns, const char *text,
			  size_t len);

/** machine_log_sort() - By time */
void machine_log_sort(struct machine_log *log);

/** machine_log_print() - Print the last @tail lines, all of them if it's < 0 */
void machine_log_print(const struct machine_log *log, int64_t tail);

void machine_log_done(struct machine_log *log);

#endif
