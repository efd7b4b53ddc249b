/* SPDX-License-Identifier: Apache-2.0 */

/* Further processes of a container: its own process object with what the user wants instead. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "oci/spec_internal.h"

/* What counts of the container's process object. */
struct process {
	struct json_object *user;
	struct json_object *caps;
	struct strv env;
};

static const struct json_field process_fields[] = {
	{ "user", JSON_OBJECT, offsetof(struct process, user), JSON_REQUIRED },
	{ "capabilities", JSON_OBJECT, offsetof(struct process, caps), JSON_REQUIRED },
	{ "env", JSON_STRV, offsetof(struct process, env), 0 },
};

static void process_done(struct process *p)
{
	strv_done(&p->env);
}

struct ids {
	uint64_t uid;
};

static const struct json_field user_fields[] = {
	{ "uid", JSON_U64, offsetof(struct ids, uid), JSON_REQUIRED },
};

struct sets {
	struct strv bounding;
	struct strv effective;
};

static const struct json_field caps_fields[] = {
	{ "bounding", JSON_STRV, offsetof(struct sets, bounding), JSON_REQUIRED },
	{ "effective", JSON_STRV, offsetof(struct sets, effective), JSON_REQUIRED },
};

static void sets_done(struct sets *s)
{
	strv_done(&s->bounding);
	strv_done(&s->effective);
}

/**
 * struct exec - A process in the making
 * @o:		What the user wants
 * @users:	The image's user database
 * @obj:	The process object, at first the container's, changed in place
 * @env:	Its environment
 * @old_uid:	User of the container
 * @bounding:	Capabilities of the container
 * @own:	Capabilities of the container's process
 */
struct exec {
	const struct oci_exec_options *o;
	const struct oci_users *users;
	struct json_object *obj;
	struct strv env;
	uint64_t old_uid;
	uint64_t bounding;
	uint64_t own;
};

static void exec_done(struct exec *x)
{
	strv_done(&x->env);
}

static int read_caps(struct exec *x, struct json_object *obj, struct err *e)
{
	static const struct strv none;
	_cleanup_(sets_done) struct sets sets = { 0 };
	int r;

	r = json_dispatch(obj, caps_fields, ARRAY_SIZE(caps_fields), &sets,
			  "spec: process.capabilities", e);
	if (r == 0)
		r = oci_caps_merge(0, &sets.bounding, &none, &x->bounding, e);
	return r < 0 ? r : oci_caps_merge(0, &sets.effective, &none, &x->own, e);
}

static int read_process(struct exec *x, struct err *e)
{
	_cleanup_(process_done) struct process p = { 0 };
	struct ids ids = { 0 };
	int r;

	r = json_dispatch(x->obj, process_fields, ARRAY_SIZE(process_fields), &p, "spec: process",
			  e);
	if (r == 0)
		r = json_dispatch(p.user, user_fields, ARRAY_SIZE(user_fields), &ids,
				  "spec: process.user", e);
	if (r == 0)
		r = read_caps(x, p.caps, e);
	if (r < 0)
		return r;
	x->old_uid = ids.uid;
	for (size_t i = 0; i < p.env.n; i++)
		if (oci_env_set(&x->env, p.env.v[i]) < 0)
			return -ENOMEM;
	return 0;
}

/* HOME follows the user, unless the image or the user gave it another value than the default. */
static int change_home(struct exec *x, const struct oci_user *user, struct err *e)
{
	_cleanup_(oci_user_done) struct oci_user old = { 0 };
	_cleanup_(freep) char *assignment = NULL;
	const char *home = oci_env_get(&x->env, "HOME");
	char uid[24];
	int r;

	snprintf(uid, sizeof(uid), "%llu", (unsigned long long)x->old_uid);
	r = oci_user_lookup(x->users, uid, NULL, &old, e);
	if (r < 0)
		return r;
	if (home && !str_eq(home, old.home))
		return 0;
	assignment = str_printf("HOME=%s", user->home);
	return assignment ? oci_env_set(&x->env, assignment) : -ENOMEM;
}

/* With another user the capabilities are those that the container's process would have as it. */
static int set_user(struct exec *x, struct err *e)
{
	_cleanup_(oci_user_done) struct oci_user user = { 0 };
	int r;

	if (str_empty(x->o->user))
		return 0;
	r = oci_user_lookup(x->users, x->o->user, NULL, &user, e);
	if (r == 0)
		r = change_home(x, &user, e);
	if (r < 0)
		return r;
	x->own = user.uid == 0 ? x->bounding : 0;
	x->old_uid = user.uid;
	return oci_user_json(x->obj, &user);
}

static int set_caps(struct exec *x, struct err *e)
{
	static const struct strv none;
	uint64_t added;
	int r;

	r = oci_caps_merge(0, &x->o->cap_add, &none, &added, e);
	if (r < 0)
		return r;
	if (x->o->privileged) {
		x->bounding = CAPS_ALL;
		x->own = x->old_uid == 0 ? CAPS_ALL : x->own;
	}
	x->bounding |= added;
	x->own |= added;
	return oci_caps_json(x->obj, x->bounding, x->own, x->old_uid == 0 ? 0 : x->own);
}

static int set_env(struct exec *x)
{
	for (size_t i = 0; i < x->o->env.n; i++)
		if (oci_env_set(&x->env, x->o->env.v[i]) < 0)
			return -ENOMEM;
	if (x->o->tty && !oci_env_get(&x->env, "TERM") && strv_add(&x->env, "TERM=xterm") < 0)
		return -ENOMEM;
	return json_add_strv(x->obj, "env", &x->env);
}

static int check(const struct oci_exec_options *o, struct err *e)
{
	char quoted[160];

	if (o->args.n == 0)
		return err_set(e, -EINVAL, "there is no command");
	if (o->workdir && o->workdir[0] != '/')
		return err_set(e, -EINVAL, "working directory %s is not an absolute path",
			       log_quote(quoted, sizeof(quoted), o->workdir));
	return 0;
}

static int change(struct exec *x, struct err *e)
{
	const struct oci_exec_options *o = x->o;
	int r;

	r = read_process(x, e);
	if (r == 0)
		r = set_user(x, e);
	if (r == 0)
		r = set_caps(x, e);
	if (r == 0)
		r = set_env(x);
	if (r == 0)
		r = json_add_strv(x->obj, "args", &o->args);
	if (r == 0)
		r = json_add_bool(x->obj, "terminal", o->tty);
	if (r == 0 && o->workdir)
		r = json_add_string(x->obj, "cwd", o->workdir);
	if (r == 0 && o->no_new_privileges)
		r = json_add_bool(x->obj, "noNewPrivileges", true);
	return r;
}

int oci_exec_build(const char *spec, const struct oci_exec_options *o,
		   const struct oci_users *users, char **ret, struct err *e)
{
	static const struct oci_users nobody;
	_cleanup_(json_putp) struct json_object *root = NULL;
	_cleanup_(exec_done) struct exec x = { .o = o, .users = users ? users : &nobody };
	int r;

	r = check(o, e);
	if (r == 0)
		r = json_parse(spec, strlen(spec), "spec", &root, e);
	if (r < 0)
		return r;
	x.obj = json_get(root, "process", json_type_object);
	if (!x.obj)
		return err_set(e, -EBADMSG, "spec: no \"process\"");
	r = change(&x, e);
	if (r == -ENOMEM)
		return err_oom(e);
	return r < 0 ? r : json_text(x.obj, "process", ret, e);
}
