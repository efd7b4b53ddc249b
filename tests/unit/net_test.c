/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/internal.h"
#include "net/net.h"

/* ---- ports ---- */

static void assert_port(const char *spec, enum net_proto proto, const char *address, int host,
			int guest, int count)
{
	struct net_port p;

	assert_int_equal(net_port_parse(spec, &p, NULL), 0);
	assert_int_equal(p.proto, proto);
	assert_string_equal(p.address, address);
	assert_int_equal(p.host, host);
	assert_int_equal(p.guest, guest);
	assert_int_equal(p.count, count);
}

static void test_ports(void **state)
{
	assert_port("8080:80", NET_TCP, "", 8080, 80, 1);
	assert_port("8080:80/tcp", NET_TCP, "", 8080, 80, 1);
	assert_port("5353:53/udp", NET_UDP, "", 5353, 53, 1);
	assert_port("127.0.0.1:8080:80", NET_TCP, "127.0.0.1", 8080, 80, 1);
	assert_port("[::1]:8080:80", NET_TCP, "::1", 8080, 80, 1);
	assert_port("[0:0::1]:1:65535/udp", NET_UDP, "::1", 1, 65535, 1);
	assert_port("8000-8010:9000-9010", NET_TCP, "", 8000, 9000, 11);
	assert_port("1-65535:1-65535", NET_TCP, "", 1, 1, 65535);
}

static void test_bad_ports(void **state)
{
	static const char *const specs[] = {
		"",
		"80",
		":80",
		"80:",
		"0:80",
		"80:0",
		"65536:80",
		"80:65536",
		"a:80",
		"80:80/sctp",
		"80:80/",
		"-1:80",
		"+1:80",
		" 1:80",
		"90-80:90-80",
		"80-90:80",
		"80:80-90",
		"80-:80",
		"-80:80",
		"1.2.3:80:80",
		":80:80",
		"::1:80:80",
		"[::1:80:80",
		"[::1]80:80",
		"[1.2.3.4]:80:80",
		"[]:80:80",
		"1.2.3.4::80",
		"80:80:80:80",
		"80:80/tcp/udp",
		"host:80:80",
		"99999999999999999999:80",
	};
	struct net_port p;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		e = (struct err){ 0 };
		if (net_port_parse(specs[i], &p, &e) != -EINVAL)
			fail_msg("\"%s\" was accepted", specs[i]);
		assert_non_null(strstr(e.msg, "cannot publish"));
		assert_non_null(strstr(e.hint, "[IP:]HOST:GUEST"));
	}
}

static void test_port_messages(void **state)
{
	struct err e = { 0 };
	struct net_port p;

	net_port_parse("80", &p, &e);
	assert_string_equal(e.msg, "cannot publish \"80\": the port of the host is missing");
	net_port_parse("80-90:80-91", &p, &e);
	assert_string_equal(e.msg, "cannot publish \"80-90:80-91\": the ranges of host and guest "
				   "differ in length");
}

static void test_ports_together(void **state)
{
	struct net_port p[2];
	struct err e = { 0 };

	net_port_parse("8000-8010:1-11", &p[0], NULL);
	net_port_parse("8010:80", &p[1], NULL);
	assert_int_equal(net_ports_check(p, 2, &e), -EINVAL);
	assert_string_equal(e.msg, "port 8010/tcp of the host is published twice");
	net_port_parse("8010:80/udp", &p[1], NULL);
	assert_int_equal(net_ports_check(p, 2, NULL), 0);
	net_port_parse("8011:80", &p[1], NULL);
	assert_int_equal(net_ports_check(p, 2, NULL), 0);
	net_port_parse("10000-11500:10000-11500", &p[1], NULL);
	assert_int_equal(net_ports_check(p, 2, &e), -EINVAL);
	assert_string_equal(e.msg, "1512 ports are published, more than 1024");
}

/* ---- names ---- */

static void parse(const char *text, struct net_dns *dns)
{
	*dns = (struct net_dns){ 0 };
	assert_int_equal(net_dns_parse(text, strlen(text), dns), 0);
}

static void test_resolv(void **state)
{
	_cleanup_(net_dns_done) struct net_dns dns;
	_cleanup_(buf_done) struct buf out = { 0 };

	parse("# the network's\n"
	      "nameserver 192.0.2.53\n"
	      "nameserver\t2001:db8::53 # a remark\n"
	      "domain old.example\n"
	      "search corp.example lab.example\r\n"
	      "options ndots:2 edns0\n"
	      "options rotate",
	      &dns);
	assert_int_equal(net_resolv_text(&dns, &out), 0);
	assert_string_equal(buf_cstr(&out), "search corp.example lab.example\n"
					    "nameserver 192.0.2.53\n"
					    "nameserver 2001:db8::53\n"
					    "options ndots:2 edns0 rotate\n");
}

