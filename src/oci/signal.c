/* SPDX-License-Identifier: Apache-2.0 */

/* Names of signals, with the numbers that they have on Linux (the same on x86 and Arm). */

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "oci/spec.h"

/* glibc and musl keep some real-time signals for themselves; images mean glibc's numbers. */
#define RT_MIN 34
#define RT_MAX 64

static const char *const names[] = {
	[SIGHUP] = "SIGHUP",	   [SIGINT] = "SIGINT",	      [SIGQUIT] = "SIGQUIT",
	[SIGILL] = "SIGILL",	   [SIGTRAP] = "SIGTRAP",     [SIGABRT] = "SIGABRT",
	[SIGBUS] = "SIGBUS",	   [SIGFPE] = "SIGFPE",	      [SIGKILL] = "SIGKILL",
	[SIGUSR1] = "SIGUSR1",	   [SIGSEGV] = "SIGSEGV",     [SIGUSR2] = "SIGUSR2",
	[SIGPIPE] = "SIGPIPE",	   [SIGALRM] = "SIGALRM",     [SIGTERM] = "SIGTERM",
	[SIGSTKFLT] = "SIGSTKFLT", [SIGCHLD] = "SIGCHLD",     [SIGCONT] = "SIGCONT",
	[SIGSTOP] = "SIGSTOP",	   [SIGTSTP] = "SIGTSTP",     [SIGTTIN] = "SIGTTIN",
	[SIGTTOU] = "SIGTTOU",	   [SIGURG] = "SIGURG",	      [SIGXCPU] = "SIGXCPU",
	[SIGXFSZ] = "SIGXFSZ",	   [SIGVTALRM] = "SIGVTALRM", [SIGPROF] = "SIGPROF",
	[SIGWINCH] = "SIGWINCH",   [SIGIO] = "SIGIO",	      [SIGPWR] = "SIGPWR",
	[SIGSYS] = "SIGSYS",
};

static const struct {
	const char *name;
	int signum;
} aliases[] = { { "IOT", SIGABRT }, { "CLD", SIGCHLD }, { "POLL", SIGIO } };

/* RTMIN, RTMIN+n, RTMAX, RTMAX-n */
static int parse_realtime(const char *s)
{
	bool from_max = strncasecmp(s, "RTMAX", 5) == 0;
	uint64_t n;

	if (!from_max && strncasecmp(s, "RTMIN", 5) != 0)
		return -EINVAL;
	s += 5;
	if (!*s)
		return from_max ? RT_MAX : RT_MIN;
	if (*s != (from_max ? '-' : '+') || parse_u64(s + 1, RT_MAX - RT_MIN, &n) < 0)
		return -EINVAL;
	return from_max ? RT_MAX - (int)n : RT_MIN + (int)n;
}

int oci_signal_parse(const char *text)
{
	uint64_t n;

	if (isdigit((unsigned char)*text))
		return parse_u64(text, RT_MAX, &n) == 0 && n > 0 ? (int)n : -EINVAL;
	if (strncasecmp(text, "SIG", 3) == 0)
		text += 3;
	for (size_t i = 1; i < ARRAY_SIZE(names); i++)
		if (names[i] && strcasecmp(text, names[i] + 3) == 0)
			return (int)i;
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++)
		if (strcasecmp(text, aliases[i].name) == 0)
			return aliases[i].signum;
	return parse_realtime(text);
}

const char *oci_signal_name(int signum)
{
	return signum > 0 && signum < (int)ARRAY_SIZE(names) ? names[signum] : NULL;
}
