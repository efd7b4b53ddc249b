/* SPDX-License-Identifier: Apache-2.0 */

/* The image config (image-spec config.md; Docker's is the same where we look). */

#include <errno.h>
#include <stdlib.h>

#include "oci/internal.h"
#include "oci/json.h"
#include "oci/oci.h"

#define LIST_MAX 4096 /* variables, arguments, volumes ... of an image */

/* The outer object: what the image is. */
struct outer {
	struct json_object *run;
	struct json_object *rootfs;
};

static const struct json_field outer_fields[] = {
	{ "config", JSON_OBJECT, offsetof(struct outer, run), 0 },
	{ "rootfs", JSON_OBJECT, offsetof(struct outer, rootfs), JSON_REQUIRED },
};

static const struct json_field platform_fields[] = {
	{ "architecture", JSON_STRING, offsetof(struct oci_config, architecture), JSON_REQUIRED },
	{ "variant", JSON_STRING, offsetof(struct oci_config, variant), 0 },
	{ "os", JSON_STRING, offsetof(struct oci_config, os), JSON_REQUIRED },
	{ "created", JSON_STRING, offsetof(struct oci_config, created), 0 },
};

/* The inner object "config": how it is run. */
static const struct json_field run_fields[] = {
	{ "Env", JSON_STRV, offsetof(struct oci_config, env), 0 },
	{ "Entrypoint", JSON_STRV, offsetof(struct oci_config, entrypoint), 0 },
	{ "Cmd", JSON_STRV, offsetof(struct oci_config, cmd), 0 },
	{ "Volumes", JSON_KEYS, offsetof(struct oci_config, volumes), 0 },
	{ "ExposedPorts", JSON_KEYS, offsetof(struct oci_config, exposed_ports), 0 },
	{ "Labels", JSON_MAP, offsetof(struct oci_config, labels), 0 },
	{ "User", JSON_STRING, offsetof(struct oci_config, user), 0 },
	{ "WorkingDir", JSON_STRING, offsetof(struct oci_config, workdir), 0 },
	{ "StopSignal", JSON_STRING, offsetof(struct oci_config, stop_signal), 0 },
};

struct rootfs {
	char *type;
	struct strv diff_ids;
};

static const struct json_field rootfs_fields[] = {
	{ "type", JSON_STRING, offsetof(struct rootfs, type), JSON_REQUIRED },
	{ "diff_ids", JSON_STRV, offsetof(struct rootfs, diff_ids), JSON_REQUIRED },
};

static void rootfs_done(struct rootfs *r)
{
	free(r->type);
	strv_done(&r->diff_ids);
}

static int check_lists(const struct oci_config *c, struct err *e)
{
	const size_t sizes[] = { c->env.n,     c->entrypoint.n,	   c->cmd.n,
				 c->volumes.n, c->exposed_ports.n, c->labels.n };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		if (sizes[i] > LIST_MAX)
			return err_set(e, -EBADMSG, "image config: a list of more than %d entries",
				       LIST_MAX);
	return 0;
}

/* An empty string is Docker's way of telling nothing. */
static void drop_empty(char **s)
{
	if (*s && !**s) {
		free(*s);
		*s = NULL;
	}
}

static int parse_rootfs(struct json_object *obj, struct strv *ret_diff_ids, struct err *e)
{
	_cleanup_(rootfs_done) struct rootfs rootfs = { 0 };
	int r;

	r = json_dispatch(obj, rootfs_fields, ARRAY_SIZE(rootfs_fields), &rootfs,
			  "image config: rootfs", e);
	if (r < 0)
		return r;
	if (!str_eq(rootfs.type, "layers") || rootfs.diff_ids.n > OCI_LAYERS_MAX)
		return err_set(e, -EBADMSG, "image config: rootfs is no list of at most %d layers",
			       OCI_LAYERS_MAX);
	for (size_t i = 0; i < rootfs.diff_ids.n; i++)
		if (!oci_digest_ok(rootfs.diff_ids.v[i]))
			return err_set(e, -EBADMSG, "image config: bad digest in rootfs.diff_ids");
	if (ret_diff_ids) {
		*ret_diff_ids = rootfs.diff_ids;
		rootfs.diff_ids = (struct strv){ 0 };
	}
	return 0;
}

static int parse_members(struct json_object *obj, struct oci_config *c, struct strv *ret_diff_ids,
			 struct err *e)
{
	struct outer outer = { 0 };
	int r;

	r = json_dispatch(obj, outer_fields, ARRAY_SIZE(outer_fields), &outer, "image config", e);
	if (r == 0)
		r = json_dispatch(obj, platform_fields, ARRAY_SIZE(platform_fields), c,
				  "image config", e);
	if (r == 0 && outer.run)
		r = json_dispatch(outer.run, run_fields, ARRAY_SIZE(run_fields), c, "image config",
				  e);
	if (r == 0)
		r = check_lists(c, e);
	if (r < 0)
		return r;
	drop_empty(&c->user);
	drop_empty(&c->workdir);
	drop_empty(&c->stop_signal);
	drop_empty(&c->variant);
	drop_empty(&c->created);
	return parse_rootfs(outer.rootfs, ret_diff_ids, e);
}

int oci_config_parse(const char *json, size_t len, struct oci_config *ret,
		     struct strv *ret_diff_ids, struct err *e)
{
	_cleanup_(json_putp) struct json_object *obj = NULL;
	_cleanup_(oci_config_done) struct oci_config c = { 0 };
	int r;

	if (len > OCI_DOC_MAX)
		return err_set(e, -EBADMSG, "image config: larger than %zu bytes", OCI_DOC_MAX);
	r = json_parse(json, len, "image config", &obj, e);
	if (r == 0)
		r = parse_members(obj, &c, ret_diff_ids, e);
	if (r < 0)
		return r;
	*ret = c;
	c = (struct oci_config){ 0 };
	return 0;
}

void oci_config_done(struct oci_config *config)
{
	strv_done(&config->env);
	strv_done(&config->entrypoint);
	strv_done(&config->cmd);
	strv_done(&config->volumes);
	strv_done(&config->exposed_ports);
	oci_map_done(&config->labels);
	free(config->user);
	free(config->workdir);
	free(config->stop_signal);
	free(config->architecture);
	free(config->variant);
	free(config->os);
	free(config->created);
	*config = (struct oci_config){ 0 };
}
