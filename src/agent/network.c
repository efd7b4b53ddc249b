/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <stdio.h>
#include <string.h>

#include "agent/sysctl.h"
#include "base/cleanup.h"
#include "base/str.h"

#define MTU_MAX 65535

/* A device as the kernel lists it. */
struct link {
	uint32_t index;
	char name[IFNAMSIZ];
	uint8_t mac[6];
	bool has_mac;
};

#define LINKS_MAX 64

struct link_list {
	struct link v[LINKS_MAX];
	size_t n;
};

int ip_parse(const char *text, struct ip_prefix *ret)
{
	char address[INET6_ADDRSTRLEN];
	size_t n = strcspn(text, "/");
	uint64_t length;

	if (n >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, n);
	address[n] = '\0';
	memset(ret, 0, sizeof(*ret));
	ret->family = strchr(address, ':') ? AF_INET6 : AF_INET;
	ret->size = ret->family == AF_INET6 ? 16 : 4;
	if (inet_pton(ret->family, address, ret->bytes) != 1)
		return -EINVAL;
	length = ret->size * 8;
	if (text[n] && parse_u64(text + n + 1, length, &length) < 0)
		return -EINVAL;
	ret->length = (uint8_t)length;
	return 0;
}

int mac_parse(const char *text, uint8_t ret[6])
{
	unsigned int b[6];
	int n = 0;

	if (strlen(text) != 17 ||
	    sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &n) != 6 ||
	    n != 17)
		return -EINVAL;
	for (int i = 0; i < 6; i++)
		ret[i] = (uint8_t)b[i];
	return 0;
}

static bool name_valid(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n < IFNAMSIZ && !strpbrk(name, "/: \t\n%") && name[0] != '.';
}

/* ---- building messages ---- */

int network_build_address(struct nl_request *req, uint32_t index, const char *address,
			  bool no_prefix_route)
{
	struct ifaddrmsg h = { .ifa_index = index };
	uint32_t flags = no_prefix_route ? IFA_F_NOPREFIXROUTE : 0;
	struct ip_prefix ip;
	uint32_t broadcast;

	if (ip_parse(address, &ip) < 0)
		return -EINVAL;
	h.ifa_family = ip.family;
	h.ifa_prefixlen = ip.length;
	nl_start(req, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &h, sizeof(h));
	nl_attr(req, IFA_LOCAL, ip.bytes, ip.size);
	nl_attr(req, IFA_ADDRESS, ip.bytes, ip.size);
	if (ip.family == AF_INET6) {
		/* The host has made sure that it's ours: usable at once. */
		flags |= IFA_F_NODAD;
	} else if (ip.length < 31) {
		memcpy(&broadcast, ip.bytes, sizeof(broadcast));
		broadcast |= htonl(UINT32_MAX >> ip.length);
		nl_attr(req, IFA_BROADCAST, &broadcast, sizeof(broadcast));
	}
	nl_attr_u32(req, IFA_FLAGS, flags);
	return 0;
}

static void route_metrics(struct nl_request *req, const Podvm__Agent__V1__Route *r)
{
	size_t nest = nl_nest(req, RTA_METRICS);

	if (r->mtu)
		nl_attr_u32(req, RTAX_MTU, r->mtu);
	if (r->advmss)
		nl_attr_u32(req, RTAX_ADVMSS, r->advmss);
	nl_nest_end(req, nest);
}

static bool route_has_device(const Podvm__Agent__V1__Route *r)
{
	return r->type == RTN_UNSPEC || r->type == RTN_UNICAST;
}

static bool route_type_valid(const Podvm__Agent__V1__Route *r)
{
	return route_has_device(r) || r->type == RTN_BLACKHOLE || r->type == RTN_UNREACHABLE ||
	       r->type == RTN_PROHIBIT;
}

int network_build_route(struct nl_request *req, uint32_t index, const Podvm__Agent__V1__Route *r)
{
	struct rtmsg h = {
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = (uint8_t)r->scope,
		.rtm_type = r->type ? (uint8_t)r->type : RTN_UNICAST,
		.rtm_flags = r->onlink ? RTNH_F_ONLINK : 0,
	};
	struct ip_prefix to;
	struct ip_prefix via;
	struct ip_prefix from;

	if (ip_parse(r->destination, &to) < 0 || r->scope > RT_SCOPE_NOWHERE ||
	    !route_type_valid(r))
		return -EINVAL;
	if (*r->gateway && (ip_parse(r->gateway, &via) < 0 || via.family != to.family))
		return -EINVAL;
	if (*r->source && (ip_parse(r->source, &from) < 0 || from.family != to.family))
		return -EINVAL;
	h.rtm_family = to.family;
	h.rtm_dst_len = to.length;
	nl_start(req, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &h, sizeof(h));
	if (to.length > 0)
		nl_attr(req, RTA_DST, to.bytes, to.size);
	if (*r->gateway)
		nl_attr(req, RTA_GATEWAY, via.bytes, via.size);
	if (*r->source)
		nl_attr(req, RTA_PREFSRC, from.bytes, from.size);
	if (route_has_device(r))
		nl_attr_u32(req, RTA_OIF, index);
	if (r->metric)
		nl_attr_u32(req, RTA_PRIORITY, r->metric);
	if (r->mtu || r->advmss)
		route_metrics(req, r);
	return 0;
}

