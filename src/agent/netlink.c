/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/netlink.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define TIMEOUT_S    5
#define DATAGRAM_MAX 32768

/* Append bytes and pad to the alignment. Return: Where they are, or NULL when they don't fit */
static void *append(struct nl_request *req, const void *data, size_t size)
{
	void *p = req->buf + req->len;

	if (size > NL_REQUEST_MAX || NLMSG_ALIGN(size) > NL_REQUEST_MAX - req->len) {
		req->overflow = true;
		return NULL;
	}
	memset(p, 0, NLMSG_ALIGN(size));
	if (data)
		memcpy(p, data, size);
	req->len += NLMSG_ALIGN(size);
	return p;
}

void nl_start(struct nl_request *req, uint16_t type, uint16_t flags, const void *header,
	      size_t size)
{
	struct nlmsghdr h = {
		.nlmsg_type = type,
		.nlmsg_flags = (uint16_t)(flags | NLM_F_REQUEST | NLM_F_ACK),
		.nlmsg_seq = 1,
	};

	req->len = 0;
	req->overflow = false;
	append(req, &h, sizeof(h));
	append(req, header, size);
}

void nl_attr(struct nl_request *req, uint16_t type, const void *data, size_t size)
{
	struct rtattr a = { .rta_len = (uint16_t)(RTA_LENGTH(0) + size), .rta_type = type };
	size_t start = req->len;

	if (!append(req, &a, sizeof(a)) || !append(req, data, size))
		req->len = start;
}

void nl_attr_u32(struct nl_request *req, uint16_t type, uint32_t value)
{
	nl_attr(req, type, &value, sizeof(value));
}

size_t nl_nest(struct nl_request *req, uint16_t type)
{
	size_t nest = req->len;

	nl_attr(req, (uint16_t)(type | NLA_F_NESTED), NULL, 0);
	return nest;
}

void nl_nest_end(struct nl_request *req, size_t nest)
{
	struct rtattr *a = (void *)(req->buf + nest);

	if (!req->overflow)
		a->rta_len = (uint16_t)(req->len - nest);
}

int nl_open(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	struct timeval timeout = { .tv_sec = TIMEOUT_S };
	_cleanup_(close_fdp) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int nl_parse(const void *buf, size_t len, nl_message cb, void *data)
{
	const uint8_t *p = buf;

	while (len >= sizeof(struct nlmsghdr)) {
		const struct nlmsghdr *msg = (const void *)p;
		size_t step;

		if (msg->nlmsg_len < sizeof(*msg) || msg->nlmsg_len > len)
			return -EPROTO;
		if (msg->nlmsg_type == NLMSG_DONE)
			return 1;
		if (msg->nlmsg_type == NLMSG_ERROR) {
			const struct nlmsgerr *e = NLMSG_DATA(msg);

			if (msg->nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
				return -EPROTO;
			return e->error < 0 && e->error > -4096 ? e->error : 1;
		}
		if (cb && msg->nlmsg_type >= NLMSG_MIN_TYPE)
			cb(data, msg);
		step = NLMSG_ALIGN((size_t)msg->nlmsg_len);
		if (step >= len)
			return 0;
		p += step;
		len -= step;
	}
	return len == 0 ? 0 : -EPROTO;
}

int nl_call(int fd, struct nl_request *req, nl_message cb, void *data)
{
	_Alignas(struct nlmsghdr) uint8_t buf[DATAGRAM_MAX];
	struct nlmsghdr *h = (void *)req->buf;
	int r;

	if (req->overflow)
		return -EMSGSIZE;
	h->nlmsg_len = (uint32_t)req->len;
	if (send(fd, req->buf, req->len, 0) < 0)
		return -errno;
	do {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);

		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		r = nl_parse(buf, (size_t)n, cb, data);
	} while (r == 0);
	return MIN(r, 0);
}

const void *nl_find(const struct nlmsghdr *msg, size_t header, uint16_t type, size_t *size)
{
	size_t skip = NLMSG_HDRLEN + NLMSG_ALIGN(header);
	const uint8_t *p = (const uint8_t *)msg + skip;
	size_t len;

	if (msg->nlmsg_len < skip)
		return NULL;
	len = msg->nlmsg_len - skip;
	while (len >= sizeof(struct rtattr)) {
		const struct rtattr *a = (const void *)p;
		size_t step;

		if (a->rta_len < sizeof(*a) || a->rta_len > len)
			return NULL;
		if ((a->rta_type & NLA_TYPE_MASK) == type) {
			*size = a->rta_len - RTA_LENGTH(0);
			return RTA_DATA(a);
		}
		step = RTA_ALIGN((size_t)a->rta_len);
		if (step >= len)
			return NULL;
		p += step;
		len -= step;
	}
	return NULL;
}
