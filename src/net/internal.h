/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_NET_INTERNAL_H
#define PODVM_NET_INTERNAL_H

/* What the files of net share. */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/spawn.h"
#include "net/net.h"

/**
 * net_ports_free() - Whether nobody uses the ports that are to be published
 * @ports:	Checked by net_ports_check()
 * @n:		How many
 * @e:		Names the port and says why it can't be had
 *
 * passt of Debian 12 ends only when none of the ports of an option could be bound, and says nothing
 * of a range or a pair of IPv4 and IPv6 of which some were taken. So they are tried out first; who
 * takes one in the milliseconds until passt binds it wins, unseen.
 *
 * Return: 0 or a negative errno
 */
int net_ports_free(const struct net_port *ports, size_t n, struct err *e);

/**
 * struct net_host - What the host's routes reach
 * @v4, @v6:	Interface of the default route, empty: there is none
 */
struct net_host {
	char v4[16];
	char v6[16];
};

/** net_host_parse() - From the text of /proc/net/route and /proc/net/ipv6_route, or NULL */
void net_host_parse(const char *route, const char *ipv6_route, struct net_host *ret);

/** net_host_read() - From these files; one that is missing has no route */
void net_host_read(struct net_host *ret);

/** net_dns_is_loopback() - Whether a name server listens on a loopback address */
bool net_dns_is_loopback(const char *server);

/**
 * struct net_user_plan - Addresses of the user mode
 * @prefix:	Length of the IPv4 network
 * @guest, @gateway, @forward: IPv4: the guest's, passt's, and the one that stands for the host's
 *		resolver
 * @guest6, @gateway6, @forward6: IPv6, likewise
 * @mac, @peer_mac: The guest's and passt's
 * @ipv6:	The guest has IPv6
 * @mtu:	Of the guest's interface
 * @host:	The host's default routes
 * @forward_dns, @forward_dns6: Queries to @forward, @forward6 go to the host's resolver
 */
struct net_user_plan {
	unsigned int prefix;
	struct in_addr guest, gateway, forward;
	struct in6_addr guest6, gateway6, forward6;
	char mac[18];
	char peer_mac[18];
	bool ipv6;
	unsigned int mtu;
	struct net_host host;
	bool forward_dns;
	bool forward_dns6;
};

/**
 * net_user_plan() - Decide on addresses and names
 * @options:	What was asked for
 * @host:	The host's routes
 * @host_dns:	The host's resolvers
 * @plan:	Result
 * @config:	Empty; gets what the guest must be told
 *
 * Return: 0 or a negative errno
 */
int net_user_plan(const struct net_user_options *options, const struct net_host *host,
		  const struct net_dns *host_dns, struct net_user_plan *plan,
		  struct net_config *config, struct err *e);

/**
 * net_user_argv() - Arguments of passt
 * @options:	What was asked for
 * @plan:	From net_user_plan()
 * @fd:		Number of the socket in the child
 * @argv:	Empty; gets them
 *
 * Return: 0 or -ENOMEM
 */
int net_user_argv(const struct net_user_options *options, const struct net_user_plan *plan, int fd,
		  struct strv *argv);

/* A probe of ARP: 14 bytes of Ethernet, 28 of ARP. */
#define NET_ARP_LEN 42

/**
 * struct net_probe - Asking whether somebody serves the other end of a socket
 * @fd:		Socket, borrowed
 * @gateway:	Address that is asked for
 * @head:	The length of the frame that is being read, and its first bytes
 * @got:	Bytes of length and frame that have been read
 */
struct net_probe {
	int fd;
	struct in_addr gateway;
	uint8_t head[4 + NET_ARP_LEN];
	size_t got;
};

/** net_probe_start() - Send the request. Return: 0 or a negative errno */
int net_probe_start(struct net_probe *p, int fd, const struct net_user_plan *plan);

/**
 * net_probe_read() - Read what is there, never more than the answer
 *
 * Return: 1 the answer came, 0 not yet, -EPIPE the other end is closed, or a negative errno
 */
int net_probe_read(struct net_probe *p);

/**
 * net_guard_spawn() - Start a passt process that is kept from the host's loopback addresses
 * @s:		Spec; what it opens is guarded from the first socket on
 * @ret_pid:	Process id
 * @ret_cgroup:	Gets that of net_guard_parent() for net_guard_remove(), owned by the caller
 * @e:		Why it could not be started
 *
 * Where there can be no guard (no cgroup v2, not root, ...) it's started without one, with a
 * warning.
 *
 * Return: A pidfd that the caller owns, or a negative errno
 */
int net_guard_spawn(struct spawn *s, pid_t *ret_pid, int *ret_cgroup, struct err *e);

/** net_guard_parent() - Descriptor of our own cgroup, or a negative errno */
int net_guard_parent(void);

/** net_guard_remove() - Remove what is left once the process has ended; < 0 is fine */
void net_guard_remove(int cgroup);

#endif
