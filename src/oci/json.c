/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/json.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "oci/internal.h"

DEFINE_CLEANUP(tokener_freep, struct json_tokener *, json_tokener_free)

/*
 * Upper bound of the values in a text: each but the first follows a bracket or a comma. An object
 * of three bytes costs a hundred times as much in memory, so this limit is the one that counts.
 */
static size_t count_values(const char *text, size_t len)
{
	bool in_string = false;
	size_t n = 1;

	for (size_t i = 0; i < len; i++) {
		if (in_string && text[i] == '\\')
			i++;
		else if (text[i] == '"')
			in_string = !in_string;
		else if (!in_string)
			n += text[i] == '{' || text[i] == '[' || text[i] == ',';
	}
	return n;
}

/* In json-c 0.18 (Debian 13) the strict mode takes every byte above 0x7f for a control character. */
static int tokener_flags(void)
{
	bool broken = json_c_version_num() == ((0 << 16) | (18 << 8) | 0);

	return JSON_TOKENER_VALIDATE_UTF8 | (broken ? 0 : JSON_TOKENER_STRICT);
}

/* strspn(3) of text that need not end in a NUL. */
static size_t strspn_n(const char *text, size_t len, const char *accept)
{
	size_t n = 0;

	while (n < len && text[n] && strchr(accept, text[n]))
		n++;
	return n;
}

static int parse(const char *text, size_t len, const char *what, enum json_type type,
		 struct json_object **ret, struct err *e)
{
	_cleanup_(json_putp) struct json_object *obj = NULL;
	_cleanup_(tokener_freep) struct json_tokener *tok = NULL;
	enum json_tokener_error error;
	size_t end;

	if (len > INT_MAX - 1 || count_values(text, len) > JSON_VALUES_MAX)
		return err_set(e, -EBADMSG, "%s: too large", what);
	tok = json_tokener_new_ex(JSON_DEPTH_MAX);
	if (!tok)
		return err_oom(e);
	json_tokener_set_flags(tok, tokener_flags());
	obj = json_tokener_parse_ex(tok, text, (int)len);
	error = json_tokener_get_error(tok);
	if (error == json_tokener_continue)
		return err_set(e, -EBADMSG, "%s: its JSON ends in the middle", what);
	if (error != json_tokener_success)
		return err_set(e, -EBADMSG, "%s: bad JSON at byte %zu: %s", what,
			       json_tokener_get_parse_end(tok), json_tokener_error_desc(error));
	end = json_tokener_get_parse_end(tok);
	end += strspn_n(text + end, len - end, " \t\r\n");
	if (end < len)
		return err_set(e, -EBADMSG, "%s: bad JSON at byte %zu: more text", what, end);
	if (!json_object_is_type(obj, type))
		return err_set(e, -EBADMSG, "%s: not a JSON %s", what, json_type_to_name(type));
	*ret = TAKE_PTR(obj);
	return 0;
}

int json_parse(const char *text, size_t len, const char *what, struct json_object **ret,
	       struct err *e)
{
	return parse(text, len, what, json_type_object, ret, e);
}

int json_parse_array(const char *text, size_t len, const char *what, struct json_object **ret,
		     struct err *e)
{
	return parse(text, len, what, json_type_array, ret, e);
}

/* A string without a NUL inside, or NULL. */
static const char *plain_string(struct json_object *v)
{
	const char *s;

	if (!json_object_is_type(v, json_type_string))
		return NULL;
	s = json_object_get_string(v);
	return strlen(s) == (size_t)json_object_get_string_len(v) ? s : NULL;
}

