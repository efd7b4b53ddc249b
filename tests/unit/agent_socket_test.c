/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that stand for some of the host: made in a directory, connected to, accepted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/socket.h"
#include "agent/volume.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#include "real_agent.h"

#define SOCKET_ PODVM__AGENT__V1__VOLUME_CHANGE__KIND__SOCKET
#define REMOVE	PODVM__AGENT__V1__VOLUME_CHANGE__KIND__REMOVE

/**
 * struct fixture - An agent and a volume
 * @answered:	The call that was begun has been answered, with @number or @code
 */
struct fixture {
	struct loop *loop;
	struct agent agent;
	struct ttrpc_client *client;
	char path[32];
	int fd;
	bool answered;
	uint32_t number;
	int code;
};

static int setup(void **state)
{
	struct fixture *t = calloc(1, sizeof(*t));

	*state = t;
	if (!t || real_agent_start(&t->loop, &t->agent, &t->client) < 0)
		return -1;
	snprintf(t->path, sizeof(t->path), "/tmp/podvm-test.XXXXXX");
	if (!mkdtemp(t->path))
		return -1;
	t->fd = open(t->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *t = *state;

	real_agent_stop(t->loop, &t->agent, t->client);
	close(t->fd);
	rm_rf(AT_FDCWD, t->path);
	free(t);
	return 0;
}

static int put(struct fixture *t, const char *path, uint32_t number, bool messages, mode_t mode)
{
	PB(VolumeChange) c = PODVM__AGENT__V1__VOLUME_CHANGE__INIT;
	struct err e = { 0 };

	c.kind = SOCKET_;
	c.path = (char *)path;
	c.socket = number;
	c.messages = messages;
	c.mode = mode;
	c.uid = 7;
	c.gid = 8;
	return volume_change(t->fd, &t->agent.sockets, &c, &e);
}

static void take_away(struct fixture *t, const char *path)
{
	PB(VolumeChange) c = PODVM__AGENT__V1__VOLUME_CHANGE__INIT;

	c.kind = REMOVE;
	c.path = (char *)path;
	assert_int_equal(volume_change(t->fd, &t->agent.sockets, &c, NULL), 0);
	sockets_sweep(&t->agent.sockets);
}

/* Return: Descriptor or a negative errno */
static int try_connect(struct fixture *t, const char *path, int type)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", t->path, path);
	assert_true(fd >= 0);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	close(fd);
	return -errno;
}

static int connect_to(struct fixture *t, const char *path, int type)
{
	int fd = try_connect(t, path, type);

	assert_true(fd >= 0);
	return fd;
}

static void on_accepted(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	const PB(AcceptResponse) *resp = (const void *)msg;
	struct fixture *t = data;

	t->answered = true;
	t->number = resp ? resp->socket : 0;
	t->code = e ? e->code : 0;
}

static void begin_accept(struct fixture *t, const char *id)
{
	PB(AcceptRequest) req = PODVM__AGENT__V1__ACCEPT_REQUEST__INIT;

	t->answered = false;
	req.connection_id = (char *)id;
	assert_int_equal(
		ttrpc_call(t->client, SERVICE, "Accept", &req.base, 0, on_accepted, t, NULL), 0);
}

/* Return: Number of the socket or a negative errno */
static int end_accept(struct fixture *t)
{
	assert_int_equal(loop_run_until(t->loop, &t->answered, DEADLINE_MS), 0);
	return t->code < 0 ? t->code : (int)t->number;
}

static int accept_as(struct fixture *t, const char *id)
{
	begin_accept(t, id);
	return end_accept(t);
}

static int call(struct fixture *t, const char *method, const ProtobufCMessage *req,
		ProtobufCMessage **ret)
{
	struct err e = { 0 };

	return ttrpc_call_sync(t->loop, t->client, SERVICE, method, req, DEADLINE_MS, ret, &e);
}

static int call_simple(struct fixture *t, const char *method, const char *id)
{
	PB(ProcessRequest) req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;

	req.exec_id = (char *)id;
	return call(t, method, &req.base, NULL);
}

static void assert_writes(struct fixture *t, const char *id, const char *text)
{
	PB(WriteInputRequest) req = PODVM__AGENT__V1__WRITE_INPUT_REQUEST__INIT;

	req.exec_id = (char *)id;
	req.data.data = (uint8_t *)text;
	req.data.len = strlen(text);
	assert_int_equal(call(t, "WriteInput", &req.base, NULL), 0);
}

