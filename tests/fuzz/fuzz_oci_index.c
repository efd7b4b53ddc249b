/* SPDX-License-Identifier: Apache-2.0 */
/* An image index as index.json of a layout (with and without a tag), and below it. */
#include "base/cleanup.h"
#include "oci/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void select_entry(const uint8_t *data, size_t size, const char *tag, bool top)
{
	struct oci_descriptor desc = { 0 };
	struct err e = { 0 };

	if (oci_index_select((const char *)data, size, tag, top, &desc, &e) < 0) {
		if (!e.msg[0])
			abort();
		return;
	}
	if (!oci_digest_ok(desc.digest) || !desc.media_type)
		abort();
	oci_descriptor_done(&desc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	select_entry(data, size, NULL, /* top= */ true);
	select_entry(data, size, "v1", /* top= */ true);
	select_entry(data, size, NULL, /* top= */ false);
	return 0;
}
