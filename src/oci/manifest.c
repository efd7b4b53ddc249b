/* SPDX-License-Identifier: Apache-2.0 */

/* Image manifests (image-spec manifest.md, Docker's image manifest version 2, schema 2). */

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "oci/internal.h"
#include "oci/json.h"

static const struct {
	const char *media_type;
	enum oci_compression compression;
} layer_types[] = {
	{ "application/vnd.oci.image.layer.v1.tar", OCI_PLAIN },
	{ "application/vnd.oci.image.layer.v1.tar+gzip", OCI_GZIP },
	{ "application/vnd.oci.image.layer.v1.tar+zstd", OCI_ZSTD },
	{ "application/vnd.oci.image.layer.nondistributable.v1.tar", OCI_PLAIN },
	{ "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", OCI_GZIP },
	{ "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", OCI_ZSTD },
	{ "application/vnd.docker.image.rootfs.diff.tar", OCI_PLAIN },
	{ "application/vnd.docker.image.rootfs.diff.tar.gzip", OCI_GZIP },
	{ "application/vnd.docker.image.rootfs.diff.tar.zstd", OCI_ZSTD },
};

static const char *const config_types[] = {
	"application/vnd.oci.image.config.v1+json",
	"application/vnd.docker.container.image.v1+json",
};

struct manifest {
	uint64_t version;
	struct json_object *config;
	struct json_object *layers;
};

static const struct json_field manifest_fields[] = {
	{ "schemaVersion", JSON_U64, offsetof(struct manifest, version), JSON_REQUIRED },
	{ "config", JSON_OBJECT, offsetof(struct manifest, config), JSON_REQUIRED },
	{ "layers", JSON_ARRAY, offsetof(struct manifest, layers), JSON_REQUIRED },
};

static int parse_config(struct json_object *obj, struct oci_descriptor *ret, struct err *e)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor desc = { 0 };
	char quoted[160];
	int r;

	r = oci_descriptor_parse(obj, "image manifest: config", &desc, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(config_types); i++) {
		if (str_eq(desc.media_type, config_types[i])) {
			*ret = desc;
			desc.media_type = NULL;
			return 0;
		}
	}
	return err_set(e, -EOPNOTSUPP, "not a container image but an artifact of type %s",
		       log_quote(quoted, sizeof(quoted), desc.media_type));
}

static int parse_layer(struct json_object *obj, struct oci_layer *ret, struct err *e)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor desc = { 0 };
	char quoted[160];
	int r;

	r = oci_descriptor_parse(obj, "image manifest: layer", &desc, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(layer_types); i++) {
		if (str_eq(desc.media_type, layer_types[i].media_type)) {
			ret->compression = layer_types[i].compression;
			ret->desc = desc;
			desc.media_type = NULL;
			return 0;
		}
	}
	return err_set(e, -EOPNOTSUPP, "layer of unknown type %s",
		       log_quote(quoted, sizeof(quoted), desc.media_type));
}

int oci_manifest_parse(const char *json, size_t len, struct oci_image *image,
		       struct oci_descriptor *config, struct err *e)
{
	_cleanup_(json_putp) struct json_object *obj = NULL;
	struct manifest m = { 0 };
	size_t n;
	int r;

	r = json_parse(json, len, "image manifest", &obj, e);
	if (r == 0)
		r = json_dispatch(obj, manifest_fields, ARRAY_SIZE(manifest_fields), &m,
				  "image manifest", e);
	if (r < 0)
		return r;
	n = json_object_array_length(m.layers);
	if (m.version != 2 || n > OCI_LAYERS_MAX)
		return err_set(e, -EBADMSG,
			       "image manifest: unknown schemaVersion or more than %d layers",
			       OCI_LAYERS_MAX);
	image->layers = calloc(MAX(n, (size_t)1), sizeof(*image->layers));
	if (!image->layers)
		return err_oom(e);
	for (size_t i = 0; i < n; i++) {
		r = parse_layer(json_object_array_get_idx(m.layers, i), &image->layers[i], e);
		if (r < 0)
			return r;
		image->n_layers++;
	}
	return parse_config(m.config, config, e);
}
