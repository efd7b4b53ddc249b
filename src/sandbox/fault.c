/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "sandbox/stages.h"

#define LINE_MAX_BYTES 256

/* Does the file say that of the stage? */
static bool wanted(const char *stage, const char *how)
{
	const char *path = getenv("PODVM_FAULT");
	_cleanup_(freep) char *want = str_printf("%s:%s", stage, how);
	_cleanup_(freep) char *line = NULL;

	if (!path || !want || file_read(AT_FDCWD, path, LINE_MAX_BYTES, &line, NULL) < 0)
		return false;
	line[strcspn(line, "\n")] = '\0';
	if (!str_eq(line, want))
		return false;
	log_warn("a fault is injected", "stage=%s how=%s", stage, how);
	return true;
}

int fault_before(const char *stage, struct err *e)
{
	return wanted(stage, "fail") ? err_set(e, -EIO, "injected failure") : 0;
}

int fault_after(const char *stage, struct err *e)
{
	if (wanted(stage, "hang"))
		return STAGE_PENDING;
	return wanted(stage, "late") ? err_set(e, -EIO, "injected late failure") : 0;
}
