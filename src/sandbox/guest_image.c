/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/guest_image.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "oci/json.h"

#define MANIFEST_MAX ((size_t)1 << 20)

/* manifest.json, as far as the host needs it. */
struct manifest {
	uint64_t schema;
	struct json_object *kernel;
	struct json_object *rootfs;
	struct json_object *rootfs_debug;
	struct json_object *cmdline;
	struct json_object *agent;
	struct json_object *packages;
};

#define ROW(type, name, kind, member, flags)              \
	{                                                 \
		name, kind, offsetof(type, member), flags \
	}

static const struct json_field manifest_fields[] = {
	ROW(struct manifest, "schema", JSON_U64, schema, JSON_REQUIRED),
	ROW(struct manifest, "kernel", JSON_OBJECT, kernel, JSON_REQUIRED),
	ROW(struct manifest, "rootfs", JSON_OBJECT, rootfs, JSON_REQUIRED),
	ROW(struct manifest, "rootfs_debug", JSON_OBJECT, rootfs_debug, 0),
	ROW(struct manifest, "cmdline", JSON_OBJECT, cmdline, JSON_REQUIRED),
	ROW(struct manifest, "agent", JSON_OBJECT, agent, JSON_REQUIRED),
	ROW(struct manifest, "packages", JSON_ARRAY, packages, JSON_REQUIRED),
};

static const struct json_field image_fields[] = {
	ROW(struct guest_image, "version", JSON_STRING, version, JSON_REQUIRED),
	ROW(struct guest_image, "arch", JSON_STRING, arch, JSON_REQUIRED),
};

static const struct json_field file_fields[] = {
	ROW(struct guest_file, "file", JSON_STRING, file, JSON_REQUIRED),
	ROW(struct guest_file, "sha256", JSON_STRING, sha256, JSON_REQUIRED),
	ROW(struct guest_file, "size", JSON_U64, size, JSON_REQUIRED),
};

static int take_string(struct json_object *obj, const char *name, char **ret, struct err *e)
{
	struct json_object *v = json_get(obj, name, json_type_string);

	if (!v)
		return err_set(e, -EBADMSG, "\"%s\" is missing", name);
	return str_set(ret, json_object_get_string(v)) < 0 ? err_oom(e) : 0;
}

static int take_cmdline(struct json_object *cmdline, char **ret, struct err *e)
{
	struct json_object *common = json_get(cmdline, "common", json_type_string);
	struct json_object *root = json_get(cmdline, "root", json_type_string);

	if (!common || !root)
		return err_set(e, -EBADMSG, "\"cmdline\" is incomplete");
	*ret = str_printf("%s %s", json_object_get_string(common), json_object_get_string(root));
	return *ret ? 0 : err_oom(e);
}

static int take_packages(struct json_object *packages, struct strv *ret, struct err *e)
{
	for (size_t i = 0; i < json_object_array_length(packages); i++) {
		struct json_object *p = json_object_array_get_idx(packages, i);
		struct json_object *name = json_get(p, "name", json_type_string);
		struct json_object *version = json_get(p, "version", json_type_string);
		struct json_object *licence = json_get(p, "licence", json_type_string);

		if (!name || !version || !licence)
			return err_set(e, -EBADMSG, "\"packages\" is incomplete");
		if (strv_addf(ret, "%s %s %s", json_object_get_string(name),
			      json_object_get_string(version), json_object_get_string(licence)) < 0)
			return err_oom(e);
	}
	return 0;
}

static int take_file(struct guest_image *image, struct json_object *obj, struct guest_file *file,
		     char **ret_path, struct err *e)
{
	struct stat st;
	int r;

	r = json_dispatch(obj, file_fields, ARRAY_SIZE(file_fields), file, "file", e);
	if (r < 0)
		return r;
	if (strchr(file->file, '/'))
		return err_set(e, -EBADMSG, "\"file\" is a path");
	*ret_path = str_printf("%s/%s", image->dir, file->file);
	if (!*ret_path)
		return err_oom(e);
	if (stat(*ret_path, &st) < 0)
		return err_errno(e, -errno, "%s", *ret_path);
	if ((uint64_t)st.st_size != file->size)
		return err_set(e, -EBADMSG, "%s has %lld bytes instead of %llu", *ret_path,
			       (long long)st.st_size, (unsigned long long)file->size);
	return 0;
}

static int take_manifest(struct guest_image *image, struct json_object *root, bool debug,
			 struct err *e)
{
	struct manifest m = { 0 };
	struct json_object *rootfs;
	int r;

	r = json_dispatch(root, manifest_fields, ARRAY_SIZE(manifest_fields), &m, "manifest", e);
	if (r < 0)
		return r;
	if (m.schema != 1)
		return err_set(e, -EPROTONOSUPPORT, "this program doesn't know its schema %llu",
			       (unsigned long long)m.schema);
	if (debug && !m.rootfs_debug)
		return err_set(e, -ENOENT, "the image has no debug flavour");
	rootfs = debug ? m.rootfs_debug : m.rootfs;
	r = json_dispatch(root, image_fields, ARRAY_SIZE(image_fields), image, "manifest", e);
	if (r == 0)
		r = take_file(image, m.kernel, &image->kernel, &image->kernel_path, e);
	if (r == 0)
		r = take_file(image, rootfs, &image->rootfs, &image->rootfs_path, e);
	if (r == 0)
		r = take_string(m.kernel, "version", &image->kernel_version, e);
	if (r == 0)
		r = take_string(json_get(rootfs, "verity", json_type_object), "root_hash",
				&image->root_hash, e);
	if (r == 0)
		r = take_string(m.agent, "version", &image->agent_version, e);
	if (r == 0)
		r = take_cmdline(m.cmdline, &image->cmdline, e);
	if (r == 0)
		r = take_packages(m.packages, &image->packages, e);
	return r;
}

int guest_image_open(const char *dir, bool debug, struct guest_image *ret, struct err *e)
{
	_cleanup_(guest_image_done) struct guest_image image = { 0 };
	_cleanup_(json_putp) struct json_object *root = NULL;
	_cleanup_(freep) char *path = str_printf("%s/manifest.json", dir);
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	if (!path)
		return err_oom(e);
	/* The monitor gets paths of its files, and has another working directory. */
	image.dir = realpath(dir, NULL);
	if (!image.dir && str_set(&image.dir, dir) < 0)
		return err_oom(e);
	r = file_read(AT_FDCWD, path, MANIFEST_MAX, &text, &len);
	if (r < 0) {
		err_errno(e, r, "cannot read the guest image: %s", path);
		err_hint(e, "'make image' builds one, 'make install' installs it; --image names "
			    "another directory");
		return r;
	}
	r = json_parse(text, len, "manifest", &root, e);
	if (r == 0)
		r = take_manifest(&image, root, debug, e);
	if (r < 0) {
		err_wrap(e, "the guest image in %s can't be used", dir);
		err_hint(e, "build or install it again: make image, make install");
		return r;
	}
	*ret = image;
	image = (struct guest_image){ 0 };
	return 0;
}

static void file_done(struct guest_file *file)
{
	free(file->file);
	free(file->sha256);
}

void guest_image_done(struct guest_image *image)
{
	free(image->dir);
	free(image->version);
	free(image->arch);
	free(image->agent_version);
	file_done(&image->kernel);
	free(image->kernel_version);
	file_done(&image->rootfs);
	free(image->root_hash);
	free(image->cmdline);
	free(image->kernel_path);
	free(image->rootfs_path);
	strv_done(&image->packages);
	*image = (struct guest_image){ 0 };
}
