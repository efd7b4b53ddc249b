/* SPDX-License-Identifier: Apache-2.0 */
/* From what is in a network namespace to what its guest is told. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <stdio.h>

#include "base/log.h"
#include "base/str.h"
#include "net/pod_internal.h"

/* What is known to work with redirected frames. "tun" is a tap: a tun has no Ethernet frames. */
static const char *const kinds[] = { "veth", "macvlan", "ipvlan", "vlan", "tun", "" };

/* A plan under construction. */
struct plan {
	const struct net_model *model;
	struct net_config *config;
	int *links; /* of config's interfaces */
	struct err *e;
};

static bool kind_known(const char *kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (str_eq(kind, kinds[i]))
			return true;
	return false;
}

/* The kernel takes almost everything; a guest's agent and messages don't. */
static bool name_plain(const char *name)
{
	if (!*name || *name == '.')
		return false;
	for (; *name; name++)
		if (!isgraph((unsigned char)*name) || *name == '%')
			return false;
	return true;
}

/* Why a link's frames can't be redirected to a guest, or NULL. */
static const char *obstacle(const struct net_model_link *l)
{
	if (!name_plain(l->name))
		return "its name has odd characters";
	if (!kind_known(l->kind))
		return "links of its kind are not supported";
	if (str_eq(l->kind, "ipvlan") && l->ipvlan_mode != IPVLAN_MODE_L2)
		return "an ipvlan must be in mode l2, others have no Ethernet frames";
	if (l->type != ARPHRD_ETHER || !l->has_mac)
		return "it has no Ethernet frames";
	if (l->flags & IFF_NOARP)
		return "it doesn't resolve addresses (NOARP), which a guest's interface does";
	if (l->master)
		return "it's a port of another link";
	return NULL;
}

static int refuse(const struct net_model_link *l, const char *why, struct err *e)
{
	char name[4 * IFNAMSIZ + 3];
	char kind[4 * sizeof(l->kind) + 3];

	err_set(e, -EOPNOTSUPP, "interface %s (%s) can't be given to a VM: %s",
		log_quote(name, sizeof(name), l->name),
		*l->kind ? log_quote(kind, sizeof(kind), l->kind) : "no virtual link", why);
	err_hint(e, "Possible are veth, macvlan, ipvlan in mode l2, vlan, tap and physical links: "
		    "choose another mode of the CNI plugin");
	return -EOPNOTSUPP;
}

static void format_mac(const uint8_t mac[6], char text[static 18])
{
	snprintf(text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
		 mac[5]);
}

static void format_ip(const struct net_ip *ip, char text[static NET_ADDR_LEN])
{
	if (!ip->family || !inet_ntop(ip->family, ip->bytes, text, NET_ADDR_LEN))
		*text = '\0';
}

static void format_prefix(const struct net_ip *ip, unsigned int prefix,
			  char text[static NET_ADDR_LEN + 4])
{
	format_ip(ip, text);
	snprintf(text + strlen(text), 5, "/%u", prefix & 255);
}

static bool is_link_local6(const struct net_ip *ip)
{
	return ip->family == AF_INET6 && ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80;
}

/* ---- interfaces ---- */

/* The guest's kernel makes its own link-local address. */
static int add_addresses(struct plan *p, int index, struct net_interface *to)
{
	for (size_t i = 0; i < p->model->n_addresses; i++) {
		const struct net_model_address *a = &p->model->addresses[i];

		if (a->index != index || is_link_local6(&a->ip))
			continue;
		if (to->n_addresses == NET_MAX_ADDRESSES)
			return err_set(p->e, -E2BIG, "interface %s has more than %d addresses",
				       to->name, NET_MAX_ADDRESSES);
		format_prefix(&a->ip, a->prefix, to->addresses[to->n_addresses++]);
	}
	return 0;
}

/* The guest finds its devices by their addresses. */
static int check_mac(struct plan *p, const struct net_interface *added)
{
	for (const struct net_interface *i = p->config->interfaces; i < added; i++) {
		if (!str_eq(i->mac, added->mac))
			continue;
		err_set(p->e, -EOPNOTSUPP, "interfaces %s and %s have the same MAC address %s",
			i->name, added->name, added->mac);
		err_hint(p->e, "ipvlans and vlans of one parent do; use another kind of link");
		return -EOPNOTSUPP;
	}
	return 0;
}

static int add_interface(struct plan *p, const struct net_model_link *l)
{
	struct net_interface *to = &p->config->interfaces[p->config->n_interfaces];
	const char *why = obstacle(l);
	int r;

	if (why)
		return refuse(l, why, p->e);
	if (str_starts(l->name, NET_POD_TAP_PREFIX) && str_eq(l->kind, "tun")) {
		err_set(p->e, -EBUSY, "another sandbox uses this network namespace: it has made %s",
			l->name);
		err_hint(p->e, "A network namespace can be given to one VM");
		return -EBUSY;
	}
	if (p->config->n_interfaces == NET_MAX_INTERFACES)
		return err_set(p->e, -E2BIG, "there are more than %d interfaces",
			       NET_MAX_INTERFACES);
	*to = (struct net_interface){
		.mtu = l->mtu,
		.accept_ra = l->accept_ra,
		.no_ipv6 = l->no_ipv6,
		.no_prefix_routes = true,
	};
	format_mac(l->mac, to->mac);
	memcpy(to->name, l->name, sizeof(to->name));
	r = check_mac(p, to);
	if (r == 0)
		r = add_addresses(p, l->index, to);
	p->links[p->config->n_interfaces++] = l->index;
	return r;
}