/* Return: 0, 1 (the end), 2 (nor is anybody left) or a negative errno */
static int read_piece(struct fixture *t, const char *id, uint32_t max, const char *want)
{
	PB(ReadOutputRequest) req = PODVM__AGENT__V1__READ_OUTPUT_REQUEST__INIT;
	ProtobufCMessage *msg = NULL;
	PB(ReadOutputResponse) * resp;
	int r;

	req.exec_id = (char *)id;
	req.max = max;
	req.stream = PODVM__AGENT__V1__READ_OUTPUT_REQUEST__STREAM__STDOUT;
	r = call(t, "ReadOutput", &req.base, &msg);
	if (r < 0)
		return r;
	resp = (void *)msg;
	assert_int_equal(resp->data.len, strlen(want));
	if (*want)
		assert_memory_equal(resp->data.data, want, strlen(want));
	r = resp->closed ? 2 : resp->eof;
	protobuf_c_message_free_unpacked(msg, NULL);
	return r;
}

static void assert_receives(int fd, const char *want)
{
	char text[64];

	assert_int_equal(recv(fd, text, sizeof(text), 0), strlen(want));
	assert_memory_equal(text, want, strlen(want));
}

/* ---- tests ---- */

static void test_both_ways(void **state)
{
	struct fixture *t = *state;
	int fd;

	assert_int_equal(put(t, "api.sock", 5, false, 0666), 0);
	fd = connect_to(t, "api.sock", SOCK_STREAM);
	assert_int_equal(accept_as(t, "s1"), 5);
	assert_int_equal(send(fd, "ping", 4, 0), 4);
	assert_int_equal(read_piece(t, "s1", 100, "ping"), 0);
	assert_writes(t, "s1", "pong");
	assert_receives(fd, "pong");
	shutdown(fd, SHUT_WR);
	assert_int_equal(read_piece(t, "s1", 100, ""), 1);
	assert_writes(t, "s1", "more");
	assert_receives(fd, "more");
	assert_int_equal(call_simple(t, "CloseInput", "s1"), 0);
	assert_receives(fd, "");
	close(fd);
	assert_int_equal(call_simple(t, "RemoveProcess", "s1"), 0);
}

static void test_one_that_has_gone(void **state)
{
	struct fixture *t = *state;
	int fd;

	assert_int_equal(put(t, "api.sock", 5, false, 0666), 0);
	fd = connect_to(t, "api.sock", SOCK_STREAM);
	assert_int_equal(send(fd, "last", 4, 0), 4);
	close(fd);
	assert_int_equal(accept_as(t, "s1"), 5);
	assert_int_equal(read_piece(t, "s1", 100, "last"), 0);
	assert_int_equal(read_piece(t, "s1", 100, ""), 2);
}

static void test_messages(void **state)
{
	struct fixture *t = *state;
	int fd;

	assert_int_equal(put(t, "seq", 6, true, 0666), 0);
	assert_int_equal(try_connect(t, "seq", SOCK_STREAM), -EPROTOTYPE);
	fd = connect_to(t, "seq", SOCK_SEQPACKET);
	assert_int_equal(accept_as(t, "s1"), 6);
	assert_int_equal(send(fd, "one", 3, 0), 3);
	assert_int_equal(send(fd, "three", 5, 0), 5);
	assert_int_equal(read_piece(t, "s1", 4, "one"), 0);
	assert_int_equal(read_piece(t, "s1", 4, ""),
			 ttrpc_code_to_errno(TTRPC_FAILED_PRECONDITION));
	assert_writes(t, "s1", "first");
	assert_writes(t, "s1", "second");
	assert_receives(fd, "first");
	assert_receives(fd, "second");
	close(fd);
}

static void test_waits_for_a_connection(void **state)
{
	struct fixture *t = *state;
	int fd;

	begin_accept(t, "s1");
	/* (An answered call: whatever came before it was seen.) */
	assert_int_equal(call_simple(t, "RemoveProcess", "none"), -ENOENT);
	assert_false(t->answered);
	assert_int_equal(put(t, "later", 7, false, 0666), 0);
	fd = connect_to(t, "later", SOCK_STREAM);
	assert_int_equal(end_accept(t), 7);
	close(fd);
}

