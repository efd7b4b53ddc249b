/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in for virtiofsd: the test plays the monitor and the daemon, or a real one is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "storage/vhost_user_record.h"
#include "storage/vhost_user_relay.h"
#include "storage/virtiofs.h"

#define DEADLINE_MS 60000

struct fixture {
	struct loop *loop;
	struct vhost_relay *relay;
	int monitor; /* the test's ends */
	int daemon;
	bool broken;
	bool joined;
	struct err e;
};

static void on_broken(void *data, const struct err *e)
{
	struct fixture *f = data;

	assert_false(f->broken);
	f->broken = true;
	f->e = *e;
}

static void on_joined(void *data, const struct err *e)
{
	struct fixture *f = data;

	assert_false(f->joined);
	f->joined = true;
	f->e = e ? *e : (struct err){ 0 };
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fds[2];

	*state = f;
	f->daemon = -EBADF;
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	f->monitor = fds[1];
	assert_int_equal(vhost_relay_new(f->loop, fds[0], on_broken, f, &f->relay), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vhost_relay_free(f->relay);
	close_fdp(&f->monitor);
	close_fdp(&f->daemon);
	loop_free(f->loop);
	free(f);
	return 0;
}

/* Turns of the loop until a message has come. */
static void receive(struct fixture *f, int sock, struct vhost_user_msg *m)
{
	uint64_t end = clock_ms() + DEADLINE_MS;
	bool never = false;
	int r;

	vhost_user_done(m);
	while ((r = vhost_user_recv(sock, m)) == 0 && clock_ms() < end)
		(void)loop_run_until(f->loop, &never, 1);
	assert_int_equal(r, 1);
}

static void tell(int sock, uint32_t request, const void *payload, size_t size, int fd)
{
	struct vhost_user_msg m = { .request = request,
				    .flags = VHOST_USER_VERSION,
				    .size = (uint32_t)size,
				    .fds = { fd },
				    .n_fds = fd >= 0 };

	if (size > 0)
		memcpy(m.payload, payload, size);
	assert_int_equal(vhost_user_send(sock, &m), 1);
}

static void tell_u64(int sock, uint32_t request, uint64_t v)
{
	tell(sock, request, &v, sizeof(v), -1);
}

static void tell_ring(int sock, uint32_t request, uint32_t ring, uint32_t num)
{
	tell(sock, request, (uint32_t[]){ ring, num }, 8, -1);
}

static uint64_t asked(struct fixture *f, uint32_t request)
{
	struct vhost_user_msg m = { 0 };

	tell(f->monitor, request, NULL, 0, -1);
	receive(f, f->monitor, &m);
	assert_int_equal(m.request, request);
	assert_true(m.flags & VHOST_USER_REPLY);
	return vhost_user_u64(&m);
}

static void tell_memory(struct fixture *f)
{
	_cleanup_(close_fdp) int fd = memfd_create("ram", MFD_CLOEXEC);
	uint64_t table[5] = { 1, 0, 4096, 0, 0 };

	assert_int_equal(ftruncate(fd, 4096), 0);
	tell(f->monitor, VHOST_USER_SET_MEM_TABLE, table, sizeof(table), fd);
}

/* Everything that QEMU says until the guest's driver has its device. */
static void set_up(struct fixture *f)
{
	_cleanup_(close_fdp) int event = eventfd(0, EFD_CLOEXEC);
	struct vhost_user_msg m = { 0 };

	assert_int_equal(asked(f, VHOST_USER_GET_FEATURES), VHOST_USER_FEATURES);
	assert_int_equal(asked(f, VHOST_USER_GET_PROTOCOL_FEATURES), VHOST_USER_PROTOCOL_FEATURES);
	tell_u64(f->monitor, VHOST_USER_SET_PROTOCOL_FEATURES, VHOST_USER_PROTOCOL_FEATURES);
	assert_int_equal(asked(f, VHOST_USER_GET_QUEUE_NUM), VHOST_USER_RINGS);
	tell(f->monitor, VHOST_USER_SET_OWNER, NULL, 0, -1);
	tell_u64(f->monitor, VHOST_USER_SET_FEATURES, VHOST_USER_FEATURES);
	tell_memory(f);
	for (uint32_t i = 0; i < VHOST_USER_RINGS; i++) {
		uint64_t addr[5] = { i, 0, 64, 128, 0 };
		uint64_t ring = i;

		tell(f->monitor, VHOST_USER_SET_VRING_CALL, &ring, 8, event);
		tell_ring(f->monitor, VHOST_USER_SET_VRING_NUM, i, 16);
		tell_ring(f->monitor, VHOST_USER_SET_VRING_BASE, i, 0);
		tell(f->monitor, VHOST_USER_SET_VRING_ADDR, addr, sizeof(addr), -1);
		tell(f->monitor, VHOST_USER_SET_VRING_KICK, &ring, 8, event);
		tell_ring(f->monitor, VHOST_USER_SET_VRING_ENABLE, i, 1);
	}
	(void)asked(f, VHOST_USER_GET_FEATURES);
	vhost_user_done(&m);
}

static void join(struct fixture *f)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	close_fdp(&f->daemon);
	f->daemon = fds[1];
	assert_int_equal(vhost_relay_join(f->relay, fds[0], DEADLINE_MS, on_joined, f), 0);
}

