/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_NET_POD_INTERNAL_H
#define PODVM_NET_POD_INTERNAL_H

/* What the files behind pod.h share. */

#include <libmnl/libmnl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/net.h"

/* ---- namespaces (netns.c) ---- */

/**
 * net_ns_open() - Open a network namespace by path
 * @path:	Path, without control characters
 * @ret_inode:	Gets the number that names the namespace while it lives
 * @e:		What is wrong with it
 *
 * Return: Descriptor or a negative errno (-EOPNOTSUPP: it's ours or the machine's first one)
 */
int net_ns_open(const char *path, uint64_t *ret_inode, struct err *e);

/**
 * net_ns_run() - Call a function in a network namespace
 * @ns:		Namespace
 * @fn:		The function. Sockets and tap devices that it opens stay in the namespace
 * @data:	For @fn
 *
 * The process has one thread, so nothing else runs in the namespace. Going back takes a right that
 * entering has proved, and a little memory; should it fail, -ENOTRECOVERABLE is returned.
 *
 * Return: What @fn returns, or a negative errno
 */
int net_ns_run(int ns, int (*fn)(void *data), void *data);

/* ---- what is in a namespace (rtnl_parse.c) ---- */

#define NET_MODEL_LINKS	    64
#define NET_MODEL_ADDRESSES 128
#define NET_MODEL_ROUTES    256
#define NET_MODEL_NEIGHBORS 256

/**
 * struct net_model_link - A link (RTM_NEWLINK)
 * @flags:	IFF_*
 * @type:	ARPHRD_*
 * @kind:	"veth", "macvlan", ...; empty: a device of a driver
 * @ipvlan_mode: IPVLAN_MODE_* when it's an ipvlan
 * @accept_ra:	As the sysctl of that name
 * @no_ipv6:	IPv6 is switched off
 * @master:	Index of the bridge or bond whose port it is, 0: of none
 */
struct net_model_link {
	int index;
	int master;
	unsigned int flags;
	unsigned int mtu;
	uint16_t type;
	uint16_t ipvlan_mode;
	uint8_t accept_ra;
	bool no_ipv6;
	char name[IFNAMSIZ];
	char kind[16];
	uint8_t mac[6];
	bool has_mac;
};

/* struct net_ip - An address; the bytes after those of its family are 0. AF_UNSPEC: none */
struct net_ip {
	uint8_t family;
	uint8_t bytes[16];
};

/* struct net_model_address - An address of a link (RTM_NEWADDR) */
struct net_model_address {
	int index;
	struct net_ip ip;
	uint8_t prefix;
};

/**
 * struct net_model_route - A route of the main table (RTM_NEWROUTE)
 * @index:	Link, 0: none
 * @type:	RTN_*
 * @protocol:	RTPROT_*, who made it
 * @multipath:	It has several next hops, which aren't here
 * @encap:	It encapsulates
 * @selective:	It's for one type of service, or for some sources
 */
struct net_model_route {
	int index;
	struct net_ip destination;
	struct net_ip gateway;
	struct net_ip source;
	unsigned int mtu;
	unsigned int advmss;
	unsigned int metric;
	uint8_t prefix;
	uint8_t scope;
	uint8_t type;
	uint8_t protocol;
	bool onlink;
	bool multipath;
	bool encap;
	bool selective;
};

/* struct net_model_neighbor - A permanent neighbour (RTM_NEWNEIGH) */
struct net_model_neighbor {
	int index;
	struct net_ip ip;
	uint8_t mac[6];
};

/**
 * struct net_model - What is in a namespace
 * @rules:	There are rules of policy routing besides those that the kernel makes
 * @rule:	Priority of one of them
 */
struct net_model {
	struct net_model_link links[NET_MODEL_LINKS];
	size_t n_links;
	struct net_model_address addresses[NET_MODEL_ADDRESSES];
	size_t n_addresses;
	struct net_model_route routes[NET_MODEL_ROUTES];
	size_t n_routes;
	struct net_model_neighbor neighbors[NET_MODEL_NEIGHBORS];
	size_t n_neighbors;
	bool rules;
	unsigned int rule;
};

