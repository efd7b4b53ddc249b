/* SPDX-License-Identifier: Apache-2.0 */
/* Published ports: what a user gives to -p, and whether the host's ports are free. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "net/internal.h"
#include "net/net.h"

#define SPEC_MAX 128

static const char *proto_name(enum net_proto proto)
{
	return proto == NET_TCP ? "tcp" : "udp";
}

static int bad_spec(const char *spec, const char *why, struct err *e)
{
	char quoted[SPEC_MAX + 32];

	err_set(e, -EINVAL, "cannot publish %s: %s", log_quote(quoted, sizeof(quoted), spec), why);
	err_hint(e, "Ports are given as [IP:]HOST:GUEST[/udp], for example 8080:80 or "
		    "127.0.0.1:8000-8010:8000-8010.");
	return -EINVAL;
}

/* "80" or "80-90": first port and how many. */
static int parse_range(char *text, uint16_t *first, uint16_t *count)
{
	char *dash = strchr(text, '-');
	uint64_t a;
	uint64_t b;

	if (dash)
		*dash++ = '\0';
	if (parse_u64(text, UINT16_MAX, &a) < 0 || a == 0)
		return -EINVAL;
	b = a;
	if (dash && (parse_u64(dash, UINT16_MAX, &b) < 0 || b < a))
		return -EINVAL;
	*first = (uint16_t)a;
	*count = (uint16_t)(b - a + 1);
	return 0;
}

/* Cuts "/tcp" or "/udp" off. */
static int parse_proto(char *text, enum net_proto *ret)
{
	char *slash = strrchr(text, '/');

	*ret = NET_TCP;
	if (!slash)
		return 0;
	*slash++ = '\0';
	if (str_eq(slash, "udp"))
		*ret = NET_UDP;
	else if (!str_eq(slash, "tcp"))
		return -EINVAL;
	return 0;
}

/* Cuts "IP:" or "[IP6]:" off: returns the rest, or NULL when it is no address. */
static char *parse_address(char *text, char address[static NET_ADDR_LEN])
{
	unsigned char addr[sizeof(struct in6_addr)];
	char *first = strchr(text, ':');
	int family = AF_INET;
	char *end;

	*address = '\0';
	if (*text == '[') {
		family = AF_INET6;
		text++;
		end = strchr(text, ']');
		if (!end || end[1] != ':')
			return NULL;
		*end++ = '\0';
	} else if (first && strchr(first + 1, ':')) {
		end = first;
	} else {
		return text;
	}
	*end++ = '\0';
	if (inet_pton(family, text, addr) != 1)
		return NULL;
	inet_ntop(family, addr, address, NET_ADDR_LEN);
	return end;
}

int net_port_parse(const char *spec, struct net_port *ret, struct err *e)
{
	struct net_port port = { .address = "" };
	char text[SPEC_MAX];
	uint16_t guest_count;
	char *host;
	char *guest;

	if (strlen(spec) >= sizeof(text))
		return bad_spec(spec, "it is too long", e);
	strcpy(text, spec);
	if (parse_proto(text, &port.proto) < 0)
		return bad_spec(spec, "the protocol is neither tcp nor udp", e);
	host = parse_address(text, port.address);
	if (!host)
		return bad_spec(spec, "the address is not an IP address", e);
	guest = strchr(host, ':');
	if (!guest)
		return bad_spec(spec, "the port of the host is missing", e);
	*guest++ = '\0';
	if (parse_range(host, &port.host, &port.count) < 0)
		return bad_spec(spec, "the port of the host must be a number from 1 to 65535", e);
	if (parse_range(guest, &port.guest, &guest_count) < 0)
		return bad_spec(spec, "the port of the guest must be a number from 1 to 65535", e);
	if (port.count != guest_count)
		return bad_spec(spec, "the ranges of host and guest differ in length", e);
	*ret = port;
	return 0;
}

int net_ports_check(const struct net_port *ports, size_t n, struct err *e)
{
	size_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		sum += ports[i].count;
		for (size_t j = 0; j < i; j++) {
			uint16_t port = MAX(ports[i].host, ports[j].host);

			if (ports[i].proto != ports[j].proto ||
			    port >= ports[i].host + ports[i].count ||
			    port >= ports[j].host + ports[j].count)
				continue;
			err_set(e, -EINVAL, "port %u/%s of the host is published twice", port,
				proto_name(ports[i].proto));
			err_hint(e, "A port can be published once, on one address or on all.");
			return -EINVAL;
		}
	}
	if (sum > NET_MAX_PORTS)
		return err_set(e, -EINVAL, "%zu ports are published, more than %d", sum,
			       NET_MAX_PORTS);
	return 0;
}

/* Binds a port as passt will and lets go of it. Return: 0 or a negative errno */
static int try_bind(int family, const struct net_port *p, uint16_t port)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	_cleanup_(close_fdp) int fd = -EBADF;
	const struct sockaddr *sa;
	int one = 1;

	fd = socket(family, (p->proto == NET_TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (*p->address)
		inet_pton(family, p->address,
			  family == AF_INET ? (void *)&in.sin_addr : (void *)&in6.sin6_addr);
	/* What still lingers in TIME_WAIT is no obstacle; two UDP sockets would share the port. */
	if (p->proto == NET_TCP)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	sa = family == AF_INET ? (struct sockaddr *)&in : (struct sockaddr *)&in6;
	if (bind(fd, sa, family == AF_INET ? sizeof(in) : sizeof(in6)) < 0)
		return -errno;
	return 0;
}

static int port_error(const struct net_port *p, uint16_t port, int r, struct err *e)
{
	const char *proto = proto_name(p->proto);

	switch (-r) {
	case EADDRINUSE:
		err_set(e, r, "port %u/%s of the host is in use", port, proto);
		err_hint(e,
			 "See who uses it with: ss -lnp%c 'sport = :%u', or publish another one.",
			 *proto, port);
		return r;
	case EADDRNOTAVAIL:
		return err_set(e, r, "cannot publish port %u/%s: %s is not an address of this host",
			       port, proto, p->address);
	case EACCES:
		err_set(e, r, "not allowed to use port %u/%s of the host", port, proto);
		err_hint(e, "Ports below 1024 are for root, or for all from the sysctl "
			    "net.ipv4.ip_unprivileged_port_start on.");
		return r;
	default:
		return err_errno(e, r, "cannot use port %u/%s of the host", port, proto);
	}
}

static int port_free(const struct net_port *p, uint16_t port)
{
	bool v6 = strchr(p->address, ':') != NULL;
	int r = 0;

	if (!*p->address || !v6)
		r = try_bind(AF_INET, p, port);
	if (r == 0 && (!*p->address || v6)) {
		r = try_bind(AF_INET6, p, port);
		/* A host without IPv6. */
		if (!*p->address && (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL))
			r = 0;
	}
	return r;
}

int net_ports_free(const struct net_port *ports, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		for (unsigned int k = 0; k < ports[i].count; k++) {
			uint16_t port = (uint16_t)(ports[i].host + k);
			int r = port_free(&ports[i], port);

			if (r < 0)
				return port_error(&ports[i], port, r, e);
		}
	}
	return 0;
}
