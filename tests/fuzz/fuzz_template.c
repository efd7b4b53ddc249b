/* SPDX-License-Identifier: Apache-2.0 */
/* template.json: what can be read can be written, and says the same then. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "sandbox/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(template_info_done) struct template_info info = { .memory = 0 };
	_cleanup_(template_info_done) struct template_info again = { .memory = 0 };
	_cleanup_(freep) char *text = NULL;
	struct err e = { 0 };

	if (template_info_parse((const char *)data, size, &info, &e) < 0) {
		if (!e.msg[0])
			abort();
		return 0;
	}
	text = template_info_text(&info);
	if (!text)
		return 0;
	if (template_info_parse(text, strlen(text), &again, &e) < 0)
		abort();
	if (again.memory != info.memory || again.vcpus != info.vcpus ||
	    again.created_ns != info.created_ns || !str_eq(again.machine, info.machine) ||
	    !str_eq(again.memory_sha256, info.memory_sha256))
		abort();
	return 0;
}
