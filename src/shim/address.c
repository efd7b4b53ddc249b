/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/address.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/unixsock.h"
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

/* Who can't be asked (a full backlog, no memory) is taken for alive. */
static bool nobody_listens(int r)
{
	return r == -ECONNREFUSED || r == -ENOENT;
}

bool shim_answers(const char *path, unsigned int timeout_ms)
{
	Containerd__Task__V2__ConnectRequest req = CONTAINERD__TASK__V2__CONNECT_REQUEST__INIT;
	struct ttrpc_client *client = NULL;
	struct loop *loop = NULL;
	struct err e = { 0 };
	int fd = unixsock_connect(path, SOCK_STREAM);
	int r;

	if (fd < 0)
		return !nobody_listens(fd);
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

int shim_socket_listen(const char *path, struct err *e)
{
	_cleanup_(close_fdp) int other = -EBADF;
	int r;

	r = mkdir_p(SHIM_SOCKET_DIR, 0711);
	if (r < 0)
		return err_errno(e, r, "cannot make " SHIM_SOCKET_DIR);
	r = unixsock_listen(path, SOCK_STREAM, BACKLOG);
	if (r == -EADDRINUSE) {
		other = unixsock_connect(path, SOCK_STREAM);
		if (!nobody_listens(other))
			return err_set(e, -EADDRINUSE, "a shim listens on %s", path);
		(void)unlink(path);
		r = unixsock_listen(path, SOCK_STREAM, BACKLOG);
	}
	return r < 0 ? err_errno(e, r, "cannot listen on %s", path) : r;
}
