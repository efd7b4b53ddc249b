/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_NET_NET_H
#define PODVM_NET_NET_H

/*
 * Theory of operation
 *
 * A pod's network has two sides. `struct net_config` is what the guest must be told: interfaces,
 * routes, and what goes into /etc/resolv.conf. A descriptor is what the VMM's network device sends
 * its frames to. A mode of networking produces both:
 *
 *  - none: an empty net_config and no device; the guest has its loopback interface.
 *  - user: passt as a child on the other end of a socket pair (net_user_start()). It terminates
 *    the guest's connections and opens sockets of the host in their place, so it needs neither
 *    privileges, nor a tap device, nor a change to the host's routes or firewall. It drops to
 *    user nobody in its own namespaces, with a seccomp filter. The guest has private addresses,
 *    reaches what the host reaches but not the host's loopback addresses (guard.c), and is
 *    reached only through published ports.
 *  - pod: every interface of a network namespace that a CNI plugin or the user has set up moves
 *    into the guest, through a tap device each (pod.h).
 *
 * Everything a guest is told is decided here and set by the agent: DHCP, DHCPv6 and router
 * advertisements are off.
 *
 * Names: the guest asks the resolvers of the host's /etc/resolv.conf directly. One that listens on
 * the host's loopback (systemd-resolved, dnsmasq) can't be reached from the guest; the resolvers
 * behind systemd-resolved are taken in its place, and for others passt maps an address of the
 * guest's own network to it.
 *
 * passt says nothing when it is ready, so it is asked: the first frame on the socket pair is an
 * ARP request (a neighbour solicitation when there is IPv6 only) for the gateway, and its answer
 * proves that passt serves, with all ports bound. An error ends it instead; its last words become
 * the message.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "loop/loop.h"

#define NET_ADDR_LEN	   46 /* INET6_ADDRSTRLEN */
#define NET_MAX_INTERFACES 8
#define NET_MAX_ADDRESSES  8
#define NET_MAX_ROUTES	   64
#define NET_MAX_NEIGHBORS  64
#define NET_MAX_DNS	   8 /* nameservers; glibc asks the first three */
#define NET_MAX_SEARCH	   32
#define NET_MAX_OPTIONS	   32
#define NET_MAX_PORTS	   1024		      /* ports, not ranges, of one pod */
#define NET_RESOLV_MAX	   ((size_t)64 << 10) /* bytes of a resolv.conf */

/* ---- what the guest is told ---- */

/**
 * struct net_interface - A network interface
 * @mac:	Address that selects the device, "02:..."
 * @name:	Name it gets
 * @mtu:	Bytes, 0: leave
 * @addresses:	"10.0.2.15/24", "fd00::15/64"
 * @n_addresses: How many
 * @accept_ra:	As the sysctl of that name, 0: router advertisements aren't heard
 * @no_ipv6:	Not even a link-local address
 * @no_prefix_routes: The routes hold everything: the guest's kernel adds none for the networks of
 *		the addresses
 */
struct net_interface {
	char mac[18];
	char name[16];
	unsigned int mtu;
	char addresses[NET_MAX_ADDRESSES][NET_ADDR_LEN + 4];
	size_t n_addresses;
	uint8_t accept_ra;
	bool no_ipv6;
	bool no_prefix_routes;
};

/**
 * struct net_route - A route
 * @destination: "0.0.0.0/0", "::/0", "10.1.0.0/16"
 * @gateway:	Address, may be empty
 * @device:	Name of the interface, empty when it leads nowhere (@type)
 * @source:	Source address for what goes there, may be empty
 * @mtu:	Of this route, 0: the interface's
 * @advmss:	MSS that is told to peers, 0: from the MTU
 * @metric:	Priority, 0: the kernel's default
 * @scope:	RT_SCOPE_*, 0: universe
 * @type:	RTN_*: 0, unicast, or one that leads nowhere: blackhole, unreachable, prohibit
 * @onlink:	The gateway is reached although no route says so
 */