static void test_one_accept_at_a_time(void **state)
{
	struct fixture *t = *state;
	PB(AcceptRequest) req = PODVM__AGENT__V1__ACCEPT_REQUEST__INIT;

	req.connection_id = (char *)"../x";
	assert_int_equal(call(t, "Accept", &req.base, NULL), -EINVAL);
	begin_accept(t, "s1");
	req.connection_id = (char *)"s2";
	assert_int_equal(call(t, "Accept", &req.base, NULL),
			 ttrpc_code_to_errno(TTRPC_FAILED_PRECONDITION));
	assert_false(t->answered);
}

static void test_id_that_is_taken(void **state)
{
	struct fixture *t = *state;
	int fd;
	int other;

	assert_int_equal(put(t, "api.sock", 5, false, 0666), 0);
	fd = connect_to(t, "api.sock", SOCK_STREAM);
	assert_int_equal(accept_as(t, "s1"), 5);
	other = connect_to(t, "api.sock", SOCK_STREAM);
	assert_int_equal(accept_as(t, "s1"), -EEXIST);
	assert_receives(other, "");
	close(other);
	close(fd);
}

static void test_attributes(void **state)
{
	struct fixture *t = *state;
	struct stat st;
	ino_t ino;

	assert_int_equal(put(t, "api.sock", 5, false, 0640), 0);
	assert_int_equal(fstatat(t->fd, "api.sock", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0640);
	assert_int_equal(st.st_uid, 7);
	assert_int_equal(st.st_gid, 8);
	ino = st.st_ino;
	assert_int_equal(put(t, "api.sock", 5, false, 0600), 0);
	assert_int_equal(fstatat(t->fd, "api.sock", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0600);
	assert_int_equal(st.st_ino, ino);
	assert_int_equal(t->agent.sockets.n, 1);
}

/* A container may have put it there. */
static void test_takes_the_place(void **state)
{
	struct fixture *t = *state;

	assert_int_equal(symlinkat("/etc/passwd", t->fd, "a"), 0);
	assert_int_equal(mkdirat(t->fd, "b", 0755), 0);
	assert_int_equal(mkdirat(t->fd, "b/c", 0755), 0);
	assert_int_equal(mkdirat(t->fd, "..socket-3", 0755), 0);
	for (uint32_t i = 0; i < 3; i++) {
		static const char *const names[] = { "a", "b", "c" };

		assert_int_equal(put(t, names[i], 1 + i, false, 0666), 0);
		close(connect_to(t, names[i], SOCK_STREAM));
		assert_int_equal(accept_as(t, names[i]), 1 + i);
	}
	assert_int_equal(faccessat(t->fd, "..socket-3", F_OK, 0), -1);
}

static void test_gone(void **state)
{
	struct fixture *t = *state;
	int fd;

	assert_int_equal(put(t, "api.sock", 5, false, 0666), 0);
	fd = connect_to(t, "api.sock", SOCK_STREAM);
	take_away(t, "api.sock");
	assert_int_equal(t->agent.sockets.n, 0);
	/* It waited to be accepted. */
	assert_int_equal(recv(fd, (char[1]){ 0 }, 1, 0) > 0, false);
	close(fd);
	assert_int_equal(try_connect(t, "api.sock", SOCK_STREAM), -ENOENT);
	assert_int_equal(put(t, "api.sock", 5, true, 0666), 0);
	close(connect_to(t, "api.sock", SOCK_SEQPACKET));
}

static void test_limit(void **state)
{
	struct fixture *t = *state;
	char name[16];

	for (uint32_t i = 0; i < SOCKETS_MAX; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(put(t, name, i, false, 0666), 0);
	}
	assert_int_equal(put(t, "more", 1000, false, 0666), -ENFILE);
	take_away(t, "0");
	assert_int_equal(put(t, "more", 1000, false, 0666), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_both_ways),
		TEST(test_one_that_has_gone),
		TEST(test_messages),
		TEST(test_waits_for_a_connection),
		TEST(test_one_accept_at_a_time),
		TEST(test_id_that_is_taken),
		TEST(test_attributes),
		TEST(test_takes_the_place),
		TEST(test_gone),
		TEST(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
