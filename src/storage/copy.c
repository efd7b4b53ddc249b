/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/copy.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "base/cleanup.h"

#define CHUNK ((size_t)1 << 30)

int file_append(int out, int in, uint64_t size)
{
	bool range = true;
	off_t from = 0;

	while ((uint64_t)from < size) {
		size_t n = MIN(size - (uint64_t)from, CHUNK);
		ssize_t done = range ? copy_file_range(in, &from, out, NULL, n, 0)
				     : sendfile(out, in, &from, n);

		/* Not between these two file systems. */
		if (done < 0 && range && errno != ENOSPC && errno != EDQUOT && errno != EIO)
			range = false;
		else if (done <= 0)
			return done < 0 ? -errno : -EBADMSG;
	}
	return 0;
}