static void test_hostile_resolv(void **state)
{
	_cleanup_(net_dns_done) struct net_dns dns;
	_cleanup_(buf_done) struct buf text = { 0 };

	parse("nameserver 192.0.2.999\nnameserver fe80::1%eth0\nnameserver\nnameserver \n"
	      "search $(reboot) a;b ok.example\noptions `x` ndots:1\nsortlist 1.2.3.4\n\x1b\n",
	      &dns);
	assert_int_equal(dns.n_servers, 0);
	assert_int_equal(dns.search.n, 1);
	assert_string_equal(dns.search.v[0], "ok.example");
	assert_int_equal(dns.options.n, 1);
	net_dns_done(&dns);

	for (int i = 0; i < 100; i++)
		buf_printf(&text, "nameserver 10.0.0.%d\noptions a%d\n", i, i);
	buf_printf(&text, "search");
	for (int i = 0; i < 100; i++)
		buf_printf(&text, " d%d", i);
	parse(buf_cstr(&text), &dns);
	assert_int_equal(dns.n_servers, NET_MAX_DNS);
	assert_int_equal(dns.options.n, NET_MAX_OPTIONS);
	assert_int_equal(dns.search.n, NET_MAX_SEARCH);
}

static void test_user_dns(void **state)
{
	_cleanup_(net_dns_done) struct net_dns dns = { 0 };
	_cleanup_(net_dns_done) struct net_dns host;
	struct err e = { 0 };

	assert_int_equal(net_dns_add_server(&dns, "example.org", &e), -EINVAL);
	assert_string_equal(e.msg, "\"example.org\" is not an IP address");
	assert_int_equal(net_dns_add_search(&dns, "a b", NULL), -EINVAL);
	assert_int_equal(net_dns_add_option(&dns, "ndots:1\nnameserver 1.1.1.1", NULL), -EINVAL);
	assert_int_equal(net_dns_add_server(&dns, "9.9.9.9", NULL), 0);
	for (int i = 1; i < NET_MAX_DNS; i++)
		assert_int_equal(net_dns_add_server(&dns, "::1", NULL), 0);
	assert_int_equal(net_dns_add_server(&dns, "9.9.9.9", NULL), -E2BIG);

	parse("nameserver 192.0.2.53\nsearch corp.example\n", &host);
	assert_int_equal(net_dns_merge(&dns, &host), 0);
	assert_string_equal(dns.servers[0], "9.9.9.9");
	assert_string_equal(dns.search.v[0], "corp.example");
}

static void test_hostnames(void **state)
{
	struct err e = { 0 };

	assert_int_equal(net_hostname_check("web-1.example", NULL), 0);
	assert_int_equal(net_hostname_check("1", NULL), 0);
	assert_int_equal(net_hostname_check("", NULL), -EINVAL);
	assert_int_equal(net_hostname_check("-a", NULL), -EINVAL);
	assert_int_equal(net_hostname_check("a-", NULL), -EINVAL);
	assert_int_equal(net_hostname_check("a..b", NULL), -EINVAL);
	assert_int_equal(net_hostname_check("a-.b", NULL), -EINVAL);
	assert_int_equal(net_hostname_check("a.", NULL), -EINVAL);
	assert_int_equal(net_hostname_check("a_b", NULL), -EINVAL);
	assert_int_equal(net_hostname_check("a\nb", &e), -EINVAL);
	assert_string_equal(e.msg, "\"a\\x0ab\" is not a host name");
	assert_int_equal(net_hostname_check("0123456789012345678901234567890123456789"
					    "01234567890123456789abcd",
					    NULL),
			 -EINVAL); /* 64 in one label */
}

