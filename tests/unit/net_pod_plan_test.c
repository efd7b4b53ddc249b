/* SPDX-License-Identifier: Apache-2.0 */
/* Pod networks: what a guest is told of a network namespace, with made-up namespaces. */
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <arpa/inet.h>

#include "base/str.h"
#include "net/pod_internal.h"

static struct net_model model;
static struct net_config config;
static int links[NET_MAX_INTERFACES];

static int setup_model(void **state)
{
	model = (struct net_model){
		.n_links = 2,
		.links = {
			{ .index = 1, .flags = IFF_UP | IFF_LOOPBACK, .name = "lo", .type = ARPHRD_LOOPBACK },
			{
				.index = 2,
				.flags = IFF_UP,
				.mtu = 1450,
				.name = "eth0",
				.kind = "veth",
				.type = ARPHRD_ETHER,
				.mac = { 0x02, 0, 0, 0, 0, 1 },
				.has_mac = true,
			},
		},
	};
	net_config_done(&config);
	return 0;
}

static int plan(struct err *e)
{
	config = (struct net_config){ 0 };
	return net_pod_plan(&model, &config, links, e);
}

static void assert_refused(const char *why)
{
	struct err e = { 0 };

	assert_int_equal(plan(&e), -EOPNOTSUPP);
	if (!strstr(e.msg, why))
		fail_msg("'%s' instead of '%s'", e.msg, why);
	assert_true(*e.hint);
}

static struct net_ip ip(const char *text)
{
	struct net_ip to = { .family = strchr(text, ':') ? AF_INET6 : AF_INET };

	assert_int_equal(inet_pton(to.family, text, to.bytes), 1);
	return to;
}

static struct net_model_route *add_route(const char *destination, int prefix, const char *gateway)
{
	struct net_model_route *r = &model.routes[model.n_routes++];

	*r = (struct net_model_route){
		.index = 2,
		.type = RTN_UNICAST,
		.destination = ip(destination),
		.prefix = (uint8_t)prefix,
	};
	if (gateway)
		r->gateway = ip(gateway);
	return r;
}

static void add_address(const char *address, int prefix)
{
	model.addresses[model.n_addresses++] = (struct net_model_address){
		.index = 2,
		.ip = ip(address),
		.prefix = (uint8_t)prefix,
	};
}

static void test_plan_interface(void **state)
{
	add_address("10.1.2.3", 24);
	add_address("fd00::3", 64);
	add_address("fe80::1", 64); /* the guest makes its own */
	model.links[1].accept_ra = 2;
	model.links[1].no_ipv6 = true;
	assert_int_equal(plan(NULL), 0);
	assert_int_equal(config.n_interfaces, 1);
	assert_int_equal(links[0], 2);
	assert_string_equal(config.interfaces[0].name, "eth0");
	assert_string_equal(config.interfaces[0].mac, "02:00:00:00:00:01");
	assert_int_equal(config.interfaces[0].mtu, 1450);
	assert_true(config.interfaces[0].no_prefix_routes);
	assert_int_equal(config.interfaces[0].accept_ra, 2);
	assert_true(config.interfaces[0].no_ipv6);
	assert_int_equal(config.interfaces[0].n_addresses, 2);
	assert_string_equal(config.interfaces[0].addresses[0], "10.1.2.3/24");
	assert_string_equal(config.interfaces[0].addresses[1], "fd00::3/64");
}

/* In the order in which they were made, whatever order the kernel lists them in. */
static void test_plan_order(void **state)
{
	model.links[model.n_links] = model.links[1];
	model.links[1].index = 5;
	model.links[1].mac[5] = 9;
	snprintf(model.links[1].name, IFNAMSIZ, "net1");
	model.n_links++;
	assert_int_equal(plan(NULL), 0);
	assert_int_equal(config.n_interfaces, 2);
	assert_string_equal(config.interfaces[0].name, "eth0");
	assert_string_equal(config.interfaces[1].name, "net1");
	assert_int_equal(links[1], 5);
}

