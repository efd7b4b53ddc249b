/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/vhost_user.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

static_assert(offsetof(struct vhost_user_msg, payload) - offsetof(struct vhost_user_msg, request) ==
		      VHOST_USER_HEADER,
	      "the header is sent as it is");

uint64_t vhost_user_u64(const struct vhost_user_msg *m)
{
	uint64_t v = 0;

	if (m->size >= sizeof(v))
		memcpy(&v, m->payload, sizeof(v));
	return v;
}

void vhost_user_ask(struct vhost_user_msg *m, uint32_t request)
{
	*m = (struct vhost_user_msg){ .request = request, .flags = VHOST_USER_VERSION };
}

/* Room for the descriptors of one message. */
union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(VHOST_USER_MAX_FDS * sizeof(int))];
};

/* Take over what came, also when it's too much: nothing may stay open. */
static int take_fds(struct vhost_user_msg *m, struct msghdr *msg)
{
	int r = msg->msg_flags & MSG_CTRUNC ? -EPROTO : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (m->n_fds < VHOST_USER_MAX_FDS) {
				m->fds[m->n_fds++] = fd;
			} else {
				close(fd);
				r = -EPROTO;
			}
		}
	}
	return r;
}

/* Return: Bytes, 0 for none now, or a negative errno */
static ssize_t recv_some(int fd, struct vhost_user_msg *m, size_t wanted)
{
	union control control;
	struct iovec iov = { (uint8_t *)&m->request + m->done, wanted };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int r;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	r = take_fds(m, &msg);
	if (r < 0)
		return r;
	return n == 0 ? -ECONNRESET : n;
}

int vhost_user_recv(int fd, struct vhost_user_msg *m)
{
	for (;;) {
		bool header = m->done < VHOST_USER_HEADER;
		size_t end = VHOST_USER_HEADER + (header ? 0 : (size_t)m->size);
		ssize_t n;

		if (!header && m->size > VHOST_USER_MAX_PAYLOAD)
			return -EPROTO;
		if (!header && m->done == end)
			return 1;
		n = recv_some(fd, m, end - m->done);
		if (n <= 0)
			return (int)n;
		m->done += (size_t)n;
	}
}

static void put_fds(const struct vhost_user_msg *m, struct msghdr *msg, union control *control)
{
	if (m->n_fds == 0 || m->done > 0)
		return;
	msg->msg_control = control->bytes;
	msg->msg_controllen = CMSG_SPACE(m->n_fds * sizeof(int));
	*CMSG_FIRSTHDR(msg) = (struct cmsghdr){ .cmsg_len = CMSG_LEN(m->n_fds * sizeof(int)),
						.cmsg_level = SOL_SOCKET,
						.cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(msg)), m->fds, m->n_fds * sizeof(int));
}

int vhost_user_send(int fd, struct vhost_user_msg *m)
{
	size_t end = VHOST_USER_HEADER + (size_t)m->size;

	while (m->done < end) {
		union control control = { 0 };
		struct iovec iov = { (uint8_t *)&m->request + m->done, end - m->done };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t n;

		put_fds(m, &msg, &control);
		n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		m->done += (size_t)n;
	}
	return 1;
}

void vhost_user_done(struct vhost_user_msg *m)
{
	for (size_t i = 0; i < m->n_fds; i++)
		close(m->fds[i]);
	*m = (struct vhost_user_msg){ 0 };
}
