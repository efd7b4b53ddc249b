/* SPDX-License-Identifier: Apache-2.0 */
/* User mode: which addresses there are, what the guest is told, and how passt is called. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include "net/internal.h"

#define SUBNET	    "10.0.2.0/24"
#define SUBNET6	    "fd2e:70d6:7a3c:1::/64" /* of the random kind of RFC 4193 */
#define HOST_GW	    2
#define HOST_DNS    3
#define HOST_GUEST  15
#define HOST_GUEST6 0x15 /* so that the address ends in "::15" */
#define MTU	    65520
#define NIC	    "eth0"

/* Cuts "ADDRESS/LENGTH" apart. */
static int parse_subnet(const char *text, int family, unsigned int min, unsigned int max,
			void *ret_addr, unsigned int *ret_prefix, struct err *e)
{
	const char *slash = strchr(text, '/');
	char addr[NET_ADDR_LEN];
	uint64_t prefix;

	if (slash && (size_t)(slash - text) < sizeof(addr)) {
		memcpy(addr, text, (size_t)(slash - text));
		addr[slash - text] = '\0';
		if (inet_pton(family, addr, ret_addr) == 1 &&
		    parse_u64(slash + 1, max, &prefix) == 0 && prefix >= min) {
			*ret_prefix = (unsigned int)prefix;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "\"%s\" is not a network for the user mode", text);
}

static struct in_addr host4(struct in_addr net, unsigned int prefix, uint32_t host)
{
	uint32_t mask = UINT32_MAX << (32 - prefix);

	return (struct in_addr){ htonl((ntohl(net.s_addr) & mask) | host) };
}

/* In a /64. */
static struct in6_addr host6(struct in6_addr net, uint8_t host)
{
	memset(net.s6_addr + 8, 0, 8);
	net.s6_addr[15] = host;
	return net;
}

static int plan_addresses(const struct net_user_options *o, struct net_user_plan *plan,
			  struct err *e)
{
	struct in6_addr net6;
	struct in_addr net;
	unsigned int bits;
	int r;

	r = parse_subnet(o->subnet ? o->subnet : SUBNET, AF_INET, 8, 27, &net, &plan->prefix, e);
	if (r < 0)
		return r;
	r = parse_subnet(o->subnet6 ? o->subnet6 : SUBNET6, AF_INET6, 64, 64, &net6, &bits, e);
	if (r < 0)
		return r;
	plan->guest = host4(net, plan->prefix, HOST_GUEST);
	plan->gateway = host4(net, plan->prefix, HOST_GW);
	plan->forward = host4(net, plan->prefix, HOST_DNS);
	plan->guest6 = host6(net6, HOST_GUEST6);
	plan->gateway6 = host6(net6, HOST_GW);
	plan->forward6 = host6(net6, HOST_DNS);
	r = net_mac_random(plan->mac);
	if (r == 0)
		r = net_mac_random(plan->peer_mac);
	return r < 0 ? err_errno(e, r, "cannot make a MAC address") : 0;
}

static void plan_interface(const struct net_user_plan *plan, struct net_config *config)
{
	struct net_interface *nic = &config->interfaces[config->n_interfaces++];
	char text[NET_ADDR_LEN];

	*nic = (struct net_interface){ .name = NIC, .mtu = plan->mtu, .n_addresses = 1 };
	memcpy(nic->mac, plan->mac, sizeof(nic->mac));
	inet_ntop(AF_INET, &plan->guest, text, sizeof(text));
	snprintf(nic->addresses[0], sizeof(nic->addresses[0]), "%s/%u", text, plan->prefix);
	if (!plan->ipv6)
		return;
	inet_ntop(AF_INET6, &plan->guest6, text, sizeof(text));
	snprintf(nic->addresses[nic->n_addresses++], sizeof(nic->addresses[0]), "%s/64", text);
}

/* A default route, for a family that the host has one for. */
static void plan_route(struct net_config *config, const char *destination, int family,
		       const void *gateway)
{
	struct net_route *route = &config->routes[config->n_routes++];

	*route = (struct net_route){ .device = NIC };
	snprintf(route->destination, sizeof(route->destination), "%s", destination);
	inet_ntop(family, gateway, route->gateway, sizeof(route->gateway));
}

/*
 * Which of the host's servers the guest can ask. When there are none but loopback ones, an address
 * of the guest's network stands for the first: passt forwards queries to the first server of the
 * host's resolv.conf that is of the same family.
 */
static void plan_servers(struct net_user_plan *plan, const struct net_dns *host,
			 struct net_dns *dns)
{
	bool local = false;
	bool local6 = false;

	for (size_t i = 0; i < host->n_servers; i++) {
		const char *server = host->servers[i];
		bool v6 = strchr(server, ':') != NULL;

		if (net_dns_is_loopback(server)) {
			local = local || !v6;
			local6 = local6 || v6;
		} else if ((!v6 || plan->ipv6) && !str_starts(server, "fe80:")) {
			memcpy(dns->servers[dns->n_servers++], server, NET_ADDR_LEN);
		}
	}
	if (dns->n_servers > 0)
		return;
	plan->forward_dns = local;
	plan->forward_dns6 = !local && local6 && plan->ipv6;
	if (plan->forward_dns)
		inet_ntop(AF_INET, &plan->forward, dns->servers[dns->n_servers++], NET_ADDR_LEN);
	else if (plan->forward_dns6)
		inet_ntop(AF_INET6, &plan->forward6, dns->servers[dns->n_servers++], NET_ADDR_LEN);
}

static int plan_dns(const struct net_user_options *o, struct net_user_plan *plan,
		    const struct net_dns *host, struct net_dns *dns)
{
	int r = 0;

	if (o->dns)
		r = net_dns_merge(dns, o->dns);
	if (r == 0 && dns->n_servers == 0)
		plan_servers(plan, host, dns);
	if (r == 0 && (dns->search.n == 0 || dns->options.n == 0)) {
		size_t n = dns->n_servers; /* decided above, also when there are none */

		r = net_dns_merge(dns, host);
		dns->n_servers = n;
	}
	return r;
}

int net_user_plan(const struct net_user_options *options, const struct net_host *host,
		  const struct net_dns *host_dns, struct net_user_plan *plan,
		  struct net_config *config, struct err *e)
{
	int r;

	*plan = (struct net_user_plan){
		.host = *host,
		.ipv6 = *host->v6 != '\0',
		.mtu = options->mtu ? options->mtu : MTU,
	};
	r = plan_addresses(options, plan, e);
	if (r < 0)
		return r;
	plan_interface(plan, config);
	if (*host->v4)
		plan_route(config, "0.0.0.0/0", AF_INET, &plan->gateway);
	if (plan->ipv6)
		plan_route(config, "::/0", AF_INET6, &plan->gateway6);
	return plan_dns(options, plan, host_dns, &config->dns) < 0 ? err_oom(e) : 0;
}

/* Two options with an address each. */
static int add_addresses(struct strv *argv, int family, const void *guest, const void *gateway,
			 bool forward_dns, const void *forward)
{
	char text[3][NET_ADDR_LEN];
	int r;

	inet_ntop(family, guest, text[0], NET_ADDR_LEN);
	inet_ntop(family, gateway, text[1], NET_ADDR_LEN);
	inet_ntop(family, forward, text[2], NET_ADDR_LEN);
	r = strv_add_all(argv, "-a", text[0], "-g", text[1], NULL);
	if (r == 0 && forward_dns)
		r = strv_add_all(argv, "--dns-forward", text[2], NULL);
	return r;
}

/* passt's "[ADDRESS/]FIRST-LAST:FIRST-LAST". */
static int add_port(struct strv *argv, const struct net_port *p)
{
	unsigned int last = p->count - 1U;
	int r = strv_add(argv, p->proto == NET_TCP ? "-t" : "-u");

	return r < 0 ? r
		     : strv_addf(argv, "%s%s%u-%u:%u-%u", p->address, *p->address ? "/" : "",
				 p->host, p->host + last, p->guest, p->guest + last);
}

/* Without a default route passt takes no interface by itself; any one makes it serve. */
static int add_families(struct strv *argv, const struct net_user_plan *plan)
{
	int r = plan->ipv6 ? 0 : strv_add(argv, "-4");

	if (r == 0 && !*plan->host.v4)
		r = strv_add_all(argv, "-i", plan->ipv6 ? plan->host.v6 : "lo", NULL);
	return r;
}

int net_user_argv(const struct net_user_options *o, const struct net_user_plan *plan, int fd,
		  struct strv *argv)
{
	int r;

	r = strv_add_all(argv, "passt", "--foreground", "--quiet", "--no-map-gw", "--no-dhcp",
			 "--no-dhcpv6", "--no-ra", "--mac-addr", plan->peer_mac, "--fd", NULL);
	if (r == 0)
		r = strv_addf(argv, "%d", fd);
	if (r == 0)
		r = strv_add(argv, "--mtu");
	if (r == 0)
		r = strv_addf(argv, "%u", plan->mtu);
	if (r == 0)
		r = add_families(argv, plan);
	if (r == 0)
		r = add_addresses(argv, AF_INET, &plan->guest, &plan->gateway, plan->forward_dns,
				  &plan->forward);
	if (r == 0)
		r = strv_add(argv, "--netmask");
	if (r == 0)
		r = strv_addf(argv, "%u", plan->prefix);
	if (r == 0 && plan->ipv6)
		r = add_addresses(argv, AF_INET6, &plan->guest6, &plan->gateway6,
				  plan->forward_dns6, &plan->forward6);
	for (size_t i = 0; i < o->n_ports && r == 0; i++)
		r = add_port(argv, &o->ports[i]);
	return r;
}
