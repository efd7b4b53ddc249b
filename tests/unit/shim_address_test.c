/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/unixsock.h"
#include "loop/loop.h"
#include "shim/address.h"
#include "ttrpc/ttrpc.h"

#define SOCKET_HASH "b4673b9c57727cfee75fd668590b33dd"

static char dir[] = "/tmp/shim-address.XXXXXX";

static int setup(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	return rm_rf(AT_FDCWD, dir);
}

static void write_config(const char *text)
{
	_cleanup_(freep) char *path = str_printf("%s/config.json", dir);

	assert_int_equal(file_replace(AT_FDCWD, path, text, strlen(text), 0600), 0);
}

static void find(const char *config, const char *id, enum shim_role role)
{
	_cleanup_(shim_pod_done) struct shim_pod pod = { 0 };

	write_config(config);
	assert_int_equal(shim_pod_find(dir, "me", false, &pod, NULL), 0);
	assert_string_equal(pod.id, id);
	assert_int_equal(pod.role, role);
}

static void test_whose_pod_it_is(void **state)
{
	find("{}", "me", SHIM_SINGLE);
	find("{\"annotations\":{\"a\":\"b\"}}", "me", SHIM_SINGLE);
	find("{\"annotations\":{\"io.kubernetes.cri.container-type\":\"sandbox\","
	     "\"io.kubernetes.cri.sandbox-id\":\"me\"}}",
	     "me", SHIM_SANDBOX);
	find("{\"annotations\":{\"io.kubernetes.cri.container-type\":\"container\","
	     "\"io.kubernetes.cri.sandbox-id\":\"pod\"}}",
	     "pod", SHIM_MEMBER);
	find("{\"annotations\":{\"io.containerd.runc.v2.group\":\"group\","
	     "\"io.kubernetes.cri.sandbox-id\":\"pod\"}}",
	     "group", SHIM_MEMBER);
}

/* Who makes the pod may write annotations of containerd's names, but not of CRI-O's. */
static void test_whose_pod_it_is_to_crio(void **state)
{
	_cleanup_(shim_pod_done) struct shim_pod pod = { 0 };

	write_config("{\"annotations\":{\"io.kubernetes.cri-o.ContainerType\":\"container\","
		     "\"io.kubernetes.cri-o.SandboxID\":\"pod\","
		     "\"io.kubernetes.cri.container-type\":\"sandbox\","
		     "\"io.kubernetes.cri.sandbox-id\":\"another\","
		     "\"io.containerd.runc.v2.group\":\"another\"}}");
	assert_int_equal(shim_pod_find(dir, "me", true, &pod, NULL), 0);
	assert_string_equal(pod.id, "pod");
	assert_int_equal(pod.role, SHIM_MEMBER);
}

static void test_no_config_is_a_pod_of_its_own(void **state)
{
	_cleanup_(shim_pod_done) struct shim_pod pod = { 0 };

	assert_int_equal(shim_pod_find("/nonexistent", "me", false, &pod, NULL), 0);
	assert_string_equal(pod.id, "me");
	assert_int_equal(pod.role, SHIM_SINGLE);
}

static void test_broken_config(void **state)
{
	_cleanup_(shim_pod_done) struct shim_pod pod = { 0 };
	struct err e = { 0 };

	write_config("[1]");
	assert_int_equal(shim_pod_find(dir, "me", false, &pod, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "config.json"));
}

static void test_path_of_the_socket(void **state)
{
	/* Of "/run/containerd/containerd.sock/k8s.io/abc", by another implementation. */
	_cleanup_(freep) char *path = shim_socket_path("/run/containerd/containerd.sock", "k8s.io",
						       "abc");
	_cleanup_(freep) char *other = shim_socket_path("/run/containerd/containerd.sock", "k8s.io",
							"abd");

	assert_string_equal(path, SHIM_SOCKET_DIR "/" SOCKET_HASH);
	assert_string_not_equal(path, other);
}

