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
#include "sandbox/container.h"
#include "shim/spec_internal.h"

#define SPEC_MAX_SIZE ((size_t)4 << 20)
#define OCI_VERSION   "1.0.2"

int spec_read(const char *bundle, struct json_object **ret, struct err *e)
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
	return json_parse(text, len, path, ret, e);
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

/* ---- mounts ---- */

static bool is_bind(struct json_object *mount)
{
	struct json_object *options = json_get(mount, "options", json_type_array);

	if (str_eq(spec_string(mount, "type"), "bind"))
		return true;
	for (size_t i = 0; options && i < json_object_array_length(options); i++) {
		const char *o = json_object_get_string(json_object_array_get_idx(options, i));

		if (o && (str_eq(o, "bind") || str_eq(o, "rbind")))
			return true;
	}
	return false;
}

/* The options of a bind for the guest: the host's mounts don't propagate into it. */
static int rewrite_options(struct json_object *mount, struct spec_share *share)
{
	static const char *const propagation[] = { "shared", "rshared", "slave", "rslave" };
	struct json_object *from = json_get(mount, "options", json_type_array);
	struct json_object *to = json_object_new_array();
	int r = to ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && from && i < json_object_array_length(from); i++) {
		const char *o = json_object_get_string(json_object_array_get_idx(from, i));
		bool skip = !o;

		for (size_t k = 0; o && k < ARRAY_SIZE(propagation); k++)
			skip |= str_eq(o, propagation[k]);
		if (skip)
			continue;
		share->readonly |= str_eq(o, "ro");
		r = json_push(to, json_object_new_string(o));
	}
	if (r < 0) {
		json_object_put(to);
		return r;
	}
	json_object_object_del(mount, "options");
	return json_add(mount, "options", to);
}

static const char *keep(struct spec_plan *plan, const char *text)
{
	return strv_add(&plan->owner, text) < 0 ? NULL : plan->owner.v[plan->owner.n - 1];
}

/* Hosts and the like are copied: which name a destination has as a file of the container. */
static const char *file_name(const char *destination)
{
	static const char *const names[] = { "hosts", "hostname", "resolv.conf" };

	if (!str_starts(destination, "/etc/"))
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_eq(destination + 5, names[i]))
			return names[i];
	return NULL;
}

static int plan_file(struct spec_plan *plan, const char *source, const char *name, const char *id,
		     char **guest, struct err *e)
{
	if (plan->n_files == SPEC_MAX_FILES)
		return err_set(e, -E2BIG, "config.json mounts %s more than once", name);
	plan->files[plan->n_files++] = (struct spec_file){ source, name };
	*guest = str_printf(CONTAINER_FILE, id, name);
	return *guest ? 0 : err_oom(e);
}

static int plan_share(struct spec_plan *plan, const char *source, const char *id,
		      const struct spec_share *kind, char **guest, struct err *e)
{
	struct spec_share *s = &plan->shares[plan->n_shares];

	if (plan->n_shares == SPEC_MAX_SHARES)
		return err_set(e, -E2BIG, "a container has at most %d volumes", SPEC_MAX_SHARES);
	*s = *kind;
	s->source = source;
	snprintf(s->name, sizeof(s->name), "%s:%zu", id, plan->n_shares);
	*guest = str_printf(CONTAINER_SHARED "/%s", s->name);
	if (!*guest)
		return err_oom(e);
	plan->n_shares++;
	return 0;
}

static int rewrite_bind(struct json_object *mount, const struct spec_target *t,
			struct spec_plan *plan, struct err *e)
{
	const char *source = keep(plan, spec_string(mount, "source"));
	const char *destination = keep(plan, spec_string(mount, "destination"));
	_cleanup_(freep) char *guest = NULL;
	struct spec_share kind = { 0 };
	char quoted[256];
	int r = 0;

	if (!source || !destination || rewrite_options(mount, &kind) < 0)
		return err_oom(e);
	if (*source != '/')
		return err_set(e, -EINVAL, "the source of the mount on %s is no absolute path",
			       log_quote(quoted, sizeof(quoted), destination));
	if (str_eq(destination, "/dev/shm")) {
		plan->shm = true;
		plan->shm_source = source;
	} else if (file_name(destination)) {
		r = plan_file(plan, source, file_name(destination), t->id, &guest, e);
	} else {
		r = plan_share(plan, source, t->id, &kind, &guest, e);
	}
	if (r < 0)
		return r;
	drop(mount, (const char *const[]){ "source", "type" }, 2);
	r = json_add_string(mount, "type", "bind");
	if (r == 0)
		r = json_add_string(mount, "source", guest ? guest : SPEC_SHM);
	return r < 0 ? err_oom(e) : 0;
}

static int rewrite_mounts(struct json_object *spec, const struct spec_target *t,
			  struct spec_plan *plan, struct err *e)
{
	struct json_object *mounts = json_get(spec, "mounts", json_type_array);
	int r = 0;

	for (size_t i = 0; r == 0 && mounts && i < json_object_array_length(mounts); i++) {
		struct json_object *m = json_object_array_get_idx(mounts, i);

		if (!json_object_is_type(m, json_type_object))
			return err_set(e, -EINVAL, "mount %zu of config.json is no object", i);
		if (is_bind(m))
			r = rewrite_bind(m, t, plan, e);
	}
	return r;
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
	return r < 0 ? r : rewrite_mounts(spec, target, plan, e);
}

void spec_plan_done(struct spec_plan *plan)
{
	strv_done(&plan->owner);
	*plan = (struct spec_plan){ 0 };
}
