/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes that are copied into the guest: a real directory, changed as the kubelet does it, and an
 * agent that the test plays, which writes down the changes that it's asked for.
 */
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "sandbox/agent_client.h"
#include "sandbox/host_socket.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/volume.h"
#include "sandbox/volume_tree.h"

#include "fake_agent.h"

#define DEADLINE_MS 60000

/**
 * struct fixture - A sandbox that runs, and a directory
 * @dir:	Of the host
 * @fd:		The same
 * @log:	The changes that came
 * @until:	What the log has to end with
 * @seen:	It does
 * @refuse:	So many calls are refused
 */
struct fixture {
	struct loop *loop;
	struct rundir rd;
	struct sandbox_config config;
	struct sandbox *sandbox;
	struct volume_set *set;
	struct volume *volume;
	struct fake_agent agent;
	char dir[32];
	int fd;
	struct buf log;
	size_t calls;
	const char *until;
	bool seen;
	int refuse;
	bool done;
	struct err e;
};

/* ---- the agent ---- */

static void log_change(struct fixture *f, const Podvm__Agent__V1__VolumeChange *c)
{
	const char *path = *c->path ? c->path : ".";

	switch (c->kind) {
	case PODVM__AGENT__V1__VOLUME_CHANGE__KIND__DIRECTORY:
		assert_int_equal(
			buf_printf(&f->log, "dir %s %o%s; ", path, c->mode, c->keep ? " keep" : ""),
			0);
		break;
	case PODVM__AGENT__V1__VOLUME_CHANGE__KIND__FILE:
		assert_int_equal(buf_printf(&f->log, "file %s %o %.*s; ", path, c->mode,
					    (int)MIN(c->data.len, (size_t)32),
					    (const char *)c->data.data),
				 0);
		break;
	case PODVM__AGENT__V1__VOLUME_CHANGE__KIND__LINK:
		assert_int_equal(buf_printf(&f->log, "link %s %s; ", path, c->target), 0);
		break;
	case PODVM__AGENT__V1__VOLUME_CHANGE__KIND__SOCKET:
		assert_int_equal(buf_printf(&f->log, "socket %s %o %u%s; ", path, c->mode,
					    c->socket, c->messages ? " messages" : ""),
				 0);
		break;
	case PODVM__AGENT__V1__VOLUME_CHANGE__KIND__REMOVE:
		assert_int_equal(buf_printf(&f->log, "remove %s; ", path), 0);
		break;
	default:
		fail_msg("a change of kind %d", c->kind);
	}
}

static bool log_ends(struct fixture *f)
{
	const char *text = buf_cstr(&f->log);
	size_t n = strlen(text);
	size_t want = f->until ? strlen(f->until) : 0;

	return want > 0 && n >= want && str_eq(text + n - want, f->until);
}

static void serve_update(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Podvm__Agent__V1__UpdateVolumeRequest *req = (const void *)msg;
	struct fixture *f = data;

	assert_string_equal(req->path, "/run/podvm/volumes/0");
	f->calls++;
	if (req->tmpfs)
		assert_int_equal(buf_printf(&f->log, "tmpfs %llu %llu; ",
					    (unsigned long long)req->tmpfs->size,
					    (unsigned long long)req->tmpfs->inodes),
				 0);
	for (size_t i = 0; i < req->n_changes; i++)
		log_change(f, req->changes[i]);
	f->seen = log_ends(f);
	if (f->refuse > 0) {
		f->refuse--;
		ttrpc_reply_error(call, TTRPC_UNKNOWN, "no room");
		return;
	}
	reply_empty(call);
}

static int start_agent(struct fixture *f)
{
	fake_agent_serve(&f->agent, "UpdateVolume", serve_update);
	return fake_agent_start(&f->agent, f->loop, f, &f->sandbox->agent);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	signal(SIGPIPE, SIG_IGN);
	umask(022);
	if (!f || loop_new(&f->loop) < 0)
		return -1;
	f->rd = RUNDIR_INIT;
	f->config.rundir = &f->rd;
	if (sandbox_new(f->loop, &f->config, NULL, NULL, &f->sandbox) < 0)
		return -1;
	f->sandbox->state = SANDBOX_RUNNING;
	snprintf(f->dir, sizeof(f->dir), "/tmp/podvm-test.XXXXXX");
	if (!mkdtemp(f->dir) || chmod(f->dir, 0755) < 0)
		return -1;
	f->fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (start_agent(f) < 0)
		return -1;
	return volume_set_new(f->sandbox, &f->set);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	volume_set_free(f->set);
	sandbox_free(f->sandbox);
	fake_agent_end(&f->agent);
	loop_free(f->loop);
	buf_done(&f->log);
	rm_rf(AT_FDCWD, f->dir);
	close(f->fd);
	free(f);
	return 0;
}

