/* SPDX-License-Identifier: Apache-2.0 */
/* The types of values: checking, storing and printing them. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>

#include "base/str.h"
#include "config/table.h"

#define MAX_PATH 1024

_Static_assert(sizeof(enum config_accel) == sizeof(unsigned int), "stored as unsigned int");

static const struct {
	const char *name;
	uint64_t ms;
} units[] = { { "d", 86400000 }, { "h", 3600000 }, { "min", 60000 }, { "s", 1000 }, { "ms", 1 } };

static void *member(const struct config *c, const struct config_key *k)
{
	return (char *)c + k->offset;
}

bool config_value_is_string(const struct config_key *k)
{
	switch (k->type) {
	case CONFIG_STRING:
	case CONFIG_PATH:
	case CONFIG_PROGRAM:
	case CONFIG_SUBNET4:
	case CONFIG_SUBNET6:
	case CONFIG_ANNOTATIONS:
	case CONFIG_PATTERNS:
		return true;
	case CONFIG_ENUM:
	case CONFIG_UINT:
	case CONFIG_SIZE:
	case CONFIG_DURATION:
		break;
	}
	return false;
}

/* Index of a word, or -EINVAL with the list of all words. */
static int word_find(const char *const *words, const char *value, struct err *e)
{
	_cleanup_(buf_done) struct buf list = { 0 };

	for (int i = 0; words[i]; i++) {
		if (str_eq(words[i], value))
			return i;
		if (buf_printf(&list, "%s%s", i ? ", " : "", words[i]) < 0)
			return err_oom(e);
	}
	return err_set(e, -EINVAL, "it must be one of: %s", buf_cstr(&list) ? buf_cstr(&list) : "");
}

static int check_path(const char *value, struct err *e)
{
	const char *p = value;

	if (value[0] != '/')
		return err_set(e, -EINVAL, "it must be an absolute path");
	if (strlen(value) > MAX_PATH)
		return err_set(e, -EINVAL, "it must be shorter than %d bytes", MAX_PATH);
	for (; *p; p++)
		if (str_starts(p, "/../") || str_eq(p, "/.."))
			return err_set(e, -EINVAL, "it must be a path without \"..\"");
	return 0;
}

static int check_patterns(const char *value, struct err *e)
{
	_cleanup_(freep) char *copy = strdup(value);
	char *save = NULL;
	int r = copy ? 0 : err_oom(e);

	for (char *w = copy ? strtok_r(copy, " \t", &save) : NULL; w && r == 0;
	     w = strtok_r(NULL, " \t", &save)) {
		r = check_path(w, e);
		if (r == 0 && (w[strlen(w) - 1] == '/' || strstr(w, "//")))
			r = err_set(e, -EINVAL, "it must be paths of sockets");
	}
	return r;
}

/* An address of @family, a slash and a prefix length from @min to @max. */
static int check_subnet(int family, const char *value, uint64_t min, uint64_t max, struct err *e)
{
	unsigned char addr[16];
	char text[INET6_ADDRSTRLEN];
	const char *slash = strchr(value, '/');
	uint64_t bits;

	if (slash && (size_t)(slash - value) < sizeof(text)) {
		memcpy(text, value, (size_t)(slash - value));
		text[slash - value] = '\0';
		if (inet_pton(family, text, addr) == 1 && parse_u64(slash + 1, max, &bits) == 0 &&
		    bits >= min)
			return 0;
	}
	if (min == max)
		return err_set(e, -EINVAL, "it must be a network as ADDRESS/%" PRIu64, max);
	return err_set(e, -EINVAL,
		       "it must be a network as ADDRESS/LENGTH with a length of %" PRIu64
		       " to %" PRIu64,
		       min, max);
}

static int check_string(const struct config_key *k, const char *value, struct err *e)
{
	int r = 0;

	switch (k->type) {
	case CONFIG_STRING:
		r = k->words ? word_find(k->words, value, e) : 0;
		break;
	case CONFIG_PATH:
		r = check_path(value, e);
		break;
	case CONFIG_PROGRAM:
		r = *value ? check_path(value, e) : 0;
		break;
	case CONFIG_ANNOTATIONS:
		r = config_check_annotations(value, e);
		break;
	case CONFIG_PATTERNS:
		r = check_patterns(value, e);
		break;
	case CONFIG_SUBNET4:
		r = check_subnet(AF_INET, value, 8, 27, e);
		break;
	default:
		r = check_subnet(AF_INET6, value, 64, 64, e);
		break;
	}
	return r < 0 ? r : 0;
}