static void test_hosts(void **state)
{
	_cleanup_(buf_done) struct buf out = { 0 };
	_cleanup_(buf_done) struct buf alone = { 0 };
	_cleanup_(strv_done) struct strv extra = { 0 };
	struct net_config config = {
		.interfaces = { { .addresses = { "10.0.2.15/24", "fd00::15/64" },
				  .n_addresses = 2 } },
		.n_interfaces = 1,
	};

	strv_add_all(&extra, "db:192.0.2.7", "six:[2001:db8::7]", "seven:2001:db8::8", NULL);
	assert_int_equal(net_hosts_text("web", &config, extra.v, &out), 0);
	assert_string_equal(buf_cstr(&out), "192.0.2.7\tdb\n"
					    "2001:db8::7\tsix\n"
					    "2001:db8::8\tseven\n"
					    "127.0.0.1\tlocalhost localhost.localdomain\n"
					    "::1\tlocalhost localhost.localdomain ip6-localhost\n"
					    "10.0.2.15\tweb\n"
					    "fd00::15\tweb\n");
	config.n_interfaces = 0;
	assert_int_equal(net_hosts_text("web", &config, NULL, &alone), 0);
	assert_non_null(strstr(buf_cstr(&alone), "127.0.1.1\tweb\n"));
}

static void test_host_entries(void **state)
{
	struct err e = { 0 };

	assert_int_equal(net_host_entry_check("db:192.0.2.7", NULL), 0);
	assert_int_equal(net_host_entry_check("db:::1", NULL), 0);
	assert_int_equal(net_host_entry_check("db", NULL), -EINVAL);
	assert_int_equal(net_host_entry_check(":1.2.3.4", NULL), -EINVAL);
	assert_int_equal(net_host_entry_check("db:", NULL), -EINVAL);
	assert_int_equal(net_host_entry_check("db:[]", NULL), -EINVAL);
	assert_int_equal(net_host_entry_check("a b:1.2.3.4", &e), -EINVAL);
	assert_string_equal(e.msg, "\"a b:1.2.3.4\" is not of the form NAME:IP");
}

/* ---- user mode ---- */

static const struct net_host both = { .v4 = "eth0", .v6 = "eth0" };

static void plan(const struct net_user_options *o, const struct net_host *host, const char *resolv,
		 struct net_user_plan *p, struct net_config *config)
{
	_cleanup_(net_dns_done) struct net_dns dns;

	parse(resolv, &dns);
	*config = (struct net_config){ 0 };
	assert_int_equal(net_user_plan(o, host, &dns, p, config, NULL), 0);
}

static void test_plan(void **state)
{
	_cleanup_(net_config_done) struct net_config c;
	struct net_user_options o = { 0 };
	struct net_user_plan p;

	plan(&o, &both, "nameserver 192.0.2.53\nnameserver 127.0.0.1\nsearch a.example\n", &p, &c);
	assert_int_equal(c.n_interfaces, 1);
	assert_string_equal(c.interfaces[0].name, "eth0");
	assert_int_equal(c.interfaces[0].mtu, 65520);
	assert_string_equal(c.interfaces[0].addresses[0], "10.0.2.15/24");
	assert_string_equal(c.interfaces[0].addresses[1], "fd2e:70d6:7a3c:1::15/64");
	assert_int_equal(c.n_routes, 2);
	assert_string_equal(c.routes[0].gateway, "10.0.2.2");
	assert_string_equal(c.routes[1].gateway, "fd2e:70d6:7a3c:1::2");
	assert_int_equal(c.dns.n_servers, 1);
	assert_string_equal(c.dns.servers[0], "192.0.2.53");
	assert_string_equal(c.dns.search.v[0], "a.example");
	assert_false(p.forward_dns);
}

static void test_plan_of_another_subnet(void **state)
{
	_cleanup_(net_config_done) struct net_config c;
	struct net_user_options o = { .subnet = "172.20.99.99/16", .subnet6 = "fd00:1::9/64" };
	struct net_user_plan p;

	plan(&o, &both, "", &p, &c);
	assert_string_equal(c.interfaces[0].addresses[0], "172.20.0.15/16");
	assert_string_equal(c.interfaces[0].addresses[1], "fd00:1::15/64");
	assert_string_equal(c.routes[0].gateway, "172.20.0.2");
}

static void test_loopback_resolver_is_forwarded(void **state)
{
	_cleanup_(net_config_done) struct net_config c;
	struct net_user_options o = { 0 };
	struct net_user_plan p;

	plan(&o, &both, "nameserver 127.0.0.1\n", &p, &c);
	assert_true(p.forward_dns);
	assert_int_equal(c.dns.n_servers, 1);
	assert_string_equal(c.dns.servers[0], "10.0.2.3");
	net_config_done(&c);
	plan(&o, &both, "nameserver ::1\n", &p, &c);
	assert_true(p.forward_dns6);
	assert_string_equal(c.dns.servers[0], "fd2e:70d6:7a3c:1::3");
}

