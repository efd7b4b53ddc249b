/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_BASE_LOG_H
#define PODVM_BASE_LOG_H

/*
 * Levelled log lines of key=value pairs, the same on the host and in the guest:
 *
 *	time="2026-11-21T10:00:00.123Z" level=info msg="guest is up" sandbox=web ms=312
 *
 * log_info("guest is up", "sandbox=%s ms=%d", id, ms): the message is a constant, what varies
 * are the pairs. A value that may hold foreign bytes is passed through log_quote(). Nothing is
 * logged by a function that returns an error: who handles the error logs it, once.
 */

#include <stddef.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Formats of a line: LOG_FORMAT_KMSG has no time (the kernel adds its own) but a <priority>. */
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_KMSG };

/**
 * log_init() - Set where lines go
 * @fd:		Descriptor, borrowed for ever; a line that does not fit a full pipe is dropped
 * @format:	Format of the lines
 * @level:	The least severe level that is written
 */
void log_init(int fd, enum log_format format, enum log_level level);

/** log_level() - Set the least severe level that is written. Return: What it was before */
enum log_level log_level(enum log_level level);

/**
 * log_copy() - Have every line that is logged, and those of level info, somewhere else as well
 * @copy:	Gets a line with its newline; must not log itself. NULL: no longer
 * @data:	For @copy
 */
void log_copy(void (*copy)(void *data, const char *line, size_t n), void *data);

/** log_parse_level() - Level by name ("error", "warn", "info", "debug"), or -EINVAL */
int log_parse_level(const char *name);

/**
 * log_quote() - Make foreign text safe for one line of log or terminal
 * @buf:	Where to put it, at least 3 bytes
 * @size:	Its size; what does not fit is cut
 * @text:	Text, NULL is shown as an empty string
 *
 * Return: @buf: the text in double quotes, with control characters and quotes as \xNN
 */
const char *log_quote(char *buf, size_t size, const char *text);

void log_write(enum log_level level, const char *msg, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(msg, ...) log_write(LOG_LEVEL_ERROR, msg, "" __VA_ARGS__)
#define log_warn(msg, ...)  log_write(LOG_LEVEL_WARN, msg, "" __VA_ARGS__)
#define log_info(msg, ...)  log_write(LOG_LEVEL_INFO, msg, "" __VA_ARGS__)
#define log_debug(msg, ...) log_write(LOG_LEVEL_DEBUG, msg, "" __VA_ARGS__)

#endif
