/* SPDX-License-Identifier: Apache-2.0 */
/* Standard input of `start`. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "shim/bootstrap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) char *config = NULL;
	struct err e = { 0 };
	int r = bootstrap_config(data, size, "my-box", &config, &e);

	/* A file is named only by options that are sound; a failure says why. */
	if ((r < 0 && config) || (r < 0) != (e.code < 0))
		abort();
	return 0;
}