/* ---- devices ---- */

static void collect_link(void *data, const struct nlmsghdr *msg)
{
	struct link_list *list = data;
	struct link *l = &list->v[list->n];
	const struct ifinfomsg *h = NLMSG_DATA(msg);
	const void *p;
	size_t size;

	if (msg->nlmsg_type != RTM_NEWLINK || msg->nlmsg_len < NLMSG_LENGTH(sizeof(*h)) ||
	    list->n == LINKS_MAX)
		return;
	memset(l, 0, sizeof(*l));
	l->index = (uint32_t)h->ifi_index;
	p = nl_find(msg, sizeof(*h), IFLA_IFNAME, &size);
	if (!p)
		return;
	memcpy(l->name, p, MIN(size, sizeof(l->name) - 1));
	p = nl_find(msg, sizeof(*h), IFLA_ADDRESS, &size);
	if (p && size == sizeof(l->mac)) {
		memcpy(l->mac, p, size);
		l->has_mac = true;
	}
	list->n++;
}

static int list_links(int fd, struct link_list *list)
{
	struct ifinfomsg h = { .ifi_family = AF_UNSPEC };
	struct nl_request req;

	list->n = 0;
	nl_start(&req, RTM_GETLINK, NLM_F_DUMP, &h, sizeof(h));
	return nl_call(fd, &req, collect_link, list);
}

static struct link *find_by_mac(struct link_list *list, const uint8_t mac[6])
{
	for (size_t i = 0; i < list->n; i++)
		if (list->v[i].has_mac && memcmp(list->v[i].mac, mac, 6) == 0)
			return &list->v[i];
	return NULL;
}

static struct link *find_by_name(struct link_list *list, const char *name)
{
	for (size_t i = 0; i < list->n; i++)
		if (str_eq(list->v[i].name, name))
			return &list->v[i];
	return NULL;
}

static int set_mac(int fd, uint32_t index, const uint8_t mac[6])
{
	struct ifinfomsg h = { .ifi_family = AF_UNSPEC, .ifi_index = (int)index };
	struct nl_request req;

	nl_start(&req, RTM_NEWLINK, 0, &h, sizeof(h));
	nl_attr(&req, IFLA_ADDRESS, mac, 6);
	return nl_call(fd, &req, NULL, NULL);
}

/* Change a device. @name and @mtu: NULL and 0 leave them. */
static int set_link(int fd, uint32_t index, const char *name, uint32_t mtu, bool up)
{
	struct ifinfomsg h = {
		.ifi_family = AF_UNSPEC,
		.ifi_index = (int)index,
		.ifi_flags = up ? IFF_UP : 0,
		.ifi_change = up ? IFF_UP : 0,
	};
	struct nl_request req;

	nl_start(&req, RTM_NEWLINK, 0, &h, sizeof(h));
	if (name)
		nl_attr(&req, IFLA_IFNAME, name, strlen(name) + 1);
	if (mtu)
		nl_attr_u32(&req, IFLA_MTU, mtu);
	return nl_call(fd, &req, NULL, NULL);
}

static int rename_link(int fd, struct link_list *links, struct link *l, const char *name)
{
	struct link *other = find_by_name(links, name);
	int r = 0;

	if (other == l)
		return 0;
	if (other) {
		/* Names that change places: the other one's turn comes. */
		snprintf(other->name, sizeof(other->name), "podvm%u", other->index);
		r = set_link(fd, other->index, other->name, 0, false);
	}
	if (r == 0)
		r = set_link(fd, l->index, name, 0, false);
	if (r == 0)
		snprintf(l->name, sizeof(l->name), "%s", name);
	return r;
}

static int add_addresses(int fd, const struct link *l, const Podvm__Agent__V1__Interface *i,
			 struct err *e)
{
	for (size_t k = 0; k < i->n_addresses; k++) {
		struct nl_request req;
		int r = network_build_address(&req, l->index, i->addresses[k], i->no_prefix_routes);

		if (r == 0)
			r = nl_call(fd, &req, NULL, NULL);
		if (r < 0)
			return err_errno(e, r, "address %.64s of %s", i->addresses[k], l->name);
	}
	return 0;
}

/* Before it's up: from then on it makes itself an address and hears advertisements. */
static int set_ipv6(const char *device, const Podvm__Agent__V1__Interface *i, struct err *e)
{
	char name[64];
	char value[12];
	int r;

	snprintf(name, sizeof(name), "net/ipv6/conf/%s/accept_ra", device);
	snprintf(value, sizeof(value), "%u", i->accept_ra);
	r = sysctl_set(name, value, e);
	if (r < 0 || !i->no_ipv6)
		return r;
	snprintf(name, sizeof(name), "net/ipv6/conf/%s/disable_ipv6", device);
	return sysctl_set(name, "1", e);
}

