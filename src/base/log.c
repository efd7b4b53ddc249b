/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

static struct {
	int fd;
	enum log_format format;
	enum log_level level;
	void (*copy)(void *data, const char *line, size_t n);
	void *data;
} logger = { .fd = STDERR_FILENO, .format = LOG_FORMAT_TEXT, .level = LOG_LEVEL_WARN };

static const char *const level_names[] = { "error", "warn", "info", "debug" };

/* The kernel's priorities (include/linux/kern_levels.h) of our levels. */
static const int level_kmsg[] = { 3, 4, 6, 7 };

void log_init(int fd, enum log_format format, enum log_level level)
{
	logger.fd = fd;
	logger.format = format;
	logger.level = level;
}

enum log_level log_level(enum log_level level)
{
	enum log_level before = logger.level;

	logger.level = level;
	return before;
}

void log_copy(void (*copy)(void *data, const char *line, size_t n), void *data)
{
	logger.copy = copy;
	logger.data = data;
}

int log_parse_level(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(level_names); i++)
		if (strcmp(name, level_names[i]) == 0)
			return (int)i;
	return -EINVAL;
}

const char *log_quote(char *buf, size_t size, const char *text)
{
	size_t n = 0;

	buf[n++] = '"';
	for (const unsigned char *p = (const unsigned char *)(text ? text : ""); *p; p++) {
		bool plain = *p >= 0x20 && *p != 0x7f && *p != '"' && *p != '\\';

		if (n + (plain ? 1 : 4) + 2 > size)
			break;
		if (plain)
			buf[n++] = (char)*p;
		else
			n += (size_t)snprintf(buf + n, size - n, "\\x%02x", *p);
	}
	buf[n++] = '"';
	buf[n] = '\0';
	return buf;
}

static size_t format_prefix(char *line, size_t size, enum log_level level, const char *msg)
{
	struct timespec now;
	struct tm tm;
	char stamp[32];
	int n;

	if (logger.format == LOG_FORMAT_KMSG) {
		n = snprintf(line, size, "<%d>podvm-agent: level=%s msg=\"%s\"", level_kmsg[level],
			     level_names[level], msg);
	} else {
		clock_gettime(CLOCK_REALTIME, &now);
		gmtime_r(&now.tv_sec, &tm);
		strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
		n = snprintf(line, size, "time=\"%s.%03ldZ\" level=%s msg=\"%s\"", stamp,
			     now.tv_nsec / 1000000, level_names[level], msg);
	}
	return n < 0 ? 0 : MIN((size_t)n, size - 1);
}

void log_write(enum log_level level, const char *msg, const char *fmt, ...)
{
	char line[2048];
	size_t n;
	va_list ap;
	int r;

	bool write_it = level <= logger.level && logger.fd >= 0;

	if (!write_it && !(logger.copy && level <= MAX(logger.level, LOG_LEVEL_INFO)))
		return;
	n = format_prefix(line, sizeof(line) - 2, level, msg);
	if (*fmt) {
		line[n++] = ' ';
		va_start(ap, fmt);
		r = vsnprintf(line + n, sizeof(line) - 1 - n, fmt, ap);
		va_end(ap);
		if (r > 0)
			n = MIN(n + (size_t)r, sizeof(line) - 2);
	}
	/* One line is one record, whatever a value held. */
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)line[i] < 0x20)
			line[i] = ' ';
	line[n++] = '\n';
	if (write_it)
		(void)!write(logger.fd, line, n);
	if (logger.copy)
		logger.copy(logger.data, line, n);
}
