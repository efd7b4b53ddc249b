/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CONFIG_TABLE_H
#define PODVM_CONFIG_TABLE_H

/* The table of all keys and what a type can do; inside of config only. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

/* Where a value goes: char *, unsigned int (UINT, ENUM) or uint64_t (SIZE, DURATION). */
enum config_type {
	CONFIG_STRING,	/* a word; empty is fine */
	CONFIG_PATH,	/* an absolute path without ".." */
	CONFIG_PROGRAM, /* as CONFIG_PATH, or empty */
	CONFIG_SUBNET4, /* IPv4 network with a prefix length of 8 to 27 */
	CONFIG_SUBNET6, /* IPv6 network with a prefix length of 64 */
	CONFIG_ENUM,	/* one of a list of words */
	CONFIG_UINT,
	CONFIG_ANNOTATIONS, /* names for config_annotate(), separated by blanks; may be empty */
	CONFIG_PATTERNS,    /* of absolute paths, separated by blanks; may be empty */
	CONFIG_SIZE,	    /* bytes, as parse_size() takes them */
	CONFIG_DURATION,    /* milliseconds; in the file with a unit: ms, s, min */
};

/**
 * struct config_key - One key
 * @section:	Its section
 * @name:	Its name
 * @type:	What values it takes
 * @offset:	Of its member of struct config
 * @min, @max:	Limits of a number, both included
 * @words:	CONFIG_ENUM: the values in the order of the enumeration; CONFIG_STRING: the values
 *		that are allowed, or NULL for any; ended by NULL
 * @def:	Default, as text
 * @help:	One sentence or more; lines of at most 90 columns
 */
struct config_key {
	const char *section;
	const char *name;
	enum config_type type;
	size_t offset;
	uint64_t min;
	uint64_t max;
	const char *const *words;
	const char *def;
	const char *help;
};

extern const struct config_key config_keys[];
extern const size_t config_n_keys;

/** config_key_find() - Key by section and name, or NULL */
const struct config_key *config_key_find(const char *section, const char *name);

/**
 * config_value_set() - Check a value and store it
 * @c:		Configuration
 * @k:		Key
 * @value:	Text
 * @e:		Says which values are allowed, without naming the key
 *
 * Return: 0, -EINVAL or -ENOMEM
 */
int config_value_set(struct config *c, const struct config_key *k, const char *value,
		     struct err *e);

/** config_check_annotations() - Check a CONFIG_ANNOTATIONS. Return: 0, -EINVAL or -ENOMEM */
int config_check_annotations(const char *value, struct err *e);

/** config_value_text() - Append a value as config_value_set() takes it. Return: as buf_append() */
int config_value_text(const struct config *c, const struct config_key *k, struct buf *out);

/** config_value_is_string() - Whether the member is a string that is owned */
bool config_value_is_string(const struct config_key *k);

#endif
