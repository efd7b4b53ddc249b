/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading rtnetlink(7) messages into a struct net_model. The kernel made them, but much of what is
 * in them was set by whoever set up the namespace: lengths and limits are checked throughout.
 */
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

#include "base/str.h"
#include "net/pod_internal.h"

/* The highest attribute that is looked at here, of all kinds of messages. */
#define ATTR_MAX 64

/* Attributes by number; NULL: not there. */
struct attrs {
	const struct nlattr *v[ATTR_MAX + 1];
};

static int collect(const struct nlattr *attr, void *data)
{
	struct attrs *a = data;
	uint16_t type = mnl_attr_get_type(attr);

	if (type <= ATTR_MAX)
		a->v[type] = attr;
	return MNL_CB_OK;
}

static void parse_attrs(const struct nlmsghdr *h, size_t header, struct attrs *ret)
{
	*ret = (struct attrs){ 0 };
	(void)mnl_attr_parse(h, (unsigned int)header, collect, ret);
}

static void parse_nested(const struct nlattr *nest, struct attrs *ret)
{
	*ret = (struct attrs){ 0 };
	if (nest)
		(void)mnl_attr_parse_nested(nest, collect, ret);
}

static uint32_t get_u32(const struct nlattr *attr)
{
	uint32_t v = 0;

	if (attr && mnl_attr_get_payload_len(attr) >= sizeof(v))
		memcpy(&v, mnl_attr_get_payload(attr), sizeof(v));
	return v;
}

static uint16_t get_u16(const struct nlattr *attr)
{
	uint16_t v = 0;

	if (attr && mnl_attr_get_payload_len(attr) >= sizeof(v))
		memcpy(&v, mnl_attr_get_payload(attr), sizeof(v));
	return v;
}

static void get_text(const struct nlattr *attr, char *buf, size_t size)
{
	size_t n = attr ? MIN(mnl_attr_get_payload_len(attr), size - 1) : 0;

	if (n > 0)
		memcpy(buf, mnl_attr_get_payload(attr), n);
	buf[n] = '\0';
}

static bool get_mac(const struct nlattr *attr, uint8_t mac[6])
{
	if (!attr || mnl_attr_get_payload_len(attr) != 6)
		return false;
	memcpy(mac, mnl_attr_get_payload(attr), 6);
	return true;
}

/* Return: 0, also when it isn't there, or -EBADMSG */
static int get_ip(const struct nlattr *attr, uint8_t family, struct net_ip *ret)
{
	size_t size = family == AF_INET6 ? 16 : 4;

	*ret = (struct net_ip){ 0 };
	if (!attr)
		return 0;
	if (mnl_attr_get_payload_len(attr) != size)
		return -EBADMSG;
	ret->family = family;
	memcpy(ret->bytes, mnl_attr_get_payload(attr), size);
	return 0;
}

static bool is_ip(uint8_t family, uint8_t prefix)
{
	return (family == AF_INET && prefix <= 32) || (family == AF_INET6 && prefix <= 128);
}

/* A sysctl of the interface: one of an array of 32-bit numbers. */
static int get_inet6_conf(const struct attrs *inet6, size_t which)
{
	const struct nlattr *conf = inet6->v[IFLA_INET6_CONF];
	int32_t v;

	if (!conf || mnl_attr_get_payload_len(conf) < (which + 1) * sizeof(v))
		return 0;
	memcpy(&v, (const char *)mnl_attr_get_payload(conf) + which * sizeof(v), sizeof(v));
	return v;
}

static void parse_inet6(const struct nlattr *families, struct net_model_link *l)
{
	struct attrs family;
	struct attrs inet6;
	int ra;

	parse_nested(families, &family);
	parse_nested(family.v[AF_INET6], &inet6);
	ra = get_inet6_conf(&inet6, DEVCONF_ACCEPT_RA);
	l->accept_ra = ra == 1 || ra == 2 ? (uint8_t)ra : 0;
	l->no_ipv6 = get_inet6_conf(&inet6, DEVCONF_DISABLE_IPV6) != 0;
}

static void parse_kind(const struct nlattr *linkinfo, struct net_model_link *l)
{
	struct attrs info;
	struct attrs data;

	parse_nested(linkinfo, &info);
	get_text(info.v[IFLA_INFO_KIND], l->kind, sizeof(l->kind));
	if (!str_eq(l->kind, "ipvlan"))
		return;
	parse_nested(info.v[IFLA_INFO_DATA], &data);
	l->ipvlan_mode = get_u16(data.v[IFLA_IPVLAN_MODE]);
}