/* Links that the kernel puts into every namespace (tunl0, ...) are down. */
static void test_plan_down(void **state)
{
	model.links[1].flags = 0;
	snprintf(model.links[1].kind, sizeof(model.links[1].kind), "ipip");
	add_route("10.0.0.0", 8, NULL);
	assert_int_equal(plan(NULL), 0);
	assert_int_equal(config.n_interfaces, 0);
	assert_int_equal(config.n_routes, 0);
}

static void test_plan_kinds(void **state)
{
	static const char *const good[] = { "veth", "macvlan", "ipvlan", "vlan", "tun", "" };
	static const char *const bad[] = { "bridge", "netkit", "wireguard", "vxlan", "macvtap" };
	struct net_model_link *l = &model.links[1];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		snprintf(l->kind, sizeof(l->kind), "%s", good[i]);
		assert_int_equal(plan(NULL), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(l->kind, sizeof(l->kind), "%s", bad[i]);
		assert_refused(bad[i]);
	}
}

static void test_plan_refused_links(void **state)
{
	struct net_model_link *l = &model.links[1];

	snprintf(l->kind, sizeof(l->kind), "ipvlan");
	l->ipvlan_mode = IPVLAN_MODE_L3;
	assert_refused("l2");
	setup_model(NULL);
	snprintf(l->kind, sizeof(l->kind), "tun");
	l->type = ARPHRD_NONE;
	assert_refused("no Ethernet frames");
	setup_model(NULL);
	l->flags |= IFF_NOARP;
	assert_refused("NOARP");
	setup_model(NULL);
	l->master = 7;
	assert_refused("port of another");
	setup_model(NULL);
	snprintf(l->name, IFNAMSIZ, "a\033[2J");
	assert_refused("\"a\\x1b[2J\"");
	setup_model(NULL);
	model.links[2] = model.links[1];
	model.links[2].index = 3;
	model.n_links = 3;
	assert_refused("same MAC");
}

static void test_plan_other_sandbox(void **state)
{
	struct err e = { 0 };

	snprintf(model.links[1].name, IFNAMSIZ, "podvm7");
	snprintf(model.links[1].kind, sizeof(model.links[1].kind), "tun");
	assert_int_equal(plan(&e), -EBUSY);
	assert_non_null(strstr(e.msg, "podvm7"));
}

/* A gateway must be known to be reached before it's used. */
static void test_plan_routes(void **state)
{
	struct net_model_route *r = add_route("0.0.0.0", 0, "10.1.2.1");

	r->mtu = 1400;
	r->advmss = 1200;
	r->metric = 50;
	r->onlink = true;
	r = add_route("10.1.2.0", 24, NULL);
	r->scope = RT_SCOPE_LINK;
	r->source = ip("10.1.2.3");
	r->protocol = RTPROT_KERNEL;
	add_route("fe80::", 64, NULL)->protocol = RTPROT_KERNEL;
	add_route("172.16.0.0", 12, NULL)->index = 1; /* of lo */
	assert_int_equal(plan(NULL), 0);
	assert_int_equal(config.n_routes, 2);
	assert_string_equal(config.routes[0].destination, "10.1.2.0/24");
	assert_string_equal(config.routes[0].source, "10.1.2.3");
	assert_string_equal(config.routes[0].gateway, "");
	assert_int_equal(config.routes[0].scope, RT_SCOPE_LINK);
	assert_string_equal(config.routes[1].destination, "0.0.0.0/0");
	assert_string_equal(config.routes[1].gateway, "10.1.2.1");
	assert_string_equal(config.routes[1].device, "eth0");
	assert_int_equal(config.routes[1].mtu, 1400);
	assert_int_equal(config.routes[1].advmss, 1200);
	assert_int_equal(config.routes[1].metric, 50);
	assert_true(config.routes[1].onlink);
}

