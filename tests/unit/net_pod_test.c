/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pod networks. What is decided is tested with made-up models; what is done to the kernel in
 * network namespaces of our own, which takes root (else these tests are skipped).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <arpa/inet.h>

#include "base/spawn.h"
#include "net/pod.h"
#include "net/pod_internal.h"

#define TIMEOUT_MS 60000

/* The namespace of the "pod", and that of the other ends of its links. */
static char pod_ns[32];
static char peer_ns[32];
static char pod_path[64];

/* Run a shell command in which $pod and $peer are the names. Return: its exit code */
static int sh(const char *command)
{
	return WEXITSTATUS(system(command));
}

/* Skip what this kernel hasn't got. */
static void need(const char *command)
{
	if (sh(command) != 0)
		skip();
}

static int setup_ns(void **state)
{
	if (geteuid() != 0)
		return 0;
	snprintf(pod_ns, sizeof(pod_ns), "nettest-pod-%d", getpid());
	snprintf(peer_ns, sizeof(peer_ns), "nettest-peer-%d", getpid());
	snprintf(pod_path, sizeof(pod_path), "/run/netns/%s", pod_ns);
	setenv("pod", pod_ns, 1);
	setenv("peer", peer_ns, 1);
	return sh("ip netns add $pod && ip netns add $peer && "
		  "ip netns exec $pod sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad; "
		  "echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad' && "
		  "ip -n $pod link set lo up && "
		  "ip -n $pod link add eth0 type veth peer name far0 netns $peer && "
		  "ip -n $pod link set eth0 up && ip -n $peer link set far0 up");
}

static int teardown_ns(void **state)
{
	return geteuid() != 0 ? 0 : sh("ip netns del $pod 2>/dev/null; ip netns del $peer");
}

static void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

/*
 * Everything in the namespace that could have changed, as text. What counts up is left out, and
 * whether links have a carrier: that comes a while after they are up. (ip complains of other
 * namespaces that come and go.)
 */
static char *look(void)
{
	static const char script[] =
		"for what in link addr route '-6 route' neigh rule; do "
		"ip -n $pod -d $what show 2>/dev/null; "
		"done | sed 's/ state [A-Z]*//; s/NO-CARRIER,//; s/,LOWER_UP//';"
		"tc -n $pod qdisc show; for dev in $(ip -n $pod -br link | sed 's/[@ ].*//'); do "
		"tc -n $pod filter show dev $dev ingress; done";
	struct spawn s = SPAWN_INIT;
	char *text = NULL;

	s.path = "/bin/sh";
	s.argv = (char *[]){ (char *)"sh", (char *)"-c", (char *)script, NULL };
	assert_int_equal(spawn_run(&s, TIMEOUT_MS, &text, NULL), 0);
	return text;
}

/* The same, when links that have a carrier have got their link-local addresses as well. */
static char *look_first(void)
{
	static char wait[] =
		"links() { ip -n $pod -d -o link | grep 'LOWER_UP.*addrgenmode eui64' | "
		"grep -vc LOOPBACK; }; "
		"until [ $(ip -n $pod -6 -o addr | grep -c 'inet6 fe80') -ge $(links) ]; do "
		"sleep 0.1; done";
	struct spawn s = SPAWN_INIT;

	s.path = "/bin/sh";
	s.argv = (char *[]){ (char *)"sh", (char *)"-c", wait, NULL };
	assert_int_equal(spawn_run(&s, TIMEOUT_MS, NULL, NULL), 0);
	return look();
}

static void assert_unchanged(char *before)
{
	char *after = look();

	assert_string_equal(after, before);
	free(after);
	free(before);
}

static struct net_pod *open_pod(void)
{
	struct net_pod_options options = { .netns = pod_path };
	struct net_pod *pod = NULL;
	struct err e = { 0 };

	if (net_pod_open(&options, &pod, &e) < 0)
		fail_msg("%s", e.msg);
	return pod;
}

