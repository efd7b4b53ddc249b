/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/mount_format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"

#define OPTION_MAX ((size_t)64 << 10)
#define WORDS_MAX  3

/* A number from the list of mounts. Return: 0 or -EINVAL */
static int parse_index(const char *word, size_t n, size_t *ret)
{
	uint64_t v;

	if (n == 0 || !word || parse_u64(word, n - 1, &v) < 0)
		return -EINVAL;
	*ret = (size_t)v;
	return 0;
}

static int add_overlay(struct buf *b, char *const *points, size_t first, size_t last)
{
	int r = buf_printf(b, "%s", points[first]);

	while (r == 0 && first != last) {
		first = first < last ? first + 1 : first - 1;
		r = buf_printf(b, ":%s", points[first]);
	}
	return r;
}

/* What is between the braces. */
static int add_action(struct buf *b, char *action, char *const *points, size_t n)
{
	char *words[WORDS_MAX + 1] = { NULL };
	char *save = NULL;
	size_t first;
	size_t last;
	size_t i = 0;

	for (char *w = strtok_r(action, " ", &save); w && i <= WORDS_MAX;
	     w = strtok_r(NULL, " ", &save))
		words[i++] = w;
	if (i < 2 || i > WORDS_MAX || parse_index(words[1], n, &first) < 0)
		return -EINVAL;
	if (i == 2 && str_eq(words[0], "mount"))
		return add_overlay(b, points, first, first);
	if (i == 3 && str_eq(words[0], "overlay") && parse_index(words[2], n, &last) == 0)
		return add_overlay(b, points, first, last);
	return -EINVAL;
}

int mount_format(const char *text, char *const *points, size_t n, char **ret)
{
	_cleanup_(buf_done) struct buf b = { .limit = OPTION_MAX };
	int r = buf_printf(&b, "%s", "");

	while (r == 0 && *text) {
		const char *open = strstr(text, "{{");
		const char *close = open ? strstr(open, "}}") : NULL;
		_cleanup_(freep) char *action = NULL;

		if (open && !close)
			return -EINVAL;
		if (!open) {
			r = buf_printf(&b, "%s", text);
			break;
		}
		action = strndup(open + 2, (size_t)(close - open) - 2);
		r = action ? buf_printf(&b, "%.*s", (int)(open - text), text) : -ENOMEM;
		if (r == 0)
			r = add_action(&b, action, points, n);
		text = close + 2;
	}
	if (r < 0)
		return r == -ENOBUFS ? -EINVAL : r;
	*ret = strdup(buf_cstr(&b) ?: "");
	return *ret ? 0 : -ENOMEM;
}
