/* SPDX-License-Identifier: Apache-2.0 */
#include "ttrpc/code.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "ttrpc/ttrpc.h"

/* From errno: the entry with it. To errno: the first entry with the code. */
static const struct {
	int err;
	enum ttrpc_code code;
} codes[] = {
	{ 0, TTRPC_OK },
	{ ECANCELED, TTRPC_CANCELED },
	{ EIO, TTRPC_UNKNOWN },
	{ EINVAL, TTRPC_INVALID_ARGUMENT },
	{ EBADMSG, TTRPC_INVALID_ARGUMENT },
	{ ENAMETOOLONG, TTRPC_INVALID_ARGUMENT },
	{ ETIMEDOUT, TTRPC_DEADLINE_EXCEEDED },
	{ ENOENT, TTRPC_NOT_FOUND },
	{ ESRCH, TTRPC_NOT_FOUND },
	{ EEXIST, TTRPC_ALREADY_EXISTS },
	{ EACCES, TTRPC_PERMISSION_DENIED },
	{ EPERM, TTRPC_PERMISSION_DENIED },
	{ ENOBUFS, TTRPC_RESOURCE_EXHAUSTED },
	{ ENOMEM, TTRPC_RESOURCE_EXHAUSTED },
	{ ENOSPC, TTRPC_RESOURCE_EXHAUSTED },
	{ EDQUOT, TTRPC_RESOURCE_EXHAUSTED },
	{ EMFILE, TTRPC_RESOURCE_EXHAUSTED },
	{ ENFILE, TTRPC_RESOURCE_EXHAUSTED },
	{ EMSGSIZE, TTRPC_RESOURCE_EXHAUSTED },
	{ EFBIG, TTRPC_RESOURCE_EXHAUSTED },
	{ EBUSY, TTRPC_FAILED_PRECONDITION },
	{ ENOTEMPTY, TTRPC_FAILED_PRECONDITION },
	{ ERANGE, TTRPC_OUT_OF_RANGE },
	{ EOPNOTSUPP, TTRPC_UNIMPLEMENTED },
	{ ENOSYS, TTRPC_UNIMPLEMENTED },
	{ EPROTO, TTRPC_INTERNAL },
	{ EAGAIN, TTRPC_UNAVAILABLE },
	{ ECONNREFUSED, TTRPC_UNAVAILABLE },
	{ ECONNRESET, TTRPC_UNAVAILABLE },
	{ ENOTCONN, TTRPC_UNAVAILABLE },
	{ EPIPE, TTRPC_UNAVAILABLE },
};

int ttrpc_code_to_errno(enum ttrpc_code code)
{
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (codes[i].code == code)
			return -codes[i].err;
	return -EIO;
}

enum ttrpc_code ttrpc_code_from_errno(int err)
{
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (codes[i].err == -err)
			return codes[i].code;
	return TTRPC_UNKNOWN;
}

void text_clean(char *text)
{
	uint8_t *p = (uint8_t *)text;

	while (*p) {
		size_t n = *p < 0x80 ? 1 : utf8_sequence(p);

		if (*p == '\n' || *p == '\t')
			*p = ' ';
		else if (n == 0 || *p < 0x20 || *p == 0x7f)
			*p = '?';
		p += MAX(n, (size_t)1);
	}
}
