/* SPDX-License-Identifier: Apache-2.0 */
/* Keys that a pod may set for itself by an annotation, as far as the configuration allows it. */
#include <errno.h>

#include "base/log.h"
#include "base/str.h"
#include "config/table.h"

static const struct {
	const char *name;
	const char *section;
	const char *key;
} annotations[] = {
	{ "podvm.io/memory", "vm", "memory" },
	{ "podvm.io/vcpus", "vm", "vcpus" },
	{ "podvm.io/guest-overhead", "vm", "guest_overhead" },
	{ "podvm.io/scratch-size", "vm", "scratch_size" },
	{ "podvm.io/rootfs", "storage", "rootfs" },
	{ "podvm.io/template", "template", "enabled" },
	{ "podvm.io/scratch-cache", "storage", "scratch_cache" },
	{ "podvm.io/emptydir", "storage", "emptydir" },
	{ "podvm.io/emptydir-size", "storage", "emptydir_size" },
	{ "podvm.io/debug", "vm", "debug" },
	{ "podvm.io/machine", "vmm", "machine" },
	{ "podvm.io/boot-timeout", "start", "boot_timeout" },
};

static const struct config_key *find(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(annotations); i++)
		if (strlen(annotations[i].name) == len &&
		    memcmp(annotations[i].name, name, len) == 0)
			return config_key_find(annotations[i].section, annotations[i].key);
	return NULL;
}

/* Call back for every word. Return: 0 or what the callback returned, which ends it */
static int each_word(const char *text, int (*cb)(void *data, const char *word, size_t len),
		     void *data)
{
	int r = 0;

	for (text += strspn(text, " \t"); *text && r == 0; text += strspn(text, " \t")) {
		size_t len = strcspn(text, " \t");

		r = cb(data, text, len);
		text += len;
	}
	return r;
}

static void hint_known(struct err *e)
{
	_cleanup_(buf_done) struct buf list = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(annotations); i++)
		(void)buf_printf(&list, "%s%s", i ? ", " : "", annotations[i].name);
	if (buf_cstr(&list))
		err_hint(e, "The annotations are: %s.", buf_cstr(&list));
}

static int check_word(void *data, const char *word, size_t len)
{
	struct err *e = data;
	char text[80];
	char quoted[96];

	if (find(word, len))
		return 0;
	snprintf(text, sizeof(text), "%.*s", (int)MIN(len, sizeof(text)), word);
	err_set(e, -EINVAL, "there is no annotation %s", log_quote(quoted, sizeof(quoted), text));
	hint_known(e);
	return -EINVAL;
}

int config_check_annotations(const char *value, struct err *e)
{
	return each_word(value, check_word, e);
}

static int is_word(void *data, const char *word, size_t len)
{
	const char *name = data;

	return strlen(name) == len && memcmp(name, word, len) == 0;
}

int config_annotate(struct config *c, const char *name, const char *value, struct err *e)
{
	const struct config_key *k = find(name, strlen(name));
	char quoted[160];
	int r;

	if (!k) {
		err_set(e, -EINVAL, "there is no annotation %s",
			log_quote(quoted, sizeof(quoted), name));
		hint_known(e);
		return -EINVAL;
	}
	if (!each_word(c->annotations, is_word, (void *)name)) {
		err_set(e, -EPERM, "the annotation %s isn't allowed on this machine", name);
		err_hint(e, "whoever runs it can add it to 'allowed' in [annotations] of "
			    "podvm.conf");
		return -EPERM;
	}
	r = config_value_set(c, k, value, e);
	if (r < 0)
		err_wrap(e, "annotation %s = %s", name, log_quote(quoted, sizeof(quoted), value));
	return r;
}
