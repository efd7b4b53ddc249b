/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "cli/check_containerd.h"
#include "cli/cli.h"
#include "cli/log_reader.h"
#include "cli/machine_log.h"
#include "cli/procs.h"
#include "sandbox/log_writer.h"

/* ---- options ---- */

struct values {
	bool all;
	bool quiet;
	const char *name;
	struct strv env;
	unsigned int seconds;
	uint64_t memory;
};

static int parse(struct values *v, int *rest, struct err *e, const char **argv)
{
	const struct cli_option options[] = {
		{ "all", 'a', CLI_FLAG, &v->all, NULL, "All" },
		{ "quiet", 'q', CLI_FLAG, &v->quiet, NULL, "Quiet" },
		{ "name", 0, CLI_STRING, &v->name, "NAME", "Name" },
		{ "env", 'e', CLI_LIST, &v->env, "N=V", "Environment" },
		{ "time", 't', CLI_UINT, &v->seconds, "S", "Time" },
		{ "memory", 'm', CLI_SIZE, &v->memory, "SIZE", "Memory" },
	};
	int argc = 0;

	while (argv[argc])
		argc++;
	return cli_parse("podvm verb [OPTIONS]", options, ARRAY_SIZE(options), argc,
			 (char **)(uintptr_t)argv, rest, e);
}

#define PARSE(v, rest, e, ...) parse(v, rest, e, (const char *[]){ "verb", ##__VA_ARGS__, NULL })

static void test_options_of_every_type(void **state)
{
	struct values v = { 0 };
	struct err e = { 0 };
	int rest;

	assert_int_equal(PARSE(&v, &rest, &e, "-aq", "--name=web", "-e", "A=1", "--env", "B=2",
			       "-t10", "-m", "1g", "image", "-x"),
			 0);
	assert_true(v.all && v.quiet);
	assert_string_equal(v.name, "web");
	assert_int_equal(v.env.n, 2);
	assert_string_equal(v.env.v[1], "B=2");
	assert_int_equal(v.seconds, 10);
	assert_true(v.memory == 1 << 30);
	/* What follows the first argument belongs to the container's command. */
	assert_int_equal(rest, 10);
	strv_done(&v.env);
}

static void test_double_dash_ends_the_options(void **state)
{
	struct values v = { 0 };
	struct err e = { 0 };
	int rest;

	assert_int_equal(PARSE(&v, &rest, &e, "--", "-a"), 0);
	assert_false(v.all);
	assert_int_equal(rest, 2);
}

static void test_options_that_are_wrong(void **state)
{
	struct values v = { 0 };
	struct err e = { 0 };
	int rest;

	assert_int_equal(PARSE(&v, &rest, &e, "--nonsense"), -EINVAL);
	assert_non_null(strstr(e.msg, "--nonsense"));
	assert_non_null(strstr(e.hint, "podvm verb [OPTIONS]"));
	assert_int_equal(PARSE(&v, &rest, &e, "--time"), -EINVAL);
	assert_int_equal(PARSE(&v, &rest, &e, "-t", "-1"), -EINVAL);
	assert_int_equal(PARSE(&v, &rest, &e, "-t", "4294967296"), -EINVAL);
	assert_int_equal(PARSE(&v, &rest, &e, "-m", "1x"), -EINVAL);
	assert_int_equal(PARSE(&v, &rest, &e, "--all=yes"), -EINVAL);
	assert_int_equal(PARSE(&v, &rest, &e, "-z"), -EINVAL);
	/* Bytes that a terminal would act on aren't shown as they are. */
	assert_int_equal(PARSE(&v, &rest, &e, "-t", "\033[2J"), -EINVAL);
	assert_null(strchr(e.msg, '\033'));
}

/* ---- numbers for people ---- */

static const char *ago(uint64_t seconds)
{
	static char buf[64];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return cli_ago(buf, sizeof(buf), ((uint64_t)now.tv_sec - seconds) * 1000000000);
}

static void test_ago(void **state)
{
	char buf[64];

	assert_string_equal(ago(60), "1 minute ago");
	assert_string_equal(ago(2 * 3600 + 59), "2 hours ago");
	assert_string_equal(ago(3 * 86400), "3 days ago");
	/* A clock that was set back. */
	assert_string_equal(cli_ago(buf, sizeof(buf), UINT64_MAX), "0 seconds ago");
}

static void test_human_size(void **state)
{
	char buf[32];

	assert_string_equal(cli_human_size(buf, sizeof(buf), 0), "0B");
	assert_string_equal(cli_human_size(buf, sizeof(buf), 999), "999B");
	assert_string_equal(cli_human_size(buf, sizeof(buf), 1500), "1.5kB");
	assert_string_equal(cli_human_size(buf, sizeof(buf), 268435456), "268MB");
	assert_string_equal(cli_human_size(buf, sizeof(buf), UINT64_MAX), "1.84e+04PB");
}

