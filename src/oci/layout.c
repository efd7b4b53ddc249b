/* SPDX-License-Identifier: Apache-2.0 */

/* OCI layouts (image-spec image-layout.md): from the directory to a verified image. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "oci/internal.h"
#include "oci/json.h"

#define NESTING_MAX 4 /* indexes below each other */

static const char *const index_types[] = {
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
};

static const char *const manifest_types[] = {
	"application/vnd.oci.image.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.v2+json",
};

struct oci_layout {
	int fd;
};

struct version {
	char *layout;
};

static const struct json_field version_fields[] = {
	{ "imageLayoutVersion", JSON_STRING, offsetof(struct version, layout), JSON_REQUIRED },
};

void oci_layout_free(struct oci_layout *layout)
{
	if (!layout)
		return;
	if (layout->fd >= 0)
		close(layout->fd);
	free(layout);
}

int oci_layout_open_file(const struct oci_layout *layout, const char *path, uint64_t *ret_size,
			 struct err *e)
{
	/* O_NONBLOCK: a FIFO must not make us wait before we see what it is. */
	_cleanup_(close_fdp) int fd =
		open_in_root(layout->fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
	struct stat st;

	if (fd < 0)
		return err_errno(e, fd, "cannot open %s of the image", path);
	if (fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot open %s of the image", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EBADMSG, "%s of the image is not a regular file", path);
	*ret_size = (uint64_t)st.st_size;
	return TAKE_FD(fd);
}

int oci_layout_read(const struct oci_layout *layout, const char *path, char **ret, size_t *ret_len,
		    struct err *e)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	_cleanup_(freep) char *text = NULL;
	uint64_t size;
	ssize_t n;

	fd = oci_layout_open_file(layout, path, &size, e);
	if (fd < 0)
		return fd;
	if (size > OCI_DOC_MAX)
		return err_set(e, -EBADMSG, "%s of the image is larger than %zu bytes", path,
			       OCI_DOC_MAX);
	text = malloc((size_t)size + 1);
	if (!text)
		return err_oom(e);
	n = fd_read_full(fd, text, (size_t)size);
	if (n < 0)
		return err_errno(e, (int)n, "cannot read %s of the image", path);
	text[n] = '\0';
	*ret_len = (size_t)n;
	*ret = TAKE_PTR(text);
	return 0;
}

static int check_version(const struct oci_layout *layout, struct err *e)
{
	_cleanup_(json_putp) struct json_object *obj = NULL;
	_cleanup_(freep) char *text = NULL;
	struct version v = { 0 };
	size_t len;
	bool known;
	int r;

	r = oci_layout_read(layout, "oci-layout", &text, &len, e);
	if (r == -ENOENT)
		return err_set(e, -EBADMSG, "there is no OCI layout in it (no file oci-layout)");
	if (r == 0)
		r = json_parse(text, len, "oci-layout", &obj, e);
	if (r == 0)
		r = json_dispatch(obj, version_fields, ARRAY_SIZE(version_fields), &v, "oci-layout",
				  e);
	if (r < 0)
		return r;
	known = str_starts(v.layout, "1.");
	free(v.layout);
	return known ? 0 : err_set(e, -EBADMSG, "oci-layout: unknown version of the layout");
}

int oci_layout_open(const char *path, struct oci_layout **ret, struct err *e)
{
	_cleanup_(oci_layout_freep) struct oci_layout *layout = calloc(1, sizeof(*layout));
	int r;

	if (!layout)
		return err_oom(e);
	layout->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (layout->fd < 0)
		return err_errno(e, -errno, "cannot open image %s", path);
	r = check_version(layout, e);
	if (r < 0) {
		err_wrap(e, "image %s", path);
		return r;
	}
	*ret = TAKE_PTR(layout);
	return 0;
}

void oci_image_free(struct oci_image *image)
{
	if (!image)
		return;
	for (size_t i = 0; i < image->n_layers; i++)
		oci_descriptor_done(&image->layers[i].desc);
	free(image->layers);
	free(image->config_json);
	oci_config_done(&image->config);
	free(image);
}

static bool one_of(const char *s, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(s, list[i]))
			return true;
	return false;
}

/* From index.json down to the manifest. */
static int find_manifest(const struct oci_layout *layout, const char *tag,
			 struct oci_descriptor *ret, struct err *e)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor desc = { 0 };
	_cleanup_(freep) char *text = NULL;
	char quoted[160];
	size_t len;
	int r;

	r = oci_layout_read(layout, "index.json", &text, &len, e);
	if (r == 0)
		r = oci_index_select(text, len, tag, /* top= */ true, &desc, e);
	for (int depth = 0; r == 0; depth++) {
		if (!one_of(desc.media_type, index_types, ARRAY_SIZE(index_types)))
			break;
		if (depth == NESTING_MAX)
			return err_set(e, -EBADMSG, "more than %d nested indexes", NESTING_MAX);
		free(TAKE_PTR(text));
		r = oci_blob_load(layout, &desc, &text, &len, e);
		oci_descriptor_done(&desc);
		if (r == 0)
			r = oci_index_select(text, len, NULL, /* top= */ false, &desc, e);
	}
	if (r < 0)
		return r;
	if (!one_of(desc.media_type, manifest_types, ARRAY_SIZE(manifest_types)))
		return err_set(e, -EOPNOTSUPP, "manifest of unknown type %s",
			       log_quote(quoted, sizeof(quoted), desc.media_type));
	*ret = desc;
	desc.media_type = NULL;
	return 0;
}

static int load_config(const struct oci_layout *layout, const struct oci_descriptor *desc,
		       struct oci_image *image, struct err *e)
{
	_cleanup_(strv_done) struct strv diff_ids = { 0 };
	const struct oci_config *c = &image->config;
	size_t len;
	int r;

	r = oci_blob_load(layout, desc, &image->config_json, &len, e);
	if (r == 0)
		r = oci_config_parse(image->config_json, len, &image->config, &diff_ids, e);
	if (r < 0)
		return r;
	if (!str_eq(c->os, "linux") || !str_eq(c->architecture, OCI_ARCH))
		return err_set(e, -EOPNOTSUPP, "image is not made for linux/%s", OCI_ARCH);
	if (diff_ids.n != image->n_layers)
		return err_set(e, -EBADMSG, "manifest has %zu layers, config has %zu",
			       image->n_layers, diff_ids.n);
	for (size_t i = 0; i < diff_ids.n; i++)
		memcpy(image->layers[i].diff_id, diff_ids.v[i], OCI_DIGEST_LEN + 1);
	memcpy(image->config_digest, desc->digest, sizeof(image->config_digest));
	return 0;
}

int oci_image_load(const struct oci_layout *layout, const char *tag, struct oci_image **ret,
		   struct err *e)
{
	_cleanup_(oci_image_freep) struct oci_image *image = calloc(1, sizeof(*image));
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = { 0 };
	_cleanup_(oci_descriptor_done) struct oci_descriptor config = { 0 };
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	if (!image)
		return err_oom(e);
	r = find_manifest(layout, tag, &manifest, e);
	if (r == 0)
		r = oci_blob_load(layout, &manifest, &text, &len, e);
	if (r == 0)
		r = oci_manifest_parse(text, len, image, &config, e);
	if (r == 0)
		r = load_config(layout, &config, image, e);
	if (r < 0)
		return r;
	memcpy(image->digest, manifest.digest, sizeof(image->digest));
	*ret = TAKE_PTR(image);
	return 0;
}
