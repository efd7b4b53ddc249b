/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/rootfs.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "shim/create.h"
#include "shim/mounts.h"
#include "shim/task.h"
#include "storage/virtiofs.h"

/* Without mounts the spec names the root file system, in the bundle or anywhere. */
static int bind_root(struct task *t, const char *name, struct err *e)
{
	struct json_object *root = json_get(t->create->spec, "root", json_type_object);
	struct json_object *path = root ? json_get(root, "path", json_type_string) : NULL;
	const char *text = path ? json_object_get_string(path) : "";
	_cleanup_(freep) char *full = NULL;

	if (!*text)
		return err_set(e, -EINVAL, "config.json has no root.path");
	full = *text == '/' ? strdup(text) : str_printf("%s/%s", t->bundle, text);
	if (!full)
		return err_oom(e);
	return virtiofs_share_add(t->shim->pod.shared_dir, full, false, name, e);
}

static int share_rootfs(struct task *t, const char *name, struct err *e)
{
	const Containerd__Task__V2__CreateTaskRequest *req = t->create->req;
	int r = task_note_share(t, name, e);

	if (r < 0)
		return r;
	return req->n_rootfs > 0
		       ? mounts_rootfs(t->shim->pod.shared_dir, name, req->rootfs, req->n_rootfs, e)
		       : bind_root(t, name, e);
}

int rootfs_prepare(void *obj, struct err *e)
{
	struct task *t = obj;
	struct task_create *c = t->create;
	_cleanup_(freep) char *name = str_printf("%s:rootfs", t->id);

	c->rootfs = str_printf(CONTAINER_SHARED "/%s:rootfs", t->id);
	if (!name || !c->rootfs)
		return err_oom(e);
	c->config.shared = true;
	return share_rootfs(t, name, e);
}
