/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/process_memory.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define SMAPS_MAX ((size_t)16 << 10)

/* Sum of the lines of smaps_rollup that begin so, in bytes. */
static uint64_t sum_lines(const char *text, const char *prefix)
{
	uint64_t sum = 0;

	for (const char *line = text; line; line = strchr(line, '\n')) {
		unsigned long long kb;

		line += *line == '\n';
		if (str_starts(line, prefix) && sscanf(strchr(line, ':') + 1, "%llu kB", &kb) == 1)
			sum += kb * 1024;
	}
	return sum;
}

struct process_memory process_memory(pid_t pid)
{
	_cleanup_(freep) char *text = NULL;
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	if (file_read(AT_FDCWD, path, SMAPS_MAX, &text, NULL) < 0)
		return (struct process_memory){ 0 };
	return (struct process_memory){
		.pss = sum_lines(text, "Pss:"),
		.private = sum_lines(text, "Private_"),
	};
}