static int parse_link(const struct nlmsghdr *h, struct net_model *m)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(h);
	struct net_model_link *l = &m->links[m->n_links];
	struct attrs a;

	if (ifi->ifi_index <= 0)
		return -EBADMSG;
	if (m->n_links == NET_MODEL_LINKS)
		return -E2BIG;
	parse_attrs(h, sizeof(*ifi), &a);
	*l = (struct net_model_link){
		.index = ifi->ifi_index,
		.flags = ifi->ifi_flags,
		.type = ifi->ifi_type,
		.mtu = get_u32(a.v[IFLA_MTU]),
		.master = (int)get_u32(a.v[IFLA_MASTER]),
	};
	get_text(a.v[IFLA_IFNAME], l->name, sizeof(l->name));
	l->has_mac = get_mac(a.v[IFLA_ADDRESS], l->mac);
	parse_kind(a.v[IFLA_LINKINFO], l);
	parse_inet6(a.v[IFLA_AF_SPEC], l);
	m->n_links++;
	return 0;
}

static int parse_address(const struct nlmsghdr *h, struct net_model *m)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(h);
	struct net_model_address *to = &m->addresses[m->n_addresses];
	struct net_ip peer;
	struct attrs a;

	if (!is_ip(ifa->ifa_family, ifa->ifa_prefixlen))
		return 0;
	if (m->n_addresses == NET_MODEL_ADDRESSES)
		return -E2BIG;
	parse_attrs(h, sizeof(*ifa), &a);
	*to = (struct net_model_address){
		.index = (int)ifa->ifa_index,
		.prefix = ifa->ifa_prefixlen,
	};
	if (get_ip(a.v[IFA_LOCAL], ifa->ifa_family, &to->ip) < 0 ||
	    get_ip(a.v[IFA_ADDRESS], ifa->ifa_family, &peer) < 0)
		return -EBADMSG;
	/* IFA_ADDRESS is the other end of a point-to-point address, else the same. */
	if (!to->ip.family)
		to->ip = peer;
	else if (peer.family && memcmp(to->ip.bytes, peer.bytes, sizeof(peer.bytes)) != 0)
		to->prefix = ifa->ifa_family == AF_INET6 ? 128 : 32;
	if (to->ip.family)
		m->n_addresses++;
	return 0;
}

/* A gateway is RTA_GATEWAY, or RTA_VIA with a family of its own. */
static int parse_gateway(const struct attrs *a, uint8_t family, struct net_ip *ret)
{
	const struct nlattr *attr = a->v[RTA_VIA];
	const struct rtvia *via;
	size_t size;

	if (!attr)
		return get_ip(a->v[RTA_GATEWAY], family, ret);
	via = mnl_attr_get_payload(attr);
	size = mnl_attr_get_payload_len(attr);
	*ret = (struct net_ip){ 0 };
	if (size < sizeof(*via) || size - sizeof(*via) > sizeof(ret->bytes))
		return -EBADMSG;
	ret->family = via->rtvia_family == AF_INET6 ? AF_INET6 : AF_INET;
	memcpy(ret->bytes, via->rtvia_addr, size - sizeof(*via));
	return 0;
}

static int parse_route(const struct nlmsghdr *h, struct net_model *m)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(h);
	struct net_model_route *to = &m->routes[m->n_routes];
	struct attrs metrics;
	struct attrs a;

	parse_attrs(h, sizeof(*rtm), &a);
	if (!is_ip(rtm->rtm_family, rtm->rtm_dst_len) || (rtm->rtm_flags & RTM_F_CLONED) ||
	    (a.v[RTA_TABLE] ? get_u32(a.v[RTA_TABLE]) : rtm->rtm_table) != RT_TABLE_MAIN)
		return 0;
	if (m->n_routes == NET_MODEL_ROUTES)
		return -E2BIG;
	parse_nested(a.v[RTA_METRICS], &metrics);
	*to = (struct net_model_route){
		.index = (int)get_u32(a.v[RTA_OIF]),
		.mtu = get_u32(metrics.v[RTAX_MTU]),
		.advmss = get_u32(metrics.v[RTAX_ADVMSS]),
		.metric = get_u32(a.v[RTA_PRIORITY]),
		.prefix = rtm->rtm_dst_len,
		.scope = rtm->rtm_scope,
		.type = rtm->rtm_type,
		.protocol = rtm->rtm_protocol,
		.onlink = rtm->rtm_flags & RTNH_F_ONLINK,
		.multipath = a.v[RTA_MULTIPATH] != NULL,
		.encap = a.v[RTA_ENCAP] != NULL,
		.selective = rtm->rtm_tos != 0 || rtm->rtm_src_len != 0,
	};
	if (get_ip(a.v[RTA_DST], rtm->rtm_family, &to->destination) < 0 ||
	    get_ip(a.v[RTA_PREFSRC], rtm->rtm_family, &to->source) < 0 ||
	    parse_gateway(&a, rtm->rtm_family, &to->gateway) < 0)
		return -EBADMSG;
	to->destination.family = rtm->rtm_family; /* the default route has no RTA_DST */
	m->n_routes++;
	return 0;
}

