/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_LOG_WRITER_H
#define PODVM_SANDBOX_LOG_WRITER_H

/*
 * The log of a container's output, in the format that Kubernetes' CRI defines for container logs:
 *
 *	2026-11-21T10:00:00.123456789Z stdout F a whole line
 *	2026-11-21T10:00:00.123456789Z stderr P the first part of a longer line
 *
 * The file is "log" (log_file.h). Writing is best effort: output is never held up by it.
 */

#include <stddef.h>
#include <stdint.h>

#include "sandbox/streams.h"

#define LOG_WRITER_MAX	((uint64_t)16 << 20)
#define LOG_WRITER_LINE ((size_t)16 << 10) /* longer ones are written in parts */

struct log_writer;

/** log_writer_new() - Write into a directory. Return: 0 or a negative errno */
int log_writer_new(int dirfd, struct log_writer **ret);

/** log_writer_add() - Output as it came, in pieces of any size */
void log_writer_add(struct log_writer *w, enum streams_which stream, const void *bytes, size_t n);

/** log_writer_free() - Write out what is left of lines without an end; NULL is fine */
void log_writer_free(struct log_writer *w);

#endif