struct net_route {
	char destination[NET_ADDR_LEN + 4];
	char gateway[NET_ADDR_LEN];
	char device[16];
	char source[NET_ADDR_LEN];
	unsigned int mtu;
	unsigned int advmss;
	unsigned int metric;
	uint8_t scope;
	uint8_t type;
	bool onlink;
};

/**
 * struct net_neighbor - A permanent entry of the neighbour table
 * @address:	IP address
 * @mac:	Its link-layer address
 * @device:	Name of the interface
 */
struct net_neighbor {
	char address[NET_ADDR_LEN];
	char mac[18];
	char device[16];
};

/* struct net_dns - What a resolv.conf says; search and options are checked for odd characters */
struct net_dns {
	char servers[NET_MAX_DNS][NET_ADDR_LEN];
	size_t n_servers;
	struct strv search;
	struct strv options;
};

struct net_config {
	struct net_interface interfaces[NET_MAX_INTERFACES];
	size_t n_interfaces;
	struct net_route routes[NET_MAX_ROUTES];
	size_t n_routes;
	struct net_neighbor neighbors[NET_MAX_NEIGHBORS];
	size_t n_neighbors;
	struct net_dns dns;
};

/** net_config_done() - Free what it holds; all zeroes is fine */
void net_config_done(struct net_config *c);

/** net_mac_random() - A random, locally administered unicast address. Return: 0 or an errno */
int net_mac_random(char mac[static 18]);

/* ---- published ports ---- */

enum net_proto { NET_TCP, NET_UDP };

/**
 * struct net_port - Published ports
 * @proto:	TCP or UDP
 * @address:	Address of the host to bind to, empty: all
 * @host:	First port of the host
 * @guest:	First port of the guest
 * @count:	How many consecutive ports
 */
struct net_port {
	enum net_proto proto;
	char address[NET_ADDR_LEN];
	uint16_t host;
	uint16_t guest;
	uint16_t count;
};

/**
 * net_port_parse() - What a user gives to -p
 * @spec:	"[IP:]HOST[-HOST]:GUEST[-GUEST][/tcp|/udp]", an IPv6 address in brackets
 * @ret:	Published ports
 * @e:		Says what is wrong with it
 *
 * Differs from podman in that the host's port must be given.
 *
 * Return: 0 or -EINVAL
 */
int net_port_parse(const char *spec, struct net_port *ret, struct err *e);

/**
 * net_ports_check() - Whether published ports go together
 * @ports:	Ports
 * @n:		How many
 * @e:		Names the port that is published twice, or the limit that is exceeded
 *
 * Return: 0 or -EINVAL
 */
int net_ports_check(const struct net_port *ports, size_t n, struct err *e);

/* ---- names ---- */

/**
 * net_dns_parse() - Read a resolv.conf(5)
 * @text:	Its bytes, need not end in a NUL; hostile
 * @len:	How many
 * @dns:	Empty; gets what could be understood, up to the limits. The rest is skipped, as the
 *		resolver does
 *
 * Return: 0 or -ENOMEM
 */
int net_dns_parse(const char *text, size_t len, struct net_dns *dns);

/**
 * net_dns_host() - What the host's resolver uses
 * @dns:	Empty; servers may be loopback addresses. Stays empty when there is no resolv.conf
 * @e:		Why it could not be read
 *
 * Reads /etc/resolv.conf; when that knows only systemd-resolved's 127.0.0.53, then
 * /run/systemd/resolve/resolv.conf, which names the real servers.
 *
 * Return: 0 or a negative errno
 */
int net_dns_host(struct net_dns *dns, struct err *e);

/**
 * net_dns_add_server(), net_dns_add_search(), net_dns_add_option() - What a user gives to --dns,
 * --dns-search and --dns-option. Return: 0 or a negative errno with @e saying why
 */
int net_dns_add_server(struct net_dns *dns, const char *address, struct err *e);
int net_dns_add_search(struct net_dns *dns, const char *domain, struct err *e);
int net_dns_add_option(struct net_dns *dns, const char *option, struct err *e);

