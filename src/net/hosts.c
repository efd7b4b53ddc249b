/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's /etc/hosts, and the names that a user may give. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <sys/random.h>

#include "base/log.h"
#include "net/net.h"

#define HOSTNAME_MAX 64 /* the kernel's HOST_NAME_MAX */
#define NAME_MAX_LEN 253
#define LABEL_MAX    63

void net_config_done(struct net_config *c)
{
	net_dns_done(&c->dns);
	c->n_interfaces = 0;
	c->n_routes = 0;
	c->n_neighbors = 0;
}

int net_mac_random(char mac[static 18])
{
	uint8_t b[6];

	if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b))
		return -EIO;
	b[0] = (uint8_t)((b[0] & 0xfc) | 0x02); /* locally administered, unicast */
	snprintf(mac, 18, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
	return 0;
}

/* Labels of letters, digits and inner dashes, separated by dots: RFC 1123, section 2.1. */
static bool is_name(const char *s, size_t n, size_t max)
{
	size_t label = 0;

	if (n == 0 || n > max)
		return false;
	for (size_t i = 0; i < n; i++) {
		bool dash = s[i] == '-';

		if (s[i] == '.') {
			if (label == 0 || s[i - 1] == '-')
				return false;
			label = 0;
			continue;
		}
		if ((!dash && !isalnum((unsigned char)s[i])) || (dash && label == 0) ||
		    ++label > LABEL_MAX)
			return false;
	}
	return label > 0 && s[n - 1] != '-';
}

int net_hostname_check(const char *hostname, struct err *e)
{
	char quoted[128];

	if (is_name(hostname, strlen(hostname), HOSTNAME_MAX))
		return 0;
	err_set(e, -EINVAL, "%s is not a host name", log_quote(quoted, sizeof(quoted), hostname));
	err_hint(e,
		 "It has at most %d letters, digits, dashes and dots, and at most %d between two "
		 "dots.",
		 HOSTNAME_MAX, LABEL_MAX);
	return -EINVAL;
}

/* "NAME:IP" or "NAME:[IP6]": the address without brackets. Return: Length of the name or -EINVAL */
static int split_entry(const char *entry, char address[static NET_ADDR_LEN])
{
	unsigned char addr[sizeof(struct in6_addr)];
	const char *colon = strchr(entry, ':');
	size_t len;

	if (!colon || !is_name(entry, (size_t)(colon - entry), NAME_MAX_LEN))
		return -EINVAL;
	len = strlen(++colon);
	if (len > 2 && *colon == '[' && colon[len - 1] == ']') {
		colon++;
		len -= 2;
	}
	if (len >= NET_ADDR_LEN)
		return -EINVAL;
	memcpy(address, colon, len);
	address[len] = '\0';
	if (inet_pton(AF_INET, address, addr) != 1 && inet_pton(AF_INET6, address, addr) != 1)
		return -EINVAL;
	return (int)(strchr(entry, ':') - entry);
}

int net_host_entry_check(const char *entry, struct err *e)
{
	char address[NET_ADDR_LEN];
	char quoted[128];

	if (split_entry(entry, address) >= 0)
		return 0;
	return err_set(e, -EINVAL, "%s is not of the form NAME:IP",
		       log_quote(quoted, sizeof(quoted), entry));
}

/* The host name at every address of the guest. Return: how many lines, or a negative errno */
static int own_lines(const char *hostname, const struct net_config *config, struct buf *out)
{
	int lines = 0;

	for (size_t i = 0; i < config->n_interfaces; i++) {
		const struct net_interface *nic = &config->interfaces[i];

		for (size_t a = 0; a < nic->n_addresses; a++) {
			int r = buf_printf(out, "%.*s\t%s\n", (int)strcspn(nic->addresses[a], "/"),
					   nic->addresses[a], hostname);

			if (r < 0)
				return r;
			lines++;
		}
	}
	return lines;
}

int net_hosts_text(const char *hostname, const struct net_config *config, char *const *extra,
		   struct buf *out)
{
	char address[NET_ADDR_LEN];
	int r = 0;
	int n;

	for (; r == 0 && extra && *extra; extra++) {
		n = split_entry(*extra, address);
		r = n < 0 ? n : buf_printf(out, "%s\t%.*s\n", address, n, *extra);
	}
	if (r == 0)
		r = buf_printf(out, "127.0.0.1\tlocalhost localhost.localdomain\n"
				    "::1\tlocalhost localhost.localdomain ip6-localhost\n");
	if (r < 0)
		return r;
	r = own_lines(hostname, config, out);
	if (r == 0) /* the loopback address that Debian uses for a name without another one */
		r = buf_printf(out, "127.0.1.1\t%s\n", hostname);
	return r < 0 ? r : 0;
}