static void test_user_dns_wins(void **state)
{
	_cleanup_(net_config_done) struct net_config c;
	_cleanup_(net_dns_done) struct net_dns mine = { 0 };
	struct net_user_options o = { .dns = &mine };
	struct net_user_plan p;

	net_dns_add_server(&mine, "9.9.9.9", NULL);
	plan(&o, &both, "nameserver 127.0.0.1\nsearch a.example\n", &p, &c);
	assert_false(p.forward_dns);
	assert_string_equal(c.dns.servers[0], "9.9.9.9");
	assert_string_equal(c.dns.search.v[0], "a.example");
}

static char *argv_text(const struct net_user_options *o, const struct net_user_plan *p)
{
	_cleanup_(strv_done) struct strv argv = { 0 };
	_cleanup_(buf_done) struct buf out = { 0 };

	assert_int_equal(net_user_argv(o, p, 3, &argv), 0);
	for (size_t i = 0; i < argv.n; i++)
		buf_printf(&out, "%s%s", i ? " " : "", argv.v[i]);
	return strdup(buf_cstr(&out));
}

static void test_arguments(void **state)
{
	_cleanup_(net_config_done) struct net_config c;
	_cleanup_(freep) char *text = NULL;
	struct net_port ports[3];
	struct net_user_options o = { .ports = ports, .n_ports = 3 };
	struct net_user_plan p;

	net_port_parse("8080:80", &ports[0], NULL);
	net_port_parse("127.0.0.1:8000-8002:80-82", &ports[1], NULL);
	net_port_parse("[::1]:53:53/udp", &ports[2], NULL);
	plan(&o, &both, "nameserver 127.0.0.53\n", &p, &c);
	strcpy(p.peer_mac, "02:00:00:00:00:01");
	text = argv_text(&o, &p);
	assert_string_equal(text,
			    "passt --foreground --quiet --no-map-gw --no-dhcp --no-dhcpv6 --no-ra "
			    "--mac-addr 02:00:00:00:00:01 --fd 3 --mtu 65520 "
			    "-a 10.0.2.15 -g 10.0.2.2 --dns-forward 10.0.2.3 --netmask 24 "
			    "-a fd2e:70d6:7a3c:1::15 -g fd2e:70d6:7a3c:1::2 "
			    "-t 8080-8080:80-80 -t 127.0.0.1/8000-8002:80-82 -u ::1/53-53:53-53");
}

/* Without a default route there is none in the guest, but ports can be published. */
static void test_offline_host(void **state)
{
	_cleanup_(net_config_done) struct net_config c;
	_cleanup_(freep) char *text = NULL;
	struct net_user_options o = { 0 };
	struct net_host none = { .v4 = "" };
	struct net_user_plan p;

	plan(&o, &none, "", &p, &c);
	assert_int_equal(c.n_routes, 0);
	assert_int_equal(c.interfaces[0].n_addresses, 1);
	text = argv_text(&o, &p);
	assert_non_null(strstr(text, " -4 -i lo "));
	assert_null(strstr(text, "fd2e:"));
}

static void test_host_routes(void **state)
{
	static const char route[] =
		"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n"
		"eth1\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n"
		"eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\n";
	static const char route6[] =
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
		"00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n"
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
		"fd000000000000000000000000000001 00000400 00000001 00000000 00000003     eth2\n";
	struct net_host host;

	net_host_parse(route, route6, &host);
	assert_string_equal(host.v4, "eth0");
	assert_string_equal(host.v6, "eth2");
	net_host_parse("Iface\n", NULL, &host);
	assert_string_equal(host.v4, "");
	assert_string_equal(host.v6, "");
}

static void test_mac(void **state)
{
	char a[18];
	char b[18];

	assert_int_equal(net_mac_random(a), 0);
	assert_int_equal(net_mac_random(b), 0);
	assert_int_equal(strlen(a), 17);
	assert_int_equal(strtoul(a, NULL, 16) & 3, 2);
	assert_string_not_equal(a, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_bad_ports),
		cmocka_unit_test(test_port_messages),
		cmocka_unit_test(test_ports_together),
		cmocka_unit_test(test_resolv),
		cmocka_unit_test(test_hostile_resolv),
		cmocka_unit_test(test_user_dns),
		cmocka_unit_test(test_hostnames),
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_host_entries),
		cmocka_unit_test(test_plan),
		cmocka_unit_test(test_plan_of_another_subnet),
		cmocka_unit_test(test_loopback_resolver_is_forwarded),
		cmocka_unit_test(test_user_dns_wins),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_offline_host),
		cmocka_unit_test(test_host_routes),
		cmocka_unit_test(test_mac),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
