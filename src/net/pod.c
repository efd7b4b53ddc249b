/* SPDX-License-Identifier: Apache-2.0 */
/* A pod's network: see pod.h. */
#include "net/pod.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "net/internal.h"
#include "net/pod_internal.h"

#define TUN "/dev/net/tun"

/* An interface's other half. */
struct tap {
	int fd;
	int link;	 /* index of the interface */
	bool redirected; /* what may have to be undone on it */
};

struct net_pod {
	char *path;
	uint64_t inode;
	int ns;
	int multicast; /* packet socket that holds the memberships */
	struct rtnl rt;
	struct net_config config; /* n_interfaces says how many taps there are */
	struct tap taps[NET_MAX_INTERFACES];
	int listener;
	int listener_link;
};

/* ---- looking ---- */

/* A server on the host's loopback can't be reached from the pod's network. */
static int plan_dns(const struct net_dns *asked, struct net_dns *dns, struct err *e)
{
	struct net_dns host = { 0 };
	size_t n = 0;
	int r;

	r = net_dns_host(&host, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < host.n_servers; i++)
		if (!net_dns_is_loopback(host.servers[i]))
			memmove(host.servers[n++], host.servers[i], NET_ADDR_LEN);
	host.n_servers = n;
	if (asked)
		r = net_dns_merge(dns, asked);
	if (r == 0)
		r = net_dns_merge(dns, &host);
	net_dns_done(&host);
	return r < 0 ? err_oom(e) : 0;
}

static int open_rtnl(void *data)
{
	return rtnl_open(data);
}

static int read_namespace(struct net_pod *pod, struct err *e)
{
	_cleanup_(freep) struct net_model *model = calloc(1, sizeof(*model));
	int links[NET_MAX_INTERFACES];
	int r;

	if (!model)
		return err_oom(e);
	r = net_ns_run(pod->ns, open_rtnl, &pod->rt);
	if (r < 0)
		return err_errno(e, r, "cannot enter the network namespace %s", pod->path);
	r = rtnl_read_model(&pod->rt, model);
	if (r < 0)
		return err_errno(e, r, "cannot read the network namespace %s", pod->path);
	r = net_pod_plan(model, &pod->config, links, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < pod->config.n_interfaces; i++)
		pod->taps[i].link = links[i];
	return 0;
}

DEFINE_CLEANUP(net_pod_freep, struct net_pod *, net_pod_free)

int net_pod_open(const struct net_pod_options *options, struct net_pod **ret, struct err *e)
{
	_cleanup_(net_pod_freep) struct net_pod *pod = calloc(1, sizeof(*pod));
	int r;

	if (!pod)
		return err_oom(e);
	pod->ns = pod->multicast = pod->listener = pod->listener_link = -EBADF;
	for (size_t i = 0; i < NET_MAX_INTERFACES; i++)
		pod->taps[i].fd = -EBADF;
	if (str_set(&pod->path, options->netns) < 0)
		return err_oom(e);
	pod->ns = net_ns_open(pod->path, &pod->inode, e);
	if (pod->ns < 0)
		return pod->ns;
	r = read_namespace(pod, e);
	if (r == 0)
		r = plan_dns(options->dns, &pod->config.dns, e);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(pod);
	return 0;
}

const struct net_config *net_pod_config(const struct net_pod *pod)
{
	return &pod->config;
}

/* ---- redirecting ---- */

static void tap_name(int link, char name[static IFNAMSIZ])
{
	snprintf(name, IFNAMSIZ, NET_POD_TAP_PREFIX "%d", link);
}

int net_tap_open(const char *name)
{
	_cleanup_(close_fdp) int fd = open(TUN, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL };

	if (fd < 0)
		return -errno;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	return ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : TAKE_FD(fd);
}

/*
 * The namespace's stack doesn't know the multicast groups that the guest joins, so let all of them
 * through the filters of macvlans and of network cards: packet(7), as long as the socket is open.
 */
static int receive_multicast(struct net_pod *pod)
{
	pod->multicast = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (pod->multicast < 0)
		return -errno;
	for (size_t i = 0; i < pod->config.n_interfaces; i++) {
		struct packet_mreq all = {
			.mr_ifindex = pod->taps[i].link,
			.mr_type = PACKET_MR_ALLMULTI,
		};

		if (setsockopt(pod->multicast, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all,
			       sizeof(all)) < 0)
			return -errno;
	}
	return 0;
}

/* Tap devices and sockets belong to the namespace in which they're made. */
static int make_devices(void *data)
{
	struct net_pod *pod = data;

	for (size_t i = 0; i < pod->config.n_interfaces && pod->taps[i].fd < 0; i++) {
		char name[IFNAMSIZ];

		tap_name(pod->taps[i].link, name);
		pod->taps[i].fd = net_tap_open(name);
		if (pod->taps[i].fd < 0)
			return pod->taps[i].fd;
	}
	return receive_multicast(pod);
}

static int redirect(struct net_pod *pod, size_t i)
{
	const struct net_interface *interface = &pod->config.interfaces[i];
	struct tap *t = &pod->taps[i];
	char name[IFNAMSIZ];
	int tap;
	int r;

	tap_name(t->link, name);
	tap = rtnl_link_index(&pod->rt, name);
	if (tap < 0)
		return tap;
	r = rtnl_tap_up(&pod->rt, tap, interface->mtu);
	if (r == 0)
		r = rtnl_ingress_add(&pod->rt, tap);
	if (r == 0)
		r = rtnl_redirect(&pod->rt, tap, t->link);
	if (r == 0)
		r = rtnl_ingress_add(&pod->rt, t->link);
	if (r < 0)
		return r;
	t->redirected = true;
	return rtnl_redirect(&pod->rt, t->link, tap);
}

