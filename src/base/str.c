/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

char *str_printf(const char *fmt, ...)
{
	char *s;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

int str_set(char **p, const char *s)
{
	char *copy = NULL;

	if (s) {
		copy = strdup(s);
		if (!copy)
			return -ENOMEM;
	}
	free(*p);
	*p = copy;
	return 0;
}

/* Takes the string, also when it fails. */
static int strv_take(struct strv *sv, char *s)
{
	char **v;

	if (!s)
		return -ENOMEM;
	v = reallocarray(sv->v, sv->n + 2, sizeof(*v));
	if (!v) {
		free(s);
		return -ENOMEM;
	}
	v[sv->n++] = s;
	v[sv->n] = NULL;
	sv->v = v;
	return 0;
}

int strv_add(struct strv *sv, const char *s)
{
	return strv_take(sv, strdup(s));
}

int strv_addv(struct strv *sv, const char *fmt, va_list ap)
{
	char *s;
	int n = vasprintf(&s, fmt, ap);

	return strv_take(sv, n < 0 ? NULL : s);
}

int strv_addf(struct strv *sv, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = strv_addv(sv, fmt, ap);
	va_end(ap);
	return r;
}

int strv_add_all(struct strv *sv, ...)
{
	const char *s;
	va_list ap;
	int r = 0;

	va_start(ap, sv);
	while (r == 0 && (s = va_arg(ap, const char *)))
		r = strv_add(sv, s);
	va_end(ap);
	return r;
}

void strv_done(struct strv *sv)
{
	for (size_t i = 0; i < sv->n; i++)
		free(sv->v[i]);
	free(sv->v);
	sv->v = NULL;
	sv->n = 0;
}

int parse_u64(const char *s, uint64_t max, uint64_t *ret)
{
	unsigned long long v;
	char *end;

	/* strtoull() takes blanks and signs, which a number here has none of. */
	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (*end)
		return -EINVAL;
	if (errno == ERANGE || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

int parse_size(const char *s, uint64_t *ret)
{
	static const char units[] = "bkmgt";
	char digits[24];
	size_t n = strspn(s, "0123456789");
	const char *unit;
	unsigned int shift = 0;
	uint64_t v;
	int r;

	if (n == 0 || n >= sizeof(digits))
		return n ? -ERANGE : -EINVAL;
	memcpy(digits, s, n);
	digits[n] = '\0';
	r = parse_u64(digits, UINT64_MAX, &v);
	if (r < 0)
		return r;
	s += n;
	if (*s) {
		unit = strchr(units, tolower((unsigned char)*s));
		if (!unit)
			return -EINVAL;
		shift = (unsigned int)(unit - units) * 10;
		s++;
		if (*s && (shift == 0 || (strcasecmp(s, "b") != 0 && strcasecmp(s, "ib") != 0)))
			return -EINVAL;
	}
	if (v > UINT64_MAX >> shift)
		return -ERANGE;
	*ret = v << shift;
	return 0;
}

size_t utf8_sequence(const uint8_t *s)
{
	size_t n = s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	/* U+0080 to U+009F are control characters too. */
	return s[0] == 0xc2 && s[1] < 0xa0 ? 0 : n;
}

void str_hash(const char *text, char out[STR_HASH_SIZE])
{
	const unsigned __int128 prime = ((unsigned __int128)1 << 88) + 0x13b;
	unsigned __int128 h = (unsigned __int128)0x6c62272e07bb0142 << 64 | 0x62b821756295c58d;

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * prime;
	snprintf(out, STR_HASH_SIZE, "%016llx%016llx", (unsigned long long)(h >> 64),
		 (unsigned long long)h);
}