static int open_error(const char *path, struct err *e)
{
	struct net_pod_options options = { .netns = path };
	struct net_pod *pod = NULL;

	return net_pod_open(&options, &pod, e);
}

static void connect_pod(struct net_pod *pod)
{
	struct err e = { 0 };

	if (net_pod_connect(pod, -1, &e) < 0)
		fail_msg("%s", e.msg);
}

static void test_read(void **state)
{
	const struct net_config *c;
	struct net_pod *pod;
	char *before;

	need_root();
	assert_int_equal(
		sh("ip -n $pod link set eth0 address 02:00:00:00:00:42 mtu 1430 && "
		   "ip -n $pod addr add 10.77.0.2/24 dev eth0 && "
		   "ip -n $pod addr add fd77::2/64 dev eth0 nodad && "
		   "ip -n $pod route add default via 169.254.1.1 dev eth0 onlink mtu 1380 "
		   "src 10.77.0.2 metric 7 && "
		   "ip -n $pod route add fd88::/32 via fd77::1 && "
		   "ip -n $pod route add 10.99.0.0/16 via 10.77.0.9 table 100 && "
		   "ip -n $pod neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud "
		   "permanent && "
		   "ip -n $pod neigh add 10.77.0.3 lladdr ee:ee:ee:ee:ee:01 dev eth0 nud stale"),
		0);
	before = look_first();
	pod = open_pod();
	c = net_pod_config(pod);
	assert_int_equal(c->n_interfaces, 1);
	assert_string_equal(c->interfaces[0].name, "eth0");
	assert_string_equal(c->interfaces[0].mac, "02:00:00:00:00:42");
	assert_int_equal(c->interfaces[0].mtu, 1430);
	assert_int_equal(c->interfaces[0].n_addresses, 2);
	assert_string_equal(c->interfaces[0].addresses[0], "10.77.0.2/24");
	assert_string_equal(c->interfaces[0].addresses[1], "fd77::2/64");
	assert_int_equal(c->n_routes, 4);
	assert_string_equal(c->routes[0].destination, "10.77.0.0/24");
	assert_int_equal(c->routes[0].scope, RT_SCOPE_LINK);
	assert_string_equal(c->routes[1].destination, "fd77::/64");
	assert_string_equal(c->routes[2].destination, "0.0.0.0/0");
	assert_string_equal(c->routes[2].gateway, "169.254.1.1");
	assert_string_equal(c->routes[2].source, "10.77.0.2");
	assert_int_equal(c->routes[2].mtu, 1380);
	assert_int_equal(c->routes[2].metric, 7);
	assert_true(c->routes[2].onlink);
	assert_string_equal(c->routes[3].destination, "fd88::/32");
	assert_string_equal(c->routes[3].gateway, "fd77::1");
	assert_int_equal(c->n_neighbors, 1);
	assert_string_equal(c->neighbors[0].mac, "ee:ee:ee:ee:ee:ee");
	net_pod_free(pod);
	assert_unchanged(before);
}

/* A frame of a protocol that nobody else speaks (IEEE 802, local experiments). */
#define PROTOCOL 0x88b5

struct frame {
	uint8_t to[6];
	uint8_t from[6];
	uint16_t protocol;
	char text[46];
};

static void make_frame(struct frame *f, const char *text)
{
	*f = (struct frame){ .protocol = htons(PROTOCOL) };
	memset(f->to, 0xff, sizeof(f->to));
	f->from[0] = 2;
	snprintf(f->text, sizeof(f->text), "%s", text);
}

static int open_packet_socket(void *data)
{
	struct sockaddr_ll addr = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(PROTOCOL),
		.sll_ifindex = (int)if_nametoindex(data),
	};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(PROTOCOL));

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return fd;
}

