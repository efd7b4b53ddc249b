/* SPDX-License-Identifier: Apache-2.0 */
/* The user mode with the real passt; skipped where it isn't installed. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "base/str.h"
#include "net/internal.h"
#include "net/net.h"

#define TIMEOUT_MS  60000
#define CHECK_GUARD "check-guard"

struct fixture {
	struct loop *loop;
	struct net_user *user;
	bool ready;
	bool exited;
	struct err ready_err;
	struct err exit_err;
};

static void on_ready(void *data, const struct err *e)
{
	struct fixture *f = data;

	f->ready = true;
	if (e)
		f->ready_err = *e;
}

static void on_exited(void *data, const struct err *e)
{
	struct fixture *f = data;

	f->exited = true;
	f->exit_err = *e;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return f ? loop_new(&f->loop) : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	net_user_free(f->user);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void require_passt(void)
{
	_cleanup_(freep) char *path = NULL;

	if (find_program("passt", &path) < 0)
		skip();
}

/* A listening socket of the loopback address with a port that the kernel chooses. */
static int listen_any(uint16_t *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	*port = ntohs(sa.sin_port);
	return fd;
}

static struct net_port free_port(uint16_t guest)
{
	struct net_port p = { .address = "127.0.0.1", .guest = guest, .count = 1 };

	close(listen_any(&p.host));
	return p;
}

static int start(struct fixture *f, const struct net_user_options *o, struct err *e)
{
	return net_user_start(f->loop, o, -1, on_ready, on_exited, f, &f->user, e);
}

static void start_and_wait(struct fixture *f, const struct net_user_options *o)
{
	assert_int_equal(start(f, o, NULL), 0);
	assert_int_equal(net_user_fd(f->user), -EBADF);
	assert_int_equal(loop_run_until(f->loop, &f->ready, TIMEOUT_MS), 0);
	assert_string_equal(f->ready_err.msg, "");
}

/* One frame of the stream. */
static size_t read_frame(int fd, uint8_t *frame, size_t size)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint32_t len;

	assert_int_equal(poll(&p, 1, TIMEOUT_MS), 1);
	assert_int_equal(recv(fd, &len, sizeof(len), MSG_WAITALL), sizeof(len));
	len = ntohl(len);
	assert_in_range(len, 14, size);
	assert_int_equal(poll(&p, 1, TIMEOUT_MS), 1);
	assert_int_equal(recv(fd, frame, len, MSG_WAITALL), len);
	return len;
}

static void connect_to(int fd, uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
}

/* A connection to the published port arrives as the first frame that the guest gets. */
static void test_published_port(void **state)
{
	struct net_port port = free_port(80);
	struct net_user_options o = { .ports = &port, .n_ports = 1 };
	_cleanup_(close_fdp) int client = -EBADF;
	_cleanup_(close_fdp) int guest = -EBADF;
	uint8_t frame[2048];

	require_passt();
	start_and_wait(*state, &o);
	guest = net_user_fd(((struct fixture *)*state)->user);
	assert_true(guest >= 0);
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	connect_to(client, port.host);
	assert_in_range(read_frame(guest, frame, sizeof(frame)), 54, 128);
	assert_int_equal(frame[12] << 8 | frame[13], 0x0800); /* IPv4 */
	assert_int_equal(frame[14 + 9], IPPROTO_TCP);
	assert_int_equal(frame[14 + 20 + 13] & 0x3f, 0x02); /* SYN */
	assert_int_equal(frame[14 + 20 + 2] << 8 | frame[14 + 20 + 3], 80);
	assert_memory_equal(frame + 14 + 12, "\x0a\x00\x02\x02", 4); /* from the gateway */
	assert_memory_equal(frame + 14 + 16, "\x0a\x00\x02\x0f", 4); /* to the guest */
}