/* Digits and a unit. */
static int parse_duration(const char *s, uint64_t *ret)
{
	size_t n = strspn(s, "0123456789");
	char digits[20];
	uint64_t v;

	if (n == 0 || n >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, s, n);
	digits[n] = '\0';
	if (parse_u64(digits, UINT64_MAX / units[0].ms, &v) < 0)
		return -ERANGE;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (str_eq(s + n, units[i].name)) {
			*ret = v * units[i].ms;
			return 0;
		}
	}
	return -EINVAL;
}

static int size_text(uint64_t v, struct buf *out)
{
	static const char suffixes[] = "TGMK";

	for (unsigned int i = 0; i < 4; i++) {
		uint64_t unit = (uint64_t)1 << (40 - 10 * i);

		if (v && v % unit == 0)
			return buf_printf(out, "%" PRIu64 "%c", v / unit, suffixes[i]);
	}
	return buf_printf(out, "%" PRIu64, v);
}

static int duration_text(uint64_t v, struct buf *out)
{
	size_t i = 0;

	if (v == 0)
		return buf_printf(out, "0s");
	while (v % units[i].ms)
		i++;
	return buf_printf(out, "%" PRIu64 "%s", v / units[i].ms, units[i].name);
}

static int number_text(const struct config_key *k, uint64_t v, struct buf *out)
{
	switch (k->type) {
	case CONFIG_SIZE:
		return size_text(v, out);
	case CONFIG_DURATION:
		return duration_text(v, out);
	case CONFIG_ENUM:
		return buf_printf(out, "%s", k->words[v]);
	default:
		return buf_printf(out, "%" PRIu64, v);
	}
}

/* Says what a number would have to be. */
static int bad_number(const struct config_key *k, struct err *e)
{
	static const char *const what[] = {
		[CONFIG_UINT] = "a number",
		[CONFIG_SIZE] = "a size such as 256M or 10G",
		[CONFIG_DURATION] = "a time such as 500ms, 60s, 5min, 12h or 30d",
	};
	_cleanup_(buf_done) struct buf range = { 0 };

	if (number_text(k, k->min, &range) < 0 || buf_printf(&range, " to ") < 0 ||
	    number_text(k, k->max, &range) < 0 || !buf_cstr(&range))
		return err_oom(e);
	return err_set(e, -EINVAL, "it must be %s from %s", what[k->type], buf_cstr(&range));
}

static int parse_number(const struct config_key *k, const char *value, uint64_t *ret, struct err *e)
{
	int r;

	if (k->type == CONFIG_ENUM) {
		r = word_find(k->words, value, e);
		*ret = r < 0 ? 0 : (uint64_t)r;
		return r < 0 ? r : 0;
	}
	if (k->type == CONFIG_SIZE)
		r = parse_size(value, ret);
	else if (k->type == CONFIG_DURATION)
		r = parse_duration(value, ret);
	else
		r = parse_u64(value, UINT64_MAX, ret);
	if (r < 0 || *ret < k->min || *ret > k->max)
		return bad_number(k, e);
	return 0;
}

int config_value_set(struct config *c, const struct config_key *k, const char *value, struct err *e)
{
	uint64_t v;
	int r;

	if (config_value_is_string(k)) {
		r = check_string(k, value, e);
		if (r == 0 && str_set(member(c, k), value) < 0)
			r = err_oom(e);
		return r;
	}
	r = parse_number(k, value, &v, e);
	if (r < 0)
		return r;
	if (k->type == CONFIG_SIZE || k->type == CONFIG_DURATION)
		*(uint64_t *)member(c, k) = v;
	else
		*(unsigned int *)member(c, k) = (unsigned int)v;
	return 0;
}

int config_value_text(const struct config *c, const struct config_key *k, struct buf *out)
{
	const char *s;

	if (config_value_is_string(k)) {
		s = *(char **)member(c, k);
		return buf_printf(out, "%s", s ? s : "");
	}
	if (k->type == CONFIG_SIZE || k->type == CONFIG_DURATION)
		return number_text(k, *(uint64_t *)member(c, k), out);
	return number_text(k, *(unsigned int *)member(c, k), out);
}