static int packet_socket(const char *ns, const char *interface)
{
	uint64_t inode;
	char path[64];
	int fd;
	int r;

	snprintf(path, sizeof(path), "/run/netns/%s", ns);
	fd = net_ns_open(path, &inode, NULL);
	assert_true(fd >= 0);
	r = net_ns_run(fd, open_packet_socket, (void *)interface);
	assert_true(r >= 0);
	close(fd);
	return r;
}

/* Read frames until ours comes. */
static void expect_frame(int fd, size_t header, const char *text)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		char buf[2048];
		const struct frame *f = (const void *)(buf + header);
		ssize_t n;

		assert_int_equal(poll(&p, 1, TIMEOUT_MS), 1);
		n = read(fd, buf, sizeof(buf));
		if (n >= (ssize_t)(header + sizeof(*f)) && f->protocol == htons(PROTOCOL)) {
			assert_string_equal(f->text, text);
			return;
		}
	}
}

/* Frames pass in both directions between a tap and an interface of the other side. */
static void assert_passes(int tap, const char *interface)
{
	int far = packet_socket(peer_ns, interface);
	struct {
		char header[10]; /* struct virtio_net_hdr */
		struct frame frame;
	} __attribute__((packed)) out = { 0 };
	struct frame f;

	make_frame(&f, "to the guest");
	assert_int_equal(send(far, &f, sizeof(f), 0), sizeof(f));
	expect_frame(tap, sizeof(out.header), "to the guest");
	/* A group that nobody in the namespace has joined. */
	make_frame(&f, "to a group");
	memcpy(f.to, "\x01\x00\x5e\x01\x02\x03", sizeof(f.to));
	assert_int_equal(send(far, &f, sizeof(f), 0), sizeof(f));
	expect_frame(tap, sizeof(out.header), "to a group");
	make_frame(&f, "from the guest");
	memcpy(&out.frame, &f, sizeof(f));
	assert_int_equal(write(tap, &out, sizeof(out)), sizeof(out));
	expect_frame(far, 0, "from the guest");
	close(far);
}

static void test_redirect(void **state)
{
	struct net_pod *pod;
	char *before;

	need_root();
	before = look_first();
	pod = open_pod();
	connect_pod(pod);
	assert_passes(net_pod_tap(pod, 0), "far0");
	assert_int_equal(net_pod_tap(pod, 1), -EBADF);
	net_pod_free(pod);
	assert_unchanged(before);
}

static int open_tap(void *data)
{
	return net_tap_open("elsewhere");
}

static int open_in(const char *ns, int (*fn)(void *data))
{
	char path[64];
	int fd;
	int r;

	snprintf(path, sizeof(path), "/run/netns/%s", ns);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	r = net_ns_run(fd, fn, NULL);
	close(fd);
	return r;
}

/* A machine that was there before its pod has its device already, in another namespace. */
static void test_a_tap_device_moves_in(void **state)
{
	struct net_pod *pod;
	struct err e = { 0 };
	char *before;
	int tap;

	need_root();
	before = look_first();
	pod = open_pod();
	tap = open_in(peer_ns, open_tap);
	assert_true(tap >= 0);
	assert_int_equal(net_pod_connect(pod, tap, &e), 0);
	assert_int_equal(net_pod_tap(pod, 0), tap);
	assert_passes(tap, "far0");
	assert_int_not_equal(sh("ip -n $peer link show elsewhere 2>/dev/null"), 0);
	net_pod_free(pod);
	assert_unchanged(before);
}

static void test_a_tap_device_does_not_move_in_twice(void **state)
{
	struct net_pod *first;
	struct net_pod *second;
	struct err e = { 0 };

	need_root();
	first = open_pod();
	second = open_pod();
	connect_pod(first);
	assert_int_equal(net_pod_connect(second, open_in(peer_ns, open_tap), &e), -EBUSY);
	net_pod_free(second);
	assert_passes(net_pod_tap(first, 0), "far0");
	net_pod_free(first);
}

