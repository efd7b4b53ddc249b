/* SPDX-License-Identifier: Apache-2.0 */
/* A stored runtime spec that a process is added to, as the same user and as another one. */
#include <string.h>

#include "base/cleanup.h"
#include "oci/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_process(const char *spec, char *user)
{
	static char *args[] = { (char *)"id", NULL };
	static const struct oci_users users = { "web:x:1:2::/w:\nroot:x:0:0::/root:\n",
						"audio:x:29:web\n" };
	const struct oci_exec_options o = { .args = { args, 1 }, .user = user, .tty = true };
	_cleanup_(freep) char *process = NULL;
	struct err e = { 0 };

	if (oci_exec_build(spec, &o, &users, &process, &e) < 0) {
		if (!e.msg[0])
			abort();
	} else if (!strstr(process, "\"args\"")) {
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(freep) char *spec = strndup((const char *)data, size);

	if (!spec)
		return 0;
	add_process(spec, NULL);
	add_process(spec, (char *)"web");
	return 0;
}
