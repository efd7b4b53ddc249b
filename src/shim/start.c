/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `start`: containerd runs it in the bundle of every container. What it prints is the address of
 * the shim that serves the container. containerd reads stdout and stderr together until both are
 * closed, so nothing else may be printed, and the daemon gets neither.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "base/str.h"
#include "shim/address.h"
#include "shim/bootstrap.h"
#include "shim/daemon.h"

#define SCORE_MAX 1000

/* Killed before containerd when memory is short, as its own shims. Not everybody may set it. */
static void adjust_oom_score(pid_t daemon)
{
	_cleanup_(freep) char *text = NULL;
	char path[48];
	char score[16];
	int parent;

	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", getppid());
	if (file_read(AT_FDCWD, path, 64, &text, NULL) < 0)
		return;
	parent = atoi(text);
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", daemon);
	snprintf(score, sizeof(score), "%d", parent < SCORE_MAX ? parent + 1 : SCORE_MAX);
	(void)file_write(AT_FDCWD, path, score);
}

static int start_daemon(const struct shim_options *o, const char *pod_id, const char *config,
			int fd, struct err *e)
{
	char *argv[] = {
		(char *)"containerd-shim-podvm-v2",
		(char *)"-namespace",
		(char *)o->namespace,
		(char *)"-address",
		(char *)o->address,
		(char *)"-id",
		(char *)pod_id,
		(char *)(o->debug ? "-debug" : "-debug=false"),
		(char *)(config ? "-config" : NULL),
		(char *)config,
		NULL,
	};
	struct spawn s = SPAWN_INIT;
	_cleanup_(close_fdp) int pidfd = -EBADF;
	pid_t pid;

	(void)setenv(SHIM_MALLOC_NAME, SHIM_MALLOC, 0);
	s.path = "/proc/self/exe";
	s.argv = argv;
	s.survive = true;
	s.new_session = true;
	if (spawn_fd(&s, fd) != SHIM_LISTEN_FD)
		return err_set(e, -EBADF, "cannot pass the socket");
	pidfd = spawn_start(&s, &pid, e);
	if (pidfd < 0)
		return pidfd;
	adjust_oom_score(pid);
	return 0;
}

static int read_config(const struct shim_options *o, char **ret, struct err *e)
{
	_cleanup_(freep) uint8_t *input = NULL;
	size_t len;
	int r = bootstrap_read(STDIN_FILENO, &input, &len, e);

	return r < 0 ? r : bootstrap_config(input, len, o->id, ret, e);
}

/* The daemon answers from the moment on that its socket listens, which is before it's started. */
static int find_or_start(const struct shim_options *o, const char *pod_id, const char *path,
			 struct err *e)
{
	_cleanup_(freep) char *config = NULL;
	_cleanup_(close_fdp) int fd = -EBADF;
	int r;

	r = read_config(o, &config, e);
	if (r < 0)
		return r;
	fd = shim_socket_listen(path, e);
	if (fd < 0)
		return fd == -EADDRINUSE ? 0 : fd;
	r = start_daemon(o, pod_id, config, fd, e);
	if (r < 0)
		(void)unlink(path);
	return r;
}

static int start(const struct shim_options *o, char **ret_answer, struct err *e)
{
	_cleanup_(shim_pod_done) struct shim_pod pod = { 0 };
	_cleanup_(freep) char *bundle = get_current_dir_name();
	_cleanup_(freep) char *path = NULL;
	_cleanup_(freep) char *address = NULL;
	int r;

	if (!bundle)
		return err_errno(e, -errno, "cannot find out about the bundle");
	r = shim_pod_find(".", o->id, shim_is_crio(o), &pod, e);
	if (r < 0)
		return r;
	path = shim_socket_path(o->address, o->namespace, pod.id);
	address = path ? str_printf("unix://%s", path) : NULL;
	if (!address)
		return err_oom(e);
	r = find_or_start(o, pod.id, path, e);
	if (r < 0)
		return r;
	*ret_answer = bootstrap_answer(address, bootstrap_controller(bundle));
	if (!*ret_answer)
		return err_oom(e);
	/* containerd before 2 finds us again by this file when it has been restarted. */
	r = file_replace(AT_FDCWD, "address", address, strlen(address), 0600);
	return r < 0 ? err_errno(e, r, "cannot write the file address") : 0;
}

int shim_start(const struct shim_options *o)
{
	_cleanup_(freep) char *answer = NULL;
	struct err e = { 0 };

	if (start(o, &answer, &e) < 0)
		return shim_fail(&e);
	return fd_write_all(STDOUT_FILENO, answer, strlen(answer)) < 0;
}
