/* SPDX-License-Identifier: Apache-2.0 */
/* The ring of a guest's console, and foreign bytes as printable text. */
#include <string.h>

#include "base/cleanup.h"
#include "vmm/vmm-internal.h"

/* The longest line of a console that is worth a line of an error message. */
#define LINE_MAX_BYTES 4096

void console_write(struct console *c, const void *data, size_t n)
{
	const char *p = data;

	if (n > sizeof(c->ring)) {
		p += n - sizeof(c->ring);
		n = sizeof(c->ring);
	}
	c->len = MIN(c->len + n, sizeof(c->ring));
	while (n > 0) {
		size_t part = MIN(n, sizeof(c->ring) - c->end);

		memcpy(c->ring + c->end, p, part);
		c->end = (c->end + part) % sizeof(c->ring);
		p += part;
		n -= part;
	}
}

/* Byte @i of the ring, 0 being the oldest. */
static char console_at(const struct console *c, size_t i)
{
	return c->ring[(c->end + sizeof(c->ring) - c->len + i) % sizeof(c->ring)];
}

/* Where the last @lines lines before byte @end begin, going back no further than @most bytes. */
static size_t tail_start(const struct console *c, unsigned int lines, size_t end, size_t most)
{
	size_t start = end;

	while (start > 0 && end - start < most) {
		if (console_at(c, start - 1) == '\n' && --lines == 0)
			break;
		start--;
	}
	return start;
}

void console_tail(const struct console *c, unsigned int lines, char *buf, size_t size)
{
	char raw[8 * LINE_MAX_BYTES];
	size_t end = c->len;
	size_t start;

	while (end > 0 && strchr("\r\n ", console_at(c, end - 1)))
		end--;
	start = lines ? tail_start(c, lines, end, sizeof(raw)) : end;
	for (size_t i = start; i < end; i++)
		raw[i - start] = console_at(c, i);
	printable(buf, size, raw, end - start);
}

/* What is in an escape sequence: nothing yet, after ESC, after ESC [ */
enum escape { ESCAPE_NONE, ESCAPE_START, ESCAPE_CSI };

/* The next character of text for a byte, or 0 when the byte is dropped. */
static char printable_byte(enum escape *state, unsigned char byte)
{
	switch (*state) {
	case ESCAPE_START:
		*state = byte == '[' ? ESCAPE_CSI : ESCAPE_NONE;
		return 0;
	case ESCAPE_CSI:
		if (byte >= 0x40 && byte <= 0x7e)
			*state = ESCAPE_NONE;
		else if (byte < 0x20) /* cut short: don't swallow the line after it */
			*state = ESCAPE_NONE;
		return byte == '\n' ? '\n' : 0;
	case ESCAPE_NONE:
		break;
	}
	if (byte == 0x1b) {
		*state = ESCAPE_START;
		return 0;
	}
	if (byte == '\r')
		return 0;
	if (byte == '\t')
		return ' ';
	if (byte == '\n' || (byte >= 0x20 && byte < 0x7f))
		return (char)byte;
	return '?';
}

static size_t printable_len(const unsigned char *src, size_t n)
{
	enum escape state = ESCAPE_NONE;
	size_t len = 0;

	for (size_t i = 0; i < n; i++)
		len += printable_byte(&state, src[i]) != 0;
	return len;
}

void printable(char *dst, size_t size, const void *src, size_t n)
{
	const unsigned char *bytes = src;
	size_t len = printable_len(bytes, n);
	size_t skip = len > size - 1 ? len - (size - 1) : 0;
	enum escape state = ESCAPE_NONE;
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		char c = printable_byte(&state, bytes[i]);

		if (!c)
			continue;
		if (skip > 0)
			skip--;
		else
			dst[out++] = c;
	}
	dst[out] = '\0';
}
