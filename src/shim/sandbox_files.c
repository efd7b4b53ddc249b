/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/sandbox_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "shim/spec_internal.h"

#define HOST_FILE_MAX ((size_t)1 << 20)
#define SHM	      "/dev/shm"

static const char *const names[] = { "hostname", "hosts", "resolv.conf" };

static int write_file(const char *bundle, const char *name, const char *text, struct err *e)
{
	_cleanup_(freep) char *path = str_printf("%s/%s", bundle, name);
	int r;

	if (!path)
		return err_oom(e);
	r = file_replace(AT_FDCWD, path, text, strlen(text), 0644);
	return r < 0 ? err_errno(e, r, "cannot write %s", path) : 0;
}

/* A file of the host's /etc that isn't there is an empty one. */
static int copy_file(const char *bundle, const char *name, struct err *e)
{
	_cleanup_(freep) char *path = str_printf("/etc/%s", name);
	_cleanup_(freep) char *text = NULL;
	int r;

	if (!path)
		return err_oom(e);
	r = file_read(AT_FDCWD, path, HOST_FILE_MAX, &text, NULL);
	if (r < 0 && r != -ENOENT)
		return err_errno(e, r, "cannot read %s", path);
	return write_file(bundle, name, text ? text : "", e);
}

static int add_line(struct buf *b, const char *keyword, char *const *words, size_t n)
{
	int r = n > 0 ? buf_printf(b, "%s", keyword) : 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = buf_printf(b, " %s", words[i]);
	return r < 0 || n == 0 ? r : buf_printf(b, "\n");
}

static int write_resolv_conf(const char *bundle, const Runtime__V1__DNSConfig *dns, struct err *e)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	int r;

	if (!dns || dns->n_servers + dns->n_searches + dns->n_options == 0)
		return copy_file(bundle, "resolv.conf", e);
	r = add_line(&text, "search", dns->searches, dns->n_searches);
	for (size_t i = 0; r == 0 && i < dns->n_servers; i++)
		r = add_line(&text, "nameserver", &dns->servers[i], 1);
	if (r == 0)
		r = add_line(&text, "options", dns->options, dns->n_options);
	return r < 0 ? err_oom(e) : write_file(bundle, "resolv.conf", buf_cstr(&text), e);
}

int sandbox_files_write(const char *bundle, const char *hostname, const Runtime__V1__DNSConfig *dns,
			struct err *e)
{
	_cleanup_(freep) char *line = str_printf("%s\n", hostname);
	int r;

	if (!line)
		return err_oom(e);
	r = write_file(bundle, "hostname", line, e);
	if (r == 0)
		r = copy_file(bundle, "hosts", e);
	return r < 0 ? r : write_resolv_conf(bundle, dns, e);
}

/* Index of the mount on a path, or the number of mounts. */
static size_t find_mount(struct json_object *mounts, const char *destination)
{
	size_t n = json_object_array_length(mounts);
	size_t i;

	for (i = 0; i < n; i++) {
		struct json_object *m = json_object_array_get_idx(mounts, i);

		if (json_object_is_type(m, json_type_object) &&
		    str_eq(spec_string(m, "destination"), destination))
			break;
	}
	return i;
}

static int add_mount(struct json_object *mounts, const char *destination, const char *source,
		     bool readonly)
{
	struct json_object *m = json_push_object(mounts);
	struct json_object *options;

	if (!m || json_add_string(m, "destination", destination) < 0 ||
	    json_add_string(m, "type", "bind") < 0 || json_add_string(m, "source", source) < 0)
		return -ENOMEM;
	options = json_add_array(m, "options");
	if (!options || json_push(options, json_object_new_string("rbind")) < 0 ||
	    json_push(options, json_object_new_string("rprivate")) < 0)
		return -ENOMEM;
	return json_push(options, json_object_new_string(readonly ? "ro" : "rw"));
}

static int mount_files(struct json_object *mounts, const char *bundle, bool readonly)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
		_cleanup_(freep) char *source = str_printf("%s/%s", bundle, names[i]);
		_cleanup_(freep) char *destination = str_printf("/etc/%s", names[i]);

		if (!source || !destination)
			return -ENOMEM;
		if (find_mount(mounts, destination) == json_object_array_length(mounts))
			r = add_mount(mounts, destination, source, readonly);
	}
	return r;
}

/*
 * A tmpfs of the container's own, which is what containerd puts there without a better one, becomes
 * the pod's. The pod's is in the guest and has no directory on the host.
 */
static int mount_shm(struct json_object *mounts, const char *bundle)
{
	_cleanup_(freep) char *source = str_printf("%s/shm", bundle);
	size_t i = find_mount(mounts, SHM);

	if (!source)
		return -ENOMEM;
	if (i < json_object_array_length(mounts)) {
		struct json_object *old = json_object_array_get_idx(mounts, i);

		if (!str_eq(spec_string(old, "type"), "tmpfs"))
			return 0;
		json_object_array_del_idx(mounts, i, 1);
	}
	return add_mount(mounts, SHM, source, false);
}

int sandbox_files_mount(struct json_object *spec, const char *bundle, struct err *e)
{
	struct json_object *mounts = json_get(spec, "mounts", json_type_array);
	struct json_object *root = json_get(spec, "root", json_type_object);
	struct json_object *readonly = json_get(root, "readonly", json_type_boolean);

	if (!mounts) {
		json_object_object_del(spec, "mounts");
		mounts = json_add_array(spec, "mounts");
	}
	if (!mounts || mount_files(mounts, bundle, json_object_get_boolean(readonly)) < 0 ||
	    mount_shm(mounts, bundle) < 0)
		return err_oom(e);
	return 0;
}
