/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_LOG_FILE_H
#define PODVM_SANDBOX_LOG_FILE_H

/*
 * A log of lines that can't fill the disk: NAME, and once that has its most bytes, NAME.1 before
 * it. Writing is best effort. cli/log_reader.h reads both as one.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/**
 * struct log_file - A log of this process alone
 * @dirfd:	Directory, borrowed
 * @name:	Of the file, borrowed
 * @max:	Bytes of one file
 */
struct log_file {
	int dirfd;
	const char *name;
	uint64_t max;
	uint64_t size;
	int fd;
};

/** log_file_open() - Begin a new one. Return: 0 or a negative errno */
int log_file_open(struct log_file *f, int dirfd, const char *name, uint64_t max);

/** log_file_add() - Append whole lines */
void log_file_add(struct log_file *f, const void *bytes, size_t n);

/** log_file_close() - Any number of times */
void log_file_close(struct log_file *f);

/**
 * log_file_append() - Append a line to a log that other processes write, too
 * @dirfd:	Directory
 * @name:	Of the file
 * @max:	Bytes of one file
 * @line:	With its newline; not longer than a page, so that it goes in as a whole
 *
 * Return: 0 or a negative errno
 */
int log_file_append(int dirfd, const char *name, uint64_t max, const char *line);

#endif