static void daemon_answers(struct fixture *f, uint32_t request, uint64_t value)
{
	struct vhost_user_msg m = { 0 };

	receive(f, f->daemon, &m);
	assert_int_equal(m.request, request);
	vhost_user_answer(&m, request, &value, sizeof(value));
	assert_int_equal(vhost_user_send(f->daemon, &m), 1);
}

static void daemon_hears(struct fixture *f, uint32_t request, size_t n_fds)
{
	struct vhost_user_msg m = { 0 };

	receive(f, f->daemon, &m);
	assert_int_equal(m.request, request);
	assert_int_equal(m.n_fds, n_fds);
	assert_int_equal(m.flags, VHOST_USER_VERSION);
	vhost_user_done(&m);
}

static void hear_ring(struct fixture *f, uint32_t request, uint32_t ring, size_t n_fds)
{
	struct vhost_user_msg m = { 0 };

	receive(f, f->daemon, &m);
	assert_int_equal(m.request, request);
	assert_int_equal((uint32_t)vhost_user_u64(&m), ring);
	assert_int_equal(m.n_fds, n_fds);
	vhost_user_done(&m);
}

static void await(struct fixture *f, const bool *what)
{
	assert_int_equal(loop_run_until(f->loop, what, DEADLINE_MS), 0);
}

/* The daemon plays its part until it's in. */
static void daemon_joins(struct fixture *f)
{
	static const uint32_t rings[] = {
		VHOST_USER_SET_VRING_NUM,  VHOST_USER_SET_VRING_BASE, VHOST_USER_SET_VRING_ADDR,
		VHOST_USER_SET_VRING_CALL, VHOST_USER_SET_VRING_KICK, VHOST_USER_SET_VRING_ENABLE,
	};

	join(f);
	daemon_answers(f, VHOST_USER_GET_FEATURES, UINT64_MAX);
	daemon_answers(f, VHOST_USER_GET_PROTOCOL_FEATURES, UINT64_MAX);
	daemon_hears(f, VHOST_USER_SET_PROTOCOL_FEATURES, 0);
	daemon_hears(f, VHOST_USER_SET_OWNER, 0);
	daemon_hears(f, VHOST_USER_SET_FEATURES, 0);
	daemon_hears(f, VHOST_USER_SET_MEM_TABLE, 1);
	for (size_t i = 0; i < ARRAY_SIZE(rings); i++)
		for (uint32_t ring = 0; ring < VHOST_USER_RINGS; ring++)
			hear_ring(f, rings[i], ring,
				  rings[i] == VHOST_USER_SET_VRING_CALL ||
					  rings[i] == VHOST_USER_SET_VRING_KICK);
	daemon_answers(f, VHOST_USER_GET_FEATURES, UINT64_MAX);
	await(f, &f->joined);
	assert_int_equal(f->e.code, 0);
}

