/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/options.h"

#include <errno.h>
#include <stddef.h>

#include "base/log.h"
#include "base/str.h"

#define FLAG(name, member)                                        \
	{                                                         \
		name, true, offsetof(struct shim_options, member) \
	}
#define SWITCH(name, member)                                       \
	{                                                          \
		name, false, offsetof(struct shim_options, member) \
	}

static const struct flag {
	const char *name;
	bool has_value;
	size_t offset;
} flags[] = {
	FLAG("namespace", namespace), FLAG("id", id),
	FLAG("address", address),     FLAG("publish-binary", publish_binary),
	FLAG("bundle", bundle),	      FLAG("config", config),
	SWITCH("debug", debug),	      SWITCH("v", version),
	SWITCH("version", version),   SWITCH("info", info),
};

bool shim_is_crio(const struct shim_options *o)
{
	return !*o->address;
}

/* @name may go on after @len characters ("=value"). */
static const struct flag *find(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (strlen(flags[i].name) == len && strncmp(flags[i].name, name, len) == 0)
			return &flags[i];
	return NULL;
}

/* Return: How many arguments it took, or -EINVAL */
static int parse_flag(char **argv, struct shim_options *o, struct err *e)
{
	const char *name = argv[0] + (argv[0][1] == '-' ? 2 : 1);
	size_t len = strcspn(name, "=");
	const char *value = name[len] ? name + len + 1 : NULL;
	const struct flag *f = find(name, len);
	char quoted[128];
	void *target;

	if (!f)
		return err_set(e, -EINVAL, "unknown flag %s",
			       log_quote(quoted, sizeof(quoted), argv[0]));
	target = (char *)o + f->offset;
	if (!f->has_value) {
		*(bool *)target = !value || str_eq(value, "true") || str_eq(value, "1");
		return 1;
	}
	if (!value && !argv[1])
		return err_set(e, -EINVAL, "flag -%s needs a value", f->name);
	*(const char **)target = value ? value : argv[1];
	return value ? 1 : 2;
}

int shim_options_parse(char **argv, struct shim_options *ret, struct err *e)
{
	*ret = (struct shim_options){ 0 };
	argv++;
	while (*argv && (*argv)[0] == '-' && (*argv)[1]) {
		int r;

		if (str_eq(*argv, "--")) {
			argv++;
			break;
		}
		r = parse_flag(argv, ret, e);
		if (r < 0)
			return r;
		argv += r;
	}
	ret->action = *argv;
	return 0;
}
