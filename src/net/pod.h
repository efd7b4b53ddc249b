/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_NET_POD_H
#define PODVM_NET_POD_H

/*
 * Theory of operation
 *
 * A pod's network namespace, set up by a CNI plugin or by hand, becomes the guest's network: the
 * guest gets the MAC and IP addresses, MTU, routes and permanent neighbours of each interface that
 * is there, and every frame that arrives at the interface goes to the guest, unchanged:
 *
 *	  peer ──── eth0 ──(ingress: redirect)──> podvm2 (tap) ──── monitor ──── guest's eth0
 *	  peer <─── eth0 <──(redirect :ingress)── podvm2
 *
 * Both ways are one filter of the traffic control that matches everything. The namespace's own
 * network stack keeps the interface's addresses (CNI checks look for them) but hears and says
 * nothing any more. There is no bridge, no address translation and no second MAC, so whatever the
 * CNI plugin relies on (its neighbour tables, MAC or source checks, policies on the other end of a
 * veth) goes on working.
 *
 * net_pod_open() reads all of it and decides; net_pod_connect() is the first to change anything.
 * What can't be given to a guest is refused by the former: the host's own network; interfaces that
 * have no Ethernet frames (tun, ipvlan l3, tunnels, netkit, ...) or whose frames already belong to
 * somebody (a bridge's port); policy routing; routes that the guest can't be told (several next
 * hops, encapsulation, by type of service). Interfaces that are down, and the loopback one, stay
 * behind.
 *
 * Filters for multicast frames (macvlan, network cards) are opened as long as the guest has the
 * interface: which groups it joins isn't known here.
 *
 * The monitor is a process of the namespace as well: what has broken out of a guest finds the
 * network of its pod there, not that of the host.
 *
 * A machine that was started before it had a pod has a tap device already, in another namespace. It
 * is moved, and gets the name that ours would have had.
 *
 * What changes is in the journal before it happens (net_pod_journal()): per interface a line that
 * net_pod_undo() takes, any number of times, also when the namespace or parts of it have gone. A
 * tap device goes by itself with its last descriptor, the filters on the interface don't.
 *
 * Port-forward: CRI connects to localhost in the namespace, where nobody listens, and expects to
 * reach localhost of the pod. A BPF program (sk_lookup) gives every TCP connection to a loopback
 * address, of any port, to one listening socket of ours (net_pod_listener()); the port asked for is
 * the local port of the accepted socket. Who accepts connects to the guest's localhost through the
 * agent. Neither netfilter nor addresses or routes are needed for that, in the namespace or in the
 * guest; servers that listen on the guest's loopback only are reached as well; and it's all gone
 * when the descriptors are closed.
 */

#include "base/buf.h"
#include "base/err.h"
#include "net/net.h"

/**
 * struct net_pod_options - What is asked for; borrowed during net_pod_open()
 * @netns:	Path of the network namespace ("/run/netns/x", "/proc/1234/ns/net")
 * @dns:	The user's settings (empty ones come from the host), NULL: all from the host
 */
struct net_pod_options {
	const char *netns;
	const struct net_dns *dns;
};

struct net_pod;

/**
 * net_pod_open() - Read what is in a network namespace; changes nothing
 * @options:	What is asked for
 * @ret:	The network; its configuration is known
 * @e:		Says what can't be given to a guest, and why
 *
 * Return: 0 or a negative errno (-EOPNOTSUPP: the namespace is the host's, or has something that
 * can't be given to a guest)
 */
int net_pod_open(const struct net_pod_options *options, struct net_pod **ret, struct err *e);

/** net_pod_config() - What the guest must be told; lives as long as @pod */
const struct net_config *net_pod_config(const struct net_pod *pod);

/**
 * net_pod_journal() - What has to be recorded before net_pod_connect()
 * @pod:	The network
 * @each:	Called with a line without newline per interface; a value other than 0 ends it
 * @data:	For @each
 *
 * Return: 0, -ENOMEM, or what @each returned
 */
int net_pod_journal(const struct net_pod *pod, int (*each)(void *data, const char *line),
		    void *data);

/**
 * net_pod_connect() - Make the tap devices and redirect
 * @pod:	The network
 * @tap_fd:	Device from net_tap_open() for the only interface, taken, also when this fails;
 *		< 0: make them
 * @e:		What failed
 *
 * On failure everything is as it was, but for @tap_fd.
 *
 * Return: 0 or a negative errno (-EBUSY: another sandbox has the namespace)
 */
int net_pod_connect(struct net_pod *pod, int tap_fd, struct err *e);

/**
 * net_pod_tap() - The tap device of an interface
 * @pod:	The network, connected
 * @i:		Index of the interface in the configuration
 *
 * It has virtio-net headers, so that checksums and segmentation can be left to the other side.
 *
 * Return: Descriptor that stays ours, or -EBADF
 */
int net_pod_tap(const struct net_pod *pod, size_t i);

/** net_pod_netns() - The namespace. Return: Descriptor that stays ours */
int net_pod_netns(const struct net_pod *pod);

/**
 * net_pod_listener() - Listen for connections to loopback addresses in the namespace
 * @pod:	The network
 * @e:		What failed
 *
 * Return: Descriptor of a listening, non-blocking TCP socket that stays ours, or a negative errno
 */
int net_pod_listener(struct net_pod *pod, struct err *e);

/** net_pod_free() - Undo net_pod_connect(), close, free; NULL is fine */
void net_pod_free(struct net_pod *pod);

/**
 * net_pod_undo() - Undo what a journal's line tells
 * @line:	From net_pod_journal()
 *
 * Return: 0, also when there is nothing left to undo, or a negative errno
 */
int net_pod_undo(const char *line);

/**
 * net_tap_open() - Make a tap device in this process's network namespace, as monitors take it
 *
 * Return: Its descriptor, or a negative errno (-EBUSY: there is one of this name)
 */
int net_tap_open(const char *name);

#endif