static int parse_neighbor(const struct nlmsghdr *h, struct net_model *m)
{
	const struct ndmsg *ndm = mnl_nlmsg_get_payload(h);
	struct net_model_neighbor *to = &m->neighbors[m->n_neighbors];
	struct attrs a;

	if (!is_ip(ndm->ndm_family, 0) || !(ndm->ndm_state & NUD_PERMANENT))
		return 0;
	if (m->n_neighbors == NET_MODEL_NEIGHBORS)
		return -E2BIG;
	parse_attrs(h, sizeof(*ndm), &a);
	*to = (struct net_model_neighbor){ .index = ndm->ndm_ifindex };
	if (get_ip(a.v[NDA_DST], ndm->ndm_family, &to->ip) < 0)
		return -EBADMSG;
	if (to->ip.family && get_mac(a.v[NDA_LLADDR], to->mac))
		m->n_neighbors++;
	return 0;
}

/* The kernel makes three: for the tables local, main and default. */
static int parse_rule(const struct nlmsghdr *h, struct net_model *m)
{
	const struct fib_rule_hdr *rule = mnl_nlmsg_get_payload(h);
	struct attrs a;
	uint32_t priority;
	uint32_t table;

	if (!is_ip(rule->family, 0))
		return 0;
	parse_attrs(h, sizeof(*rule), &a);
	priority = get_u32(a.v[FRA_PRIORITY]);
	table = a.v[FRA_TABLE] ? get_u32(a.v[FRA_TABLE]) : rule->table;
	if ((priority == 0 && table == RT_TABLE_LOCAL) ||
	    (priority == 32766 && table == RT_TABLE_MAIN) ||
	    (priority == 32767 && table == RT_TABLE_DEFAULT))
		return 0;
	m->rules = true;
	m->rule = priority;
	return 0;
}

static const struct {
	uint16_t type;
	size_t header;
	int (*parse)(const struct nlmsghdr *h, struct net_model *m);
} parsers[] = {
	{ RTM_NEWLINK, sizeof(struct ifinfomsg), parse_link },
	{ RTM_NEWADDR, sizeof(struct ifaddrmsg), parse_address },
	{ RTM_NEWROUTE, sizeof(struct rtmsg), parse_route },
	{ RTM_NEWNEIGH, sizeof(struct ndmsg), parse_neighbor },
	{ RTM_NEWRULE, sizeof(struct fib_rule_hdr), parse_rule },
};

static int parse_error(const struct nlmsghdr *h)
{
	const struct nlmsgerr *err = mnl_nlmsg_get_payload(h);

	if (mnl_nlmsg_get_payload_len(h) < sizeof(*err) || err->error > 0)
		return -EBADMSG;
	return err->error ? err->error : 1;
}

static int parse_message(const struct nlmsghdr *h, struct net_model *m)
{
	if (h->nlmsg_flags & NLM_F_DUMP_INTR)
		return -EINTR;
	if (h->nlmsg_type == NLMSG_DONE)
		return 1;
	if (h->nlmsg_type == NLMSG_ERROR)
		return parse_error(h);
	for (size_t i = 0; i < ARRAY_SIZE(parsers); i++) {
		if (h->nlmsg_type != parsers[i].type)
			continue;
		return mnl_nlmsg_get_payload_len(h) < parsers[i].header ? -EBADMSG
									: parsers[i].parse(h, m);
	}
	return 0;
}

/* (mnl_nlmsg_ok() takes lengths above INT_MAX for negative ones, which fit everything.) */
int net_rtnl_parse(const void *data, size_t len, uint32_t seq, struct net_model *model)
{
	const struct nlmsghdr *h = data;
	int r = 0;

	while (r == 0 && len >= sizeof(*h)) {
		if (h->nlmsg_len < sizeof(*h) || h->nlmsg_len > len)
			return -EBADMSG;
		if (h->nlmsg_seq == seq)
			r = parse_message(h, model);
		len -= MIN(MNL_ALIGN(h->nlmsg_len), len);
		h = (const void *)((const char *)h + MNL_ALIGN(h->nlmsg_len));
	}
	return r;
}