static void test_two_interfaces(void **state)
{
	struct net_pod *pod;
	char *before;

	need_root();
	assert_int_equal(sh("ip -n $pod link add net1 type veth peer name far1 netns $peer && "
			    "ip -n $pod link set net1 up && ip -n $peer link set far1 up"),
			 0);
	before = look_first();
	pod = open_pod();
	assert_int_equal(net_pod_config(pod)->n_interfaces, 2);
	connect_pod(pod);
	assert_passes(net_pod_tap(pod, 0), "far0");
	assert_passes(net_pod_tap(pod, 1), "far1");
	net_pod_free(pod);
	assert_unchanged(before);
}

/* The pod's only link is one of the given type on top of a link of the other side's. */
static void check_stacked(const char *add, const char *peer)
{
	struct net_pod *pod;
	char *before;

	need_root();
	assert_int_equal(sh("ip -n $pod link del eth0 && ip -n $peer link add low type veth peer "
			    "name high && ip -n $peer link set low up && "
			    "ip -n $peer link set high up"),
			 0);
	need(add);
	assert_int_equal(sh("ip -n $pod link set eth0 up"), 0);
	before = look_first();
	pod = open_pod();
	connect_pod(pod);
	assert_passes(net_pod_tap(pod, 0), peer);
	net_pod_free(pod);
	assert_unchanged(before);
}

static void test_macvlan(void **state)
{
	check_stacked("ip -n $peer link add eth0 link low netns $pod type macvlan mode bridge",
		      "high");
}

static void test_vlan(void **state)
{
	check_stacked("ip -n $peer link add eth0 link low netns $pod type vlan id 7 && "
		      "ip -n $peer link add tagged link high type vlan id 7 && "
		      "ip -n $peer link set tagged up",
		      "tagged");
}

static void test_ipvlan(void **state)
{
	check_stacked("ip -n $peer link add eth0 link low netns $pod type ipvlan mode l2 && "
		      "ip -n $pod addr add 10.9.9.1/24 dev eth0 && "
		      "ip -n $peer addr add 10.9.9.2/24 dev high",
		      "high");
}

