/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/klog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/service.h"
#include "base/cleanup.h"

#define RECORD_MAX 8192

int klog_format(const char *record, size_t len, struct buf *out)
{
	const char *text = memchr(record, ';', len);
	unsigned long long us;
	char head[128];
	char stamp[32];
	size_t n;
	int stamp_len;

	if (!text || (size_t)(text - record) >= sizeof(head))
		return -EINVAL;
	memcpy(head, record, (size_t)(text - record));
	head[text - record] = '\0';
	if (sscanf(head, "%*u,%*u,%llu,", &us) != 1)
		return -EINVAL;
	text++;
	len -= (size_t)(text - record);
	/* Lines after the first one are properties. */
	n = strnlen(text, len);
	if (memchr(text, '\n', n))
		n = (size_t)((const char *)memchr(text, '\n', n) - text);
	stamp_len = snprintf(stamp, sizeof(stamp), "[%5llu.%06llu] ", us / 1000000, us % 1000000);
	while (buf_len(out) > 0 && buf_len(out) + (size_t)stamp_len + n + 1 > out->limit) {
		const char *end = memchr(buf_head(out), '\n', buf_len(out));

		buf_consume(out,
			    end ? (size_t)(end + 1 - (const char *)buf_head(out)) : buf_len(out));
	}
	if (buf_append(out, stamp, (size_t)stamp_len) < 0 || buf_append(out, text, n) < 0)
		return -ENOMEM;
	return buf_append(out, "\n", 1) < 0 ? -ENOMEM : 0;
}

/* All records there are now. */
static int read_log(struct buf *out)
{
	_cleanup_(close_fdp) int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char record[RECORD_MAX];
	int r = 0;

	if (fd < 0)
		return -errno;
	while (r != -ENOMEM) {
		ssize_t n = read(fd, record, sizeof(record));

		/* EPIPE: records were overwritten meanwhile, the next read goes on behind them. */
		if (n < 0 && errno == EPIPE)
			continue;
		if (n <= 0)
			return n < 0 && errno != EAGAIN ? -errno : 0;
		r = klog_format(record, (size_t)n, out);
	}
	return r;
}

HANDLER(serve_get_log)
{
	const PB(GetLogRequest) *req = (const void *)msg;
	PB(GetLogResponse) resp = PODVM__AGENT__V1__GET_LOG_RESPONSE__INIT;
	size_t max = req->max ? MIN((size_t)req->max, KLOG_MAX) : KLOG_DEFAULT;
	_cleanup_(buf_done) struct buf out = { .limit = MAX(max, (size_t)RECORD_MAX) };
	int r = read_log(&out);

	if (r < 0) {
		ttrpc_reply_error(call, ttrpc_code_from_errno(r), "cannot read the kernel's log");
		return;
	}
	if (buf_len(&out) > max)
		buf_consume(&out, buf_len(&out) - max);
	resp.text.data = buf_len(&out) ? buf_head(&out) : NULL;
	resp.text.len = buf_len(&out);
	ttrpc_reply(call, &resp.base);
}
