/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json as CRI-O writes it. What containerd and CRI-O say about a pod is the same, in
 * annotations of different names. Whoever makes a pod has its own annotations passed on by CRI-O,
 * whatever they are called, so those that only containerd may write mean nothing here.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "shim/spec.h"
#include "shim/spec_internal.h"
#include "shim/spec_pod.h"

static const struct {
	const char *crio;
	const char *containerd;
} names[] = {
	{ "io.kubernetes.cri-o.ContainerType", SPEC_CONTAINER_TYPE },
	{ "io.kubernetes.cri-o.SandboxID", SPEC_SANDBOX_ID },
	{ "io.kubernetes.cri-o.KubeName", SPEC_SANDBOX_NAME },
	{ "io.kubernetes.cri-o.Namespace", SPEC_SANDBOX_NAMESPACE },
	{ "io.kubernetes.cri-o.ImageName", SPEC_IMAGE_NAME },
	/* A label of the kubelet's. */
	{ "io.kubernetes.container.name", SPEC_CONTAINER_NAME },
};

/* What the kubelet says of the limits of all containers, as JSON; and its name until CRI-O 1.35. */
static const char *const resources[] = {
	"pod-linux-resources.crio.io",
	"io.kubernetes.cri-o.PodLinuxResources",
};

static const struct {
	const char *member;
	const char *containerd;
} limits[] = {
	{ "memory_limit_in_bytes", SPEC_SANDBOX_MEMORY },
	{ "cpu_quota", SPEC_SANDBOX_CPU_QUOTA },
	{ "cpu_period", SPEC_SANDBOX_CPU_PERIOD },
};

static void drop_containerds(struct json_object *all)
{
	json_object_object_foreach(all, name, value)
	{
		(void)value;
		if (str_starts(name, "io.kubernetes.cri.") || str_starts(name, "io.containerd."))
			json_object_object_del(all, name);
	}
}

static int add_names(struct json_object *spec, struct json_object *all)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
		const char *value = spec_annotation(spec, names[i].crio);

		if (value)
			r = json_add_string(all, names[i].containerd, value);
	}
	return r;
}

static int add_limits(struct json_object *all, struct json_object *said)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(limits); i++) {
		struct json_object *n = json_get(said, limits[i].member, json_type_int);
		char text[24];

		if (!n)
			continue;
		snprintf(text, sizeof(text), "%" PRId64, json_object_get_int64(n));
		r = json_add_string(all, limits[i].containerd, text);
	}
	return r;
}

int spec_from_crio(struct json_object *spec, struct err *e)
{
	struct json_object *all = json_get(spec, "annotations", json_type_object);
	_cleanup_(json_putp) struct json_object *said = NULL;
	const char *text = NULL;
	int r;

	if (!all)
		return 0;
	drop_containerds(all);
	r = add_names(spec, all);
	for (size_t i = 0; !text && i < ARRAY_SIZE(resources); i++)
		text = spec_annotation(spec, resources[i]);
	/* "null": nobody knows them. */
	if (r == 0 && text && json_parse(text, strlen(text), "annotation", &said, NULL) == 0)
		r = add_limits(all, said);
	return r < 0 ? err_oom(e) : 0;
}