/* ---- the host ---- */

static void put_file(struct fixture *f, const char *path, const char *text, mode_t mode)
{
	int fd = openat(f->fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

/* As the kubelet's atomic writer: a new directory, the link is renamed, the old one goes. */
static void publish(struct fixture *f, const char *version, const char *text, const char *old)
{
	char path[64];

	assert_int_equal(mkdirat(f->fd, version, 0755), 0);
	snprintf(path, sizeof(path), "%s/key", version);
	put_file(f, path, text, 0400);
	assert_int_equal(symlinkat(version, f->fd, "..data_tmp"), 0);
	assert_int_equal(renameat(f->fd, "..data_tmp", f->fd, "..data"), 0);
	if (old)
		assert_int_equal(rm_rf(f->fd, old), 0);
	else
		assert_int_equal(symlinkat("..data/key", f->fd, "key"), 0);
}

/* ---- volumes ---- */

static void on_done(void *data, const struct err *e)
{
	struct fixture *f = data;

	assert_false(f->done);
	f->done = true;
	f->e = e ? *e : (struct err){ 0 };
}

static int add(struct fixture *f, const struct volume_config *config)
{
	assert_int_equal(volume_add(f->set, config, on_done, f, &f->volume), 0);
	assert_int_equal(loop_run_until(f->loop, &f->done, DEADLINE_MS), 0);
	f->done = false;
	return f->e.code;
}

static int add_dir(struct fixture *f)
{
	return add(f, &(struct volume_config){ .source = f->dir, .path = "/run/podvm/volumes/0" });
}

static int add_file(struct fixture *f, const char *source)
{
	return add(f, &(struct volume_config){
			      .source = source, .path = "/run/podvm/volumes/0", .name = "hosts" });
}

static void assert_log(struct fixture *f, const char *want)
{
	assert_string_equal(buf_cstr(&f->log), want);
	buf_consume(&f->log, buf_len(&f->log));
}

static void await_end(struct fixture *f, const char *end)
{
	f->until = end;
	f->seen = log_ends(f);
	if (loop_run_until(f->loop, &f->seen, DEADLINE_MS) < 0)
		fail_msg("the log is: %s", buf_cstr(&f->log));
}

/* ---- tests ---- */

static void test_copied_as_it_is(void **state)
{
	struct fixture *f = *state;

	publish(f, "..1", "one", NULL);
	assert_int_equal(add_dir(f), 0);
	assert_log(f, "dir . 755; dir ..1 755; file ..1/key 400 one; link ..data ..1; "
		      "link key ..data/key; ");
}

static void test_new_version_in_the_order_of_the_kubelet(void **state)
{
	struct fixture *f = *state;

	publish(f, "..1", "one", NULL);
	assert_int_equal(add_dir(f), 0);
	buf_consume(&f->log, buf_len(&f->log));
	publish(f, "..2", "two", "..1");
	await_end(f, "remove ..1; ");
	assert_log(f, "dir ..2 755; file ..2/key 400 two; link ..data ..2; remove ..1; ");
}

/* What the kubelet is still writing isn't copied, nor is what it will remove. */
static void test_only_what_is_published(void **state)
{
	struct fixture *f = *state;

	publish(f, "..1", "one", NULL);
	assert_int_equal(mkdirat(f->fd, "..2", 0755), 0);
	put_file(f, "..2/key", "tw", 0400);
	assert_int_equal(symlinkat("..2", f->fd, "..data_tmp"), 0);
	assert_int_equal(add_dir(f), 0);
	assert_log(f, "dir . 755; dir ..1 755; file ..1/key 400 one; link ..data ..1; "
		      "link key ..data/key; ");
}

static void test_burst_ends_with_the_last(void **state)
{
	struct fixture *f = *state;
	char now[16] = "..0";

	publish(f, now, "zero", NULL);
	assert_int_equal(add_dir(f), 0);
	for (int i = 1; i <= 50; i++) {
		char next[16];

		snprintf(next, sizeof(next), "..%d", i);
		publish(f, next, "new", now);
		memcpy(now, next, sizeof(now));
	}
	await_end(f, "dir ..50 755; file ..50/key 400 new; link ..data ..50; remove ..0; ");
	/* The first copy, and one for all of them. */
	assert_int_equal(f->calls, 2);
}

static void test_key_that_comes_and_one_that_goes(void **state)
{
	struct fixture *f = *state;

	publish(f, "..1", "one", NULL);
	assert_int_equal(add_dir(f), 0);
	buf_consume(&f->log, buf_len(&f->log));
	assert_int_equal(mkdirat(f->fd, "..2", 0755), 0);
	put_file(f, "..2/other", "two", 0440);
	assert_int_equal(symlinkat("..2", f->fd, "..data_tmp"), 0);
	assert_int_equal(renameat(f->fd, "..data_tmp", f->fd, "..data"), 0);
	assert_int_equal(symlinkat("..data/other", f->fd, "other"), 0);
	assert_int_equal(unlinkat(f->fd, "key", 0), 0);
	assert_int_equal(rm_rf(f->fd, "..1"), 0);
	await_end(f, "remove ..1; ");
	assert_log(f, "dir ..2 755; file ..2/other 440 two; link ..data ..2; "
		      "link other ..data/other; remove key; remove ..1; ");
}

static void test_what_does_not_go_in_is_tried_again(void **state)
{
	struct fixture *f = *state;

	publish(f, "..1", "one", NULL);
	assert_int_equal(add_dir(f), 0);
	f->refuse = 1;
	publish(f, "..2", "two", "..1");
	await_end(f, "link ..data ..2; remove ..1; ");
	buf_consume(&f->log, buf_len(&f->log));
	/* Nobody knows what the guest has: everything is sent. */
	await_end(f, "link ..data ..2; link key ..data/key; remove ..1; ");
	assert_log(f, "dir . 755; dir ..2 755; file ..2/key 400 two; link ..data ..2; "
		      "link key ..data/key; remove ..1; ");
}

static void test_refused_at_first(void **state)
{
	struct fixture *f = *state;

	publish(f, "..1", "one", NULL);
	f->refuse = 1;
	assert_int_equal(add_dir(f), ttrpc_code_to_errno(TTRPC_UNKNOWN));
	assert_non_null(strstr(f->e.msg, f->dir));
	assert_non_null(strstr(f->e.msg, "no room"));
	volume_free(f->volume);
}

static void make_large(struct fixture *f, const char *path, off_t size)
{
	int fd = openat(f->fd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static void test_more_than_one_mebibyte_is_refused(void **state)
{
	struct fixture *f = *state;

	make_large(f, "large", (off_t)VOLUME_MAX_FILE);
	assert_int_equal(add_dir(f), 0);
	volume_free(f->volume);
	make_large(f, "large", (off_t)VOLUME_MAX_FILE + 1);
	assert_int_equal(add_dir(f), -EFBIG);
	assert_non_null(strstr(f->e.msg, "large has more than 1048576 bytes"));
	assert_non_null(strstr(f->e.hint, "1 MiB"));
	volume_free(f->volume);
}

/* What grows too large later isn't copied; what comes after that is. */
static void test_keeps_what_it_has_when_it_gets_too_large(void **state)
{
	struct fixture *f = *state;

	publish(f, "..1", "one", NULL);
	assert_int_equal(add_dir(f), 0);
	buf_consume(&f->log, buf_len(&f->log));
	make_large(f, "large", (off_t)VOLUME_MAX_FILE + 1);
	/* Reading it has failed by the time that the next change goes in. */
	assert_int_equal(loop_run_until(f->loop, &f->seen, 2 * VOLUME_SETTLE_MS), -ETIMEDOUT);
	assert_int_equal(unlinkat(f->fd, "large", 0), 0);
	publish(f, "..2", "two", "..1");
	await_end(f, "remove ..1; ");
	assert_log(f, "dir ..2 755; file ..2/key 400 two; link ..data ..2; remove ..1; ");
}

static void test_large_volume_goes_in_several_calls(void **state)
{
	struct fixture *f = *state;
	char name[16];

	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "file%d", i);
		make_large(f, name, (off_t)VOLUME_MAX_FILE - 1);
	}
	assert_int_equal(add_dir(f), 0);
	assert_int_equal(f->calls, 5);
}

static void test_limits_of_a_directory(void **state)
{
	struct fixture *f = *state;
	char path[8 * VOLUME_MAX_DEPTH] = "d";

	for (int i = 0; i <= VOLUME_MAX_DEPTH; i++) {
		assert_int_equal(mkdirat(f->fd, path, 0755), 0);
		strcat(path, "/d");
	}
	assert_int_equal(add_dir(f), -EFBIG);
	assert_non_null(strstr(f->e.msg, "deep"));
	volume_free(f->volume);
	assert_int_equal(rm_rf(f->fd, "d"), 0);
	for (int i = 0; i < VOLUME_MAX_ENTRIES; i++) {
		snprintf(path, sizeof(path), "f%d", i);
		assert_int_equal(symlinkat("x", f->fd, path), 0);
	}
	assert_int_equal(add_dir(f), -EFBIG);
	assert_non_null(strstr(f->e.msg, "entries"));
	volume_free(f->volume);
}

static void test_links_are_not_followed_and_nothing_else_is_taken(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(symlinkat("/etc/passwd", f->fd, "out"), 0);
	assert_int_equal(add_dir(f), 0);
	assert_log(f, "dir . 755; link out /etc/passwd; ");
	volume_free(f->volume);
	assert_int_equal(mkfifoat(f->fd, "fifo", 0600), 0);
	assert_int_equal(add_dir(f), -EINVAL);
	volume_free(f->volume);
}

static void test_file_that_is_written(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *source = str_printf("%s/hosts-of-pod", f->dir);

	put_file(f, "hosts-of-pod", "one", 0644);
	assert_int_equal(add_file(f, source), 0);
	assert_log(f, "file hosts 644 one; ");
	put_file(f, "hosts-of-pod", "two", 0644);
	await_end(f, "file hosts 644 two; ");
}

/* As with a bind mount, which stays with the file that it was made of. */
static void test_file_that_is_replaced(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *source = str_printf("%s/one", f->dir);
	_cleanup_(freep) char *other = str_printf("%s/other", f->dir);

	put_file(f, "one", "one", 0644);
	put_file(f, "other", "first", 0644);
	assert_int_equal(add_file(f, source), 0);
	assert_int_equal(add_file(f, other), 0);
	buf_consume(&f->log, buf_len(&f->log));
	assert_int_equal(file_replace(f->fd, "one", "two", 3, 0644), 0);
	put_file(f, "other", "second", 0644);
	await_end(f, "file hosts 644 second; ");
	assert_log(f, "file hosts 644 second; ");
}

/* Two containers mount it, one of them goes. */
static void test_file_that_two_have(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *source = str_printf("%s/hosts", f->dir);

	put_file(f, "hosts", "one", 0644);
	assert_int_equal(add_file(f, source), 0);
	assert_int_equal(add_file(f, source), 0);
	volume_free(f->volume);
	buf_consume(&f->log, buf_len(&f->log));
	put_file(f, "hosts", "two", 0644);
	await_end(f, "file hosts 644 two; ");
	assert_log(f, "file hosts 644 two; ");
}

/* The kernel's queue is full: nobody knows which volumes have changed. */
static void test_lost_events(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *below = str_printf("%s/dir", f->dir);
	_cleanup_(freep) char *hosts = str_printf("%s/hosts", f->dir);
	_cleanup_(freep) char *limit = NULL;
	struct volume_config config = { .source = below, .path = "/run/podvm/volumes/0" };

	assert_int_equal(
		file_read(AT_FDCWD, "/proc/sys/fs/inotify/max_queued_events", 32, &limit, NULL), 0);
	assert_int_equal(mkdirat(f->fd, "dir", 0755), 0);
	put_file(f, "hosts", "one", 0644);
	assert_int_equal(add(f, &config), 0);
	assert_int_equal(add_file(f, hosts), 0);
	buf_consume(&f->log, buf_len(&f->log));
	for (long i = atol(limit) / 2; i >= 0; i--) {
		assert_int_equal(symlinkat("x", f->fd, "dir/x"), 0);
		assert_int_equal(unlinkat(f->fd, "dir/x", 0), 0);
	}
	put_file(f, "hosts", "two", 0644);
	await_end(f, "file hosts 644 two; ");
}

static void test_memory(void **state)
{
	struct fixture *f = *state;
	struct volume_config config = {
		.source = f->dir,
		.path = "/run/podvm/volumes/0",
		.memory = true,
		.size = 65536,
		.inodes = 100,
	};

	assert_int_equal(fchmod(f->fd, 02777), 0);
	assert_int_equal(add(f, &config), 0);
	assert_log(f, "tmpfs 65536 100; dir . 2777; ");
	config.directory = "a/b";
	assert_int_equal(add(f, &config), 0);
	assert_log(f, "tmpfs 65536 100; dir a 2777 keep; dir a/b 2777 keep; ");
}

/* Somebody listens. */
static int put_socket(struct fixture *f, const char *name, int type)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", f->dir, name);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 5), 0);
	return fd;
}

/* Listed ones of the directory itself, as they come and go. */
static void test_sockets(void **state)
{
	struct fixture *f = *state;
	char list[64];
	int fds[5];

	snprintf(list, sizeof(list), "%s/*.sock", f->dir);
	f->config.host_sockets = list;
	assert_int_equal(mkdirat(f->fd, "d", 0755), 0);
	fds[0] = put_socket(f, "a.sock", SOCK_STREAM);
	fds[1] = put_socket(f, "unlisted", SOCK_STREAM);
	fds[2] = put_socket(f, "d/x.sock", SOCK_STREAM);
	assert_int_equal(add(f, &(struct volume_config){ .source = f->dir,
							 .path = "/run/podvm/volumes/0",
							 .sockets = true }),
			 0);
	assert_log(f, "dir . 755; socket a.sock 755 1; dir d 755; ");
	fds[3] = put_socket(f, "b.sock", SOCK_SEQPACKET);
	await_end(f, "socket b.sock 755 2 messages; ");
	buf_consume(&f->log, buf_len(&f->log));
	assert_int_equal(unlinkat(f->fd, "a.sock", 0), 0);
	await_end(f, "remove a.sock; ");
	fds[4] = put_socket(f, "a.sock", SOCK_STREAM);
	await_end(f, "socket a.sock 755 3; ");
	for (int i = 0; i < 5; i++)
		close(fds[i]);
}

static void test_socket_alone(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *path = str_printf("%s/a.sock", f->dir);
	struct volume_config config = {
		.source = path, .path = "/run/podvm/volumes/0", .name = "7", .sockets = true
	};
	int fd = put_socket(f, "a.sock", SOCK_STREAM);

	assert_int_equal(add(f, &config), -EPERM);
	volume_free(f->volume);
	host_sockets_free(TAKE_PTR(f->sandbox->sockets));
	f->config.host_sockets = path;
	assert_int_equal(add(f, &config), 0);
	assert_log(f, "socket 7 755 1; ");
	close(fd);
}

static void test_machine_ends(void **state)
{
	struct fixture *f = *state;

	publish(f, "..1", "one", NULL);
	assert_int_equal(volume_add(f->set,
				    &(struct volume_config){ .source = f->dir,
							     .path = "/run/podvm/volumes/0" },
				    on_done, f, &f->volume),
			 0);
	ttrpc_client_free(TAKE_PTR(f->sandbox->agent));
	assert_int_equal(loop_run_until(f->loop, &f->done, DEADLINE_MS), 0);
	assert_true(f->e.code < 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_copied_as_it_is),
		TEST(test_new_version_in_the_order_of_the_kubelet),
		TEST(test_only_what_is_published),
		TEST(test_burst_ends_with_the_last),
		TEST(test_key_that_comes_and_one_that_goes),
		TEST(test_what_does_not_go_in_is_tried_again),
		TEST(test_refused_at_first),
		TEST(test_more_than_one_mebibyte_is_refused),
		TEST(test_keeps_what_it_has_when_it_gets_too_large),
		TEST(test_large_volume_goes_in_several_calls),
		TEST(test_limits_of_a_directory),
		TEST(test_links_are_not_followed_and_nothing_else_is_taken),
		TEST(test_file_that_is_written),
		TEST(test_file_that_is_replaced),
		TEST(test_file_that_two_have),
		TEST(test_lost_events),
		TEST(test_memory),
		TEST(test_sockets),
		TEST(test_socket_alone),
		TEST(test_machine_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