static void test_name_of_the_run_directory(void **state)
{
	static const char hex[] =
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	_cleanup_(freep) char *pod = shim_run_id("k8s.io", hex);
	_cleanup_(freep) char *name = shim_run_id("default", "web");
	_cleanup_(freep) char *long_name = shim_run_id(
		"default", "a-name-of-more-than-sixty-four-characters-with-its-namespace-before");

	assert_string_equal(pod, hex);
	assert_string_equal(name, "default_web");
	assert_int_equal(strlen(long_name), 32);
}

/* 0: somebody listens there. */
static int listener(const char *path)
{
	_cleanup_(close_fdp) int fd = unixsock_connect(path, SOCK_STREAM);

	return MIN(fd, 0);
}

static void test_one_listens_and_the_next_one_finds_it(void **state)
{
	_cleanup_(freep) char *path = str_printf("%s/socket", dir);
	_cleanup_(close_fdp) int fd = shim_socket_listen(path, NULL);
	struct err e = { 0 };
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(listener(path), 0);
	assert_int_equal(shim_socket_listen(path, &e), -EADDRINUSE);
}

static void test_socket_of_a_crash_is_replaced(void **state)
{
	_cleanup_(freep) char *path = str_printf("%s/crashed", dir);
	_cleanup_(close_fdp) int fd = shim_socket_listen(path, NULL);

	assert_true(fd >= 0);
	close(TAKE_FD(fd));
	assert_int_equal(listener(path), -ECONNREFUSED);
	fd = shim_socket_listen(path, NULL);
	assert_true(fd >= 0);
	assert_int_equal(listener(path), 0);
}

/* ---- whether a shim lives ---- */

/* Another process that listens, has whoever connects wait for @ms, and then does as it's told. */
static pid_t listen_in_child(const char *path, unsigned int ms, void (*act)(int fd))
{
	_cleanup_(close_fdp) int fd = shim_socket_listen(path, NULL);
	pid_t pid;

	assert_true(fd >= 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		usleep(ms * 1000);
		act(fd);
		_exit(0);
	}
	return pid;
}

static void end_child(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* No service at all is answer enough. */
static void serve(int fd)
{
	struct ttrpc_server *server = NULL;
	struct loop *loop = NULL;

	if (loop_new(&loop) == 0 && ttrpc_server_new(loop, NULL, 0, &server) == 0 &&
	    ttrpc_server_listen(server, fd) == 0)
		loop_run(loop);
}

static void hang(int fd)
{
	pause();
}

static void die(int fd)
{
}

static void test_shim_that_serves_lives(void **state)
{
	_cleanup_(freep) char *path = str_printf("%s/serves", dir);
	pid_t pid = listen_in_child(path, 50, serve);

	assert_true(shim_answers(path, 30000));
	end_child(pid);
	assert_false(shim_answers(path, 30000));
}

static void test_shim_that_hangs_lives(void **state)
{
	_cleanup_(freep) char *path = str_printf("%s/hangs", dir);
	pid_t pid = listen_in_child(path, 0, hang);

	assert_true(shim_answers(path, 100));
	end_child(pid);
}

/* As one that was killed: its socket still takes connections while it ends. */
static void test_shim_that_ends_does_not_live(void **state)
{
	_cleanup_(freep) char *path = str_printf("%s/ends", dir);
	pid_t pid = listen_in_child(path, 300, die);

	assert_false(shim_answers(path, 30000));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_false(shim_answers(path, 30000));
}

static void test_no_shim(void **state)
{
	_cleanup_(freep) char *path = str_printf("%s/none", dir);

	assert_false(shim_answers(path, 30000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whose_pod_it_is),
		cmocka_unit_test(test_whose_pod_it_is_to_crio),
		cmocka_unit_test(test_no_config_is_a_pod_of_its_own),
		cmocka_unit_test(test_broken_config),
		cmocka_unit_test(test_path_of_the_socket),
		cmocka_unit_test(test_name_of_the_run_directory),
		cmocka_unit_test(test_one_listens_and_the_next_one_finds_it),
		cmocka_unit_test(test_socket_of_a_crash_is_replaced),
		cmocka_unit_test(test_shim_that_serves_lives),
		cmocka_unit_test(test_shim_that_hangs_lives),
		cmocka_unit_test(test_shim_that_ends_does_not_live),
		cmocka_unit_test(test_no_shim),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
