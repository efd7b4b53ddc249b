/* SPDX-License-Identifier: Apache-2.0 */

/*
 * System call filters: the default one, none, or one of the user's. A user's profile is of the
 * format of Docker and podman, whose rules can depend on architecture and capabilities; what
 * applies to this container is copied into the spec, where rules have no conditions any more.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "oci/internal.h"
#include "oci/spec_internal.h"

#define PROFILE_MAX ((size_t)1 << 20)

#if defined(__x86_64__)
#define SCMP_ARCH "SCMP_ARCH_X86_64"
#else
#define SCMP_ARCH "SCMP_ARCH_AARCH64"
#endif

int oci_seccomp_arches(struct json_object *seccomp)
{
	struct json_object *array = json_add_array(seccomp, "architectures");

	return array ? json_push(array, json_object_new_string(SCMP_ARCH)) : -ENOMEM;
}

/* "includes" or "excludes" of a rule. */
struct condition {
	struct strv arches;
	struct strv caps;
	char *min_kernel;
};

static const struct json_field condition_fields[] = {
	{ "arches", JSON_STRV, offsetof(struct condition, arches), 0 },
	{ "caps", JSON_STRV, offsetof(struct condition, caps), 0 },
	{ "minKernel", JSON_STRING, offsetof(struct condition, min_kernel), 0 },
};

static void condition_done(struct condition *c)
{
	strv_done(&c->arches);
	strv_done(&c->caps);
	free(c->min_kernel);
}

static bool has_arch(const struct condition *c)
{
	for (size_t i = 0; i < c->arches.n; i++)
		if (str_eq(c->arches.v[i], OCI_ARCH))
			return true;
	return false;
}

static size_t count_caps(const struct condition *c, uint64_t caps)
{
	size_t n = 0;

	for (size_t i = 0; i < c->caps.n; i++) {
		int cap = oci_cap_parse(c->caps.v[i]);

		n += cap >= 0 && (caps & CAP_BIT(cap));
	}
	return n;
}

/*
 * Whether a rule applies: all that it includes is there, nothing that it excludes is. The guest's
 * kernel is ours, and newer than any minKernel that profiles ask for.
 */
static int applies(struct json_object *rule, uint64_t caps, struct err *e)
{
	static const struct condition empty;
	struct json_object *includes = json_get(rule, "includes", json_type_object);
	struct json_object *excludes = json_get(rule, "excludes", json_type_object);
	_cleanup_(condition_done) struct condition in = empty;
	_cleanup_(condition_done) struct condition ex = empty;
	int r = 0;

	if (includes)
		r = json_dispatch(includes, condition_fields, ARRAY_SIZE(condition_fields), &in,
				  "seccomp profile: includes", e);
	if (r == 0 && excludes)
		r = json_dispatch(excludes, condition_fields, ARRAY_SIZE(condition_fields), &ex,
				  "seccomp profile: excludes", e);
	if (r < 0)
		return r;
	if (in.arches.n && !has_arch(&in))
		return 0;
	if (count_caps(&in, caps) < in.caps.n)
		return 0;
	return !has_arch(&ex) && count_caps(&ex, caps) == 0 && !ex.min_kernel;
}

/* Copy a member if it is there; the tree of the profile keeps its own reference. */
static int copy(struct json_object *to, struct json_object *from, const char *name)
{
	struct json_object *v = NULL;

	if (!json_object_object_get_ex(from, name, &v) || !v)
		return 0;
	return json_add(to, name, json_object_get(v));
}

static int copy_rule(struct json_object *rules, struct json_object *rule)
{
	static const char *const members[] = { "names", "action", "errnoRet", "args" };
	struct json_object *name = json_get(rule, "name", json_type_string);
	struct json_object *out = json_push_object(rules);

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		if (copy(out, rule, members[i]) < 0)
			return -ENOMEM;
	/* An older form has one name instead of a list. */
	if (name) {
		struct json_object *names = json_add_array(out, "names");

		if (!names || json_push(names, json_object_get(name)) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int convert(struct json_object *profile, struct json_object *seccomp, uint64_t caps,
		   struct err *e)
{
	struct json_object *from = json_get(profile, "syscalls", json_type_array);
	struct json_object *rules;
	int r;

	if (!json_get(profile, "defaultAction", json_type_string))
		return err_set(e, -EINVAL, "it has no defaultAction");
	if (copy(seccomp, profile, "defaultAction") < 0 ||
	    copy(seccomp, profile, "defaultErrnoRet") < 0 || copy(seccomp, profile, "flags") < 0)
		return -ENOMEM;
	r = json_get(profile, "architectures", json_type_array)
		    ? copy(seccomp, profile, "architectures")
		    : oci_seccomp_arches(seccomp);
	rules = json_add_array(seccomp, "syscalls");
	if (r < 0 || !rules)
		return -ENOMEM;
	for (size_t i = 0; from && i < json_object_array_length(from); i++) {
		struct json_object *rule = json_object_array_get_idx(from, i);

		if (!json_object_is_type(rule, json_type_object))
			return err_set(e, -EINVAL, "a rule in it is not an object");
		r = applies(rule, caps, e);
		if (r > 0)
			r = copy_rule(rules, rule);
		if (r < 0)
			return r;
	}
	return 0;
}

static int load(const char *path, struct json_object *seccomp, uint64_t caps, struct err *e)
{
	_cleanup_(json_putp) struct json_object *profile = NULL;
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	r = file_read(AT_FDCWD, path, PROFILE_MAX, &text, &len);
	if (r < 0)
		return err_errno(e, r, "cannot read seccomp profile %s", path);
	r = json_parse(text, len, "JSON", &profile, e);
	if (r == 0)
		r = convert(profile, seccomp, caps, e);
	if (r == 0 || r == -ENOMEM)
		return r;
	err_wrap(e, "seccomp profile %s", path);
	return -EINVAL;
}

int oci_seccomp_json(struct json_object *linux_obj, const char *profile, uint64_t caps,
		     struct err *e)
{
	struct json_object *seccomp;

	if (profile && str_eq(profile, "unconfined"))
		return 0;
	seccomp = json_add_object(linux_obj, "seccomp");
	if (!seccomp)
		return -ENOMEM;
	if (!profile || str_eq(profile, "default"))
		return oci_seccomp_default(seccomp, caps);
	return load(profile, seccomp, caps, e);
}
