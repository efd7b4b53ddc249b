/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "base/str.h"
#include "storage/virtiofs.h"

/* <dir>/shared is what the guest would see, <dir>/source what is on the host. */
struct fixture {
	char dir[64];
	char shared[128];
	char source[128];
	struct err e;
};

static char *in_dir(struct fixture *f, const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	return path;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/podvm-virtiofs-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->shared, sizeof(f->shared), "%s/shared", f->dir);
	snprintf(f->source, sizeof(f->source), "%s/source", f->dir);
	assert_int_equal(mkdir(f->shared, 0700), 0);
	assert_int_equal(mkdir_p(in_dir(f, "source/below"), 0755), 0);
	assert_int_equal(file_replace(AT_FDCWD, in_dir(f, "source/file"), "text", 4, 0644), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	_cleanup_(closedirp) DIR *dir = opendir(f->shared);
	struct dirent *d;

	while ((d = readdir(dir))) {
		_cleanup_(freep) char *path = str_printf("%s/%s", f->shared, d->d_name);

		if (d->d_name[0] != '.')
			umount2(path, MNT_DETACH);
	}
	umount2(in_dir(f, "source/below"), MNT_DETACH);
	assert_int_equal(rm_rf(AT_FDCWD, f->dir), 0);
	free(f);
	return 0;
}

static void add(struct fixture *f, const char *source, enum virtiofs_access access,
		const char *name)
{
	if (virtiofs_share_add(f->shared, source, access, name, &f->e) < 0)
		fail_msg("%s", f->e.msg);
}

static int try_create(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static void assert_text(const char *path, const char *text)
{
	_cleanup_(freep) char *got = NULL;

	if (file_read(AT_FDCWD, path, 4096, &got, NULL) < 0)
		fail_msg("cannot read %s", path);
	assert_string_equal(got, text);
}

static void test_directory_and_file(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(symlink("source", in_dir(f, "link")), 0);
	add(f, in_dir(f, "link"), VIRTIOFS_WRITABLE, "0");
	add(f, in_dir(f, "source/file"), VIRTIOFS_WRITABLE, "1");
	assert_text(in_dir(f, "shared/0/file"), "text");
	assert_text(in_dir(f, "shared/1"), "text");
	assert_int_equal(try_create(in_dir(f, "shared/0/new")), 0);
	assert_int_equal(access(in_dir(f, "source/new"), F_OK), 0);
}

static int stay(void *arg)
{
	const int *fds = arg;
	char c;

	return read(fds[0], &c, 1) > 0;
}

/* A mount namespace like ours, in which nothing appears that is mounted here from now on. */
static int other_namespace(int *ret_release)
{
	_Alignas(16) static char stack[16 << 10];
	_cleanup_(freep) char *path = NULL;
	int fds[2];
	pid_t pid;
	int fd;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = clone(stay, stack + sizeof(stack), CLONE_NEWNS | SIGCHLD, fds);
	assert_true(pid > 0);
	path = str_printf("/proc/%d/ns/mnt", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fds[1], "", 1), 1);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(fds[0]);
	*ret_release = fds[1];
	return fd;
}

static void test_source_in_another_mount_namespace(void **state)
{
	struct fixture *f = *state;
	struct virtiofs_source s = { .access = VIRTIOFS_WRITABLE };
	int release;
	int ns;

	/* There it's what was mounted before. */
	assert_int_equal(mount("tmpfs", in_dir(f, "source/below"), "tmpfs", 0, "size=1m"), 0);
	assert_int_equal(mount(NULL, in_dir(f, "source/below"), NULL, MS_PRIVATE, NULL), 0);
	assert_int_equal(try_create(in_dir(f, "source/below/here")), 0);
	ns = other_namespace(&release);
	assert_int_equal(umount(in_dir(f, "source/below")), 0);
	assert_int_equal(access(in_dir(f, "source/below/here"), F_OK), -1);
	s.mount_ns = ns;
	s.path = in_dir(f, "source/below");
	if (virtiofs_share_add_from(&s, f->shared, "0", &f->e) < 0)
		fail_msg("%s", f->e.msg);
	assert_int_equal(access(in_dir(f, "shared/0/here"), F_OK), 0);
	s.path = "/nonexistent";
	assert_int_equal(virtiofs_share_add_from(&s, f->shared, "1", &f->e), -ENOENT);
	s.path = f->source;
	s.mount_ns = release;
	assert_int_equal(virtiofs_share_add_from(&s, f->shared, "1", &f->e), -EINVAL);
	close(ns);
	close(release);
}

