/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "sandbox/event_log.h"
#include "sandbox/rundir.h"

static char dir[64];

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/podvm-rundir-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	return rm_rf(AT_FDCWD, dir);
}

static struct rundir_state a_state(const struct rundir *rd, const char *name)
{
	struct rundir_state st = { .status = RUNDIR_RUNNING, .owner_pid = getpid() };

	assert_int_equal(str_set(&st.id, rd->id), 0);
	assert_int_equal(str_set(&st.name, name), 0);
	return st;
}

static void create(const char *name, bool auto_remove, struct rundir *rd)
{
	struct err e = { 0 };
	struct rundir_state st;

	assert_int_equal(rundir_create(dir, rd, &e), 0);
	st = a_state(rd, name);
	st.auto_remove = auto_remove;
	assert_int_equal(rundir_write_state(rd, &st), 0);
	rundir_state_done(&st);
}

/* The id of what is found, of a container after a slash. */
static int find_any(const char *what, char *id, size_t size)
{
	_cleanup_(freep) char *container = NULL;
	struct rundir rd = RUNDIR_INIT;
	struct err e = { 0 };
	int r = rundir_find(dir, what, &rd, &container, &e);

	if (r == 0)
		snprintf(id, size, "%s%s%s", rd.id, container ? "/" : "",
			 container ? container : "");
	rundir_close(&rd);
	return r;
}

static int find(const char *what, struct rundir *ret, struct err *e)
{
	_cleanup_(freep) char *container = NULL;
	int r = rundir_find(dir, what, ret, &container, e);

	assert_null(container);
	return r;
}

static void test_state_survives(void **state)
{
	_cleanup_(rundir_close) struct rundir rd = RUNDIR_INIT;
	struct rundir_state st;
	struct rundir_state got;
	char *ports[] = { strdup("8080:80"), strdup("53:53/udp"), NULL };
	struct err e = { 0 };

	assert_int_equal(rundir_create(dir, &rd, &e), 0);
	st = a_state(&rd, "we\"ird \xc3\xa4");
	st.ports = ports;
	st.created_ns = UINT64_C(18446744073709551615);
	st.memory = UINT64_C(1) << 40;
	st.exit_code = 137;
	st.oom_killed = true;
	st.status = RUNDIR_EXITED;
	assert_int_equal(rundir_write_state(&rd, &st), 0);
	assert_int_equal(rundir_read_state(&rd, &got, &e), 0);
	assert_string_equal(got.id, rd.id);
	assert_string_equal(got.name, st.name);
	assert_string_equal(got.image, "");
	assert_string_equal(got.ports[1], "53:53/udp");
	assert_null(got.ports[2]);
	assert_true(got.created_ns == st.created_ns && got.memory == st.memory);
	assert_int_equal(got.exit_code, 137);
	assert_true(got.oom_killed && !got.auto_remove);
	assert_int_equal(got.status, RUNDIR_EXITED);
	rundir_state_done(&got);
	st.ports = NULL;
	rundir_state_done(&st);
	free(ports[0]);
	free(ports[1]);
}

static int count_container(void *data, int dirfd, const struct rundir_state *st)
{
	_cleanup_(freep) char *spec = NULL;
	int *n = data;

	assert_string_equal(st->id, "c-1");
	assert_int_equal(file_read(dirfd, "config.json", 100, &spec, NULL), 0);
	assert_string_equal(spec, "{}");
	assert_int_equal(st->status, *n ? RUNDIR_EXITED : RUNDIR_RUNNING);
	(*n)++;
	return 0;
}

