/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "cli/cli.h"

#define GAP 2

int table_row(struct table *t, ...)
{
	va_list ap;
	int r = 0;

	va_start(ap, t);
	for (size_t i = 0; i < t->columns && r == 0; i++)
		r = strv_add(&t->cells, va_arg(ap, const char *));
	va_end(ap);
	return r;
}

static int column_width(const struct table *t, size_t column)
{
	size_t width = 0;

	for (size_t i = column; i < t->cells.n; i += t->columns)
		width = MAX(width, strlen(t->cells.v[i]));
	return (int)width;
}

void table_print(const struct table *t)
{
	for (size_t i = 0; i < t->cells.n; i++) {
		const char *cell = t->cells.v[i];

		if ((i + 1) % t->columns != 0) {
			cli_printable(cell, column_width(t, i % t->columns) + GAP);
		} else {
			cli_printable(cell, (int)strlen(cell));
			putchar('\n');
		}
	}
}

void table_done(struct table *t)
{
	strv_done(&t->cells);
}
