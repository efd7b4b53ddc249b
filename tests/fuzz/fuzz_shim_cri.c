/* SPDX-License-Identifier: Apache-2.0 */
/* CRI's PodSandboxConfig: what the pod is, and the annotations that are for us. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "config/config.h"
#include "shim/spec_pod.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void annotate(const struct oci_map *annotations)
{
	static const char allow[] =
		"[annotations]\nallowed = podvm.io/memory podvm.io/vcpus podvm.io/boot-timeout\n";
	_cleanup_(config_done) struct config config = CONFIG_INIT;
	struct err e = { 0 };

	if (config_defaults(&config) < 0 ||
	    config_parse(&config, "test", allow, strlen(allow), &e) < 0)
		abort();
	for (size_t i = 0; i < annotations->n; i++) {
		if (!str_starts(annotations->v[i].key, CONFIG_ANNOTATION_PREFIX))
			abort();
		(void)config_annotate(&config, annotations->v[i].key, annotations->v[i].value, &e);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Runtime__V1__PodSandboxConfig *config = runtime__v1__pod_sandbox_config__unpack(NULL, size,
											data);
	_cleanup_(spec_pod_done) struct spec_pod pod = { 0 };
	struct err e = { 0 };

	if (!config)
		return 0;
	if (spec_pod_from_cri(config, "id", "/run/netns/x", &pod, &e) == 0)
		annotate(&pod.annotations);
	runtime__v1__pod_sandbox_config__free_unpacked(config, NULL);
	return 0;
}