static int connect_error(struct net_pod *pod, size_t i, int r, struct err *e)
{
	const char *name = pod->config.interfaces[i].name;

	if (r == -EEXIST) {
		err_set(e, -EBUSY, "interface %s has an ingress or clsact qdisc already", name);
		err_hint(e, "Its frames are redirected by or filtered for somebody else");
		return -EBUSY;
	}
	err_errno(e, r, "cannot redirect interface %s", name);
	if (r == -ENOENT || r == -EOPNOTSUPP)
		err_hint(e, "The kernel needs sch_ingress, cls_u32 and act_mirred (modprobe them)");
	return r;
}

static void disconnect(struct net_pod *pod)
{
	for (size_t i = 0; i < pod->config.n_interfaces; i++) {
		struct tap *t = &pod->taps[i];

		if (t->redirected)
			(void)rtnl_ingress_delete(&pod->rt, t->link);
		t->redirected = false;
		close_fdp(&t->fd);
		t->fd = -EBADF;
	}
	close_fdp(&pod->multicast);
	pod->multicast = -EBADF;
}

/* The first interface gets a device that is there, in whatever namespace. */
static int move_device(struct net_pod *pod)
{
	_cleanup_(close_fdp) int from = ioctl(pod->taps[0].fd, TUNGETDEVNETNS);
	struct ifreq ifr = { 0 };
	struct rtnl rt = { 0 };
	char name[IFNAMSIZ];
	int r;

	if (from < 0 || ioctl(pod->taps[0].fd, TUNGETIFF, &ifr) < 0)
		return -errno;
	tap_name(pod->taps[0].link, name);
	r = net_ns_run(from, open_rtnl, &rt);
	if (r == 0)
		r = rtnl_link_index(&rt, ifr.ifr_name);
	if (r > 0)
		r = rtnl_link_move(&rt, r, pod->ns, name);
	rtnl_close(&rt);
	return r == -EEXIST ? -EBUSY : r;
}

int net_pod_connect(struct net_pod *pod, int tap_fd, struct err *e)
{
	int r = 0;

	pod->taps[0].fd = tap_fd;
	if (tap_fd >= 0)
		r = move_device(pod);
	if (r == 0)
		r = net_ns_run(pod->ns, make_devices, pod);
	if (r == -EBUSY) {
		err_set(e, r, "another sandbox uses the network namespace %s", pod->path);
		err_hint(e, "A network namespace can be given to one VM");
	} else if (r < 0) {
		err_errno(e, r, "cannot make a tap device");
		err_hint(e, "The kernel needs tun (modprobe tun), and " TUN " must be there");
	}
	for (size_t i = 0; r == 0 && i < pod->config.n_interfaces; i++) {
		r = redirect(pod, i);
		if (r < 0)
			r = connect_error(pod, i, r, e);
	}
	if (r < 0)
		disconnect(pod);
	return r;
}

int net_pod_tap(const struct net_pod *pod, size_t i)
{
	return i < pod->config.n_interfaces ? pod->taps[i].fd : -EBADF;
}

int net_pod_netns(const struct net_pod *pod)
{
	return pod->ns;
}

int net_pod_listener(struct net_pod *pod, struct err *e)
{
	int r;

	if (pod->listener >= 0)
		return pod->listener;
	r = net_listener_open(pod->ns, &pod->listener, &pod->listener_link);
	if (r < 0)
		return err_errno(e, r, "cannot listen in the network namespace %s", pod->path);
	return pod->listener;
}

void net_pod_free(struct net_pod *pod)
{
	if (!pod)
		return;
	if (pod->rt.socket)
		disconnect(pod);
	rtnl_close(&pod->rt);
	close_fdp(&pod->listener);
	close_fdp(&pod->listener_link);
	close_fdp(&pod->ns);
	net_config_done(&pod->config);
	free(pod->path);
	free(pod);
}

/* ---- undoing after a crash ---- */

int net_pod_journal(const struct net_pod *pod, int (*each)(void *data, const char *line),
		    void *data)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < pod->config.n_interfaces; i++) {
		_cleanup_(freep) char *line = str_printf(
			"%llu %d %s", (unsigned long long)pod->inode, pod->taps[i].link, pod->path);

		r = line ? each(data, line) : -ENOMEM;
	}
	return r;
}

static int undo(struct rtnl *rt, int link)
{
	char name[IFNAMSIZ];
	int tap;
	int r;

	tap_name(link, name);
	tap = rtnl_link_index(rt, name);
	r = tap < 0 ? tap : rtnl_link_delete(rt, tap);
	if (r == 0 || r == -ENODEV)
		r = rtnl_ingress_delete(rt, link);
	return r;
}

int net_pod_undo(const char *line)
{
	_cleanup_(close_fdp) int ns = -EBADF;
	struct rtnl rt = { 0 };
	unsigned long long recorded;
	uint64_t inode;
	int at = 0;
	int link;
	int r;

	if (sscanf(line, "%llu %d %n", &recorded, &link, &at) != 2 || link <= 0 || !line[at])
		return -EINVAL;
	ns = net_ns_open(line + at, &inode, NULL);
	if (ns < 0 && ns != -ENOENT && ns != -EINVAL && ns != -EOPNOTSUPP)
		return ns;
	/* Gone, or a path that was used again. */
	if (ns < 0 || inode != recorded)
		return 0;
	r = net_ns_run(ns, open_rtnl, &rt);
	if (r == 0)
		r = undo(&rt, link);
	rtnl_close(&rt);
	return r;
}
