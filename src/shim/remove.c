/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `delete`: containerd runs it after every task's end and after a crash, for all containers of a
 * pod at the same moment. What the pod took on the host is in the journal of its run directory,
 * which is locked as long as the shim lives: then there is nothing to do. Everything of a single
 * container goes with the shim and its mount namespace. Where the run directory is says the bundle
 * of the sandbox; in a group without one, the bundle of each member.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "proto/task.pb-c.h"
#include "sandbox/rundir.h"
#include "shim/address.h"
#include "shim/daemon.h"
#include "shim/service.h"

/* containerd gives us 5 s for everything. */
#define ANSWER_TIMEOUT_MS 1500
#define OWNER_TIMEOUT_MS  2500

/*
 * containerd calls us when the shim's connection has closed. The shim may still be at its end then,
 * holding its lock, whether it was killed or has finished: that's waited for, but not for long.
 */
static void wait_for_owner(const struct rundir *rd)
{
	_cleanup_(rundir_state_done) struct rundir_state st = { 0 };
	_cleanup_(close_fdp) int pidfd = -EBADF;
	struct pollfd p = { .events = POLLIN };

	if (!rundir_owner_alive(rd) || rundir_read_state(rd, &st, NULL) < 0 || st.owner_pid <= 0)
		return;
	pidfd = pidfd_open(st.owner_pid, 0);
	p.fd = pidfd;
	if (pidfd >= 0)
		(void)poll(&p, 1, OWNER_TIMEOUT_MS);
}

/* What SHIM_STATE_FILE says; a bundle without it is a sandbox's member, or has taken nothing. */
static char *find_state_dir(const char *bundle)
{
	_cleanup_(freep) char *path = str_printf("%s/" SHIM_STATE_FILE, bundle);
	char *state = NULL;

	if (path)
		(void)file_read(AT_FDCWD, path, PATH_MAX, &state, NULL);
	return state;
}

/* Undo what a crash has left of the pod; nothing if its shim lives or it's gone already. */
static int clean_pod(const char *state, const char *namespace, const char *pod_id, struct err *e)
{
	_cleanup_(freep) char *id = shim_run_id(namespace, pod_id);
	_cleanup_(rundir_close) struct rundir rd = RUNDIR_INIT;
	int r;

	if (!id)
		return err_oom(e);
	if (rundir_open(state, id, &rd) < 0)
		return 0;
	wait_for_owner(&rd);
	r = rundir_recover(&rd, e);
	/* A name that is gone meanwhile was removed by somebody else who had the same task. */
	return r < 0 && access(rd.path, F_OK) == 0 ? r : 0;
}

static int clean(const struct shim_options *o, struct err *e)
{
	_cleanup_(shim_pod_done) struct shim_pod pod = { 0 };
	_cleanup_(freep) char *path = NULL;
	_cleanup_(freep) char *state = NULL;
	const char *bundle = o->bundle ? o->bundle : ".";
	int r;

	r = shim_pod_find(bundle, o->id, shim_is_crio(o), &pod, e);
	if (r < 0)
		return r;
	path = shim_socket_path(o->address, o->namespace, pod.id);
	if (!path)
		return err_oom(e);
	/* The others of the pod go on. */
	if (pod.role == SHIM_MEMBER && shim_answers(path, ANSWER_TIMEOUT_MS))
		return 0;
	state = find_state_dir(bundle);
	if (state)
		r = clean_pod(state, o->namespace, pod.id, e);
	if (!shim_answers(path, ANSWER_TIMEOUT_MS))
		(void)unlink(path);
	return r;
}

static int print_response(void)
{
	Containerd__Task__V2__DeleteResponse resp = CONTAINERD__TASK__V2__DELETE_RESPONSE__INIT;
	Containerd__Types__Timestamp at = CONTAINERD__TYPES__TIMESTAMP__INIT;
	uint8_t bytes[64];
	struct timespec now;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &now);
	at.seconds = now.tv_sec;
	at.nanos = (int32_t)now.tv_nsec;
	resp.exit_status = SHIM_KILLED;
	resp.exited_at = &at;
	if (containerd__task__v2__delete_response__get_packed_size(&resp) > sizeof(bytes))
		return 1;
	n = containerd__task__v2__delete_response__pack(&resp, bytes);
	return fd_write_all(STDOUT_FILENO, bytes, n) < 0;
}

int shim_remove(const struct shim_options *o)
{
	struct err e = { 0 };

	if (clean(o, &e) < 0)
		return shim_fail(&e);
	return print_response();
}
