/* SPDX-License-Identifier: Apache-2.0 */

/* Values of the command line that become parts of struct oci_run_options. */

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "oci/spec_internal.h"

/* Append the comma-separated words of @text. */
static int split_commas(const char *text, struct strv *ret)
{
	_cleanup_(freep) char *copy = strdup(text);
	char *rest = copy;
	char *word;

	if (!copy)
		return -ENOMEM;
	while ((word = strsep(&rest, ",")))
		if (*word && strv_add(ret, word) < 0)
			return -ENOMEM;
	return 0;
}

static void mount_done(struct oci_mount *m)
{
	free(m->type);
	free(m->source);
	free(m->destination);
	strv_done(&m->options);
}

int oci_run_add_mount(struct oci_run_options *o, const char *type, const char *source,
		      const char *destination, const char *options, struct err *e)
{
	_cleanup_(mount_done) struct oci_mount m = { 0 };
	struct oci_mount *mounts;
	char quoted[160];

	if (destination[0] != '/')
		return err_set(e, -EINVAL, "mount: %s is not an absolute path in the container",
			       log_quote(quoted, sizeof(quoted), destination));
	mounts = reallocarray(o->mounts, o->n_mounts + 1, sizeof(*mounts));
	if (!mounts)
		return err_oom(e);
	o->mounts = mounts;
	if (str_set(&m.type, type) < 0 || str_set(&m.source, source) < 0 ||
	    str_set(&m.destination, destination) < 0 ||
	    (options && split_commas(options, &m.options) < 0))
		return err_oom(e);
	o->mounts[o->n_mounts++] = m;
	m = (struct oci_mount){ 0 };
	return 0;
}

static bool has_word(const struct strv *words, const char *a, const char *b)
{
	for (size_t i = 0; i < words->n; i++)
		if (str_eq(words->v[i], a) || str_eq(words->v[i], b))
			return true;
	return false;
}

/* What podman adds to a tmpfs unless the user says the contrary. */
static const struct {
	const char *option;
	const char *contrary;
} tmpfs_defaults[] = {
	{ "nosuid", "suid" },
	{ "nodev", "dev" },
	{ "noexec", "exec" },
	{ "tmpcopyup", "notmpcopyup" },
};

int oci_run_add_tmpfs(struct oci_run_options *o, const char *text, struct err *e)
{
	const char *colon = strchrnul(text, ':');
	_cleanup_(freep) char *destination = strndup(text, (size_t)(colon - text));
	_cleanup_(strv_done) struct strv words = { 0 };
	struct strv *options;
	int r;

	if (!destination || (*colon && split_commas(colon + 1, &words) < 0))
		return err_oom(e);
	r = oci_run_add_mount(o, "tmpfs", "tmpfs", destination, NULL, e);
	if (r < 0)
		return r;
	options = &o->mounts[o->n_mounts - 1].options;
	for (size_t i = 0; i < words.n; i++)
		if (!str_eq(words.v[i], "notmpcopyup") && strv_add(options, words.v[i]) < 0)
			return err_oom(e);
	for (size_t i = 0; i < ARRAY_SIZE(tmpfs_defaults); i++)
		if (!has_word(&words, tmpfs_defaults[i].option, tmpfs_defaults[i].contrary) &&
		    strv_add(options, tmpfs_defaults[i].option) < 0)
			return err_oom(e);
	return 0;
}

static const char *const ulimit_names[] = {
	"as",	"core",	  "cpu",   "data", "fsize",  "locks",  "memlock",    "msgqueue",
	"nice", "nofile", "nproc", "rss",  "rtprio", "rttime", "sigpending", "stack",
};

static int parse_limit(const char *s, uint64_t *ret)
{
	if (str_eq(s, "-1") || strcasecmp(s, "unlimited") == 0) {
		*ret = UINT64_MAX;
		return 0;
	}
	return parse_u64(s, UINT64_MAX, ret);
}

static int bad_ulimit(const char *text, struct err *e)
{
	char quoted[80];

	err_set(e, -EINVAL, "bad limit %s", log_quote(quoted, sizeof(quoted), text));
	err_hint(e, "--ulimit NAME=SOFT[:HARD], for example nofile=1024:2048");
	return -EINVAL;
}

int oci_run_add_ulimit(struct oci_run_options *o, const char *text, struct err *e)
{
	_cleanup_(freep) char *copy = strdup(text);
	struct oci_ulimit limit = { 0 };
	struct oci_ulimit *ulimits;
	bool known = false;
	char *rest = copy;
	char *name;
	char *soft;

	if (!copy)
		return err_oom(e);
	name = strsep(&rest, "=");
	if (strncasecmp(name, "RLIMIT_", 7) == 0)
		name += 7;
	for (size_t i = 0; i < ARRAY_SIZE(ulimit_names); i++)
		known |= strcasecmp(name, ulimit_names[i]) == 0;
	soft = rest ? strsep(&rest, ":") : NULL;
	if (!known || !soft || parse_limit(soft, &limit.soft) < 0 ||
	    parse_limit(rest ? rest : soft, &limit.hard) < 0 || limit.soft > limit.hard)
		return bad_ulimit(text, e);
	ulimits = reallocarray(o->ulimits, o->n_ulimits + 1, sizeof(*ulimits));
	if (!ulimits)
		return err_oom(e);
	o->ulimits = ulimits;
	if (str_set(&limit.name, name) < 0)
		return err_oom(e);
	o->ulimits[o->n_ulimits++] = limit;
	return 0;
}

int oci_entrypoint_parse(const char *text, struct strv *ret, struct err *e)
{
	_cleanup_(strv_done) struct strv words = { 0 };
	_cleanup_(json_putp) struct json_object *array = NULL;

	if (text[0] == '[') {
		if (json_parse_array(text, strlen(text), "--entrypoint", &array, NULL) < 0 ||
		    json_string_array(array, &words) < 0)
			return err_set(e, -EINVAL, "--entrypoint: not a JSON array of strings");
	} else if (text[0] && strv_add(&words, text) < 0) {
		return err_oom(e);
	}
	*ret = words;
	words = (struct strv){ 0 };
	return 0;
}

void oci_run_options_done(struct oci_run_options *o)
{
	struct strv *lists[] = { &o->args,    &o->entrypoint, &o->env,		&o->groups,
				 &o->cap_add, &o->cap_drop,   &o->masked_paths, &o->readonly_paths };
	char *strings[] = { o->user,	    o->workdir, o->hostname,   o->seccomp,
			    o->cgroup_path, o->rootfs,	o->stop_signal };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		strv_done(lists[i]);
	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		free(strings[i]);
	for (size_t i = 0; i < o->n_mounts; i++)
		mount_done(&o->mounts[i]);
	free(o->mounts);
	for (size_t i = 0; i < o->n_ulimits; i++)
		free(o->ulimits[i].name);
	free(o->ulimits);
	for (size_t i = 0; i < OCI_NS_COUNT; i++)
		free(o->ns_path[i]);
	oci_map_done(&o->sysctl);
	oci_map_done(&o->annotations);
	*o = (struct oci_run_options){ 0 };
}

void oci_exec_options_done(struct oci_exec_options *o)
{
	strv_done(&o->args);
	strv_done(&o->env);
	strv_done(&o->cap_add);
	free(o->user);
	free(o->workdir);
	*o = (struct oci_exec_options){ 0 };
}
