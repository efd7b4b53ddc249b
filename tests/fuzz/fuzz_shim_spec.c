/* SPDX-License-Identifier: Apache-2.0 */
/* config.json as containerd hands it over: what the pod is like, and the rewritten spec. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "oci/spec.h"
#include "shim/sandbox_files.h"
#include "shim/spec.h"
#include "shim/spec_pod.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void rewrite(const uint8_t *data, size_t size, bool member, bool crio)
{
	const struct spec_target target = { .id = "box", .rootfs = "/rootfs", .member = member };
	_cleanup_(json_putp) struct json_object *spec = NULL;
	_cleanup_(spec_plan_done) struct spec_plan plan = { 0 };
	_cleanup_(freep) char *text = NULL;
	_cleanup_(spec_pod_done) struct spec_pod pod = { 0 };
	struct err e = { 0 };

	if (json_parse((const char *)data, size, "config.json", &spec, &e) < 0)
		return;
	if (crio && spec_from_crio(spec, &e) < 0)
		return;
	(void)spec_pod_from_config(spec, !member, &pod, &e);
	(void)sandbox_files_mount(spec, "/bundle", &e);
	if (spec_rewrite(spec, &target, &plan, &e) < 0)
		return;
	if (plan.n_binds > SPEC_MAX_BINDS || plan.n_devices > SPEC_MAX_DEVICES)
		abort();
	for (size_t i = 0; i < plan.n_binds; i++)
		if (plan.binds[i].source[0] != '/' || spec_bind_to(&plan.binds[i], "/guest") < 0)
			abort();
	for (size_t i = 0; i < plan.n_devices; i++)
		plan.devices[i].guest_minor = plan.devices[i].major;
	if (spec_devices_done(spec, &plan) < 0)
		abort();
	if (oci_seccomp_compile(spec, &e) < 0)
		return;
	(void)json_text(spec, "config.json", &text, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	rewrite(data, size, false, false);
	rewrite(data, size, true, false);
	rewrite(data, size, false, true);
	return 0;
}
