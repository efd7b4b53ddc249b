/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's rtnetlink messages, byte by byte, and answers that are not what they should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/if_addr.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/network.h"

/* Strings of messages are `char *` in protobuf-c, though nobody writes to them. */
#pragma GCC diagnostic ignored "-Wdiscarded-qualifiers"

static const struct nlmsghdr *message(struct nl_request *req)
{
	struct nlmsghdr *h = (void *)req->buf;

	h->nlmsg_len = (uint32_t)req->len;
	return h;
}

static void assert_attr(struct nl_request *req, size_t header, uint16_t type, const void *data,
			size_t size)
{
	size_t got = 0;
	const void *p = nl_find(message(req), header, type, &got);

	assert_non_null(p);
	assert_int_equal(got, size);
	assert_memory_equal(p, data, size);
}

static void test_ip(void **state)
{
	struct ip_prefix ip;

	assert_int_equal(ip_parse("10.0.2.15/24", &ip), 0);
	assert_int_equal(ip.family, AF_INET);
	assert_int_equal(ip.length, 24);
	assert_memory_equal(ip.bytes, "\x0a\x00\x02\x0f", 4);
	assert_int_equal(ip_parse("10.0.2.15", &ip), 0);
	assert_int_equal(ip.length, 32);
	assert_int_equal(ip_parse("::/0", &ip), 0);
	assert_int_equal(ip.family, AF_INET6);
	assert_int_equal(ip.length, 0);
	assert_int_equal(ip_parse("fd00::2/64", &ip), 0);
	assert_int_equal(ip.size, 16);
	assert_int_equal(ip_parse("10.0.2.15/33", &ip), -EINVAL);
	assert_int_equal(ip_parse("fd00::2/129", &ip), -EINVAL);
	assert_int_equal(ip_parse("10.0.2.15/", &ip), -EINVAL);
	assert_int_equal(ip_parse("10.0.2.15/-1", &ip), -EINVAL);
	assert_int_equal(ip_parse("10.0.2", &ip), -EINVAL);
	assert_int_equal(ip_parse("", &ip), -EINVAL);
	assert_int_equal(ip_parse("1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb", &ip),
			 -EINVAL);
}

static void test_mac(void **state)
{
	uint8_t mac[6];

	assert_int_equal(mac_parse("02:00:00:00:Ab:01", mac), 0);
	assert_memory_equal(mac, "\x02\x00\x00\x00\xab\x01", 6);
	assert_int_equal(mac_parse("02:00:00:00:00", mac), -EINVAL);
	assert_int_equal(mac_parse("02:00:00:00:00:0g", mac), -EINVAL);
	assert_int_equal(mac_parse("02:00:00:00:00:011", mac), -EINVAL);
	assert_int_equal(mac_parse("02-00-00-00-00-01", mac), -EINVAL);
	assert_int_equal(mac_parse("", mac), -EINVAL);
}

static void test_address(void **state)
{
	struct nl_request req;
	const struct ifaddrmsg *h;
	uint32_t nodad = IFA_F_NODAD;
	uint32_t both = IFA_F_NODAD | IFA_F_NOPREFIXROUTE;
	size_t size;

	assert_int_equal(network_build_address(&req, 3, "10.0.2.15/24", false), 0);
	h = NLMSG_DATA(message(&req));
	assert_int_equal(message(&req)->nlmsg_type, RTM_NEWADDR);
	assert_int_equal(h->ifa_index, 3);
	assert_int_equal(h->ifa_prefixlen, 24);
	assert_attr(&req, sizeof(*h), IFA_LOCAL, "\x0a\x00\x02\x0f", 4);
	assert_attr(&req, sizeof(*h), IFA_BROADCAST, "\x0a\x00\x02\xff", 4);
	/* A point-to-point link has no broadcast address. */
	assert_int_equal(network_build_address(&req, 3, "10.0.2.15/31", false), 0);
	assert_null(nl_find(message(&req), sizeof(*h), IFA_BROADCAST, &size));
	assert_int_equal(network_build_address(&req, 3, "fd00::2/64", false), 0);
	assert_attr(&req, sizeof(*h), IFA_FLAGS, &nodad, sizeof(nodad));
	assert_int_equal(network_build_address(&req, 3, "fd00::2/64", true), 0);
	assert_attr(&req, sizeof(*h), IFA_FLAGS, &both, sizeof(both));
	assert_int_equal(network_build_address(&req, 3, "nonsense", false), -EINVAL);
}

