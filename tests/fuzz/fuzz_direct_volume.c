/* SPDX-License-Identifier: Apache-2.0 */
/* What a CSI driver says about a volume. */
#include <stdlib.h>

#include "storage/direct_volume.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(direct_volume_done) struct direct_volume v = { 0 };
	struct err e = { 0 };

	if (direct_volume_parse((const char *)data, size, &v, &e) < 0) {
		if (!e.msg[0])
			abort();
		return 0;
	}
	if (!v.device || v.device[0] != '/' || !v.fstype || v.fs_group > INT32_MAX)
		abort();
	return 0;
}