/* The sum of 16-bit words that IP and TCP use (RFC 1071); the text has an even length. */
static uint16_t checksum(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i < n; i += 2)
		sum += (uint32_t)(p[i] << 8 | p[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* What root in a guest may send although its kernel would not: a SYN to 127.0.0.1. */
static void send_syn_to_loopback(int fd, uint16_t port)
{
	uint8_t
		f[4 + 14 + 20 + 20] = {
			0,    0,    0, 54, /* length */
			0x02, 0,    0, 0,  0,	1, 0x02, 0, 0,	  0,	       0,    2,
			0x08, 0x00, /* Ethernet */
			0x45, 0,    0, 40, 0,	1, 0,	 0, 64,	  IPPROTO_TCP, 0,    0, /* IPv4 */
			10,   0,    2, 15, 127, 0, 0,	 1, 0x30, 0x39,	       0,    0,
			0,    0,    0, 1,  0,	0, 0,	 0, 0x50, 0x02,	       0xff, 0xff, /* TCP */
		};
	uint8_t *ip = f + 4 + 14;
	uint8_t *tcp = ip + 20;
	uint16_t sum;

	tcp[2] = (uint8_t)(port >> 8);
	tcp[3] = (uint8_t)port;
	sum = checksum(ip, 20, 0);
	ip[10] = (uint8_t)(sum >> 8);
	ip[11] = (uint8_t)sum;
	sum = checksum(ip + 12, 28, IPPROTO_TCP + 20); /* addresses of the pseudo header, TCP */
	tcp[16] = (uint8_t)(sum >> 8);
	tcp[17] = (uint8_t)sum;
	assert_int_equal(send(fd, f, sizeof(f), 0), sizeof(f));
}

static void test_loopback_is_out_of_reach(void **state)
{
	struct net_user_options o = { 0 };
	uint16_t port;
	_cleanup_(close_fdp) int server = listen_any(&port);
	_cleanup_(close_fdp) int guest = -EBADF;
	struct pollfd p = { .fd = server, .events = POLLIN };
	uint8_t frame[2048];

	require_passt();
	if (geteuid() != 0)
		skip();
	start_and_wait(*state, &o);
	guest = net_user_fd(((struct fixture *)*state)->user);
	send_syn_to_loopback(guest, port);
	/* passt answers with RST once it has failed to connect; newer ones drop the frame. */
	p.fd = guest;
	if (poll(&p, 1, 1000) == 1) {
		assert_true(read_frame(guest, frame, sizeof(frame)) >= 54);
		assert_int_equal(frame[14 + 20 + 13] & 0x3f, 0x04);
	}
	p.fd = server;
	assert_int_equal(poll(&p, 1, 0), 0);
}

/* Whether the guard lets a socket of this process send to an address: connected and not. */
static bool is_refused(const char *address, int type, uint16_t port)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	bool v6 = inet_pton(AF_INET6, address, &in6.sin6_addr) == 1;
	const struct sockaddr *sa = v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in;
	socklen_t len = v6 ? sizeof(in6) : sizeof(in);
	_cleanup_(close_fdp) int fd = socket(v6 ? AF_INET6 : AF_INET, type | SOCK_NONBLOCK, 0);
	bool sent = type == SOCK_STREAM;

	inet_pton(AF_INET, address, &in.sin_addr);
	if (type == SOCK_DGRAM)
		sent = sendto(fd, "", 0, 0, sa, len) == 0 || errno != EPERM;
	return !sent || (connect(fd, sa, len) < 0 && errno == EPERM);
}

/*
 * Runs in a process that is guarded from its start. Return: 0, or the number of the first
 * expectation that fails
 */
static int check_guard(void)
{
	static const struct {
		const char *address;
		int type;
		uint16_t port;
		bool refused;
	} v[] = {
		{ "127.0.0.1", SOCK_STREAM, 80, true },
		{ "127.0.0.53", SOCK_STREAM, 53, true },
		{ "127.255.255.254", SOCK_DGRAM, 123, true },
		{ "0.0.0.0", SOCK_STREAM, 80, true },
		{ "::1", SOCK_STREAM, 80, true },
		{ "::", SOCK_DGRAM, 123, true },
		{ "::ffff:127.0.0.1", SOCK_STREAM, 80, true },
		{ "::ffff:0.0.0.0", SOCK_DGRAM, 80, true },
		{ "127.0.0.53", SOCK_DGRAM, 53, false },
		{ "::1", SOCK_DGRAM, 53, false },
		{ "192.0.2.1", SOCK_DGRAM, 123, false },
		{ "126.0.0.1", SOCK_DGRAM, 123, false },
		{ "2001:db8::1", SOCK_DGRAM, 123, false },
		{ "2001:db8::", SOCK_DGRAM, 123, false },
		{ "::2", SOCK_DGRAM, 123, false },
		{ "0:1::1", SOCK_DGRAM, 123, false },
		{ "::1:0:1", SOCK_DGRAM, 123, false },
		{ "::ffff:192.0.2.1", SOCK_DGRAM, 123, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(v); i++)
		if (is_refused(v[i].address, v[i].type, v[i].port) != v[i].refused)
			return (int)i + 1;
	return 0;
}

/* Starts a program in the guard. Return: its pidfd */
static int spawn_guarded(char *const argv[], pid_t *ret_pid, int *ret_guard)
{
	struct spawn s = SPAWN_INIT;
	struct err e = { 0 };
	int pidfd;

	s.path = argv[0];
	s.argv = argv;
	pidfd = net_guard_spawn(&s, ret_pid, ret_guard, &e);
	assert_string_equal(e.msg, "");
	assert_true(pidfd >= 0);
	return pidfd;
}

/* This program, as itself in the guard. */
static void test_guard(void **state)
{
	char *argv[] = { (char *)"/proc/self/exe", (char *)CHECK_GUARD, NULL };
	int guard = -EBADF;
	int pidfd;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	pidfd = spawn_guarded(argv, &pid, &guard);
	assert_int_equal(spawn_wait(pidfd, TIMEOUT_MS), 0);
	close(pidfd);
	net_guard_remove(guard);
	assert_int_equal(faccessat(guard, "podvm-passt", F_OK, 0), -1);
	close(guard);
}

/* As after kill -9 of the owner: the process has gone and nobody has removed the cgroup. */
static void test_recovery(void **state)
{
	char *argv[] = { (char *)"sleep", (char *)"1000", NULL };
	_cleanup_(close_fdp) int parent = net_guard_parent();
	int guard = -EBADF;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	close(spawn_guarded(argv, &pid, &guard));
	close(guard);
	net_user_recover(); /* in use: stays */
	assert_int_equal(faccessat(parent, "podvm-passt", F_OK, 0), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	net_user_recover();
	assert_int_equal(faccessat(parent, "podvm-passt", F_OK, 0), -1);
}

static void test_port_in_use(void **state)
{
	struct net_port port = { .address = "127.0.0.1", .guest = 80, .count = 1 };
	struct net_user_options o = { .ports = &port, .n_ports = 1 };
	_cleanup_(close_fdp) int other = listen_any(&port.host);
	struct err e = { 0 };
	char msg[64];

	assert_int_equal(start(*state, &o, &e), -EADDRINUSE);
	snprintf(msg, sizeof(msg), "port %u/tcp of the host is in use", port.host);
	assert_string_equal(e.msg, msg);
	/* Taken on one address is taken on all. */
	port.address[0] = '\0';
	assert_int_equal(start(*state, &o, NULL), -EADDRINUSE);
}

static void test_foreign_address(void **state)
{
	struct net_port port = { .address = "203.0.113.1", .host = 8080, .guest = 80, .count = 1 };
	struct net_user_options o = { .ports = &port, .n_ports = 1 };
	struct err e = { 0 };

	assert_int_equal(start(*state, &o, &e), -EADDRNOTAVAIL);
	assert_string_equal(e.msg, "cannot publish port 8080/tcp: 203.0.113.1 is not an address of "
				   "this host");
}

static void test_missing_program(void **state)
{
	struct net_user_options o = { .binary = "/nonexistent/passt" };
	struct err e = { 0 };

	assert_int_equal(start(*state, &o, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "/nonexistent/passt"));
	assert_non_null(strstr(e.hint, "package passt"));
}

/* A program that ends at once is no network, and the wait for it doesn't last. */
static void test_program_that_fails(void **state)
{
	struct net_user_options o = { .binary = "/bin/false" };
	struct fixture *f = *state;

	assert_int_equal(start(f, &o, NULL), 0);
	assert_int_equal(loop_run_until(f->loop, &f->ready, TIMEOUT_MS), 0);
	assert_string_equal(f->ready_err.msg, "passt ended (1)");
	assert_false(f->exited);
}

/* What passt says about why it fails is told. */
static void test_last_words(void **state)
{
	struct net_user_options o = { .binary = "/bin/ls" };
	struct fixture *f = *state;

	assert_int_equal(start(f, &o, NULL), 0);
	assert_int_equal(loop_run_until(f->loop, &f->ready, TIMEOUT_MS), 0);
	assert_non_null(strstr(f->ready_err.msg, "passt ended (2): "));
	assert_non_null(strstr(f->ready_err.msg, "--help"));
}

static void test_death_is_noticed(void **state)
{
	struct net_user_options o = { 0 };
	struct fixture *f = *state;

	require_passt();
	start_and_wait(f, &o);
	assert_int_equal(kill(net_user_pid(f->user), SIGKILL), 0);
	assert_int_equal(loop_run_until(f->loop, &f->exited, TIMEOUT_MS), 0);
	assert_string_equal(f->exit_err.msg, "passt was ended by signal 9");
	assert_int_equal(net_user_pid(f->user), 0);
}

/* It goes with the guest: when the VMM's end is closed there is nothing left for it to do. */
static void test_ends_with_the_guest(void **state)
{
	struct net_user_options o = { 0 };
	struct fixture *f = *state;

	require_passt();
	start_and_wait(f, &o);
	close(net_user_fd(f->user));
	assert_int_equal(loop_run_until(f->loop, &f->exited, TIMEOUT_MS), 0);
	assert_string_equal(f->exit_err.msg, "passt ended (0)");
}

/* A cgroup of our own, so that networks that others run at the same time don't matter. */
static int home = -EBADF;
static char name[32];

static int enter(const char *cgroup)
{
	char path[64];
	char pid[16];

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	snprintf(pid, sizeof(pid), "%d", getpid());
	return file_write(home, path, pid);
}

static int enter_cgroup(void **state)
{
	if (geteuid() != 0)
		return 0;
	home = net_guard_parent();
	snprintf(name, sizeof(name), "podvm-test-%d", getpid());
	if (home < 0 || mkdirat(home, name, 0755) < 0)
		return -1;
	return enter(name);
}

static int leave_cgroup(void **state)
{
	if (home < 0)
		return 0;
	return enter(".") < 0 ? -1 : unlinkat(home, name, AT_REMOVEDIR);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_published_port),
		TEST(test_loopback_is_out_of_reach),
		TEST(test_guard),
		TEST(test_recovery),
		TEST(test_port_in_use),
		TEST(test_foreign_address),
		TEST(test_missing_program),
		TEST(test_program_that_fails),
		TEST(test_last_words),
		TEST(test_death_is_noticed),
		TEST(test_ends_with_the_guest),
	};

	if (argc == 2 && str_eq(argv[1], CHECK_GUARD))
		return check_guard();
	return cmocka_run_group_tests(tests, enter_cgroup, leave_cgroup);
}