/* A tap device of somebody else: its frames come from and go to that one's descriptor. */
static int open_foreign_tap(void *data)
{
	struct ifreq ifr = { .ifr_name = "tap0", .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	return fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : fd;
}

static void test_tap(void **state)
{
	struct net_pod *pod;
	uint64_t inode;
	struct frame f;
	char *before;
	int foreign;
	int ns;

	need_root();
	ns = net_ns_open(pod_path, &inode, NULL);
	foreign = net_ns_run(ns, open_foreign_tap, NULL);
	assert_true(foreign >= 0);
	assert_int_equal(sh("ip -n $pod link del eth0 && ip -n $pod link set tap0 up"), 0);
	before = look_first();
	pod = open_pod();
	connect_pod(pod);
	make_frame(&f, "through two taps");
	assert_int_equal(write(foreign, &f, sizeof(f)), sizeof(f));
	expect_frame(net_pod_tap(pod, 0), 10, "through two taps");
	net_pod_free(pod);
	assert_unchanged(before);
	close(foreign);
	close(ns);
}

/* Our tap says nothing of itself: the guest would see a neighbour that isn't there. */
static void test_tap_is_silent(void **state)
{
	struct net_pod *pod;
	char *during;

	need_root();
	pod = open_pod();
	connect_pod(pod);
	during = look();
	assert_non_null(strstr(during, "addrgenmode none"));
	assert_non_null(strstr(during, "vnet_hdr on"));
	assert_non_null(strstr(during, "Egress Redirect to device eth0"));
	assert_non_null(strstr(during, "Egress Redirect to device podvm"));
	free(during);
	net_pod_free(pod);
}

static void test_refused(void **state)
{
	struct err e = { 0 };
	char *after;

	need_root();
	assert_int_equal(open_error("/proc/self/ns/net", &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "the host's network"));
	if (access("/proc/1/ns/net", R_OK) == 0)
		assert_int_equal(open_error("/proc/1/ns/net", NULL), -EOPNOTSUPP);
	assert_int_equal(open_error("/proc/self/ns/uts", NULL), -EINVAL);
	assert_int_equal(open_error("/etc/passwd", NULL), -EINVAL);
	assert_int_equal(open_error("/run/netns/\n", NULL), -EINVAL);
	assert_int_equal(open_error("/nonexistent", NULL), -ENOENT);
	need("ip -n $pod link add br0 type bridge && ip -n $pod link set br0 up");
	assert_int_equal(open_error(pod_path, &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "br0"));
	after = look();
	assert_null(strstr(after, "podvm"));
	assert_null(strstr(after, "ingress"));
	free(after);
}

/* Somebody else's traffic control stays as it is; what was done to other interfaces is undone. */
static void test_qdisc_there(void **state)
{
	struct net_pod *pod;
	struct err e = { 0 };
	char *before;

	need_root();
	assert_int_equal(sh("ip -n $pod link add net1 type veth peer name far1 netns $peer && "
			    "ip -n $pod link set net1 up && tc -n $pod qdisc add dev net1 ingress"),
			 0);
	before = look_first();
	pod = open_pod();
	assert_int_equal(net_pod_connect(pod, -1, &e), -EBUSY);
	assert_non_null(strstr(e.msg, "net1"));
	net_pod_free(pod);
	assert_unchanged(before);
}

static void test_two_sandboxes(void **state)
{
	struct net_pod *first;
	struct net_pod *second;
	struct err e = { 0 };

	need_root();
	first = open_pod();
	second = open_pod();
	connect_pod(first);
	assert_int_equal(open_error(pod_path, &e), -EBUSY);
	assert_int_equal(net_pod_connect(second, -1, &e), -EBUSY);
	net_pod_free(second);
	assert_passes(net_pod_tap(first, 0), "far0");
	net_pod_free(first);
}

static int keep_line(void *data, const char *line)
{
	snprintf(data, 128, "%s", line);
	return 0;
}

/* The owner is killed: the tap goes with it, the filter on the interface is left. */
static void test_undo_after_crash(void **state)
{
	char line[128] = "";
	struct net_pod *pod;
	char *before;
	char *left;
	int status;
	pid_t child;

	need_root();
	before = look_first();
	pod = open_pod();
	assert_int_equal(net_pod_journal(pod, keep_line, line), 0);
	net_pod_free(pod);
	child = fork();
	if (child == 0) {
		struct net_pod_options options = { .netns = pod_path };

		_exit(net_pod_open(&options, &pod, NULL) < 0 || net_pod_connect(pod, -1, NULL) < 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	left = look();
	assert_non_null(strstr(left, "qdisc ingress"));
	free(left);
	assert_int_equal(net_pod_undo(line), 0);
	assert_int_equal(net_pod_undo(line), 0);
	assert_unchanged(before);
}

static void test_undo_while_running(void **state)
{
	char line[128] = "";
	struct net_pod *pod;
	char *before;

	need_root();
	before = look_first();
	pod = open_pod();
	assert_int_equal(net_pod_journal(pod, keep_line, line), 0);
	connect_pod(pod);
	assert_int_equal(net_pod_undo(line), 0);
	net_pod_free(pod);
	assert_unchanged(before);
}

static void test_undo_gone(void **state)
{
	char line[128] = "";
	char other[160];
	struct net_pod *pod;
	char *before;

	need_root();
	pod = open_pod();
	assert_int_equal(net_pod_journal(pod, keep_line, line), 0);
	net_pod_free(pod);
	/* Another namespace at that path: it isn't touched. */
	assert_int_equal(sh("tc -n $pod qdisc add dev eth0 ingress"), 0);
	before = look_first();
	snprintf(other, sizeof(other), "1%s", line);
	assert_int_equal(net_pod_undo(other), 0);
	assert_unchanged(before);
	assert_int_equal(sh("ip -n $pod link del eth0"), 0);
	assert_int_equal(net_pod_undo(line), 0);
	assert_int_equal(sh("ip netns del $pod"), 0);
	assert_int_equal(net_pod_undo(line), 0);
	assert_int_equal(net_pod_undo(""), -EINVAL);
	assert_int_equal(net_pod_undo("1 2"), -EINVAL);
	assert_int_equal(net_pod_undo("1 -2 /x"), -EINVAL);
}

/* ---- connections to localhost ---- */

static int connect_socket(void *data)
{
	const struct sockaddr *addr = data;
	socklen_t len = addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
						    : sizeof(struct sockaddr_in);
	int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, addr, len) == 0)
		return fd;
	close(fd);
	return -errno;
}

static int connect_to(const char *address, uint16_t port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	bool is6 = strchr(address, ':');
	uint64_t inode;
	int ns = net_ns_open(pod_path, &inode, NULL);
	int r;

	inet_pton(is6 ? AF_INET6 : AF_INET, address, is6 ? (void *)&v6.sin6_addr : &v4.sin_addr);
	r = net_ns_run(ns, connect_socket, is6 ? (void *)&v6 : &v4);
	close(ns);
	return r;
}

static void assert_accepted(int listener, const char *address, uint16_t port)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };
	struct sockaddr_in6 local;
	socklen_t len = sizeof(local);
	int near = connect_to(address, port);
	int conn;

	assert_true(near >= 0);
	assert_int_equal(poll(&p, 1, TIMEOUT_MS), 1);
	conn = accept(listener, NULL, NULL);
	assert_true(conn >= 0);
	assert_int_equal(getsockname(conn, (struct sockaddr *)&local, &len), 0);
	assert_int_equal(ntohs(local.sin6_port), port);
	close(conn);
	close(near);
}

