/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to rtnetlink(7) on libmnl: what pod.c needs of links, and of the traffic control
 * (include/uapi/linux/pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h). The kernel answers within the
 * call; the socket has a deadline nevertheless.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/str.h"
#include "net/pod_internal.h"

#define REPLY_MAX	((size_t)64 << 10) /* more than the kernel puts into one datagram */
#define REQUEST_MAX	512
#define DEADLINE_SECS	5
#define DATAGRAMS_MAX	4096 /* of a dump */
#define DUMP_TRIES	5
#define FILTER_PRIORITY 1

/* A message under construction; every request here is far shorter than its room. */
struct request {
	_Alignas(struct nlmsghdr) char buf[REQUEST_MAX];
};

int rtnl_open(struct rtnl *rt)
{
	struct timeval deadline = { .tv_sec = DEADLINE_SECS };
	int r = 0;

	*rt = (struct rtnl){ .socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC) };
	if (!rt->socket)
		return -errno;
	if (mnl_socket_bind(rt->socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    setsockopt(mnl_socket_get_fd(rt->socket), SOL_SOCKET, SO_RCVTIMEO, &deadline,
		       sizeof(deadline)) < 0) {
		r = -errno;
		rtnl_close(rt);
	}
	return r;
}

void rtnl_close(struct rtnl *rt)
{
	if (rt->socket)
		mnl_socket_close(TAKE_PTR(rt->socket));
}

static struct nlmsghdr *begin(struct request *req, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(req->buf);

	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	return h;
}

static void *put_header(struct nlmsghdr *h, size_t size)
{
	return mnl_nlmsg_put_extra_header(h, size);
}

static int send_request(struct rtnl *rt, struct nlmsghdr *h)
{
	h->nlmsg_seq = ++rt->seq;
	return mnl_socket_sendto(rt->socket, h, h->nlmsg_len) < 0 ? -errno : 0;
}

/* Receive answers to the last request. */
static int receive(struct rtnl *rt, struct net_model *model)
{
	_cleanup_(freep) char *reply = malloc(REPLY_MAX);
	int r = 0;

	if (!reply)
		return -ENOMEM;
	for (int i = 0; r == 0 && i < DATAGRAMS_MAX; i++) {
		ssize_t n = mnl_socket_recvfrom(rt->socket, reply, REPLY_MAX);

		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		r = net_rtnl_parse(reply, (size_t)n, rt->seq, model);
	}
	if (r == 0)
		return -E2BIG;
	return r < 0 ? r : 0;
}

static int call(struct rtnl *rt, struct nlmsghdr *h, struct net_model *model)
{
	int r;

	h->nlmsg_flags |= NLM_F_ACK;
	r = send_request(rt, h);
	return r < 0 ? r : receive(rt, model);
}

/* ---- reading ---- */

static int dump(struct rtnl *rt, uint16_t type, struct net_model *model)
{
	struct request req;
	struct nlmsghdr *h = begin(&req, type, NLM_F_DUMP);
	int r;

	/* The first byte of every header is the address family, and 0 means all. The longest of
	 * them (struct ifinfomsg) does for all. */
	put_header(h, sizeof(struct ifinfomsg));
	r = send_request(rt, h);
	return r < 0 ? r : receive(rt, model);
}

int rtnl_read_model(struct rtnl *rt, struct net_model *model)
{
	static const uint16_t types[] = {
		RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_GETRULE,
	};
	int r = -EINTR;

	for (int i = 0; r == -EINTR && i < DUMP_TRIES; i++) {
		memset(model, 0, sizeof(*model));
		r = 0;
		for (size_t t = 0; r == 0 && t < ARRAY_SIZE(types); t++)
			r = dump(rt, types[t], model);
	}
	return r;
}