/* ---- the log's reader ---- */

struct log {
	char dir[64];
	int dirfd;
	struct log_writer *w;
	struct log_reader *r;
	char got[4096];
};

static int setup_log(void **state)
{
	static struct log l;

	l = (struct log){ .dir = "/tmp/podvm-cli-XXXXXX" };
	*state = &l;
	if (!mkdtemp(l.dir))
		return -1;
	l.dirfd = open(l.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (log_writer_new(l.dirfd, &l.w) < 0)
		return -1;
	return log_reader_new(l.dirfd, "log", &l.r);
}

static int teardown_log(void **state)
{
	struct log *l = *state;

	log_reader_free(l->r);
	log_writer_free(l->w);
	close(l->dirfd);
	return rm_rf(AT_FDCWD, l->dir);
}

static int take(void *data, char *text, size_t len)
{
	struct log_line line;
	struct log *l = data;

	if (log_line_parse(text, len, &line) < 0)
		return 0;
	snprintf(l->got + strlen(l->got), sizeof(l->got) - strlen(l->got), "%s%.*s%s",
		 line.error ? "E:" : "", (int)line.len, line.text, line.whole ? "|" : "");
	return 0;
}

static void expect(struct log *l, const char *want)
{
	l->got[0] = '\0';
	assert_int_equal(log_reader_read(l->r, take, l), 0);
	assert_string_equal(l->got, want);
}

static void say(struct log *l, enum streams_which stream, const char *text)
{
	log_writer_add(l->w, stream, text, strlen(text));
}

static void test_log_is_read_on(void **state)
{
	struct log *l = *state;

	expect(l, "");
	say(l, STREAMS_STDOUT, "one\ntwo\n");
	expect(l, "one|two|");
	expect(l, "");
	say(l, STREAMS_STDERR, "oops\n");
	say(l, STREAMS_STDOUT, "partial");
	expect(l, "E:oops|");
	log_writer_free(TAKE_PTR(l->w));
	expect(l, "partial");
}

/* Turn the log over as its writer does, with lines that are read before and after. */
static void turn_over(struct log *l, const char *text)
{
	log_writer_free(TAKE_PTR(l->w));
	assert_int_equal(renameat(l->dirfd, "log", l->dirfd, "log.1"), 0);
	assert_int_equal(log_writer_new(l->dirfd, &l->w), 0);
	say(l, STREAMS_STDOUT, text);
}

static void test_no_line_is_lost_when_the_log_is_turned_over(void **state)
{
	struct log *l = *state;

	say(l, STREAMS_STDOUT, "1\n");
	expect(l, "1|");
	/* The last line of the old file is written when it has been read already. */
	say(l, STREAMS_STDOUT, "2\n");
	turn_over(l, "3\n");
	expect(l, "2|3|");
	say(l, STREAMS_STDOUT, "4\n");
	expect(l, "4|");
	turn_over(l, "5\n");
	turn_over(l, "6\n");
	expect(l, "5|6|");
}

static void test_both_files_are_read_from_the_start(void **state)
{
	struct log *l = *state;

	say(l, STREAMS_STDOUT, "old\n");
	turn_over(l, "new\n");
	expect(l, "old|new|");
	expect(l, "");
}

static void test_what_is_no_line_is_skipped(void **state)
{
	struct log *l = *state;
	static const char text[] = "garbage\n"
				   "\n"
				   "T stdout X no such tag\n"
				   "T nowhere F no such stream\n"
				   "T stdout F\n"
				   "T stdout F good\n"
				   "T stdout F \n"
				   "T stderr P cut o";

	assert_int_equal(file_replace(l->dirfd, "log", text, strlen(text), 0600), 0);
	expect(l, "good||");
}

static void test_log_line(void **state)
{
	char text[] = "2026-11-21T10:00:00.000000000Z stderr P a  b";
	struct log_line line;

	assert_int_equal(log_line_parse(text, strlen(text), &line), 0);
	assert_string_equal(line.stamp, "2026-11-21T10:00:00.000000000Z");
	assert_true(line.error && !line.whole);
	assert_int_equal(line.len, 4);
	assert_memory_equal(line.text, "a  b", 4);
}

/* ---- containerd's configuration ---- */

static void test_containerd_config(void **state)
{
	static const struct {
		const char *text;
		const char *handler;
		bool annotations;
		bool no_host_devices;
		bool streaming;
		const char *conf;
		const char *bin;
	} cases[] = {
		{ "version = 2\n"
		  "  [plugins.\"io.containerd.grpc.v1.cri\".cni]\n"
		  "    bin_dir = \"/opt/cni/bin\"\n"
		  "    conf_dir = \"/etc/cni/net.d\"\n"
		  "  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n"
		  "    pod_annotations = [\"x\"]\n"
		  "    runtime_type = \"io.containerd.runc.v2\"\n",
		  NULL, false, false, false, "/etc/cni/net.d", "/opt/cni/bin" },
		{ "[plugins.'io.containerd.cri.v1.runtime'.cni]\n"
		  "  bin_dir = ''\n"
		  "  bin_dirs = ['/usr/lib/cni', '/other']\n"
		  "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.vm]\n"
		  "  runtime_type = 'io.containerd.podvm.v2'\n"
		  "  pod_annotations = ['podvm.io/*']\n"
		  "  io_type = 'streaming'\n"
		  "  privileged_without_host_devices = false\n"
		  "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.vm.options]\n"
		  "  runtime_type = 'x'\n",
		  "vm", true, false, true, NULL, "/usr/lib/cni" },
		{ "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.a]\n"
		  "  pod_annotations = [\"podvm.io/*\"]\n"
		  "  privileged_without_host_devices = true\n"
		  "  runtime_type = \"io.containerd.podvm.v2\"\n"
		  "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.b]\n"
		  "  io_type = \"streaming\"\n"
		  "  runtime_type = \"io.containerd.podvm.v2\"\n",
		  "a", true, true, false, NULL, NULL },
		{ "[\n[]\n = \nruntime_type = 'io.containerd.podvm.v2'\nx = '\n", NULL, false,
		  false, false, NULL, NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(containerd_config_done) struct containerd_config c = { 0 };
		_cleanup_(freep) char *text = strdup(cases[i].text);

		assert_int_equal(containerd_config_parse(text, &c), 0);
		assert_string_equal(c.handler ? c.handler : "",
				    cases[i].handler ? cases[i].handler : "");
		assert_int_equal(c.annotations, cases[i].annotations);
		assert_int_equal(c.no_host_devices, cases[i].no_host_devices);
		assert_int_equal(c.streaming, cases[i].streaming);
		assert_string_equal(c.cni_conf ? c.cni_conf : "",
				    cases[i].conf ? cases[i].conf : "");
		assert_string_equal(c.cni_bin ? c.cni_bin : "", cases[i].bin ? cases[i].bin : "");
	}
}

static void test_shared_root(void **state)
{
	assert_true(is_shared_root("22 29 0:21 / /proc rw shared:5 - proc proc rw\n"
				   "29 1 254:1 / / rw,noatime shared:1 - ext4 /dev/vda1 rw\n"));
	assert_true(is_shared_root("29 1 254:1 / / rw master:2 shared:1 - ext4 /dev/vda1 rw\n"));
	assert_false(is_shared_root("22 29 0:21 / /proc rw shared:5 - proc proc rw\n"
				    "29 1 254:1 / / rw master:7 - ext4 /dev/vda1 rw\n"
				    "30 29 0:1 / /x rw shared:9 - tmpfs tmpfs rw\n"));
	assert_false(is_shared_root("29 1 254:1 / / rw - ext4 /dev/x rw, shared:1\n"));
	assert_false(is_shared_root(""));
	assert_false(is_shared_root("\n\nx"));
}

/* ---- the log of a machine ---- */

#define SECOND UINT64_C(1000000000)

static void expect_entry(const struct machine_log *log, size_t i, uint64_t time_ns,
			 const char *source, const char *text)
{
	assert_true(i < log->n);
	assert_int_equal(log->v[i].time_ns, time_ns);
	assert_string_equal(log->v[i].source, source);
	assert_string_equal(log->v[i].text, text);
}

static void add_shim(struct machine_log *log, const char *line)
{
	assert_int_equal(machine_log_add_shim(log, line, strlen(line)), 0);
}

static void test_machine_log_is_in_the_order_of_time(void **state)
{
	static const char guest[] = "[    0.000000] Linux version\n"
				    "[    1.500000] podvm-agent: level=info msg=\"ready\"\r\n"
				    "a line without a time\n"
				    "\n"
				    "[   12.000001] cut o";
	struct machine_log log = { 0 };

	assert_int_equal(machine_log_add_guest(&log, SECOND, guest, strlen(guest)), 0);
	add_shim(&log, "time=\"1970-01-01T00:00:02.000Z\" level=info msg=\"the shim serves\"");
	add_shim(&log,
		 "time=\"1970-01-01T00:00:20.500Z\" level=info msg=\"monitor\" line=\"oops\"");
	add_shim(&log, "time=\"no time\" level=info");
	add_shim(&log, "cut off");
	machine_log_sort(&log);
	expect_entry(&log, 0, SECOND, "kernel", "Linux version");
	expect_entry(&log, 1, 2 * SECOND, "shim", "level=info msg=\"the shim serves\"");
	expect_entry(&log, 2, 2 * SECOND + SECOND / 2, "agent", "level=info msg=\"ready\"");
	expect_entry(&log, 3, 2 * SECOND + SECOND / 2, "kernel", "a line without a time");
	expect_entry(&log, 4, 13 * SECOND + 1000, "kernel", "cut o");
	expect_entry(&log, 5, 20 * SECOND + SECOND / 2, "monitor", "\"oops\"");
	assert_int_equal(log.n, 6);
	machine_log_done(&log);
}

/* The guest writes what it likes. */
static void test_machine_log_of_a_guest_that_lies(void **state)
{
	static const char guest[] = "[99999999999999999999.999999] x\n[\n[]\n[ 1.2\n[1.x] y\n]";
	struct machine_log log = { 0 };

	assert_int_equal(machine_log_add_guest(&log, SECOND, guest, strlen(guest)), 0);
	assert_int_equal(log.n, 6);
	expect_entry(&log, 1, log.v[0].time_ns, "kernel", "[");
	machine_log_done(&log);
}

/* ---- processes ---- */

static void test_host_processes(void **state)
{
	struct spawn s = SPAWN_INIT;
	char *argv[] = { (char[]){ "sleep" }, (char[]){ "100" }, NULL };
	_cleanup_(freep) struct host_process *v = NULL;
	struct err e = { 0 };
	pid_t pid;
	size_t n = 0;
	int pidfd;

	s.path = argv[0];
	s.argv = argv;
	pidfd = spawn_start(&s, &pid, &e);
	assert_true(pidfd >= 0);
	/* A process gets its new name a moment after what we saw of its exec. */
	for (int i = 0; i < 10000 && (n == 0 || !str_eq(v[n - 1].name, "sleep")); i++) {
		free(TAKE_PTR(v));
		assert_int_equal(host_processes(getpid(), pid, &v, &n), 0);
	}
	assert_int_equal(n, 2);
	assert_int_equal(v[0].pid, getpid());
	assert_true(v[0].memory.private > 0 && v[0].memory.private <= v[0].memory.pss);
	assert_int_equal(v[1].pid, pid);
	assert_string_equal(v[1].name, "sleep");
	/* Its deadline has passed, so it's killed and reaped. */
	assert_int_equal(spawn_wait(pidfd, 0), -ETIMEDOUT);
	close(pidfd);
	free(TAKE_PTR(v));
	assert_int_equal(host_processes(pid, 0, &v, &n), 0);
	assert_int_equal(n, 0);
}

/* A machine of the pool: its monitor's parent isn't the owner, who is some other process here. */
static void test_a_monitor_of_somebody_else(void **state)
{
	struct spawn s = SPAWN_INIT;
	char *argv[] = { (char[]){ "sleep" }, (char[]){ "100" }, NULL };
	_cleanup_(freep) struct host_process *v = NULL;
	int pidfds[2];
	pid_t pids[2];
	size_t n = 0;

	s.path = argv[0];
	s.argv = argv;
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		pidfds[i] = spawn_start(&s, &pids[i], NULL);
		assert_true(pidfds[i] >= 0);
	}
	assert_int_equal(host_processes(pids[0], pids[1], &v, &n), 0);
	assert_int_equal(n, 3);
	assert_int_equal(v[0].pid, pids[0]);
	assert_int_equal(v[1].pid, getpid());
	assert_int_equal(v[2].pid, pids[1]);
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		assert_int_equal(spawn_wait(pidfds[i], 0), -ETIMEDOUT);
		close(pidfds[i]);
	}
}

#define LOG_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup_log, teardown_log)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options_of_every_type),
		cmocka_unit_test(test_double_dash_ends_the_options),
		cmocka_unit_test(test_options_that_are_wrong),
		cmocka_unit_test(test_ago),
		cmocka_unit_test(test_human_size),
		LOG_TEST(test_log_is_read_on),
		LOG_TEST(test_no_line_is_lost_when_the_log_is_turned_over),
		LOG_TEST(test_both_files_are_read_from_the_start),
		LOG_TEST(test_what_is_no_line_is_skipped),
		cmocka_unit_test(test_log_line),
		cmocka_unit_test(test_containerd_config),
		cmocka_unit_test(test_shared_root),
		cmocka_unit_test(test_machine_log_is_in_the_order_of_time),
		cmocka_unit_test(test_machine_log_of_a_guest_that_lies),
		cmocka_unit_test(test_host_processes),
		cmocka_unit_test(test_a_monitor_of_somebody_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
