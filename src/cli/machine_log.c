/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/machine_log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "cli/log_reader.h"
#include "proto/agent.pb-c.h"

#define GUEST_MAX   (1U << 20)
#define CONSOLE_MAX ((size_t)1 << 20)

/* How log.h begins what vmm-proc.c logs of the monitor, and the agent its lines. */
#define MONITOR_MARK "level=info msg=\"monitor\" line="
#define AGENT_MARK   "podvm-agent: "

static int add(struct machine_log *log, uint64_t time_ns, const char *source, const char *text,
	       size_t len)
{
	struct log_entry *v = reallocarray(log->v, log->n + 1, sizeof(*v));
	char *copy = strndup(text, len);

	if (v)
		log->v = v;
	if (!v || !copy) {
		free(copy);
		return -ENOMEM;
	}
	v[log->n] = (struct log_entry){ time_ns, log->n, source, copy };
	log->n++;
	return 0;
}

/* ---- the shim ---- */

/* "2026-11-21T10:00:00.123Z", or 0 */
static uint64_t parse_time(const char *text)
{
	struct tm tm = { 0 };
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	unsigned int ms;

	if (!rest || sscanf(rest, ".%3uZ", &ms) != 1)
		return 0;
	return (uint64_t)timegm(&tm) * 1000000000 + (uint64_t)ms * 1000000;
}

int machine_log_add_shim(struct machine_log *log, const char *line, size_t len)
{
	static const char prefix[] = "time=\"";
	_cleanup_(freep) char *copy = strndup(line, len);
	uint64_t ns;
	char *text;

	if (!copy)
		return -ENOMEM;
	text = str_starts(copy, prefix) ? strstr(copy, "\" ") : NULL;
	ns = text ? parse_time(copy + strlen(prefix)) : 0;
	/* The disk was full in the middle of a line. */
	if (!ns)
		return 0;
	text += strlen("\" ");
	if (!str_starts(text, MONITOR_MARK))
		return add(log, ns, "shim", text, strlen(text));
	text += strlen(MONITOR_MARK);
	return add(log, ns, "monitor", text, strlen(text));
}

static int on_shim_line(void *data, char *line, size_t len)
{
	return machine_log_add_shim(data, line, len);
}

static int read_shim(const struct target *t, struct machine_log *log)
{
	struct log_reader *reader;
	int r = log_reader_new(t->rd.fd, "shim.log", &reader);

	if (r < 0)
		return r;
	r = log_reader_read(reader, on_shim_line, log);
	log_reader_free(reader);
	return r;
}

/* ---- the guest ---- */

/* Time of "[   12.345678] text" after the kernel's begin, in @ret; the text after it, or NULL. */
static const char *guest_time(const char *line, const char *end, uint64_t *ret)
{
	const char *close = *line == '[' ? memchr(line, ']', (size_t)(end - line)) : NULL;
	unsigned long long s;
	unsigned long long us;
	char stamp[32];

	if (!close || (size_t)(close - line) >= sizeof(stamp))
		return NULL;
	memcpy(stamp, line, (size_t)(close - line));
	stamp[close - line] = '\0';
	if (sscanf(stamp, "[ %10llu.%6llu", &s, &us) != 2)
		return NULL;
	*ret = s * 1000000000 + us * 1000;
	return close + 1 < end && close[1] == ' ' ? close + 2 : close + 1;
}

int machine_log_add_guest(struct machine_log *log, uint64_t booted_ns, const char *text, size_t len)
{
	const char *end = text + len;
	uint64_t since = 0;
	int r = 0;

	while (text < end && r == 0) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		const char *stop = nl ? nl : end;
		const char *line = guest_time(text, stop, &since);
		const char *source = "kernel";

		line = line ? line : text;
		text = nl ? nl + 1 : end;
		while (stop > line && stop[-1] == '\r')
			stop--;
		if (stop == line)
			continue;
		if ((size_t)(stop - line) > strlen(AGENT_MARK) &&
		    memcmp(line, AGENT_MARK, strlen(AGENT_MARK)) == 0) {
			source = "agent";
			line += strlen(AGENT_MARK);
		}
		r = add(log, booted_ns + since, source, line, (size_t)(stop - line));
	}
	return r;
}

static int read_console(const struct target *t, uint64_t booted_ns, struct machine_log *log)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r = file_read(t->rd.fd, "console.log", CONSOLE_MAX, &text, &len);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	return machine_log_add_guest(log, booted_ns, text, len);
}

static int read_guest(const struct target *t, struct machine_log *log)
{
	Podvm__Agent__V1__GetLogRequest req = PODVM__AGENT__V1__GET_LOG_REQUEST__INIT;
	const Podvm__Agent__V1__GetLogResponse *resp;
	uint64_t booted_ns = t->st.booted_ns ? t->st.booted_ns : t->st.created_ns;
	ProtobufCMessage *msg;
	int r;

	req.max = GUEST_MAX;
	if (!target_running(t) || target_call(t, "GetLog", &req.base, &msg, NULL) < 0)
		return read_console(t, booted_ns, log);
	resp = (const void *)msg;
	r = machine_log_add_guest(log, booted_ns, (const char *)resp->text.data, resp->text.len);
	protobuf_c_message_free_unpacked(msg, NULL);
	return r;
}

/* ---- all of it ---- */

static int by_time(const void *a, const void *b)
{
	const struct log_entry *x = a;
	const struct log_entry *y = b;

	if (x->time_ns != y->time_ns)
		return x->time_ns < y->time_ns ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

void machine_log_sort(struct machine_log *log)
{
	if (log->n > 1)
		qsort(log->v, log->n, sizeof(*log->v), by_time);
}

int machine_log_read(const struct target *t, struct machine_log *ret, struct err *e)
{
	int r = read_shim(t, ret);

	if (r == 0)
		r = read_guest(t, ret);
	if (r < 0)
		return err_errno(e, r, "cannot read the logs of %s", t->what);
	machine_log_sort(ret);
	return 0;
}

void machine_log_print(const struct machine_log *log, int64_t tail)
{
	size_t first = tail >= 0 && (uint64_t)tail < log->n ? log->n - (size_t)tail : 0;

	for (size_t i = first; i < log->n; i++) {
		const struct log_entry *entry = &log->v[i];

		cli_print_time(stdout, entry->time_ns);
		printf(" %-7s ", entry->source);
		cli_printable(entry->text, (int)strlen(entry->text));
		putchar('\n');
	}
}

void machine_log_done(struct machine_log *log)
{
	for (size_t i = 0; i < log->n; i++)
		free(log->v[i].text);
	free(log->v);
	*log = (struct machine_log){ 0 };
}
