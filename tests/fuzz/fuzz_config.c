/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration file; what is accepted must survive being printed and read again. */
#include <stdlib.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(config_done) struct config c = CONFIG_INIT;
	_cleanup_(buf_done) struct buf text = { 0 };
	struct err e = { 0 };

	if (config_defaults(&c) < 0 || config_parse(&c, "fuzz", (const char *)data, size, &e) < 0)
		return 0;
	if (config_dump(&c, &text) < 0)
		return 0;
	if (config_parse(&c, "dump", (const char *)buf_head(&text), buf_len(&text), &e) < 0)
		abort();
	return 0;
}