int rtnl_link_index(struct rtnl *rt, const char *name)
{
	_cleanup_(freep) struct net_model *model = calloc(1, sizeof(*model));
	struct request req;
	struct nlmsghdr *h = begin(&req, RTM_GETLINK, 0);
	int r;

	if (!model)
		return -ENOMEM;
	put_header(h, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	r = call(rt, h, model);
	if (r < 0)
		return r;
	return model->n_links == 1 ? model->links[0].index : -ENODEV;
}

/* ---- links ---- */

static struct nlmsghdr *begin_link(struct request *req, uint16_t type, int index)
{
	struct nlmsghdr *h = begin(req, type, 0);
	struct ifinfomsg *ifi = put_header(h, sizeof(*ifi));

	ifi->ifi_index = index;
	return h;
}

int rtnl_tap_up(struct rtnl *rt, int index, unsigned int mtu)
{
	struct request req;
	struct nlmsghdr *h = begin_link(&req, RTM_NEWLINK, index);
	struct ifinfomsg *ifi = mnl_nlmsg_get_payload(h);
	struct nlattr *families;
	struct nlattr *inet6;

	ifi->ifi_flags = ifi->ifi_change = IFF_UP;
	mnl_attr_put_u32(h, IFLA_MTU, mtu);
	families = mnl_attr_nest_start(h, IFLA_AF_SPEC);
	inet6 = mnl_attr_nest_start(h, AF_INET6);
	mnl_attr_put_u8(h, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(h, inet6);
	mnl_attr_nest_end(h, families);
	return call(rt, h, NULL);
}

int rtnl_link_move(struct rtnl *rt, int index, int ns, const char *name)
{
	struct request req;
	struct nlmsghdr *h = begin_link(&req, RTM_NEWLINK, index);

	mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)ns);
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	return call(rt, h, NULL);
}

int rtnl_link_delete(struct rtnl *rt, int index)
{
	struct request req;

	return call(rt, begin_link(&req, RTM_DELLINK, index), NULL);
}

/* ---- traffic control ---- */

static struct nlmsghdr *begin_tc(struct request *req, uint16_t type, uint16_t flags, int index,
				 uint32_t parent)
{
	struct nlmsghdr *h = begin(req, type, flags);
	struct tcmsg *tc = put_header(h, sizeof(*tc));

	tc->tcm_ifindex = index;
	tc->tcm_parent = parent;
	return h;
}

static struct nlmsghdr *begin_ingress(struct request *req, uint16_t type, uint16_t flags, int index)
{
	struct nlmsghdr *h = begin_tc(req, type, flags, index, TC_H_INGRESS);
	struct tcmsg *tc = mnl_nlmsg_get_payload(h);

	tc->tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0);
	mnl_attr_put_strz(h, TCA_KIND, "ingress");
	return h;
}

int rtnl_ingress_add(struct rtnl *rt, int index)
{
	struct request req;

	return call(rt, begin_ingress(&req, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, index), NULL);
}

int rtnl_ingress_delete(struct rtnl *rt, int index)
{
	struct request req;
	int r = call(rt, begin_ingress(&req, RTM_DELQDISC, 0, index), NULL);

	/* No such link, no qdisc at all there (EINVAL), or one of another kind (EINVAL). */
	return r == -ENODEV || r == -ENOENT || r == -EINVAL ? 0 : r;
}

static void put_mirred(struct nlmsghdr *h, int to)
{
	struct tc_mirred mirred = {
		.action = TC_ACT_STOLEN,
		.eaction = TCA_EGRESS_REDIR,
		.ifindex = (uint32_t)to,
	};
	struct nlattr *actions = mnl_attr_nest_start(h, TCA_U32_ACT);
	struct nlattr *first = mnl_attr_nest_start(h, 1);
	struct nlattr *options;

	mnl_attr_put_strz(h, TCA_ACT_KIND, "mirred");
	options = mnl_attr_nest_start(h, TCA_ACT_OPTIONS);
	mnl_attr_put(h, TCA_MIRRED_PARMS, sizeof(mirred), &mirred);
	mnl_attr_nest_end(h, options);
	mnl_attr_nest_end(h, first);
	mnl_attr_nest_end(h, actions);
}

/* u32 rather than matchall: it's older and in more kernels. */
int rtnl_redirect(struct rtnl *rt, int from, int to)
{
	struct request req;
	struct nlmsghdr *h = begin_tc(&req, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, from,
				      TC_H_MAKE(TC_H_INGRESS, 0));
	struct tcmsg *tc = mnl_nlmsg_get_payload(h);
	/* With one key: no bit of the first word. */
	_Alignas(struct tc_u32_sel) char
		match[sizeof(struct tc_u32_sel) + sizeof(struct tc_u32_key)] = { 0 };
	struct tc_u32_sel *sel = (void *)match;
	struct nlattr *options;

	sel->flags = TC_U32_TERMINAL;
	sel->nkeys = 1;
	tc->tcm_info = TC_H_MAKE(FILTER_PRIORITY << 16, htons(ETH_P_ALL));
	mnl_attr_put_strz(h, TCA_KIND, "u32");
	options = mnl_attr_nest_start(h, TCA_OPTIONS);
	mnl_attr_put(h, TCA_U32_SEL, sizeof(match), match);
	put_mirred(h, to);
	mnl_attr_nest_end(h, options);
	return call(rt, h, NULL);
}