/**
 * net_rtnl_parse() - Read what one recv() brought of a dump
 * @data:	Messages (rtnetlink(7)), aligned as the kernel gives them
 * @len:	Bytes
 * @seq:	Number of the request; messages of others are skipped
 * @model:	What is found is appended
 *
 * Return: 1 at the end of the dump, 0 when more has to be received, -EINTR when the dump has to be
 * made anew because something changed meanwhile, -E2BIG above a limit, -EBADMSG, or the error that
 * the kernel answers
 */
int net_rtnl_parse(const void *data, size_t len, uint32_t seq, struct net_model *model);

/* ---- what a guest is told (pod_plan.c) ---- */

#define NET_POD_TAP_PREFIX "podvm"

/**
 * net_pod_plan() - Decide what the guest gets
 * @model:	What is in the namespace
 * @config:	Empty; gets interfaces, routes and neighbours
 * @links:	Gets the index of each interface's link
 * @e:		Says what can't be given to a guest, and why
 *
 * Return: 0 or a negative errno
 */
int net_pod_plan(const struct net_model *model, struct net_config *config,
		 int links[static NET_MAX_INTERFACES], struct err *e);

/* ---- talking to the kernel (rtnl.c) ---- */

/* struct rtnl - A route socket of some network namespace */
struct rtnl {
	struct mnl_socket *socket;
	uint32_t seq;
};

/** rtnl_open() - In the current network namespace. Return: 0 or a negative errno */
int rtnl_open(struct rtnl *rt);

/** rtnl_close() - All zeroes are fine */
void rtnl_close(struct rtnl *rt);

/** rtnl_read_model() - All links, addresses, routes, neighbours, rules. Return: 0 or a negative
 * errno */
int rtnl_read_model(struct rtnl *rt, struct net_model *model);

/** rtnl_link_index() - Index of a link by name. Return: It or a negative errno (-ENODEV) */
int rtnl_link_index(struct rtnl *rt, const char *name);

/**
 * rtnl_tap_up() - Make a new tap device ready: it says nothing by itself (no IPv6 address)
 * @index:	The device
 * @mtu:	Its MTU
 *
 * Return: 0 or a negative errno
 */
int rtnl_tap_up(struct rtnl *rt, int index, unsigned int mtu);

/**
 * rtnl_link_move() - Move a link to another network namespace
 * @index:	The link
 * @ns:		The namespace
 * @name:	Its name there
 *
 * Return: 0, -EEXIST (the name is taken) or another negative errno
 */
int rtnl_link_move(struct rtnl *rt, int index, int ns, const char *name);

/** rtnl_link_delete() - Delete a link. Return: 0, -ENODEV or another negative errno */
int rtnl_link_delete(struct rtnl *rt, int index);

/** rtnl_ingress_add() - Give a link an ingress qdisc. Return: 0 or an errno (-EEXIST: it has one) */
int rtnl_ingress_add(struct rtnl *rt, int index);

/** rtnl_ingress_delete() - Take it away, with its filters. Return: 0 (also: no such) or an errno */
int rtnl_ingress_delete(struct rtnl *rt, int index);

/** rtnl_redirect() - Send everything that comes in at @from out of @to. Return: 0 or an errno */
int rtnl_redirect(struct rtnl *rt, int from, int to);

/* ---- connections to localhost (listener.c) ---- */

/**
 * net_listener_open() - A socket that listens on all TCP ports of the loopback addresses
 * @ns:		Namespace
 * @ret_socket:	Listening, non-blocking socket
 * @ret_link:	Descriptor of the BPF link: it's in force as long as this is open
 *
 * Return: 0 or a negative errno
 */
int net_listener_open(int ns, int *ret_socket, int *ret_link);

#endif