static void test_daemon_is_told_everything_then_it_serves(void **state)
{
	struct vhost_user_msg m = { 0 };
	struct fixture *f = *state;

	set_up(f);
	daemon_joins(f);
	tell_memory(f);
	daemon_hears(f, VHOST_USER_SET_MEM_TABLE, 1);
	tell_ring(f->monitor, VHOST_USER_GET_VRING_BASE, 1, 0);
	hear_ring(f, VHOST_USER_GET_VRING_BASE, 1, 0);
	vhost_user_answer(&m, VHOST_USER_GET_VRING_BASE, (uint32_t[]){ 1, 5 }, 8);
	assert_int_equal(vhost_user_send(f->daemon, &m), 1);
	receive(f, f->monitor, &m);
	assert_int_equal(vhost_user_u64(&m), 5ULL << 32 | 1);
}

static void test_last_word_counts(void **state)
{
	struct vhost_user_msg m = { 0 };
	struct fixture *f = *state;

	set_up(f);
	tell_ring(f->monitor, VHOST_USER_SET_VRING_BASE, 0, 7);
	tell_ring(f->monitor, VHOST_USER_GET_VRING_BASE, 0, 0);
	receive(f, f->monitor, &m);
	assert_int_equal(vhost_user_u64(&m), 7ULL << 32);
	join(f);
	daemon_answers(f, VHOST_USER_GET_FEATURES, UINT64_MAX);
	daemon_answers(f, VHOST_USER_GET_PROTOCOL_FEATURES, UINT64_MAX);
	/* A ring that was stopped isn't started, and has its new base. */
	for (int seen = 0; seen < 2;) {
		receive(f, f->daemon, &m);
		if (m.request == VHOST_USER_SET_VRING_BASE && (uint32_t)vhost_user_u64(&m) == 0) {
			assert_int_equal(vhost_user_u64(&m), 7ULL << 32);
			seen++;
		} else if (m.request == VHOST_USER_SET_VRING_KICK) {
			assert_int_equal(vhost_user_u64(&m), 1);
			seen++;
		}
	}
	vhost_user_done(&m);
}

/* A message that comes while the daemon joins gets to it afterwards. */
static void test_monitor_waits_for_the_daemon(void **state)
{
	struct vhost_user_msg m = { 0 };
	struct fixture *f = *state;

	set_up(f);
	join(f);
	tell(f->monitor, VHOST_USER_GET_QUEUE_NUM, NULL, 0, -1);
	daemon_answers(f, VHOST_USER_GET_FEATURES, UINT64_MAX);
	daemon_answers(f, VHOST_USER_GET_PROTOCOL_FEATURES, UINT64_MAX);
	do
		receive(f, f->daemon, &m);
	while (m.request != VHOST_USER_GET_FEATURES);
	vhost_user_answer(&m, VHOST_USER_GET_FEATURES, &(uint64_t){ 0 }, 8);
	assert_int_equal(vhost_user_send(f->daemon, &m), 1);
	daemon_answers(f, VHOST_USER_GET_QUEUE_NUM, 77);
	receive(f, f->monitor, &m);
	assert_int_equal(vhost_user_u64(&m), 77);
}

static void test_acknowledgement(void **state)
{
	struct vhost_user_msg m = { .request = VHOST_USER_SET_VRING_ENABLE,
				    .flags = VHOST_USER_VERSION | VHOST_USER_NEED_REPLY,
				    .size = 8 };
	struct fixture *f = *state;

	assert_int_equal(vhost_user_send(f->monitor, &m), 1);
	receive(f, f->monitor, &m);
	assert_int_equal(m.request, VHOST_USER_SET_VRING_ENABLE);
	assert_int_equal(vhost_user_u64(&m), 0);
}

