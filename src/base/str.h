/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_BASE_STR_H
#define PODVM_BASE_STR_H

/* Strings, string vectors, and numbers from text. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"

static inline bool str_eq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static inline bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static inline bool str_empty(const char *s)
{
	return !s || !*s;
}

/** str_printf() - A new string, or NULL when out of memory */
char *str_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* 128 bits as hexadecimal digits */
#define STR_HASH_SIZE 33

/**
 * str_hash() - FNV-1a with 128 bits, for names that aren't chosen by who would gain from a clash
 *
 * SHA-256 is in a library that costs 400 KiB of private memory in every process that has it.
 */
void str_hash(const char *text, char out[STR_HASH_SIZE]);

/** str_set() - Replace *@p by a copy of @s (NULL allowed). Return: 0 or -ENOMEM */
int str_set(char **p, const char *s);

/**
 * struct strv - A growable vector of strings that it owns, always ended by a NULL
 * @v:	The strings, NULL while it is empty
 * @n:	How many
 */
struct strv {
	char **v;
	size_t n;
};

/** strv_add() - Append a copy of @s. Return: 0 or -ENOMEM */
int strv_add(struct strv *sv, const char *s);

/** strv_addf() - Append a formatted string. Return: 0 or -ENOMEM */
int strv_addf(struct strv *sv, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** strv_addv() - As strv_addf(), with the arguments of somebody else's "..." */
int strv_addv(struct strv *sv, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

/** strv_add_all() - Append copies of all strings up to a NULL argument. Return: 0 or -ENOMEM */
int strv_add_all(struct strv *sv, ...) __attribute__((sentinel));

/** strv_done() - Free everything; the vector can be used again */
void strv_done(struct strv *sv);

/**
 * parse_u64() - A whole decimal number and nothing else
 *
 * Return: 0, -EINVAL, or -ERANGE when it is above @max
 */
int parse_u64(const char *s, uint64_t max, uint64_t *ret);

/**
 * parse_size() - A size as podman takes it: digits and an optional suffix b, k, m, g, t (of
 * 1024, either case, optionally followed by "b" or "ib")
 *
 * Return: 0, -EINVAL or -ERANGE; *@ret is in bytes
 */
int parse_size(const char *s, uint64_t *ret);

/**
 * utf8_sequence() - Length of the UTF-8 sequence of more than one byte at the start of a text
 * @s:		Text, ended by a NUL, which is no continuation byte: nothing behind it is looked at
 *
 * RFC 3629: no overlong forms, no surrogates. Control characters don't count either.
 *
 * Return: 2 to 4, or 0 when there is none
 */
size_t utf8_sequence(const uint8_t *s);

#endif
