/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_LOG_READER_H
#define PODVM_CLI_LOG_READER_H

/*
 * Theory of operation
 *
 * Reads what sandbox/log_file.h writes: NAME.1, if there is one, and then NAME, as one sequence of
 * lines. A reader that is at the end can be asked again later. When NAME was meanwhile renamed to
 * NAME.1 and begun anew, the open file is read to its end first and the new one after it, so no
 * line is lost unless the log was turned over twice between two reads.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct log_reader;

/**
 * struct log_line - One line of a container's output (log_writer.h), or a part of one
 * @stamp:	Time, as text
 * @error:	Of stderr
 * @whole:	The end of a line: a newline follows
 * @text:	The bytes, not ended by a NUL
 * @len:	How many
 */
struct log_line {
	const char *stamp;
	bool error;
	bool whole;
	const char *text;
	size_t len;
};

/**
 * log_reader_new() - Read a log
 * @dirfd:	Its directory; borrowed
 * @name:	Its name; borrowed
 * @ret:	To be released with log_reader_free()
 *
 * Return: 0 or a negative errno
 */
int log_reader_new(int dirfd, const char *name, struct log_reader **ret);

/**
 * log_reader_read() - Read on
 * @r:		Reader
 * @cb:		Gets every line, without its newline, which it may write into; a value other than 0
 *		ends the reading
 * @data:	For @cb
 *
 * Return: 0 at the end of what there is, what @cb returned, or a negative errno
 */
int log_reader_read(struct log_reader *r, int (*cb)(void *data, char *line, size_t len),
		    void *data);

/** log_reader_free() - NULL is fine */
void log_reader_free(struct log_reader *r);

/**
 * log_line_parse() - Understand one line of a container's output
 * @line:	Line without its newline; spaces that separate its parts are replaced by NULs
 * @len:	Its length
 * @ret:	Points into @line
 *
 * Return: 0 or -EBADMSG
 */
int log_line_parse(char *line, size_t len, struct log_line *ret);

#endif
