/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "shim/spec_internal.h"

#define SPEC_MAX_SIZE ((size_t)4 << 20)
#define OCI_VERSION   "1.0.2"

int spec_read(const char *bundle, bool crio, struct json_object **ret, struct err *e)
{
	_cleanup_(freep) char *path = str_printf("%s/config.json", bundle);
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	if (!path)
		return err_oom(e);
	r = file_read(AT_FDCWD, path, SPEC_MAX_SIZE, &text, &len);
	if (r < 0)
		return err_errno(e, r, "cannot read %s", path);
	r = json_parse(text, len, path, ret, e);
	return r == 0 && crio ? spec_from_crio(*ret, e) : r;
}

const char *spec_annotation(struct json_object *spec, const char *name)
{
	struct json_object *all = json_get(spec, "annotations", json_type_object);
	struct json_object *one = all ? json_get(all, name, json_type_string) : NULL;

	return one ? json_object_get_string(one) : NULL;
}

const char *spec_string(struct json_object *obj, const char *name)
{
	struct json_object *s = obj ? json_get(obj, name, json_type_string) : NULL;

	return s ? json_object_get_string(s) : "";
}

struct json_object *spec_namespace(struct json_object *linux_spec, const char *type)
{
	struct json_object *all = linux_spec ? json_get(linux_spec, "namespaces", json_type_array)
					     : NULL;

	for (size_t i = 0; all && i < json_object_array_length(all); i++) {
		struct json_object *ns = json_object_array_get_idx(all, i);

		if (json_object_is_type(ns, json_type_object) &&
		    str_eq(spec_string(ns, "type"), type))
			return ns;
	}
	return NULL;
}

/* ---- processes and resources ---- */

static void drop(struct json_object *obj, const char *const *names, size_t n)
{
	for (size_t i = 0; obj && i < n; i++)
		json_object_object_del(obj, names[i]);
}

void spec_clean_resources(struct json_object *resources)
{
	/* Devices of limits are the host's; the rest is of cgroup v1 or of the host's machine. */
	static const char *const top[] = { "blockIO", "network", "rdma", "hugepageLimits" };
	static const char *const memory[] = {
		"swap",		"swappiness",	     "kernel", "kernelTCP", "disableOOMKiller",
		"useHierarchy", "checkBeforeUpdate",
	};
	static const char *const cpu[] = { "cpus", "mems", "realtimeRuntime", "realtimePeriod" };

	drop(resources, top, ARRAY_SIZE(top));
	drop(json_get(resources, "memory", json_type_object), memory, ARRAY_SIZE(memory));
	drop(json_get(resources, "cpu", json_type_object), cpu, ARRAY_SIZE(cpu));
}

int spec_clean_process(struct json_object *process, bool terminal)
{
	static const char *const labels[] = { "apparmorProfile", "selinuxLabel", "terminal" };

	drop(process, labels, ARRAY_SIZE(labels));
	return json_add_bool(process, "terminal", terminal);
}

/* ---- namespaces ---- */

/*
 * The guest's own namespaces are the pod's. A pid namespace with a path is the one that the
 * agent keeps for the pod; a container with none at all asks for the pod's as well.
 */
static int add_namespace(struct json_object *to, const char *type, const char *path)
{
	struct json_object *ns = json_push_object(to);
	int r = ns ? json_add_string(ns, "type", type) : -ENOMEM;

	return r == 0 && path ? json_add_string(ns, "path", path) : r;
}

static int rewrite_namespaces(struct json_object *linux_spec, bool member)
{
	static const char *const own[] = { "mount", "ipc", "uts" };
	struct json_object *pid = spec_namespace(linux_spec, "pid");
	bool shared_pid = member && (!pid || *spec_string(pid, "path"));
	struct json_object *all = json_object_new_array();
	int r = 0;

	if (!all)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(own); i++) {
		struct json_object *ns = spec_namespace(linux_spec, own[i]);
		bool joined = i > 0 && (!ns || *spec_string(ns, "path") || member);

		if (!joined)
			r = add_namespace(all, own[i], NULL);
	}
	if (r == 0 && (shared_pid || pid))
		r = add_namespace(all, "pid", shared_pid ? SPEC_PID_NS : NULL);
	if (r == 0)
		r = add_namespace(all, "cgroup", NULL);
	if (r < 0) {
		json_object_put(all);
		return r;
	}
	json_object_object_del(linux_spec, "namespaces");
	return json_add(linux_spec, "namespaces", all);
}

static int rewrite_linux(struct json_object *spec, const struct spec_target *t, struct err *e)
{
	/* sysctls are the guest's, see struct spec_pod. */
	static const char *const names[] = {
		"cgroupsPath", "mountLabel", "intelRdt", "sysctl", "rootfsPropagation",
	};
	struct json_object *l = json_get(spec, "linux", json_type_object);
	struct json_object *resources;
	char cgroup[160];

	if (!l)
		return err_set(e, -EINVAL, "config.json has no linux section");
	drop(l, names, ARRAY_SIZE(names));
	resources = json_get(l, "resources", json_type_object);
	if (resources)
		spec_clean_resources(resources);
	snprintf(cgroup, sizeof(cgroup), "/pod/%s", t->id);
	if (rewrite_namespaces(l, t->member) < 0 || json_add_string(l, "cgroupsPath", cgroup) < 0)
		return err_oom(e);
	if (!spec_namespace(l, "uts"))
		json_object_object_del(spec, "hostname");
	return 0;
}

/* ---- all of it ---- */

static int rewrite_root(struct json_object *spec, const char *rootfs)
{
	struct json_object *old = json_get(spec, "root", json_type_object);
	struct json_object *readonly = old ? json_get(old, "readonly", json_type_boolean) : NULL;
	bool ro = readonly && json_object_get_boolean(readonly);
	struct json_object *root;

	json_object_object_del(spec, "root");
	root = json_add_object(spec, "root");
	if (!root || json_add_string(root, "path", rootfs) < 0)
		return -ENOMEM;
	return json_add_bool(root, "readonly", ro);
}

int spec_rewrite(struct json_object *spec, const struct spec_target *target, struct spec_plan *plan,
		 struct err *e)
{
	/* Hooks are programs of the host; crun takes orders from annotations. */
	static const char *const names[] = { "hooks", "annotations", "ociVersion" };
	struct json_object *process = json_get(spec, "process", json_type_object);
	int r;

	if (!process)
		return err_set(e, -EINVAL, "config.json has no process");
	drop(spec, names, ARRAY_SIZE(names));
	/* crun refuses versions that it doesn't know; what is new in them it would ignore anyway. */
	if (json_add_string(spec, "ociVersion", OCI_VERSION) < 0)
		return err_oom(e);
	if (rewrite_root(spec, target->rootfs) < 0 ||
	    spec_clean_process(process, target->terminal) < 0)
		return err_oom(e);
	r = rewrite_linux(spec, target, e);
	if (r == 0)
		r = spec_binds(spec, plan, e);
	return r < 0 ? r : spec_devices(spec, plan, e);
}

void spec_plan_done(struct spec_plan *plan)
{
	strv_done(&plan->owner);
	*plan = (struct spec_plan){ 0 };
}