int json_string_array(struct json_object *array, struct strv *ret)
{
	size_t n = json_object_array_length(array);

	for (size_t i = 0; i < n; i++) {
		const char *s = plain_string(json_object_array_get_idx(array, i));

		if (!s)
			return -EBADMSG;
		if (strv_add(ret, s) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Names cannot hold a NUL that would be seen: json-c keeps them as C strings. */
static int get_keys(struct json_object *obj, struct strv *ret)
{
	struct json_object_iter it;

	json_object_object_foreachC(obj, it)
	{
		if (strv_add(ret, it.key) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int get_map(struct json_object *obj, struct oci_map *ret)
{
	struct json_object_iter it;

	json_object_object_foreachC(obj, it)
	{
		const char *s = plain_string(it.val);

		if (!s)
			return -EBADMSG;
		if (oci_map_append(ret, it.key, s) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int get_string(struct json_object *v, char **ret)
{
	const char *s = plain_string(v);

	return s ? str_set(ret, s) : -EBADMSG;
}

static int get_u64(struct json_object *v, uint64_t *ret)
{
	if (json_object_get_int64(v) < 0)
		return -EBADMSG;
	*ret = json_object_get_uint64(v);
	return 0;
}

static const struct {
	enum json_type type;
	const char *name;
} kinds[] = {
	[JSON_STRING] = { json_type_string, "a string" },
	[JSON_STRV] = { json_type_array, "a list of strings" },
	[JSON_KEYS] = { json_type_object, "an object" },
	[JSON_MAP] = { json_type_object, "an object of strings" },
	[JSON_U64] = { json_type_int, "a number that is not negative" },
	[JSON_BOOL] = { json_type_boolean, "true or false" },
	[JSON_OBJECT] = { json_type_object, "an object" },
	[JSON_ARRAY] = { json_type_array, "a list" },
};

static int store(struct json_object *v, enum json_kind kind, void *field)
{
	if (!json_object_is_type(v, kinds[kind].type))
		return -EBADMSG;
	switch (kind) {
	case JSON_STRING:
		return get_string(v, field);
	case JSON_STRV:
		return json_string_array(v, field);
	case JSON_KEYS:
		return get_keys(v, field);
	case JSON_MAP:
		return get_map(v, field);
	case JSON_U64:
		return get_u64(v, field);
	case JSON_BOOL:
		*(bool *)field = json_object_get_boolean(v);
		return 0;
	case JSON_OBJECT:
	case JSON_ARRAY:
		*(struct json_object **)field = v;
		return 0;
	}
	return -EBADMSG;
}

int json_dispatch(struct json_object *obj, const struct json_field *fields, size_t n, void *base,
		  const char *what, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		const struct json_field *f = &fields[i];
		struct json_object *v = NULL;
		int r;

		if (!json_object_object_get_ex(obj, f->name, &v) || !v) {
			if (f->flags & JSON_REQUIRED)
				return err_set(e, -EBADMSG, "%s: no \"%s\"", what, f->name);
			continue;
		}
		r = store(v, f->kind, (char *)base + f->offset);
		if (r == -EBADMSG)
			return err_set(e, r, "%s: \"%s\" is not %s", what, f->name,
				       kinds[f->kind].name);
		if (r < 0)
			return err_oom(e);
	}
	return 0;
}

struct json_object *json_get(struct json_object *obj, const char *name, enum json_type type)
{
	struct json_object *v = NULL;

	if (!json_object_object_get_ex(obj, name, &v) || !json_object_is_type(v, type))
		return NULL;
	return v;
}

int json_add(struct json_object *obj, const char *name, struct json_object *value)
{
	if (!value)
		return -ENOMEM;
	if (json_object_object_add(obj, name, value) < 0) {
		json_object_put(value);
		return -ENOMEM;
	}
	return 0;
}

int json_push(struct json_object *array, struct json_object *value)
{
	if (!value)
		return -ENOMEM;
	if (json_object_array_add(array, value) < 0) {
		json_object_put(value);
		return -ENOMEM;
	}
	return 0;
}

int json_add_string(struct json_object *obj, const char *name, const char *value)
{
	return json_add(obj, name, json_object_new_string(value));
}

int json_add_int(struct json_object *obj, const char *name, int64_t value)
{
	return json_add(obj, name, json_object_new_int64(value));
}

int json_add_u64(struct json_object *obj, const char *name, uint64_t value)
{
	return json_add(obj, name, json_object_new_uint64(value));
}

int json_add_bool(struct json_object *obj, const char *name, bool value)
{
	return json_add(obj, name, json_object_new_boolean(value));
}

int json_add_strv(struct json_object *obj, const char *name, const struct strv *value)
{
	struct json_object *array = json_add_array(obj, name);

	if (!array)
		return -ENOMEM;
	for (size_t i = 0; i < value->n; i++)
		if (json_push(array, json_object_new_string(value->v[i])) < 0)
			return -ENOMEM;
	return 0;
}

struct json_object *json_add_object(struct json_object *obj, const char *name)
{
	struct json_object *v = json_object_new_object();

	return json_add(obj, name, v) < 0 ? NULL : v;
}

struct json_object *json_add_array(struct json_object *obj, const char *name)
{
	struct json_object *v = json_object_new_array();

	return json_add(obj, name, v) < 0 ? NULL : v;
}

struct json_object *json_push_object(struct json_object *array)
{
	struct json_object *v = json_object_new_object();

	return json_push(array, v) < 0 ? NULL : v;
}

int json_text(struct json_object *obj, const char *what, char **ret, struct err *e)
{
	const char *text = json_object_to_json_string_ext(obj, JSON_C_TO_STRING_NOSLASHESCAPE);
	_cleanup_(json_putp) struct json_object *again = NULL;
	_cleanup_(tokener_freep) struct json_tokener *tok = NULL;

	if (!text)
		return err_oom(e);
	/* Reading it again is the shortest way to know that what users typed is UTF-8. */
	tok = json_tokener_new_ex(JSON_DEPTH_MAX);
	if (!tok)
		return err_oom(e);
	json_tokener_set_flags(tok, tokener_flags());
	again = json_tokener_parse_ex(tok, text, -1);
	if (!again)
		return err_set(e, -EINVAL, "%s: arguments, environment and paths must be UTF-8",
			       what);
	*ret = strdup(text);
	return *ret ? 0 : err_oom(e);
}