/* The device that an interface is for; it has the interface's address then. */
static int select_device(int fd, struct link_list *links, const Podvm__Agent__V1__Interface *i,
			 struct link **ret, struct err *e)
{
	const char *selector = *i->device_mac ? i->device_mac : i->mac;
	uint8_t device[6];
	uint8_t mac[6];
	int r;

	if (mac_parse(i->mac, mac) < 0 || mac_parse(selector, device) < 0)
		return err_set(e, -EINVAL, "invalid address %.32s %.32s", i->mac, i->device_mac);
	*ret = find_by_mac(links, device);
	if (!*ret)
		return err_set(e, -ENODEV, "there is no network device %s", selector);
	if (!*i->device_mac)
		return 0;
	r = set_mac(fd, (*ret)->index, mac);
	if (r < 0)
		return err_errno(e, r, "cannot give %s the address %s", (*ret)->name, i->mac);
	memcpy((*ret)->mac, mac, sizeof(mac));
	return 0;
}

static int configure_interface(int fd, struct link_list *links,
			       const Podvm__Agent__V1__Interface *i, struct err *e)
{
	struct link *l = NULL;
	int r;

	if (!name_valid(i->name) || i->mtu > MTU_MAX)
		return err_set(e, -EINVAL, "invalid interface %.32s %.32s", i->name, i->mac);
	r = select_device(fd, links, i, &l, e);
	if (r < 0)
		return r;
	r = rename_link(fd, links, l, i->name);
	if (r < 0)
		return err_errno(e, r, "cannot rename %s to %s", l->name, i->name);
	r = set_ipv6(l->name, i, e);
	if (r < 0)
		return r;
	r = set_link(fd, l->index, NULL, i->mtu, true);
	if (r < 0)
		return err_errno(e, r, "cannot set %s up", l->name);
	return add_addresses(fd, l, i, e);
}

static int add_route(int fd, struct link_list *links, const Podvm__Agent__V1__Route *r,
		     struct err *e)
{
	struct link *l = find_by_name(links, r->device);
	struct nl_request req;
	int ret;

	if (!l && route_has_device(r))
		return err_set(e, -ENODEV, "route %.64s: no device %.16s", r->destination,
			       r->device);
	ret = network_build_route(&req, l ? l->index : 0, r);
	if (ret == 0)
		ret = nl_call(fd, &req, NULL, NULL);
	return ret < 0 ? err_errno(e, ret, "route %.64s via %.64s dev %.16s", r->destination,
				   r->gateway, r->device)
		       : 0;
}

static int add_neighbor(int fd, struct link_list *links, const Podvm__Agent__V1__Neighbor *n,
			struct err *e)
{
	struct ndmsg h = { .ndm_state = NUD_PERMANENT };
	struct link *l = find_by_name(links, n->device);
	struct nl_request req;
	struct ip_prefix ip;
	uint8_t mac[6];
	int r;

	if (!l || ip_parse(n->address, &ip) < 0 || mac_parse(n->mac, mac) < 0)
		return err_set(e, -EINVAL, "invalid neighbour %.64s %.32s dev %.16s", n->address,
			       n->mac, n->device);
	h.ndm_family = ip.family;
	h.ndm_ifindex = (int)l->index;
	nl_start(&req, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &h, sizeof(h));
	nl_attr(&req, NDA_DST, ip.bytes, ip.size);
	nl_attr(&req, NDA_LLADDR, mac, sizeof(mac));
	r = nl_call(fd, &req, NULL, NULL);
	return r < 0 ? err_errno(e, r, "neighbour %s", n->address) : 0;
}

int network_configure(const Podvm__Agent__V1__ConfigureSandboxRequest *req, struct err *e)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	struct link_list links;
	int r;

	if (req->n_interfaces + req->n_neighbors + req->n_routes == 0)
		return 0;
	fd = nl_open();
	if (fd < 0)
		return err_errno(e, fd, "cannot open a netlink socket");
	r = list_links(fd, &links);
	if (r < 0)
		return err_errno(e, r, "cannot list the network devices");
	for (size_t i = 0; r == 0 && i < req->n_interfaces; i++)
		r = configure_interface(fd, &links, req->interfaces[i], e);
	for (size_t i = 0; r == 0 && i < req->n_neighbors; i++)
		r = add_neighbor(fd, &links, req->neighbors[i], e);
	for (size_t i = 0; r == 0 && i < req->n_routes; i++)
		r = add_route(fd, &links, req->routes[i], e);
	return r;
}

int network_loopback(void)
{
	_cleanup_(close_fdp) int fd = nl_open();

	return fd < 0 ? fd : set_link(fd, 1, NULL, 0, true);
}