static void test_containers_of_a_pod(void **state)
{
	_cleanup_(rundir_close) struct rundir rd = RUNDIR_INIT;
	struct rundir_state c = { .id = (char *)"c-1", .status = RUNDIR_RUNNING };
	int n = 0;

	create("pod", false, &rd);
	assert_int_equal(rundir_each_container(&rd, count_container, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(rundir_add_container(&rd, &c, "{}"), 0);
	assert_int_equal(rundir_each_container(&rd, count_container, &n), 0);
	c.status = RUNDIR_EXITED;
	assert_int_equal(rundir_write_container(&rd, &c), 0);
	assert_int_equal(rundir_each_container(&rd, count_container, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(rundir_remove_container(&rd, "c-1"), 0);
	assert_int_equal(rundir_remove_container(&rd, "c-1"), 0);
	assert_int_equal(rundir_each_container(&rd, count_container, &n), 0);
	assert_int_equal(n, 2);
	c.id = (char *)"../c";
	assert_int_equal(rundir_add_container(&rd, &c, "{}"), -EINVAL);
	assert_int_equal(rundir_open_container(&rd, ".."), -ENOENT);
}

/* A pod with containers; "lone" is called as its container. */
static void create_pod(const char *id, const char *name, const char *const *containers)
{
	_cleanup_(rundir_state_done) struct rundir_state st = { 0 };
	_cleanup_(rundir_close) struct rundir rd = RUNDIR_INIT;

	assert_int_equal(rundir_create_id(dir, id, &rd, NULL), 0);
	st = a_state(&rd, name);
	st.pod = true;
	assert_int_equal(rundir_write_state(&rd, &st), 0);
	for (; *containers; containers += 2) {
		struct rundir_state c = { .id = (char *)containers[0],
					  .name = (char *)containers[1] };

		assert_int_equal(rundir_add_container(&rd, &c, "{}"), 0);
	}
}

static void test_containers_are_found(void **state)
{
	static const struct {
		const char *what;
		int result;
		const char *found;
	} cases[] = {
		{ "web", 0, "aaa1" },
		{ "aaa", 0, "aaa1" },
		{ "ccc1", 0, "aaa1/ccc1" },
		{ "cc", -ENOTUNIQ, NULL },
		{ "app", 0, "aaa1/ccc1" },
		{ "sidecar", -ENOTUNIQ, NULL },
		{ "web/sidecar", 0, "aaa1/ccc2" },
		{ "bbb1/sidecar", 0, "bbb1/ddd1" },
		{ "aaa/ccc2", 0, "aaa1/ccc2" },
		{ "web/", -ENOENT, NULL },
		{ "web/none", -ENOENT, NULL },
		{ "/sidecar", -ENOENT, NULL },
		{ "lone", 0, "default_lone" },
		{ "lone/lone", 0, "default_lone/lone" },
	};
	char id[300];

	create_pod("aaa1", "web", (const char *const[]){ "ccc1", "app", "ccc2", "sidecar", NULL });
	create_pod("bbb1", "db", (const char *const[]){ "ddd1", "sidecar", NULL });
	create_pod("default_lone", "lone", (const char *const[]){ "lone", "lone", NULL });
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(find_any(cases[i].what, id, sizeof(id)), cases[i].result);
		if (cases[i].found)
			assert_string_equal(id, cases[i].found);
	}
}

static char *event_lines(const char *name)
{
	_cleanup_(freep) char *path = str_printf("%s/%s", dir, name);
	char *text = NULL;

	assert_int_equal(file_read(AT_FDCWD, path, 2 * EVENT_LOG_MAX, &text, NULL), 0);
	return text;
}

static void test_events(void **state)
{
	_cleanup_(rundir_close) struct rundir rd = RUNDIR_INIT;
	_cleanup_(rundir_state_done) struct rundir_state st = { 0 };
	_cleanup_(freep) char *id = NULL;
	_cleanup_(freep) char *text = NULL;
	_cleanup_(freep) char *want = NULL;

	create("web", false, &rd);
	st = a_state(&rd, "web");
	st.finished_ns = 17;
	st.exit_code = 7;
	event_log_add(&rd, "exit", &st);
	text = event_lines(EVENT_LOG);
	want = str_printf("{\"time_ns\":17,\"event\":\"exit\",\"pod\":false,\"id\":\"%s\","
			  "\"sandbox\":\"%s\",\"name\":\"web\",\"namespace\":\"\",\"image\":\"\","
			  "\"exit_code\":7}\n",
			  rd.id, rd.id);
	assert_string_equal(text, want);
	assert_int_equal(rundir_remove(&rd, NULL), 0);
	free(text);
	text = event_lines(EVENT_LOG);
	assert_non_null(strstr(text, "\"event\":\"delete\""));
	assert_non_null(strstr(text, "\"exit\""));
}

/* The log has a limit: it's begun anew, and the one before is kept. */
static void test_events_are_bounded(void **state)
{
	_cleanup_(rundir_close) struct rundir rd = RUNDIR_INIT;
	_cleanup_(rundir_state_done) struct rundir_state st = { 0 };
	_cleanup_(freep) char *path = str_printf("%s/" EVENT_LOG, dir);
	_cleanup_(freep) char *big = malloc(EVENT_LOG_MAX);
	_cleanup_(freep) char *text = NULL;
	_cleanup_(freep) char *old = NULL;

	create("web", false, &rd);
	st = a_state(&rd, "web");
	memset(big, 'x', EVENT_LOG_MAX);
	assert_int_equal(file_replace(AT_FDCWD, path, big, EVENT_LOG_MAX, 0600), 0);
	event_log_add(&rd, "start", &st);
	event_log_add(&rd, "oom", &st);
	text = event_lines(EVENT_LOG);
	old = event_lines(EVENT_LOG ".1");
	assert_non_null(strstr(text, "oom"));
	assert_null(strstr(text, "start"));
	assert_non_null(strstr(old, "start"));
}

/* An image's directory may have any name, and the state can be read all the same. */
static void test_state_of_bytes_that_are_no_text(void **state)
{
	_cleanup_(rundir_close) struct rundir rd = RUNDIR_INIT;
	_cleanup_(rundir_state_done) struct rundir_state st = { 0 };
	_cleanup_(rundir_state_done) struct rundir_state got = { 0 };
	struct err e = { 0 };

	create("web", false, &rd);
	st = a_state(&rd, "web");
	assert_int_equal(str_set(&st.image, "oci:/tmp/\xff\xc3\xa9\xc3"), 0);
	assert_int_equal(rundir_write_state(&rd, &st), 0);
	assert_int_equal(rundir_read_state(&rd, &got, &e), 0);
	assert_string_equal(got.image, "oci:/tmp/?\xc3\xa9?");
}

static void test_damaged_state_is_an_error(void **state)
{
	static const char *const texts[] = {
		"", "{", "[]", "{}", "{\"id\":1}", "{\"id\":\"x\",\"name\":\"y\",\"status\":\"z\"}",
	};
	_cleanup_(rundir_close) struct rundir rd = RUNDIR_INIT;

	create("web", false, &rd);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct rundir_state st = { 0 };
		struct err e = { 0 };

		assert_int_equal(
			file_replace(rd.fd, "state.json", texts[i], strlen(texts[i]), 0600), 0);
		assert_true(rundir_read_state(&rd, &st, &e) < 0);
		assert_true(*e.msg);
	}
}

static void test_find(void **state)
{
	_cleanup_(rundir_close) struct rundir a = RUNDIR_INIT;
	_cleanup_(rundir_close) struct rundir b = RUNDIR_INIT;
	struct rundir found = RUNDIR_INIT;
	char start[13];
	struct err e = { 0 };

	create("web", false, &a);
	create("db", false, &b);
	snprintf(start, sizeof(start), "%.12s", b.id);
	assert_int_equal(find("web", &found, &e), 0);
	assert_string_equal(found.id, a.id);
	rundir_close(&found);
	assert_int_equal(find(start, &found, &e), 0);
	assert_string_equal(found.id, b.id);
	rundir_close(&found);
	assert_int_equal(find("we", &found, &e), -ENOENT);
	assert_int_equal(find("", &found, &e), -ENOENT);
	assert_int_equal(find("../web", &found, &e), -ENOENT);
	assert_true(*e.hint);
}

static void test_name_goes_before_start_of_id(void **state)
{
	_cleanup_(rundir_close) struct rundir a = RUNDIR_INIT;
	_cleanup_(rundir_close) struct rundir b = RUNDIR_INIT;
	struct rundir found = RUNDIR_INIT;
	char start[2];
	struct err e = { 0 };

	create("web", false, &a);
	snprintf(start, sizeof(start), "%.1s", a.id);
	create(start, false, &b);
	assert_int_equal(find(start, &found, &e), 0);
	assert_string_equal(found.id, b.id);
	rundir_close(&found);
}

/* Of 17 ids two begin with the same digit. */
static void test_ambiguous_start(void **state)
{
	struct rundir rds[17];
	unsigned int seen[256] = { 0 };
	struct rundir found = RUNDIR_INIT;
	struct err e = { 0 };
	char start[2] = "";

	for (size_t i = 0; i < ARRAY_SIZE(rds); i++) {
		char name[16];

		snprintf(name, sizeof(name), "n-%zu", i);
		create(name, false, &rds[i]);
		if (++seen[(unsigned char)rds[i].id[0]] == 2)
			start[0] = rds[i].id[0];
	}
	assert_int_equal(find(start, &found, &e), -ENOTUNIQ);
	for (size_t i = 0; i < ARRAY_SIZE(rds); i++)
		rundir_close(&rds[i]);
}

static void test_owner_is_known_by_its_lock(void **state)
{
	struct rundir rd = RUNDIR_INIT;
	_cleanup_(rundir_close) struct rundir other = RUNDIR_INIT;
	struct err e = { 0 };

	create("web", false, &rd);
	assert_int_equal(find("web", &other, &e), 0);
	assert_true(rundir_owner_alive(&other));
	/* Nothing to recover while it lives. */
	assert_int_equal(rundir_recover(&other, &e), 0);
	rundir_close(&rd);
	assert_false(rundir_owner_alive(&other));
}

static bool runs(pid_t pid)
{
	return kill(pid, 0) == 0;
}

/* A sandbox whose owner is killed. Returns a process of it that lives on. */
static pid_t crash(bool auto_remove, bool wrong_start)
{
	int fds[2];
	pid_t helper = 0;
	pid_t owner;

	assert_int_equal(pipe(fds), 0);
	owner = fork();
	assert_true(owner >= 0);
	if (owner == 0) {
		struct rundir rd = RUNDIR_INIT;
		int null = open("/dev/null", O_RDWR);

		helper = fork();
		if (helper == 0) {
			/* The lock is the owner's alone. */
			for (int fd = 0; fd < 3; fd++)
				dup2(null, fd);
			close(fds[0]);
			close(fds[1]);
			pause();
			_exit(0);
		}
		create("web", auto_remove, &rd);
		if (wrong_start) {
			char line[64];

			snprintf(line, sizeof(line), "process %d 1 helper\n", helper);
			file_replace(rd.fd, "journal", line, strlen(line), 0600);
		} else if (rundir_journal_process(&rd, "helper", helper) < 0) {
			_exit(1);
		}
		(void)!write(fds[1], &helper, sizeof(helper));
		kill(getpid(), SIGKILL);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &helper, sizeof(helper)), sizeof(helper));
	close(fds[0]);
	waitpid(owner, NULL, 0);
	return helper;
}

static void test_crash_is_cleaned_up(void **state)
{
	pid_t helper = crash(false, false);
	_cleanup_(close_fdp) int pidfd = pidfd_open(helper, 0);
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };
	_cleanup_(rundir_close) struct rundir rd = RUNDIR_INIT;
	_cleanup_(rundir_state_done) struct rundir_state st = { 0 };
	struct err e = { 0 };

	assert_true(runs(helper));
	assert_int_equal(find("web", &rd, &e), 0);
	assert_int_equal(rundir_recover(&rd, &e), 1);
	assert_int_equal(poll(&ended, 1, 0), 1);
	assert_int_equal(rundir_read_state(&rd, &st, &e), 0);
	assert_int_equal(st.status, RUNDIR_EXITED);
	assert_int_equal(st.exit_code, 255);
	assert_true(*st.error);
	assert_true(st.finished_ns > 0);
	/* Any number of times. */
	assert_int_equal(rundir_recover(&rd, &e), 0);
	rundir_recover_all(dir);
	assert_int_equal(faccessat(rd.fd, "state.json", F_OK, 0), 0);
}