static void test_daemon_that_lacks_something_is_refused(void **state)
{
	struct fixture *f = *state;

	set_up(f);
	join(f);
	daemon_answers(f, VHOST_USER_GET_FEATURES, VHOST_USER_FEATURES & ~(1ULL << 29));
	await(f, &f->joined);
	assert_int_equal(f->e.code, -EOPNOTSUPP);
	assert_non_null(strstr(f->e.msg, "0x20000000"));
	/* The machine goes on, and another daemon may do. */
	assert_false(f->broken);
	f->joined = false;
	daemon_joins(f);
}

static void test_daemon_that_ends_while_it_joins(void **state)
{
	struct fixture *f = *state;

	set_up(f);
	join(f);
	close(TAKE_FD(f->daemon));
	await(f, &f->joined);
	assert_int_not_equal(f->e.code, 0);
	assert_false(f->broken);
	assert_int_equal(asked(f, VHOST_USER_GET_QUEUE_NUM), VHOST_USER_RINGS);
}

static void test_daemon_that_does_not_answer(void **state)
{
	struct fixture *f = *state;
	int fds[2];

	set_up(f);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	f->daemon = fds[1];
	assert_int_equal(vhost_relay_join(f->relay, fds[0], 20, on_joined, f), 0);
	await(f, &f->joined);
	assert_int_equal(f->e.code, -ETIMEDOUT);
}

static void test_peers_that_go(void **state)
{
	struct fixture *f = *state;

	set_up(f);
	daemon_joins(f);
	close(TAKE_FD(f->daemon));
	await(f, &f->broken);
	assert_int_equal(f->e.code, -ECONNRESET);
	assert_non_null(strstr(f->e.msg, "virtiofsd"));
}

static void test_monitor_that_says_something_impossible(void **state)
{
	struct fixture *f = *state;

	tell_ring(f->monitor, VHOST_USER_SET_VRING_NUM, VHOST_USER_RINGS, 16);
	await(f, &f->broken);
	assert_int_equal(f->e.code, -EPROTO);
	assert_int_equal(vhost_relay_join(f->relay, dup(f->monitor), 20, on_joined, f), -EBUSY);
}

/* What the installed daemon promises is what the stand-in does, and it takes all of the record. */
static void test_real_daemon(void **state)
{
	char dir[] = "/tmp/podvm-vhost-XXXXXX";
	struct fixture *f = *state;
	_cleanup_(close_fdp) int pidfd = -EBADF;
	char shared[64];
	int fd = -EBADF;
	pid_t pid;

	assert_non_null(mkdtemp(dir));
	snprintf(shared, sizeof(shared), "%s/shared", dir);
	assert_int_equal(mkdir(shared, 0700), 0);
	pidfd = virtiofs_spawn(shared, &pid, &fd, &f->e);
	if (pidfd < 0) {
		(void)rm_rf(AT_FDCWD, dir);
		skip();
	}
	set_up(f);
	assert_int_equal(vhost_relay_join(f->relay, fd, DEADLINE_MS, on_joined, f), 0);
	await(f, &f->joined);
	assert_string_equal(f->e.msg, "");
	assert_true(asked(f, VHOST_USER_GET_QUEUE_NUM) >= VHOST_USER_RINGS);
	vhost_relay_free(TAKE_PTR(f->relay));
	assert_in_range(spawn_wait(pidfd, DEADLINE_MS), 0, 1);
	assert_int_equal(rm_rf(AT_FDCWD, dir), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_daemon_is_told_everything_then_it_serves),
		T(test_last_word_counts),
		T(test_monitor_waits_for_the_daemon),
		T(test_acknowledgement),
		T(test_daemon_that_lacks_something_is_refused),
		T(test_daemon_that_ends_while_it_joins),
		T(test_daemon_that_does_not_answer),
		T(test_peers_that_go),
		T(test_monitor_that_says_something_impossible),
		T(test_real_daemon),
	};

	return cmocka_run_group_tests_name("vhost_user", tests, NULL, NULL);
}
