/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_TABLE_H
#define PODVM_CLI_TABLE_H

/* Tables for people: columns as wide as their widest cell, two spaces between them. */

#include <stddef.h>

#include "base/str.h"

/**
 * struct table - A table; released with table_done()
 * @columns:	How many
 * @cells:	Row by row, the first row is the heading
 */
struct table {
	size_t columns;
	struct strv cells;
};

/** table_row() - Append a row: @columns strings. Return: 0 or -ENOMEM */
int table_row(struct table *t, ...);

/** table_print() - Print it to stdout; foreign bytes in cells are made printable */
void table_print(const struct table *t);

void table_done(struct table *t);

#endif