static void test_listener(void **state)
{
	struct net_pod *pod;
	int listener;
	struct err e = { 0 };

	need_root();
	assert_int_equal(sh("ip -n $pod addr add 10.77.0.2/24 dev eth0"), 0);
	pod = open_pod();
	assert_int_equal(connect_to("127.0.0.1", 80), -ECONNREFUSED);
	listener = net_pod_listener(pod, &e);
	if (listener < 0)
		fail_msg("%s", e.msg);
	assert_accepted(listener, "127.0.0.1", 80);
	assert_accepted(listener, "127.9.9.9", 65535);
	assert_accepted(listener, "::1", 8080);
	assert_int_equal(net_pod_listener(pod, NULL), listener);
	/* It's for loopback addresses only. */
	assert_int_equal(connect_to("10.77.0.2", 80), -ECONNREFUSED);
	net_pod_free(pod);
	assert_int_equal(connect_to("127.0.0.1", 80), -ECONNREFUSED);
}

#define LIVE(f) cmocka_unit_test_setup_teardown(f, setup_ns, teardown_ns)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LIVE(test_read),
		LIVE(test_redirect),
		LIVE(test_a_tap_device_moves_in),
		LIVE(test_a_tap_device_does_not_move_in_twice),
		LIVE(test_two_interfaces),
		LIVE(test_macvlan),
		LIVE(test_vlan),
		LIVE(test_ipvlan),
		LIVE(test_tap),
		LIVE(test_tap_is_silent),
		LIVE(test_refused),
		LIVE(test_qdisc_there),
		LIVE(test_two_sandboxes),
		LIVE(test_undo_after_crash),
		LIVE(test_undo_while_running),
		LIVE(test_undo_gone),
		LIVE(test_listener),
	};

	return cmocka_run_group_tests_name("net_pod", tests, NULL, NULL);
}