static void mount_below(struct fixture *f)
{
	assert_int_equal(mount("tmpfs", in_dir(f, "source/below"), "tmpfs", 0, "size=1m"), 0);
	assert_int_equal(try_create(in_dir(f, "source/below/here")), 0);
}

static void test_readonly_but_what_is_below(void **state)
{
	struct fixture *f = *state;

	mount_below(f);
	add(f, f->source, VIRTIOFS_READONLY, "0");
	assert_int_equal(try_create(in_dir(f, "shared/0/new")), -EROFS);
	assert_int_equal(try_create(in_dir(f, "shared/0/below/new")), 0);
}

/* Also what is mounted below; and the source itself stays writable. */
static void test_readonly_is_deep(void **state)
{
	struct fixture *f = *state;

	mount_below(f);
	add(f, f->source, VIRTIOFS_READONLY_ALL, "0");
	assert_int_equal(access(in_dir(f, "shared/0/below/here"), F_OK), 0);
	assert_int_equal(try_create(in_dir(f, "shared/0/new")), -EROFS);
	assert_int_equal(try_create(in_dir(f, "shared/0/below/new")), -EROFS);
	assert_int_equal(try_create(in_dir(f, "source/below/new")), 0);
}

static void test_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
		virtiofs_share_add(f->shared, "/nonexistent", VIRTIOFS_WRITABLE, "0", &f->e),
		-ENOENT);
	assert_non_null(strstr(f->e.msg, "/nonexistent"));
	assert_int_equal(virtiofs_share_add(f->shared, "/dev/null", VIRTIOFS_WRITABLE, "0", &f->e),
			 -EINVAL);
	assert_string_not_equal(f->e.hint, "");
	assert_int_equal(virtiofs_share_add(f->shared, f->source, VIRTIOFS_WRITABLE, "../x", &f->e),
			 -EINVAL);
	assert_int_equal(virtiofs_share_add(f->shared, f->source, VIRTIOFS_WRITABLE, "..", &f->e),
			 -EINVAL);
	add(f, f->source, VIRTIOFS_WRITABLE, "0");
	assert_int_equal(virtiofs_share_add(f->shared, f->source, VIRTIOFS_WRITABLE, "0", &f->e),
			 -EEXIST);
}

/* The daemon answers on the socket, and ends when that is closed. */
static void test_daemon_serves(void **state)
{
	struct {
		uint32_t request;
		uint32_t flags;
		uint32_t size;
		uint64_t features;
	} __attribute__((packed)) msg = { .request = 1 /* VHOST_USER_GET_FEATURES */, .flags = 1 };
	struct fixture *f = *state;
	_cleanup_(close_fdp) int pidfd = -EBADF;
	_cleanup_(close_fdp) int fd = -EBADF;
	struct timeval deadline = { .tv_sec = 60 };
	pid_t pid;

	add(f, f->source, VIRTIOFS_READONLY_ALL, "0");
	pidfd = virtiofs_spawn(f->shared, &pid, &fd, &f->e);
	if (pidfd == -ENOENT) {
		assert_string_not_equal(f->e.hint, "");
		skip();
	}
	assert_true(pidfd >= 0 && pid > 0);
	assert_int_equal(access(in_dir(f, "virtiofs.sock"), F_OK), -1);
	assert_int_equal(send(fd, &msg, 12, MSG_NOSIGNAL), 12);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline)), 0);
	assert_int_equal(recv(fd, &msg, sizeof(msg), MSG_WAITALL), sizeof(msg));
	assert_int_equal(msg.request, 1);
	assert_int_equal(msg.size, 8);
	close(TAKE_FD(fd));
	assert_in_range(spawn_wait(pidfd, 60000), 0, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_directory_and_file),
		T(test_source_in_another_mount_namespace),
		T(test_readonly_is_deep),
		T(test_readonly_but_what_is_below),
		T(test_refused),
		T(test_daemon_serves),
	};

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		fprintf(stderr, "needs a mount namespace of its own\n");
		return 77;
	}
	return cmocka_run_group_tests_name("virtiofs", tests, NULL, NULL);
}