static int compare_links(const void *a, const void *b)
{
	const struct net_model_link *const *x = a;
	const struct net_model_link *const *y = b;

	return ((*x)->index > (*y)->index) - ((*x)->index < (*y)->index);
}

static int add_interfaces(struct plan *p)
{
	const struct net_model_link *links[NET_MODEL_LINKS];
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; i < p->model->n_links; i++) {
		const struct net_model_link *l = &p->model->links[i];

		if (l->flags & IFF_LOOPBACK)
			continue;
		if (l->flags & IFF_UP)
			links[n++] = l;
		else
			log_debug("interface is down and stays behind", "name=%s", l->name);
	}
	/* In the order in which they came. */
	qsort(links, n, sizeof(links[0]), compare_links);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_interface(p, links[i]);
	return r;
}

/* ---- routes and neighbours ---- */

static const struct net_interface *find_interface(const struct plan *p, int index)
{
	for (size_t i = 0; i < p->config->n_interfaces; i++)
		if (p->links[i] == index)
			return &p->config->interfaces[i];
	return NULL;
}

static bool leads_nowhere(const struct net_model_route *r)
{
	return r->type == RTN_BLACKHOLE || r->type == RTN_UNREACHABLE || r->type == RTN_PROHIBIT;
}

/*
 * Routes of links that stay behind, and what every kernel adds by itself. (A route that leads
 * nowhere has no link in IPv4, the loopback one in IPv6.)
 */
static bool is_foreign(const struct plan *p, const struct net_model_route *r)
{
	if (r->index && !find_interface(p, r->index) && !leads_nowhere(r))
		return true;
	return r->protocol == RTPROT_KERNEL &&
	       (r->type != RTN_UNICAST || is_link_local6(&r->destination));
}

static const char *route_obstacle(const struct net_model_route *r)
{
	if (r->selective)
		return "it's for one type of service, or for some sources only";
	if (leads_nowhere(r))
		return NULL;
	if (r->type != RTN_UNICAST)
		return "routes of its type are not supported";
	if (r->multipath || !r->index)
		return "it has several next hops";
	if (r->encap)
		return "it encapsulates";
	if (r->gateway.family && r->gateway.family != r->destination.family)
		return "its gateway is of another address family";
	return NULL;
}

static int add_route(struct plan *p, const struct net_model_route *r)
{
	struct net_route *to = &p->config->routes[p->config->n_routes];
	const char *why = route_obstacle(r);
	char text[NET_ADDR_LEN + 4];

	format_prefix(&r->destination, r->prefix, text);
	if (why) {
		err_set(p->e, -EOPNOTSUPP, "the route to %s can't be given to a VM: %s", text, why);
		err_hint(p->e, "Change the configuration of the CNI plugin that sets it");
		return -EOPNOTSUPP;
	}
	if (p->config->n_routes == NET_MAX_ROUTES)
		return err_set(p->e, -E2BIG, "there are more than %d routes", NET_MAX_ROUTES);
	*to = (struct net_route){
		.mtu = r->mtu,
		.advmss = r->advmss,
		.metric = r->metric,
		.scope = r->scope,
		.type = r->type,
		.onlink = r->onlink,
	};
	memcpy(to->destination, text, sizeof(to->destination));
	p->config->n_routes++;
	if (leads_nowhere(r))
		return 0;
	format_ip(&r->gateway, to->gateway);
	format_ip(&r->source, to->source);
	memcpy(to->device, find_interface(p, r->index)->name, sizeof(to->device));
	return 0;
}

/* A gateway can be used once there is a route to it, which has none itself. */
static int add_routes(struct plan *p)
{
	const struct net_model *m = p->model;
	int r = 0;

	for (int gateway = 0; gateway < 2; gateway++)
		for (size_t i = 0; r == 0 && i < m->n_routes; i++)
			if ((m->routes[i].gateway.family != 0) == gateway &&
			    !is_foreign(p, &m->routes[i]))
				r = add_route(p, &m->routes[i]);
	return r;
}

static int check_rules(const struct plan *p)
{
	if (!p->model->rules)
		return 0;
	err_set(p->e, -EOPNOTSUPP,
		"there is policy routing (a rule of priority %u), which can't be given to a VM",
		p->model->rule);
	err_hint(p->e, "Leave out the CNI plugin that adds rules (sbr, for instance)");
	return -EOPNOTSUPP;
}

static int add_neighbors(struct plan *p)
{
	for (size_t i = 0; i < p->model->n_neighbors; i++) {
		const struct net_model_neighbor *n = &p->model->neighbors[i];
		const struct net_interface *on = find_interface(p, n->index);
		struct net_neighbor *to = &p->config->neighbors[p->config->n_neighbors];

		if (!on)
			continue;
		if (p->config->n_neighbors == NET_MAX_NEIGHBORS)
			return err_set(p->e, -E2BIG, "there are more than %d permanent neighbours",
				       NET_MAX_NEIGHBORS);
		format_ip(&n->ip, to->address);
		format_mac(n->mac, to->mac);
		memcpy(to->device, on->name, sizeof(to->device));
		p->config->n_neighbors++;
	}
	return 0;
}

int net_pod_plan(const struct net_model *model, struct net_config *config,
		 int links[static NET_MAX_INTERFACES], struct err *e)
{
	struct plan p = { .model = model, .config = config, .links = links, .e = e };
	int r;

	r = add_interfaces(&p);
	if (r == 0)
		r = check_rules(&p);
	if (r == 0)
		r = add_routes(&p);
	return r < 0 ? r : add_neighbors(&p);
}