/**
 * net_dns_merge() - Fill in what the user left open
 * @dns:	The user's settings; each of servers, search and options that is empty is copied
 * @from:	The host's
 *
 * Return: 0 or -ENOMEM
 */
int net_dns_merge(struct net_dns *dns, const struct net_dns *from);

/** net_dns_done() - Free what it holds, make it empty */
void net_dns_done(struct net_dns *dns);

/** net_resolv_text() - The guest's /etc/resolv.conf is appended to @out. Return: as buf_append() */
int net_resolv_text(const struct net_dns *dns, struct buf *out);

/**
 * net_hosts_text() - The guest's /etc/hosts
 * @hostname:	Checked by net_hostname_check()
 * @config:	Its addresses are the host name's; without any it's a loopback address
 * @extra:	"NAME:IP" as checked by net_host_entry_check(), ended by NULL; or NULL
 * @out:	Text is appended
 *
 * Return: As buf_append()
 */
int net_hosts_text(const char *hostname, const struct net_config *config, char *const *extra,
		   struct buf *out);

/** net_host_entry_check() - Check what a user gives to --add-host. Return: 0 or -EINVAL */
int net_host_entry_check(const char *entry, struct err *e);

/** net_hostname_check() - RFC 1123 labels, at most 64 bytes in all. Return: 0 or -EINVAL */
int net_hostname_check(const char *hostname, struct err *e);

/* ---- user mode ---- */

struct net_user;

/**
 * struct net_user_options - What is asked of the user mode; borrowed during net_user_start()
 * @binary:	passt, NULL: found in PATH
 * @subnet:	IPv4 network "10.0.2.0/24", NULL: that one; the guest is .15, its gateway .2
 * @subnet6:	IPv6 network, a /64, NULL: a unique local one; the guest is ::15, its gateway ::2
 * @mtu:	0: 65520
 * @ports:	Published ports
 * @n_ports:	How many
 * @dns:	The user's settings (empty ones come from the host), NULL: all from the host
 */
struct net_user_options {
	const char *binary;
	const char *subnet;
	const char *subnet6;
	unsigned int mtu;
	const struct net_port *ports;
	size_t n_ports;
	const struct net_dns *dns;
};

/**
 * net_user_start() - Start passt
 * @loop:	Loop
 * @options:	What is asked of it
 * @peer:	Socket that the frames of a machine come out of that runs already, taken; such a
 *		machine isn't waited for. < 0: there is none, see net_user_fd()
 * @ready:	Called once: with NULL when it serves, or with why it does not
 * @exited:	Called once when it ends by itself after @ready told that it serves; the message
 *		says how
 * @data:	For both
 * @ret:	The network; its configuration and MAC address are known at once
 * @e:		Why it could not even be started
 *
 * Return: 0 (@ready will be called) or a negative errno (it will not)
 */
int net_user_start(struct loop *loop, const struct net_user_options *options, int peer,
		   void (*ready)(void *data, const struct err *e),
		   void (*exited)(void *data, const struct err *e), void *data,
		   struct net_user **ret, struct err *e);

/** net_user_config() - What the guest must be told; lives as long as @user */
const struct net_config *net_user_config(const struct net_user *user);

/**
 * net_user_fd() - The VMM's end of the socket pair, to be taken once when it is ready
 *
 * A connected stream socket; a frame is sent as its length (32 bits, big endian) and its bytes.
 *
 * Return: Descriptor that the caller owns, or -EBADF
 */
int net_user_fd(struct net_user *user);

/** net_user_pid() - Process id of passt, 0 when it isn't running */
int net_user_pid(const struct net_user *user);

/** net_user_free() - Kill passt if it runs, free; NULL is fine */
void net_user_free(struct net_user *user);

/**
 * net_user_recover() - Remove what is left of a network whose owner was killed
 *
 * passt itself ends with its socket. What stays is an empty cgroup below that of the owner, which
 * is found when that is our own as well (else it goes with the next network that is started there,
 * or with the cgroup around it). Networks that are in use don't mind.
 */
void net_user_recover(void);

#endif
