/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of shared directories, and their server: the test is the host and the worker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/share.h"
#include "agent/share_fuse.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fdpass.h"

static const struct fuse_init_out agreed = { .major = FUSE_KERNEL_VERSION,
					     .minor = 36,
					     .flags = FUSE_MAX_PAGES | FUSE_FLOCK_LOCKS,
					     .max_readahead = 1 << 20,
					     .max_write = 1 << 20,
					     .max_pages = 256 };

static const struct share_view view = { .number = 5, .root = 77, .init = &agreed };

struct message {
	struct fuse_in_header head;
	uint8_t body[128];
};

static struct message request(uint32_t opcode, uint64_t node, const void *body, size_t len)
{
	struct message m = { .head = { .len = (uint32_t)(sizeof(m.head) + len),
				       .opcode = opcode,
				       .unique = 1234,
				       .nodeid = node } };

	memcpy(m.body, body, len);
	return m;
}

static void translate(struct message *m)
{
	uint8_t answer[SHARE_ANSWER_MAX];

	assert_int_equal(share_request(&view, (uint8_t *)m, m->head.len, answer), 0);
}

static void test_root_and_number(void **state)
{
	struct message m = request(FUSE_GETATTR, FUSE_ROOT_ID, "", 0);
	struct fuse_out_header out = { 0 };

	translate(&m);
	assert_int_equal(m.head.nodeid, 77);
	out.unique = m.head.unique;
	assert_int_equal(share_reply(&out), 5);
	assert_int_equal(out.unique, 1234);
	m = request(FUSE_GETATTR, 42, "", 0);
	translate(&m);
	assert_int_equal(m.head.nodeid, 42);
}

static void test_nodes_in_bodies(void **state)
{
	const struct fuse_rename2_in rename = { .newdir = FUSE_ROOT_ID, .flags = 1 };
	const struct fuse_link_in link = { .oldnodeid = 9 };
	const struct fuse_copy_file_range_in copy = { .fh_in = 1, .nodeid_out = FUSE_ROOT_ID };
	const struct fuse_write_in write_in = { .fh = FUSE_ROOT_ID };
	struct message m = request(FUSE_RENAME2, 9, &rename, sizeof(rename));
	uint64_t node;

	translate(&m);
	memcpy(&node, m.body, sizeof(node));
	assert_int_equal(node, 77);
	m = request(FUSE_LINK, 9, &link, sizeof(link));
	translate(&m);
	memcpy(&node, m.body, sizeof(node));
	assert_int_equal(node, 9);
	m = request(FUSE_COPY_FILE_RANGE, 9, &copy, sizeof(copy));
	translate(&m);
	memcpy(&node, m.body, sizeof(node));
	assert_int_equal(node, 1);
	memcpy(&node, m.body + offsetof(struct fuse_copy_file_range_in, nodeid_out), sizeof(node));
	assert_int_equal(node, 77);
	/* What isn't a node stays. */
	m = request(FUSE_WRITE, 9, &write_in, sizeof(write_in));
	translate(&m);
	assert_memory_equal(m.body, &write_in, sizeof(write_in));
}

static void test_answered_here(void **state)
{
	const struct fuse_init_in in = { .max_readahead = 4096, .flags = FUSE_FLOCK_LOCKS };
	struct message m = request(FUSE_INIT, 0, &in, sizeof(in));
	uint8_t answer[SHARE_ANSWER_MAX];
	struct fuse_out_header head;
	struct fuse_init_out out;

	assert_int_equal(share_request(&view, (uint8_t *)&m, m.head.len, answer), sizeof(answer));
	memcpy(&head, answer, sizeof(head));
	memcpy(&out, answer + sizeof(head), sizeof(out));
	assert_int_equal(head.unique, 1234);
	assert_int_equal(out.flags, FUSE_FLOCK_LOCKS);
	assert_int_equal(out.max_readahead, 4096);
	assert_int_equal(out.max_write, SHARE_DATA_MAX);
	assert_int_equal(out.max_pages, SHARE_DATA_MAX / 4096);
	m = request(FUSE_INTERRUPT, 0, "12345678", 8);
	assert_int_equal(share_request(&view, (uint8_t *)&m, m.head.len, answer), sizeof(head));
	memcpy(&head, answer, sizeof(head));
	assert_int_equal(head.error, -ENOSYS);
}

static void test_names(void **state)
{
	const struct fuse_read_in read_in = { .size = 4096 };
	struct message m = request(FUSE_LOOKUP, 9, "name", 5);

	assert_int_equal(share_names((uint8_t *)&m, m.head.len), 1);
	m = request(FUSE_GETATTR, 9, "", 0);
	assert_int_equal(share_names((uint8_t *)&m, m.head.len), 0);
	m = request(FUSE_READ, 9, &read_in, sizeof(read_in));
	assert_int_equal(share_names((uint8_t *)&m, m.head.len), 0);
	/* As many entries as there may be. */
	m = request(FUSE_READDIRPLUS, 9, &read_in, sizeof(read_in));
	assert_int_equal(share_names((uint8_t *)&m, m.head.len), 26);
	m = request(FUSE_READDIRPLUS, 9, "", 0);
	assert_int_equal(share_names((uint8_t *)&m, m.head.len), 0);
}