static void test_crash_of_one_to_be_removed(void **state)
{
	struct rundir rd = RUNDIR_INIT;
	struct err e = { 0 };

	crash(true, false);
	rundir_recover_all(dir);
	assert_int_equal(find("web", &rd, &e), -ENOENT);
}

/* Killed after it had said how it ended, and before it had removed itself. */
static void test_end_that_was_cut_off(void **state)
{
	_cleanup_(rundir_close) struct rundir rd = RUNDIR_INIT;
	struct err e = { 0 };
	struct rundir_state st;

	create("web", true, &rd);
	st = a_state(&rd, "web");
	st.auto_remove = true;
	st.status = RUNDIR_EXITED;
	assert_int_equal(rundir_write_state(&rd, &st), 0);
	rundir_state_done(&st);
	/* Its owner lives. */
	rundir_recover_all(dir);
	assert_int_equal(access(rd.path, F_OK), 0);
	close(TAKE_FD(rd.lock_fd));
	assert_int_equal(rundir_recover(&rd, &e), 1);
	assert_int_equal(access(rd.path, F_OK), -1);
	/* Once more, by somebody who had it open. */
	assert_int_equal(rundir_recover(&rd, &e), 0);
}

static void test_reused_pid_is_spared(void **state)
{
	pid_t helper = crash(false, true);
	_cleanup_(close_fdp) int pidfd = pidfd_open(helper, 0);
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };

	rundir_recover_all(dir);
	assert_int_equal(poll(&ended, 1, 0), 0);
	kill(helper, SIGKILL);
}