static void test_route(void **state)
{
	Podvm__Agent__V1__Route r = PODVM__AGENT__V1__ROUTE__INIT;
	struct nl_request req;
	const struct rtmsg *h;
	uint32_t oif = 3;
	uint32_t priority = 5;
	size_t size;

	r.destination = "10.1.0.0/16";
	r.gateway = "10.0.2.2";
	r.source = "10.0.2.15";
	r.metric = 5;
	r.mtu = 1400;
	r.onlink = true;
	assert_int_equal(network_build_route(&req, 3, &r), 0);
	h = NLMSG_DATA(message(&req));
	assert_int_equal(h->rtm_dst_len, 16);
	assert_int_equal(h->rtm_flags, RTNH_F_ONLINK);
	assert_attr(&req, sizeof(*h), RTA_DST, "\x0a\x01\x00\x00", 4);
	assert_attr(&req, sizeof(*h), RTA_GATEWAY, "\x0a\x00\x02\x02", 4);
	assert_attr(&req, sizeof(*h), RTA_PREFSRC, "\x0a\x00\x02\x0f", 4);
	assert_attr(&req, sizeof(*h), RTA_OIF, &oif, sizeof(oif));
	assert_attr(&req, sizeof(*h), RTA_PRIORITY, &priority, sizeof(priority));
	assert_non_null(nl_find(message(&req), sizeof(*h), RTA_METRICS, &size));
	assert_int_equal(size, 8);
	r.advmss = 1300;
	assert_int_equal(network_build_route(&req, 3, &r), 0);
	assert_non_null(nl_find(message(&req), sizeof(*h), RTA_METRICS, &size));
	assert_int_equal(size, 16);

	r.destination = "0.0.0.0/0";
	assert_int_equal(network_build_route(&req, 3, &r), 0);
	assert_null(nl_find(message(&req), sizeof(*h), RTA_DST, &size));
	r.gateway = "fd00::1";
	assert_int_equal(network_build_route(&req, 3, &r), -EINVAL);
	r.gateway = "";
	r.scope = 256;
	assert_int_equal(network_build_route(&req, 3, &r), -EINVAL);
	/* One that leads nowhere. */
	r.scope = 0;
	r.type = RTN_BLACKHOLE;
	assert_int_equal(network_build_route(&req, 0, &r), 0);
	assert_int_equal(((const struct rtmsg *)NLMSG_DATA(message(&req)))->rtm_type,
			 RTN_BLACKHOLE);
	assert_null(nl_find(message(&req), sizeof(*h), RTA_OIF, &size));
	r.type = RTN_LOCAL;
	assert_int_equal(network_build_route(&req, 3, &r), -EINVAL);
}

static void test_overflow(void **state)
{
	struct nl_request req;
	uint8_t big[NL_REQUEST_MAX] = { 0 };
	struct rtmsg h = { 0 };

	nl_start(&req, RTM_NEWROUTE, 0, &h, sizeof(h));
	assert_false(req.overflow);
	nl_attr(&req, 1, big, sizeof(big));
	assert_true(req.overflow);
	assert_true(req.len <= NL_REQUEST_MAX);
	/* It isn't sent; the descriptor isn't even looked at. */
	assert_int_equal(nl_call(-1, &req, NULL, NULL), -EMSGSIZE);
}

static void count(void *data, const struct nlmsghdr *msg)
{
	++*(int *)data;
}

/* Messages one after the other, as the kernel sends them. */
struct datagram {
	_Alignas(struct nlmsghdr) uint8_t buf[512];
	size_t len;
};

static void put(struct datagram *d, uint16_t type, uint32_t len, const void *body, size_t size)
{
	struct nlmsghdr h = { .nlmsg_len = len, .nlmsg_type = type };

	memcpy(d->buf + d->len, &h, sizeof(h));
	if (size)
		memcpy(d->buf + d->len + sizeof(h), body, size);
	d->len += NLMSG_ALIGN(sizeof(h) + size);
}

static void test_parse(void **state)
{
	struct datagram d = { .len = 0 };
	struct nlmsgerr e = { .error = -EEXIST };
	int n = 0;

	put(&d, RTM_NEWLINK, 20, "abcd", 4);
	put(&d, RTM_NEWLINK, 17, "a", 1);
	assert_int_equal(nl_parse(d.buf, d.len, count, &n), 0);
	assert_int_equal(n, 2);
	put(&d, NLMSG_DONE, 16, NULL, 0);
	assert_int_equal(nl_parse(d.buf, d.len, count, &n), 1);
	assert_int_equal(n, 4);
	d.len = 0;
	put(&d, NLMSG_ERROR, NLMSG_LENGTH(sizeof(e)), &e, sizeof(e));
	assert_int_equal(nl_parse(d.buf, d.len, NULL, NULL), -EEXIST);
	e.error = 0;
	d.len = 0;
	put(&d, NLMSG_ERROR, NLMSG_LENGTH(sizeof(e)), &e, sizeof(e));
	assert_int_equal(nl_parse(d.buf, d.len, NULL, NULL), 1);
}

static void test_parse_hostile(void **state)
{
	static const uint32_t lengths[] = { 0, 1, 15, 21, 4096, UINT32_MAX };
	struct datagram d;

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		d.len = 0;
		put(&d, RTM_NEWLINK, lengths[i], "abcd", 4);
		assert_int_equal(nl_parse(d.buf, d.len, NULL, NULL), -EPROTO);
	}
	d.len = 0;
	put(&d, NLMSG_ERROR, 18, "ab", 2);
	assert_int_equal(nl_parse(d.buf, d.len, NULL, NULL), -EPROTO);
	assert_int_equal(nl_parse(d.buf, 7, NULL, NULL), -EPROTO);
	assert_int_equal(nl_parse(d.buf, 0, NULL, NULL), 0);
}

static void test_find_hostile(void **state)
{
	struct datagram d = { .len = 0 };
	struct rtattr a = { .rta_len = 60000, .rta_type = 3 };
	size_t size;

	put(&d, RTM_NEWLINK, 20, &a, sizeof(a));
	assert_null(nl_find((void *)d.buf, 0, 3, &size));
	a.rta_len = 3;
	memcpy(d.buf + 16, &a, sizeof(a));
	assert_null(nl_find((void *)d.buf, 0, 3, &size));
	a.rta_len = 4;
	memcpy(d.buf + 16, &a, sizeof(a));
	assert_non_null(nl_find((void *)d.buf, 0, 3, &size));
	assert_int_equal(size, 0);
	/* A header that is longer than the message. */
	assert_null(nl_find((void *)d.buf, 64, 3, &size));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ip),
		cmocka_unit_test(test_mac),
		cmocka_unit_test(test_address),
		cmocka_unit_test(test_route),
		cmocka_unit_test(test_overflow),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_parse_hostile),
		cmocka_unit_test(test_find_hostile),
	};

	return cmocka_run_group_tests_name("agent_netlink", tests, NULL, NULL);
}