/* ---- the server ---- */

static const struct sockaddr_un address = { .sun_family = AF_UNIX,
					    .sun_path = "\0podvm-agent-share-test" };

static pid_t start_server(int *host)
{
	_cleanup_(close_fdp) int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int fds[2];
	pid_t pid;

	assert_int_equal(bind(listener, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 8), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		_exit(share_server_run(listener, fds[1]) == -ECONNRESET ? 0 : 1);
	}
	close(fds[1]);
	*host = fds[0];
	return pid;
}

/* What the host hears next; its body in @body. */
static struct fuse_in_header heard(int host, void *body, size_t size)
{
	struct fuse_in_header in;

	assert_int_equal(fd_read_full(host, &in, sizeof(in)), sizeof(in));
	assert_in_range(in.len, sizeof(in), sizeof(in) + size);
	assert_int_equal(fd_read_full(host, body, in.len - sizeof(in)), in.len - sizeof(in));
	return in;
}

static void say(int host, const struct fuse_in_header *in, int error, const void *body, size_t len)
{
	struct fuse_out_header out = { .len = (uint32_t)(sizeof(out) + len),
				       .error = error,
				       .unique = in->unique };

	assert_int_equal(fd_write_all(host, &out, sizeof(out)), 0);
	assert_int_equal(fd_write_all(host, body, len), 0);
}

/* A worker's request for a share; in place of /dev/fuse it has a socket. */
static int ask_for(const char *name, int fuse)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(fdpass_send(fd, name, strlen(name), &fuse, 1), 0);
	return fd;
}

static void test_server(void **state)
{
	_cleanup_(close_fdp) int host = -EBADF;
	pid_t pid = start_server(&host);
	struct fuse_entry_out entry = { .nodeid = 77, .attr.mode = S_IFDIR | 0755 };
	struct share_answer answer = { 0 };
	struct fuse_in_header destroy;
	struct fuse_in_header in;
	struct message m;
	char body[256];
	int kernel[2];
	int worker;
	int status;

	in = heard(host, body, sizeof(body));
	assert_int_equal(in.opcode, FUSE_INIT);
	say(host, &in, 0, &agreed, sizeof(agreed));
	/* One that isn't there. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, kernel), 0);
	worker = ask_for("missing", kernel[1]);
	in = heard(host, body, sizeof(body));
	assert_int_equal(in.opcode, FUSE_LOOKUP);
	assert_string_equal(body, "missing");
	say(host, &in, -ENOENT, NULL, 0);
	assert_int_equal(recv(worker, &answer, sizeof(answer), 0), sizeof(answer));
	assert_int_equal(answer.error, -ENOENT);
	close(worker);
	/* Nothing is left of it: the host may forget everything, and begins anew. */
	destroy = heard(host, body, sizeof(body));
	assert_int_equal(destroy.opcode, FUSE_DESTROY);
	worker = ask_for("data", kernel[1]);
	in = heard(host, body, sizeof(body));
	assert_int_equal(in.opcode, FUSE_INIT);
	say(host, &destroy, 0, NULL, 0);
	say(host, &in, 0, &agreed, sizeof(agreed));
	in = heard(host, body, sizeof(body));
	assert_int_equal(in.opcode, FUSE_LOOKUP);
	say(host, &in, 0, &entry, sizeof(entry));
	assert_int_equal(recv(worker, &answer, sizeof(answer), 0), sizeof(answer));
	assert_int_equal(answer.error, 0);
	assert_true(S_ISDIR(answer.mode));
	/* It listens to the kernel when the worker has mounted it. */
	close(worker);
	m = request(FUSE_STATFS, FUSE_ROOT_ID, "", 0);
	assert_int_equal(write(kernel[0], &m, m.head.len), m.head.len);
	in = heard(host, body, sizeof(body));
	assert_int_equal(in.opcode, FUSE_STATFS);
	assert_int_equal(in.nodeid, 77);
	say(host, &in, 0, "reply", 5);
	assert_int_equal(read(kernel[0], body, sizeof(body)), sizeof(struct fuse_out_header) + 5);
	assert_memory_equal(body + sizeof(struct fuse_out_header), "reply", 5);
	/* The host goes, and so does the server. */
	close(TAKE_FD(host));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(kernel[0]);
	close(kernel[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_root_and_number), cmocka_unit_test(test_nodes_in_bodies),
		cmocka_unit_test(test_answered_here),	cmocka_unit_test(test_names),
		cmocka_unit_test(test_server),
	};

	return cmocka_run_group_tests_name("agent_share", tests, NULL, NULL);
}