static void test_crash_without_a_state(void **state)
{
	struct rundir rd = RUNDIR_INIT;
	struct rundir found = RUNDIR_INIT;
	struct err e = { 0 };

	assert_int_equal(rundir_create(dir, &rd, &e), 0);
	rundir_close(&rd);
	rundir_recover_all(dir);
	assert_int_equal(find(rd.id, &found, &e), -ENOENT);
}

static void test_line_cut_off_by_the_crash(void **state)
{
	_cleanup_(rundir_close) struct rundir rd = RUNDIR_INIT;
	static const char journal[] = "process 0\nwhat\nproc";
	struct err e = { 0 };

	create("web", false, &rd);
	assert_int_equal(file_replace(rd.fd, "journal", journal, strlen(journal), 0600), 0);
	close(TAKE_FD(rd.lock_fd));
	assert_int_equal(rundir_recover(&rd, &e), 1);
}

static int count(void *data, struct rundir *rd, const struct rundir_state *st)
{
	++*(int *)data;
	return 0;
}

static void test_removed(void **state)
{
	_cleanup_(rundir_close) struct rundir rd = RUNDIR_INIT;
	struct err e = { 0 };
	int n = 0;

	create("web", false, &rd);
	assert_int_equal(rundir_each(dir, count, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(rundir_remove(&rd, &e), 0);
	assert_int_equal(rundir_remove(&rd, &e), 0);
	n = 0;
	assert_int_equal(rundir_each(dir, count, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(rundir_each("/nonexistent", count, &n), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_containers_are_found),
		TEST(test_containers_of_a_pod),
		TEST(test_events),
		TEST(test_events_are_bounded),
		TEST(test_state_survives),
		TEST(test_state_of_bytes_that_are_no_text),
		TEST(test_damaged_state_is_an_error),
		TEST(test_find),
		TEST(test_name_goes_before_start_of_id),
		TEST(test_ambiguous_start),
		TEST(test_owner_is_known_by_its_lock),
		TEST(test_crash_is_cleaned_up),
		TEST(test_crash_of_one_to_be_removed),
		TEST(test_end_that_was_cut_off),
		TEST(test_reused_pid_is_spared),
		TEST(test_crash_without_a_state),
		TEST(test_line_cut_off_by_the_crash),
		TEST(test_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
