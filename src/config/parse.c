/* SPDX-License-Identifier: Apache-2.0 */
/* One text in INI format: inih finds sections, keys and values, the table says what they mean. */
#include <errno.h>
#include <ini.h>

#include "base/log.h"
#include "base/str.h"
#include "config/table.h"

/* What inih passes on: the text that is left, and the first error. */
struct parse {
	struct config *config;
	const char *name;
	const char *pos;
	const char *end;
	unsigned int line;
	int r;
	struct err *e;
};

static int quoted_error(struct parse *p, int code, const char *what, const char *text)
{
	char quoted[256];

	return err_set(p->e, code, "%s:%u: %s%s", p->name, p->line, what,
		       text ? log_quote(quoted, sizeof(quoted), text) : "");
}

/* Names the keys of a section, or all sections when there is none of that name. */
static void hint_known(struct parse *p, const char *section)
{
	_cleanup_(buf_done) struct buf list = { 0 };
	const char *last = "";
	bool known = false;

	for (size_t i = 0; i < config_n_keys; i++)
		known = known || str_eq(config_keys[i].section, section);
	for (size_t i = 0; i < config_n_keys; i++) {
		const struct config_key *k = &config_keys[i];
		const char *word = known ? k->name : k->section;

		if ((known && !str_eq(k->section, section)) || str_eq(word, last))
			continue;
		(void)buf_printf(&list, "%s%s", *last ? ", " : "", word);
		last = word;
	}
	if (!buf_cstr(&list))
		return;
	if (known)
		err_hint(p->e, "The keys of [%s] are: %s.", section, buf_cstr(&list));
	else
		err_hint(p->e, "The sections are: %s.", buf_cstr(&list));
}

/* Called by inih for every "key = value". Return: 0 tells inih of an error */
static int on_value(void *data, const char *section, const char *name, const char *value)
{
	struct parse *p = data;
	const struct config_key *k;
	char quoted[256];

	if (p->r < 0)
		return 0;
	k = config_key_find(section, name);
	if (!k) {
		p->r = -EINVAL;
		if (!*section)
			quoted_error(p, p->r, "outside of a section: key ", name);
		else
			err_set(p->e, p->r, "%s:%u: unknown key %s in section [%s]", p->name,
				p->line, log_quote(quoted, sizeof(quoted), name), section);
		hint_known(p, section);
		return 0;
	}
	p->r = config_value_set(p->config, k, *value ? value : k->def, p->e);
	if (p->r < 0)
		err_wrap(p->e, "%s:%u: [%s] %s = %s", p->name, p->line, section, name,
			 log_quote(quoted, sizeof(quoted), value));
	return p->r == 0;
}

static int check_line(struct parse *p, const char *line, size_t len, int room)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < ' ' && line[i] != '\t')
			return quoted_error(p, -EINVAL, "a control character in the line", NULL);
	if (len > CONFIG_MAX_LINE || len + 2 > (size_t)room)
		return quoted_error(p, -EINVAL, "the line is too long", NULL);
	return 0;
}

/*
 * Called by inih for every line, as fgets(3). Blanks at the start are left out: to inih they mean
 * that the line continues a value, which nobody expects here.
 */
static char *read_line(char *str, int room, void *data)
{
	struct parse *p = data;
	const char *line = p->pos;
	const char *nl;
	size_t len;

	if (p->r < 0 || line == p->end)
		return NULL;
	nl = memchr(line, '\n', (size_t)(p->end - line));
	p->pos = nl ? nl + 1 : p->end;
	p->line++;
	len = (size_t)((nl ? nl : p->end) - line);
	if (len > 0 && line[len - 1] == '\r')
		len--;
	p->r = check_line(p, line, len, room);
	if (p->r < 0)
		return NULL;
	while (len > 0 && (*line == ' ' || *line == '\t')) {
		line++;
		len--;
	}
	memcpy(str, line, len);
	memcpy(str + len, "\n", 2);
	return str;
}

int config_parse(struct config *c, const char *name, const char *text, size_t len, struct err *e)
{
	struct parse p = { .config = c, .name = name, .pos = text, .end = text + len, .e = e };
	int line;

	if (len > CONFIG_MAX_FILE)
		return err_set(e, -EFBIG, "%s: the file is too large", name);
#ifdef HAVE_INI_MAX_LINE
	ini_max_line = (int)CONFIG_MAX_LINE + 3;
#endif
	line = ini_parse_stream(read_line, &p, on_value, &p);
	if (p.r < 0)
		return p.r;
	if (line < 0)
		return err_oom(e);
	if (line > 0)
		return err_set(e, -EINVAL, "%s:%d: neither a [section] nor a key = value", name,
			       line);
	return 0;
}
