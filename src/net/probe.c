/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether passt serves: an ARP request (RFC 826) over the socket that will be the guest's, framed
 * as QEMU's stream netdev does (32 bits of length, big endian, then the Ethernet frame). The answer
 * is read to its last byte and no further, so the guest gets a clean stream.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <stdio.h>
#include <sys/socket.h>

#include "net/internal.h"

#define LEN_SIZE 4

struct arp_frame {
	struct ether_header eth;
	struct ether_arp arp;
} __attribute__((packed));

_Static_assert(sizeof(struct arp_frame) == NET_ARP_LEN, "Ethernet and ARP have no holes");

static void parse_mac(const char *text, uint8_t mac[static ETH_ALEN])
{
	unsigned int b[ETH_ALEN] = { 0 };

	sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]);
	for (size_t i = 0; i < ETH_ALEN; i++)
		mac[i] = (uint8_t)b[i];
}

int net_probe_start(struct net_probe *p, int fd, const struct net_user_plan *plan)
{
	struct {
		uint32_t len;
		struct arp_frame frame;
	} __attribute__((packed)) msg = {
		.len = htonl(NET_ARP_LEN),
		.frame.eth.ether_type = htons(ETHERTYPE_ARP),
		.frame.arp = {
			.ea_hdr = {
				.ar_hrd = htons(ARPHRD_ETHER),
				.ar_pro = htons(ETHERTYPE_IP),
				.ar_hln = ETH_ALEN,
				.ar_pln = sizeof(struct in_addr),
				.ar_op = htons(ARPOP_REQUEST),
			},
		},
	};

	*p = (struct net_probe){ .fd = fd, .gateway = plan->gateway };
	memset(msg.frame.eth.ether_dhost, 0xff, ETH_ALEN);
	parse_mac(plan->mac, msg.frame.eth.ether_shost);
	parse_mac(plan->mac, msg.frame.arp.arp_sha);
	memcpy(msg.frame.arp.arp_spa, &plan->guest, sizeof(plan->guest));
	memcpy(msg.frame.arp.arp_tpa, &plan->gateway, sizeof(plan->gateway));
	if (send(fd, &msg, sizeof(msg), MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof(msg))
		return -EPIPE;
	return 0;
}

static bool is_answer(const struct net_probe *p)
{
	struct arp_frame f;

	memcpy(&f, p->head + LEN_SIZE, sizeof(f));
	return f.eth.ether_type == htons(ETHERTYPE_ARP) && f.arp.arp_op == htons(ARPOP_REPLY) &&
	       memcmp(f.arp.arp_spa, &p->gateway, sizeof(p->gateway)) == 0;
}

/* The next part of the stream that belongs together: the length, the head, the rest of a frame. */
static size_t wanted(const struct net_probe *p)
{
	uint32_t len;

	if (p->got < LEN_SIZE)
		return LEN_SIZE - p->got;
	memcpy(&len, p->head, sizeof(len));
	len = ntohl(len);
	if (p->got < sizeof(p->head))
		return MIN((size_t)LEN_SIZE + len, sizeof(p->head)) - p->got;
	return (size_t)LEN_SIZE + len - p->got;
}

int net_probe_read(struct net_probe *p)
{
	uint8_t skipped[2048];

	for (;;) {
		bool head = p->got < sizeof(p->head);
		size_t want = MIN(wanted(p), sizeof(skipped));
		ssize_t n = recv(p->fd, head ? p->head + p->got : skipped, want, MSG_DONTWAIT);

		if (n == 0)
			return -EPIPE;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		p->got += (size_t)n;
		if (p->got < LEN_SIZE || wanted(p) > 0)
			continue;
		if (p->got == sizeof(p->head) && is_answer(p))
			return 1;
		p->got = 0;
	}
}
