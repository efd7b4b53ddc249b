/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_OCI_JSON_H
#define PODVM_OCI_JSON_H

/*
 * JSON of strangers, and JSON of our own, on json-c.
 *
 * Reading: json_parse() makes a tree of text under limits, and json_dispatch() moves the members
 * of one object into a C structure by a table of {name, kind, offset}. It is strict about types:
 * json-c alone would turn an object into the number 0. A member that is null is as good as absent
 * (that is how Go writes empty lists); of duplicate members the last one wins; members that are
 * not in the table are ignored.
 *
 * Writing: json_add_*() append members to an object and return 0 or -ENOMEM.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"

#define JSON_DEPTH_MAX	32
#define JSON_VALUES_MAX 65536 /* of one text: a small value costs up to 1 KiB of memory */

/* Kinds of members and the C type of the field that gets them. */
enum json_kind {
	JSON_STRING, /* char *, owned */
	JSON_STRV,   /* struct strv, from an array of strings */
	JSON_KEYS,   /* struct strv, the member names of an object */
	JSON_MAP,    /* struct oci_map, from an object of strings */
	JSON_U64,    /* uint64_t */
	JSON_BOOL,   /* bool */
	JSON_OBJECT, /* struct json_object *, borrowed from the tree */
	JSON_ARRAY,  /* struct json_object *, borrowed from the tree */
};

enum json_flags { JSON_REQUIRED = 1 };

/**
 * struct json_field - One row of a table for json_dispatch()
 * @name:	Of the member
 * @kind:	What it has to be
 * @offset:	Of the field in the structure
 * @flags:	JSON_REQUIRED: its absence is an error
 */
struct json_field {
	const char *name;
	enum json_kind kind;
	size_t offset;
	unsigned int flags;
};

DEFINE_CLEANUP(json_putp, struct json_object *, json_object_put)

/**
 * json_parse() - Make a tree of a text
 * @text:	Text, need not end in a NUL
 * @len:	Bytes
 * @what:	What it is, for messages: "image index"
 * @ret:	An object (never another kind of value), to be released with json_object_put()
 * @e:		Says why it is none
 *
 * Return: 0, -EBADMSG or -ENOMEM
 */
int json_parse(const char *text, size_t len, const char *what, struct json_object **ret,
	       struct err *e);

/** json_parse_array() - As json_parse(), for a text that has to be an array */
int json_parse_array(const char *text, size_t len, const char *what, struct json_object **ret,
		     struct err *e);

/**
 * json_dispatch() - Move the members of an object into a structure
 * @obj:	Object
 * @fields:	Table
 * @n:		Its rows
 * @base:	Structure, all zero. What was moved before a failure stays and is to be released
 * @what:	What the object is, for messages
 * @e:		Says which member is wrong and how
 *
 * Return: 0, -EBADMSG or -ENOMEM
 */
int json_dispatch(struct json_object *obj, const struct json_field *fields, size_t n, void *base,
		  const char *what, struct err *e);

/**
 * json_string_array() - Append the strings of an array to a vector
 * @array:	Array
 * @ret:	Vector
 *
 * Return: 0, -EBADMSG (something in it is no string) or -ENOMEM
 */
int json_string_array(struct json_object *array, struct strv *ret);

/** json_get() - Member of an object if it is of that type, else NULL; borrowed */
struct json_object *json_get(struct json_object *obj, const char *name, enum json_type type);

/** json_add() - Append a member. @value is taken, NULL means out of memory */
int json_add(struct json_object *obj, const char *name, struct json_object *value);

/** json_push() - Append an element. @value is taken, NULL means out of memory */
int json_push(struct json_object *array, struct json_object *value);

/** json_add_string() - Append a string */
int json_add_string(struct json_object *obj, const char *name, const char *value);

/** json_add_int() - Append a number */
int json_add_int(struct json_object *obj, const char *name, int64_t value);

/** json_add_u64() - Append a number */
int json_add_u64(struct json_object *obj, const char *name, uint64_t value);

/** json_add_bool() - Append a truth value */
int json_add_bool(struct json_object *obj, const char *name, bool value);

/** json_add_strv() - Append an array of strings, also when it is empty */
int json_add_strv(struct json_object *obj, const char *name, const struct strv *value);

/** json_add_object() - Append an empty object. Return: The object, borrowed; NULL: no memory */
struct json_object *json_add_object(struct json_object *obj, const char *name);

/** json_add_array() - Append an empty array. Return: The array, borrowed; NULL: no memory */
struct json_object *json_add_array(struct json_object *obj, const char *name);

/** json_push_object() - Append an empty object to an array. Return: as json_add_object() */
struct json_object *json_push_object(struct json_object *array);

/**
 * json_text() - The text of a tree that holds what users typed
 * @obj:	Tree
 * @what:	What it is, for messages
 * @ret:	Text, the caller frees it
 * @e:		Says when strings in it are not UTF-8, which JSON has to be
 *
 * Return: 0, -EINVAL or -ENOMEM
 */
int json_text(struct json_object *obj, const char *what, char **ret, struct err *e);

#endif
