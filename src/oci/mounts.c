/* SPDX-License-Identifier: Apache-2.0 */

/* The mounts of a container: podman's default ones, those of the user, and their order. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "oci/spec_internal.h"

#define SHM_SIZE ((uint64_t)64 << 20)

static const struct {
	const char *destination;
	const char *type;
	const char *options;
	bool writable_if_privileged;
} defaults[] = {
	{ "/proc", "proc", "nosuid,noexec,nodev", false },
	{ "/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k", false },
	{ "/sys", "sysfs", "nosuid,noexec,nodev", true },
	{ "/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5", false },
	{ "/dev/mqueue", "mqueue", "nosuid,noexec,nodev", false },
	{ "/sys/fs/cgroup", "cgroup", "nosuid,noexec,nodev,relatime", true },
};

/* What stays writable below a read-only root (podman's --read-only-tmpfs). */
#define SCRATCH_OPTIONS "rw,nosuid,nodev,tmpcopyup"

static const struct {
	const char *destination;
	const char *options;
} scratch[] = {
	{ "/run", SCRATCH_OPTIONS ",mode=755" },
	{ "/tmp", SCRATCH_OPTIONS ",mode=1777" },
	{ "/var/tmp", SCRATCH_OPTIONS ",mode=1777" },
};

/*
 * The shortest way to write a destination, which is how two of them are compared. The kernel
 * never sees anything but the result, so `..` is not resolved but refused.
 */
static int clean_path(const char *path, char **ret, struct err *e)
{
	_cleanup_(freep) char *copy = strdup(path);
	_cleanup_(freep) char *out = calloc(1, strlen(path) + 2);
	char quoted[160];
	char *rest = copy;
	char *part;

	if (!copy || !out)
		return -ENOMEM;
	while ((part = strsep(&rest, "/"))) {
		if (!*part || str_eq(part, "."))
			continue;
		if (str_eq(part, ".."))
			break;
		strcat(out, "/");
		strcat(out, part);
	}
	if (path[0] != '/' || part || !*out)
		return err_set(e, -EINVAL, "mount: %s can't be a place in the container",
			       log_quote(quoted, sizeof(quoted), path));
	*ret = TAKE_PTR(out);
	return 0;
}

static const struct oci_mount *find(const struct oci_run_options *list, const char *destination)
{
	for (size_t i = 0; i < list->n_mounts; i++)
		if (str_eq(list->mounts[i].destination, destination))
			return &list->mounts[i];
	return NULL;
}

/* Copy the user's mounts with clean destinations; they come first so that defaults give way. */
static int add_users(struct oci_run_options *list, const struct oci_run_options *o, struct err *e)
{
	for (size_t i = 0; i < o->n_mounts; i++) {
		const struct oci_mount *m = &o->mounts[i];
		_cleanup_(freep) char *destination = NULL;
		int r;

		r = clean_path(m->destination, &destination, e);
		if (r < 0)
			return r;
		if (str_eq(m->type, "bind") && str_empty(m->source))
			return err_set(e, -EINVAL, "mount: nothing to bind to %s", destination);
		if (find(list, destination))
			return err_set(e, -EINVAL, "two mounts on %s", destination);
		r = oci_run_add_mount(list, m->type, m->source ? m->source : m->type, destination,
				      NULL, e);
		for (size_t j = 0; r == 0 && j < m->options.n; j++)
			r = strv_add(&list->mounts[i].options, m->options.v[j]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_default(struct oci_run_options *list, const char *type, const char *destination,
		       const char *options, struct err *e)
{
	if (find(list, destination))
		return 0;
	return oci_run_add_mount(list, type, type, destination, options, e);
}

static int add_defaults(struct oci_run_options *list, const struct oci_run_options *o,
			struct err *e)
{
	_cleanup_(freep) char *shm = NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(defaults); i++) {
		bool readonly = defaults[i].writable_if_privileged && !o->privileged;
		_cleanup_(freep) char *options = str_printf("%s%s", defaults[i].options,
							    readonly ? ",ro" : "");

		r = options ? add_default(list, defaults[i].type, defaults[i].destination, options,
					  e)
			    : -ENOMEM;
	}
	if (r < 0)
		return r;
	shm = str_printf("nosuid,noexec,nodev,mode=1777,size=%llu",
			 (unsigned long long)(o->shm_size ? o->shm_size : SHM_SIZE));
	return shm ? add_default(list, "tmpfs", "/dev/shm", shm, e) : -ENOMEM;
}

static int add_scratch(struct oci_run_options *list, const struct oci_config *config, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(scratch); i++)
		r = add_default(list, "tmpfs", scratch[i].destination, scratch[i].options, e);
	for (size_t i = 0; r == 0 && config && i < config->volumes.n; i++) {
		_cleanup_(freep) char *destination = NULL;

		r = clean_path(config->volumes.v[i], &destination, e);
		if (r == 0)
			r = add_default(list, "tmpfs", destination, SCRATCH_OPTIONS, e);
	}
	return r;
}

static size_t depth(const struct oci_mount *m)
{
	size_t n = 0;

	for (const char *p = m->destination; *p; p++)
		n += *p == '/';
	return n;
}

/* Parents before what is mounted below them. */
static int by_depth(const void *a, const void *b)
{
	const struct oci_mount *x = a;
	const struct oci_mount *y = b;
	size_t dx = depth(x);
	size_t dy = depth(y);

	if (dx != dy)
		return dx < dy ? -1 : 1;
	return strcmp(x->destination, y->destination);
}

static bool has_bind(const struct strv *options)
{
	for (size_t i = 0; i < options->n; i++)
		if (str_eq(options->v[i], "bind") || str_eq(options->v[i], "rbind"))
			return true;
	return false;
}

static int add_json(struct json_object *array, struct oci_mount *m)
{
	struct json_object *obj = json_push_object(array);

	if (str_eq(m->type, "bind") && !has_bind(&m->options) && strv_add(&m->options, "rbind") < 0)
		return -ENOMEM;
	if (!obj || json_add_string(obj, "destination", m->destination) < 0 ||
	    json_add_string(obj, "type", m->type) < 0 ||
	    json_add_string(obj, "source", m->source) < 0 ||
	    json_add_strv(obj, "options", &m->options) < 0)
		return -ENOMEM;
	return 0;
}

int oci_mounts_json(struct json_object *spec, const struct oci_run_options *o,
		    const struct oci_config *config, struct err *e)
{
	_cleanup_(oci_run_options_done) struct oci_run_options list = { 0 };
	struct json_object *array = json_add_array(spec, "mounts");
	int r;

	if (!array)
		return -ENOMEM;
	r = add_users(&list, o, e);
	if (r == 0)
		r = add_defaults(&list, o, e);
	if (r == 0 && o->readonly)
		r = add_scratch(&list, config, e);
	if (r < 0)
		return r;
	qsort(list.mounts, list.n_mounts, sizeof(*list.mounts), by_depth);
	for (size_t i = 0; r == 0 && i < list.n_mounts; i++)
		r = add_json(array, &list.mounts[i]);
	return r;
}
