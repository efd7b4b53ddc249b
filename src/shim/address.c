/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/address.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "loop/loop.h"
#include "proto/task.pb-c.h"
#include "sandbox/rundir.h"
#include "shim/spec.h"
#include "ttrpc/ttrpc.h"

#define BACKLOG 128

static const char *const group_annotations[] = {
	"io.containerd.runc.v2.group",
	SPEC_SANDBOX_ID,
};

int shim_pod_find(const char *bundle, const char *id, bool crio, struct shim_pod *ret,
		  struct err *e)
{
	_cleanup_(json_putp) struct json_object *spec = NULL;
	const char *group = NULL;
	const char *type;
	int r;

	*ret = (struct shim_pod){ 0 };
	r = spec_read(bundle, crio, &spec, e);
	if (r < 0 && r != -ENOENT)
		return r;
	for (size_t i = 0; spec && !group && i < ARRAY_SIZE(group_annotations); i++)
		group = spec_annotation(spec, group_annotations[i]);
	if (str_set(&ret->id, str_empty(group) ? id : group) < 0)
		return err_oom(e);
	type = spec ? spec_annotation(spec, SPEC_CONTAINER_TYPE) : NULL;
	if (type && str_eq(type, "sandbox"))
		ret->role = SHIM_SANDBOX;
	else if (!str_eq(ret->id, id))
		ret->role = SHIM_MEMBER;
	return 0;
}

void shim_pod_done(struct shim_pod *p)
{
	free(p->id);
	*p = (struct shim_pod){ 0 };
}

char *shim_socket_path(const char *address, const char *namespace, const char *pod_id)
{
	_cleanup_(freep) char *text = str_printf("%s/%s/%s", address, namespace, pod_id);
	char digits[STR_HASH_SIZE];

	if (!text)
		return NULL;
	str_hash(text, digits);
	return str_printf(SHIM_SOCKET_DIR "/%s", digits);
}

char *shim_run_id(const char *namespace, const char *pod_id)
{
	_cleanup_(freep) char *text = NULL;
	char digits[STR_HASH_SIZE];

	if (strlen(pod_id) == RUNDIR_ID_LEN && strspn(pod_id, "0123456789abcdef") == RUNDIR_ID_LEN)
		return strdup(pod_id);
	text = str_printf("%s_%s", namespace, pod_id);
	if (!text || strlen(text) <= RUNDIR_ID_LEN)
		return TAKE_PTR(text);
	str_hash(text, digits);
	return strdup(digits);
}

static int unix_socket(const char *path, struct sockaddr_un *addr)
{
	int fd;

	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if ((size_t)snprintf(addr->sun_path, sizeof(addr->sun_path), "%s", path) >=
	    sizeof(addr->sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? -errno : fd;
}

int shim_socket_connect(const char *path)
{
	struct sockaddr_un addr;
	_cleanup_(close_fdp) int fd = unix_socket(path, &addr);

	if (fd < 0)
		return fd;
	return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : TAKE_FD(fd);
}

/* A full backlog (EAGAIN) is that of somebody who listens. */
static bool is_listened_on(const char *path)
{
	_cleanup_(close_fdp) int fd = shim_socket_connect(path);

	return fd >= 0 || fd == -EAGAIN;
}

bool shim_answers(const char *path, unsigned int timeout_ms)
{
	Containerd__Task__V2__ConnectRequest req = CONTAINERD__TASK__V2__CONNECT_REQUEST__INIT;
	struct ttrpc_client *client = NULL;
	struct loop *loop = NULL;
	struct err e = { 0 };
	int fd = shim_socket_connect(path);
	int r;

	if (fd < 0)
		return fd == -EAGAIN;
	r = loop_new(&loop);
	if (r < 0) {
		close(fd);
		return true;
	}
	r = ttrpc_client_new(loop, fd, NULL, NULL, &client);
	if (r == 0)
		r = ttrpc_call_sync(loop, client, &containerd__task__v2__task__descriptor,
				    "Connect", &req.base, timeout_ms, NULL, &e);
	ttrpc_client_free(client);
	loop_free(loop);
	return r != -ECONNRESET && r != -ENOTCONN;
}

static int bind_socket(int fd, const struct sockaddr_un *addr)
{
	mode_t mask = umask(0177);
	int r = bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ? -errno : 0;

	umask(mask);
	return r;
}

int shim_socket_listen(const char *path, struct err *e)
{
	struct sockaddr_un addr;
	_cleanup_(close_fdp) int fd = -EBADF;
	int r;

	r = mkdir_p(SHIM_SOCKET_DIR, 0711);
	if (r < 0)
		return err_errno(e, r, "cannot make " SHIM_SOCKET_DIR);
	fd = unix_socket(path, &addr);
	if (fd < 0)
		return err_errno(e, fd, "cannot make the socket %s", path);
	r = bind_socket(fd, &addr);
	if (r == -EADDRINUSE) {
		if (is_listened_on(path))
			return err_set(e, -EADDRINUSE, "a shim listens on %s", path);
		(void)unlink(path);
		r = bind_socket(fd, &addr);
	}
	if (r == 0 && listen(fd, BACKLOG) < 0)
		r = -errno;
	return r < 0 ? err_errno(e, r, "cannot listen on %s", path) : TAKE_FD(fd);
}
