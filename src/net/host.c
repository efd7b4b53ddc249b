/* SPDX-License-Identifier: Apache-2.0 */
/* What the host's routing tables say, by proc_net(5). */
#include <fcntl.h>
#include <net/route.h>
#include <stdio.h>

#include "base/fd.h"
#include "net/internal.h"

#define ROUTES_MAX ((size_t)4 << 20)

/* Iface Destination Gateway Flags RefCnt Use Metric Mask ... */
static bool route_line(const char *line, char name[static 16])
{
	unsigned int dest;
	unsigned int flags;
	unsigned int mask;

	return sscanf(line, "%15s %x %*x %x %*u %*u %*u %x", name, &dest, &flags, &mask) == 4 &&
	       dest == 0 && mask == 0 && (flags & RTF_UP) && !(flags & RTF_REJECT);
}

/* Destination Length Source Length Gateway Metric RefCnt Use Flags Iface */
static bool route6_line(const char *line, char name[static 16])
{
	char dest[33];
	unsigned int len;
	unsigned int flags;

	return sscanf(line, "%32s %x %*s %*x %*s %*x %*x %*x %x %15s", dest, &len, &flags, name) ==
		       4 &&
	       len == 0 && strspn(dest, "0") == 32 && (flags & RTF_UP) && !(flags & RTF_REJECT) &&
	       !str_eq(name, "lo");
}

static void first_default(const char *text, bool (*parse)(const char *, char *),
			  char name[static 16])
{
	while (text && *text) {
		const char *nl = strchr(text, '\n');

		if (parse(text, name))
			return;
		text = nl ? nl + 1 : NULL;
	}
	*name = '\0';
}

void net_host_parse(const char *route, const char *ipv6_route, struct net_host *ret)
{
	first_default(route, route_line, ret->v4);
	first_default(ipv6_route, route6_line, ret->v6);
}

void net_host_read(struct net_host *ret)
{
	_cleanup_(freep) char *route = NULL;
	_cleanup_(freep) char *route6 = NULL;

	(void)file_read(AT_FDCWD, "/proc/net/route", ROUTES_MAX, &route, NULL);
	(void)file_read(AT_FDCWD, "/proc/net/ipv6_route", ROUTES_MAX, &route6, NULL);
	net_host_parse(route, route6, ret);
}
