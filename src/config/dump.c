/* SPDX-License-Identifier: Apache-2.0 */
/* Printing the configuration: what is in force, and the packaged file with everything there is. */
#include "base/str.h"
#include "config/table.h"

static int section_head(size_t i, struct buf *out)
{
	const struct config_key *k = &config_keys[i];

	if (i > 0 && str_eq(k[-1].section, k->section))
		return 0;
	return buf_printf(out, "%s[%s]\n", i ? "\n" : "", k->section);
}

int config_dump(const struct config *c, struct buf *out)
{
	int r = 0;

	for (size_t i = 0; i < config_n_keys && r == 0; i++) {
		r = section_head(i, out);
		if (r == 0)
			r = buf_printf(out, "%s = ", config_keys[i].name);
		if (r == 0)
			r = config_value_text(c, &config_keys[i], out);
		if (r == 0)
			r = buf_append(out, "\n", 1);
	}
	return r;
}

static int help_text(const char *help, struct buf *out)
{
	int r = 0;

	while (r == 0 && *help) {
		size_t n = strcspn(help, "\n");

		r = buf_printf(out, "# %.*s\n", (int)n, help);
		help += n + (help[n] == '\n');
	}
	return r;
}

static int words_text(const struct config_key *k, struct buf *out)
{
	int r = buf_printf(out, "# One of:");

	for (size_t i = 0; r == 0 && k->words[i]; i++)
		r = buf_printf(out, "%s %s", i ? "," : "", k->words[i]);
	return r == 0 ? buf_append(out, "\n", 1) : r;
}

int config_reference(struct buf *out)
{
	int r = buf_printf(out,
			   "# Configuration of podvm, see podvm.conf(5).\n"
			   "#\n"
			   "# The values below are the defaults. Settings of your own are best put"
			   " into a file\n"
			   "# /etc/podvm/podvm.conf.d/NAME.conf, which replace those of this file."
			   "\n\n");

	for (size_t i = 0; i < config_n_keys && r == 0; i++) {
		const struct config_key *k = &config_keys[i];

		r = section_head(i, out);
		if (r == 0)
			r = help_text(k->help, out);
		if (r == 0 && k->words)
			r = words_text(k, out);
		if (r == 0)
			r = buf_printf(out, "#%s =%s%s\n", k->name, *k->def ? " " : "", k->def);
	}
	return r;
}