/* The kernel gives those of IPv6 to the loopback interface. */
static void test_plan_routes_to_nowhere(void **state)
{
	struct net_model_route *r = add_route("10.9.0.0", 16, NULL);

	r->type = RTN_BLACKHOLE;
	r->index = 0;
	r = add_route("fd99::", 64, NULL);
	r->type = RTN_UNREACHABLE;
	r->index = 1;
	r = add_route("::", 0, NULL);
	r->type = RTN_UNREACHABLE;
	r->index = 1;
	r->protocol = RTPROT_KERNEL;
	assert_int_equal(plan(NULL), 0);
	assert_int_equal(config.n_routes, 2);
	assert_string_equal(config.routes[0].destination, "10.9.0.0/16");
	assert_int_equal(config.routes[0].type, RTN_BLACKHOLE);
	assert_string_equal(config.routes[0].device, "");
	assert_string_equal(config.routes[1].destination, "fd99::/64");
	assert_int_equal(config.routes[1].type, RTN_UNREACHABLE);
}

static void test_plan_refused_rules(void **state)
{
	model.rules = true;
	model.rule = 100;
	assert_refused("a rule of priority 100");
}

static void test_plan_refused_routes(void **state)
{
	add_route("10.9.0.0", 16, NULL)->type = RTN_THROW;
	assert_refused("10.9.0.0/16");
	model.n_routes = 0;
	add_route("0.0.0.0", 0, NULL)->multipath = true;
	assert_refused("several next hops");
	model.n_routes = 0;
	add_route("10.9.0.0", 16, NULL)->encap = true;
	assert_refused("encapsulates");
	model.n_routes = 0;
	add_route("10.9.0.0", 16, NULL)->selective = true;
	assert_refused("some sources");
	model.n_routes = 0;
	add_route("0.0.0.0", 0, "fe80::1");
	assert_refused("family");
}

static void test_plan_neighbors(void **state)
{
	model.neighbors[0] = (struct net_model_neighbor){
		.index = 2,
		.ip = ip("169.254.1.1"),
		.mac = { 0xee, 0xee, 0xee, 0xee, 0xee, 0xee },
	};
	model.neighbors[1] = model.neighbors[0];
	model.neighbors[1].index = 1;
	model.n_neighbors = 2;
	assert_int_equal(plan(NULL), 0);
	assert_int_equal(config.n_neighbors, 1);
	assert_string_equal(config.neighbors[0].address, "169.254.1.1");
	assert_string_equal(config.neighbors[0].mac, "ee:ee:ee:ee:ee:ee");
	assert_string_equal(config.neighbors[0].device, "eth0");
}

static void test_plan_limits(void **state)
{
	for (int i = 0; i <= NET_MAX_ADDRESSES; i++)
		add_address("10.1.2.3", 32);
	assert_int_equal(plan(NULL), -E2BIG);
	model.n_addresses = 0;
	for (int i = 0; i <= NET_MAX_ROUTES; i++)
		add_route("10.1.2.0", 24, NULL);
	assert_int_equal(plan(NULL), -E2BIG);
	model.n_routes = 0;
	for (int i = 0; i <= NET_MAX_INTERFACES; i++) {
		model.links[i + 1] = model.links[1];
		model.links[i + 1].mac[5] = (uint8_t)i;
	}
	model.n_links = NET_MAX_INTERFACES + 2;
	assert_int_equal(plan(NULL), -E2BIG);
}

#define TEST(f) cmocka_unit_test_setup(f, setup_model)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_plan_interface),
		TEST(test_plan_order),
		TEST(test_plan_down),
		TEST(test_plan_kinds),
		TEST(test_plan_refused_links),
		TEST(test_plan_other_sandbox),
		TEST(test_plan_routes),
		TEST(test_plan_refused_routes),
		TEST(test_plan_neighbors),
		TEST(test_plan_limits),
		TEST(test_plan_routes_to_nowhere),
		TEST(test_plan_refused_rules),
	};

	return cmocka_run_group_tests_name("net_pod_plan", tests, NULL, NULL);
}
