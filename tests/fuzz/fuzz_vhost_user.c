/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A monitor in foreign hands talks to the stand-in for virtiofsd. The input is a number of
 * descriptors for the first byte, then the bytes. At most a daemon joins afterwards, which promises
 * everything: it's told what was kept. Nothing may stay open.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "storage/vhost_user.h"
#include "storage/vhost_user_relay.h"

#define MAX_FDS	   12
#define TIMEOUT_MS 60000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int count_fds(void)
{
	_cleanup_(closedirp) DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	return n;
}

static void on_end(void *data, const struct err *e)
{
	*(bool *)data = true;
}

/* Each message with as many descriptors as the first byte says. */
static void feed(struct loop *loop, int sock, const uint8_t *data, size_t size)
{
	char control[CMSG_SPACE(MAX_FDS * sizeof(int))] __attribute__((aligned(8))) = { 0 };
	size_t n_fds = size > 0 ? data[0] % (MAX_FDS + 1) : 0;
	bool never = false;

	for (size_t at = 1; at < size;) {
		uint32_t payload = 0;
		struct iovec iov = { (void *)(uintptr_t)(data + at), size - at };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

		if (size - at >= VHOST_USER_HEADER)
			memcpy(&payload, data + at + 8, sizeof(payload));
		iov.iov_len = MIN(iov.iov_len, VHOST_USER_HEADER + (size_t)payload);
		if (n_fds > 0) {
			msg.msg_control = control;
			msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
			*CMSG_FIRSTHDR(&msg) =
				(struct cmsghdr){ .cmsg_len = CMSG_LEN(n_fds * sizeof(int)),
						  .cmsg_level = SOL_SOCKET,
						  .cmsg_type = SCM_RIGHTS };
			memset(CMSG_DATA(CMSG_FIRSTHDR(&msg)), 0, n_fds * sizeof(int));
		}
		if (sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			return;
		(void)loop_run_until(loop, &never, 0);
		at += iov.iov_len;
	}
}

/* A daemon that has every feature: answers every message that asks something. */
static void serve(struct loop *loop, int sock, const bool *joined)
{
	struct vhost_user_msg m = { 0 };
	struct vhost_user_msg answer;
	uint64_t all = UINT64_MAX;
	bool never = false;

	for (int turns = 0; turns < 100 && !*joined; turns++) {
		(void)loop_run_until(loop, &never, 0);
		while (vhost_user_recv(sock, &m) == 1) {
			if (m.request == VHOST_USER_GET_FEATURES ||
			    m.request == VHOST_USER_GET_PROTOCOL_FEATURES) {
				vhost_user_answer(&answer, m.request, &all, sizeof(all));
				if (vhost_user_send(sock, &answer) != 1)
					abort();
			}
			vhost_user_done(&m);
		}
	}
	vhost_user_done(&m);
}

static void join(struct loop *loop, struct vhost_relay *relay, const bool *broken)
{
	bool joined = false;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	if (vhost_relay_join(relay, fds[0], TIMEOUT_MS, on_end, &joined) == 0) {
		serve(loop, fds[1], &joined);
		if (!joined)
			abort();
	} else if (!*broken) {
		abort();
	}
	close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vhost_relay *relay;
	struct loop *loop;
	bool broken = false;
	int before;
	int fds[2];

	if (loop_new(&loop) < 0)
		abort();
	before = count_fds();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
	    vhost_relay_new(loop, fds[0], on_end, &broken, &relay) < 0)
		abort();
	feed(loop, fds[1], data, size);
	join(loop, relay, &broken);
	vhost_relay_free(relay);
	close(fds[1]);
	if (count_fds() != before)
		abort();
	loop_free(loop);
	return 0;
}
