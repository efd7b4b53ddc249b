/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pod networks: what a guest is told of network namespaces as a kernel has described them. The
 * dumps were recorded with Debian's Linux 6.1, one per kind of link and of route; they are the fuzz
 * target's corpus as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/str.h"
#include "net/pod_internal.h"

#define DUMP_MAX 65536

static struct net_config config;
static struct err error;

/* Return: As net_pod_plan() */
static int plan(const char *dump)
{
	_cleanup_(freep) struct net_model *model = calloc(1, sizeof(*model));
	_cleanup_(freep) char *data = malloc(DUMP_MAX);
	_cleanup_(freep) char *path = str_printf("%s/%s", RTNL_DUMPS, dump);
	_cleanup_(close_fdp) int fd = open(path, O_RDONLY | O_CLOEXEC);
	int links[NET_MAX_INTERFACES];
	ssize_t n;

	if (fd < 0)
		fail_msg("there is no %s", path);
	n = fd_read_full(fd, data, DUMP_MAX);
	assert_true(n > 0);
	assert_int_equal(net_rtnl_parse(data, (size_t)n, 1, model), 1);
	net_config_done(&config);
	error = (struct err){ 0 };
	return net_pod_plan(model, &config, links, &error);
}

static void test_links_that_can(void **state)
{
	static const struct {
		const char *dump;
		const char *name;
	} can[] = {
		{ "link-veth", "eth0" }, { "link-macvlan", "eth0" }, { "link-ipvlan-l2", "eth0" },
		{ "link-vlan", "eth0" }, { "link-tap", "tap0" },     { "link-physical", "phys0" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(can); i++) {
		if (plan(can[i].dump) < 0)
			fail_msg("%s: %s", can[i].dump, error.msg);
		assert_int_equal(config.n_interfaces, 1);
		assert_string_equal(config.interfaces[0].name, can[i].name);
		assert_int_equal(config.interfaces[0].mtu, 1500);
		assert_int_equal(config.interfaces[0].accept_ra, 1);
		assert_false(config.interfaces[0].no_ipv6);
	}
}

/* Each is refused by its name, and the reason says what is wrong with it. */
static void assert_refused(const char *dump, const char *why)
{
	assert_int_equal(plan(dump), -EOPNOTSUPP);
	if (!strstr(error.msg, why))
		fail_msg("%s: '%s' instead of '%s'", dump, error.msg, why);
	assert_true(*error.hint);
}

static void test_links_that_cannot(void **state)
{
	static const struct {
		const char *dump;
		const char *why;
	} cannot[] = {
		{ "link-ipvlan-l3",
		  "\"eth0\" (\"ipvlan\") can't be given to a VM: an ipvlan must" },
		{ "link-ipvlan-l3s", "an ipvlan must be in mode l2" },
		{ "link-macvtap",
		  "\"eth0\" (\"macvtap\") can't be given to a VM: links of its kind" },
		{ "link-ipvtap", "\"ipvtap\"" },
		{ "link-tun", "\"tun0\" (\"tun\") can't be given to a VM: it has no Ethernet" },
		{ "link-dummy", "\"dummy\"" },
		{ "link-bridge", "\"bridge\"" },
		{ "link-bridge-port", "can't be given to a VM" },
		{ "link-bond", "\"bond\"" },
		{ "link-bond-port", "can't be given to a VM" },
		{ "link-team", "\"team\"" },
		{ "link-vrf", "\"vrf\"" },
		{ "link-vxlan", "\"vxlan\"" },
		{ "link-geneve", "\"geneve\"" },
		{ "link-wireguard", "\"wireguard\"" },
		{ "link-ipip", "\"t0\" (\"ipip\")" },
		{ "link-gre", "\"gre\"" },
		{ "link-gretap", "\"gretap\"" },
		{ "link-sit", "\"sit\"" },
		{ "link-ip6tnl", "\"ip6tnl\"" },
		{ "link-vti", "\"vti\"" },
		{ "link-xfrm", "\"xfrm\"" },
		{ "link-ifb", "\"ifb\"" },
		{ "link-macsec", "\"macsec\"" },
		{ "link-nlmon", "\"nlmon\"" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cannot); i++)
		assert_refused(cannot[i].dump, cannot[i].why);
}

/* What modules put into every namespace is down. */
static void test_links_of_the_kernel(void **state)
{
	assert_int_equal(plan("link-fallback"), 0);
	assert_int_equal(config.n_interfaces, 0);
}

static const struct net_route *find_route(const char *destination)
{
	for (size_t i = 0; i < config.n_routes; i++)
		if (str_eq(config.routes[i].destination, destination))
			return &config.routes[i];
	fail_msg("no route to %s", destination);
	return NULL;
}

static void test_addresses_and_neighbors(void **state)
{
	const struct net_interface *eth0 = &config.interfaces[0];

	assert_int_equal(plan("routes-all"), 0);
	assert_int_equal(eth0->accept_ra, 0);
	assert_int_equal(eth0->n_addresses, 4);
	assert_string_equal(eth0->addresses[0], "10.1.2.3/24");
	assert_string_equal(eth0->addresses[1], "10.3.0.1/32"); /* of 10.3.0.2 */
	assert_string_equal(eth0->addresses[2], "10.1.2.4/24"); /* secondary, with a label */
	assert_string_equal(eth0->addresses[3], "fd00::3/64");
	/* Permanent ones only. */
	assert_int_equal(config.n_neighbors, 2);
	assert_string_equal(config.neighbors[0].address, "169.254.9.9");
	assert_string_equal(config.neighbors[1].address, "fd00::9");
	assert_string_equal(config.neighbors[1].mac, "ee:ee:ee:ee:ee:ef");
}

static void test_routes(void **state)
{
	const struct net_route *r;

	assert_int_equal(plan("routes-all"), 0);
	assert_int_equal(config.n_routes, 11);
	assert_string_equal(find_route("0.0.0.0/0")->gateway, "10.1.2.1");
	r = find_route("10.1.2.0/24");
	assert_int_equal(r->scope, RT_SCOPE_LINK);
	assert_string_equal(r->source, "10.1.2.3");
	assert_string_equal(find_route("10.3.0.2/32")->source, "10.3.0.1");
	r = find_route("10.5.0.0/16");
	assert_int_equal(r->mtu, 1300);
	assert_int_equal(r->advmss, 1200);
	assert_int_equal(r->metric, 7);
	assert_true(find_route("10.6.0.0/16")->onlink);
	assert_int_equal(find_route("10.7.0.0/16")->type, RTN_BLACKHOLE);
	assert_int_equal(find_route("10.8.0.0/16")->type, RTN_PROHIBIT);
	assert_int_equal(find_route("fd07::/64")->type, RTN_UNREACHABLE);
	/* From a router advertisement, by way of a link-local address. */
	assert_string_equal(find_route("fd05::/64")->gateway, "fe80::1");
	assert_string_equal(find_route("::/0")->gateway, "fd00::1");
}

static void test_routes_that_cannot(void **state)
{
	assert_refused("route-multipath", "10.10.0.0/16 can't be given to a VM: it has several");
	assert_refused("route-encap", "it encapsulates");
	assert_refused("route-tos", "type of service");
	assert_refused("route-from", "some sources only");
	assert_refused("route-via-inet6", "another address family");
	assert_refused("route-throw", "routes of its type");
	assert_refused("rule-from", "policy routing (a rule of priority 32765)");
	assert_refused("rule-mark", "policy routing");
	/* A next hop that is an object of its own is one as any other. */
	assert_int_equal(plan("route-nexthop-object"), 0);
	assert_string_equal(find_route("10.12.0.0/16")->gateway, "10.1.2.1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_links_that_can),
		cmocka_unit_test(test_links_that_cannot),
		cmocka_unit_test(test_links_of_the_kernel),
		cmocka_unit_test(test_addresses_and_neighbors),
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_routes_that_cannot),
	};

	return cmocka_run_group_tests_name("net_pod_dump", tests, NULL, NULL);
}
