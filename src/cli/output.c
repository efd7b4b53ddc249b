/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"

/* Foreign bytes may be in there: newlines stay, other control characters don't. */
static void print_safe(FILE *to, const char *text, const char *indent)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p == '\n')
			fprintf(to, "\n%s", indent);
		else
			fputc(*p < 0x20 || *p == 0x7f ? '?' : *p, to);
	}
	fputc('\n', to);
}

int cli_fail(const struct err *e)
{
	cli_progress(NULL, 0, 0);
	fputs("podvm: ", stderr);
	if (*e->stage)
		fprintf(stderr, "%s: ", e->stage);
	print_safe(stderr, e->msg, "  ");
	if (*e->hint) {
		fputs("  ", stderr);
		print_safe(stderr, e->hint, "  ");
	}
	return CLI_FAILED;
}

void cli_progress(const char *what, uint64_t now, uint64_t total)
{
	static bool shown;

	if (!isatty(STDERR_FILENO))
		return;
	if (!what) {
		if (shown)
			fputs("\r\033[K", stderr);
		shown = false;
		return;
	}
	if (total)
		fprintf(stderr, "\r\033[K%s %3u%%", what,
			(unsigned int)(now >= total ? 100 : now * 100 / total));
	else
		fprintf(stderr, "\r\033[K%s", what);
	fflush(stderr);
	shown = true;
}

void cli_printable(const char *text, int width)
{
	int n = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p && n < width; p++, n++)
		putchar(*p < 0x20 || *p == 0x7f ? '?' : *p);
	for (; n < width; n++)
		putchar(' ');
}

void cli_print_time(FILE *to, uint64_t time_ns)
{
	time_t seconds = (time_t)(time_ns / 1000000000);
	char text[32];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	fprintf(to, "%s.%03uZ", text, (unsigned int)(time_ns / 1000000 % 1000));
}

const char *cli_ago(char *buf, size_t size, uint64_t time_ns)
{
	static const struct {
		const char *name;
		uint64_t seconds;
	} units[] = { { "day", 86400 }, { "hour", 3600 }, { "minute", 60 }, { "second", 1 } };
	struct timespec ts;
	uint64_t now;
	uint64_t s;
	uint64_t n;

	clock_gettime(CLOCK_REALTIME, &ts);
	now = (uint64_t)ts.tv_sec;
	s = now > time_ns / 1000000000 ? now - time_ns / 1000000000 : 0;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		n = s / units[i].seconds;
		if (n == 0 && i + 1 < ARRAY_SIZE(units))
			continue;
		snprintf(buf, size, "%llu %s%s ago", (unsigned long long)n, units[i].name,
			 n == 1 ? "" : "s");
		break;
	}
	return buf;
}

const char *cli_human_size(char *buf, size_t size, uint64_t bytes)
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB" };
	double v = (double)bytes;
	size_t u = 0;

	for (; v >= 1000 && u + 1 < ARRAY_SIZE(units); u++)
		v /= 1000;
	snprintf(buf, size, u ? "%.3g%s" : "%.0f%s", v, units[u]);
	return buf;
}
