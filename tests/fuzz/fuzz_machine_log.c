/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest writes into its log and on its console, as `podvm logs` of a pod reads it. */
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "cli/machine_log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* log_reader.h hands out lines. */
static void add_shim(struct machine_log *log, const char *text, const char *end)
{
	while (text < end) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		const char *stop = nl ? nl : end;

		(void)machine_log_add_shim(log, text, (size_t)(stop - text));
		text = stop + 1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct machine_log log = { 0 };

	(void)machine_log_add_guest(&log, UINT64_C(1790000000) * 1000000000, (const char *)data,
				    size);
	add_shim(&log, (const char *)data, (const char *)data + size);
	machine_log_sort(&log);
	for (size_t i = 0; i < log.n; i++)
		if (strchr(log.v[i].text, '\n') ||
		    (i > 0 && log.v[i].time_ns < log.v[i - 1].time_ns))
			abort();
	machine_log_done(&log);
	return 0;
}
