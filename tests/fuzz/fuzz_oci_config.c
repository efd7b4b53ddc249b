/* SPDX-License-Identifier: Apache-2.0 */
/* An image config, and the runtime spec that is made of it. */
#include "base/cleanup.h"
#include "oci/oci.h"
#include "oci/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct oci_users users = { "web:x:1:2::/w:\nroot:x:0:0::/root:\n",
						"audio:x:29:web\n" };
	static const struct oci_run_options options = { .readonly = true };
	_cleanup_(oci_config_done) struct oci_config config = { 0 };
	_cleanup_(strv_done) struct strv diff_ids = { 0 };
	_cleanup_(freep) char *spec = NULL;
	struct err e = { 0 };

	if (oci_config_parse((const char *)data, size, &config, &diff_ids, &e) < 0) {
		if (!e.msg[0])
			abort();
		return 0;
	}
	if (!config.os || diff_ids.n > OCI_LAYERS_MAX)
		abort();
	if (oci_spec_build(&options, &config, &users, &spec, &e) < 0 && !e.msg[0])
		abort();
	return 0;
}
