/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Users and groups by the image's own /etc/passwd and /etc/group, as libcontainer (podman,
 * Docker) looks them up. The texts belong to a stranger: lines that make no sense are skipped.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "oci/spec_internal.h"

#define ID_MAX	   INT32_MAX
#define GROUPS_MAX 1024
#define FIELDS_MAX 7

/* One line of passwd or group, cut at its colons. */
struct line {
	char *text;
	char *field[FIELDS_MAX];
	size_t n;
};

static void line_done(struct line *l)
{
	free(l->text);
}

/* Next line of @text. Return: 1, 0 at the end, -ENOMEM */
static int next_line(const char **text, struct line *l)
{
	const char *end;
	char *p;

	line_done(l);
	*l = (struct line){ 0 };
	if (!*text || !**text)
		return 0;
	end = strchrnul(*text, '\n');
	p = l->text = strndup(*text, (size_t)(end - *text));
	if (!p)
		return -ENOMEM;
	*text = *end ? end + 1 : end;
	while (p && l->n < FIELDS_MAX)
		l->field[l->n++] = strsep(&p, ":");
	return 1;
}

static bool parse_id(const char *s, uint32_t *ret)
{
	uint64_t v;

	if (parse_u64(s, ID_MAX, &v) < 0)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static int add_group(struct oci_user *u, uint32_t gid, struct err *e)
{
	uint32_t *groups;

	if (gid == u->gid)
		return 0;
	for (size_t i = 0; i < u->n_groups; i++)
		if (u->groups[i] == gid)
			return 0;
	if (u->n_groups == GROUPS_MAX)
		return err_set(e, -EINVAL, "user is in more than %d groups", GROUPS_MAX);
	groups = reallocarray(u->groups, u->n_groups + 1, sizeof(*groups));
	if (!groups)
		return -ENOMEM;
	u->groups = groups;
	groups[u->n_groups++] = gid;
	return 0;
}

/* Whether a line "name:...:id:..." is meant by a name or a number. */
static bool line_is(const struct line *l, const char *want, uint32_t *ret_id)
{
	uint32_t number;

	if (l->n < 3 || !*l->field[0] || !parse_id(l->field[2], ret_id))
		return false;
	return str_eq(l->field[0], want) || (parse_id(want, &number) && number == *ret_id);
}

static int find_user(const char *passwd, const char *want, struct oci_user *u, char **ret_name,
		     struct err *e)
{
	_cleanup_(line_done) struct line l = { 0 };
	char quoted[80];
	int r;

	while ((r = next_line(&passwd, &l)) > 0) {
		if (l.n < 6 || !line_is(&l, want, &u->uid) || !parse_id(l.field[3], &u->gid))
			continue;
		if (str_set(ret_name, l.field[0]) < 0 ||
		    (*l.field[5] && str_set(&u->home, l.field[5]) < 0))
			return -ENOMEM;
		return 0;
	}
	if (r < 0)
		return r;
	u->gid = 0;
	if (parse_id(want, &u->uid))
		return 0;
	return err_set(e, -ENOENT, "there is no user %s in the image's /etc/passwd",
		       log_quote(quoted, sizeof(quoted), want));
}

static int find_group(const char *group, const char *want, uint32_t *ret, struct err *e)
{
	_cleanup_(line_done) struct line l = { 0 };
	char quoted[80];
	int r;

	while ((r = next_line(&group, &l)) > 0)
		if (line_is(&l, want, ret))
			return 0;
	if (r < 0)
		return r;
	if (parse_id(want, ret))
		return 0;
	return err_set(e, -ENOENT, "there is no group %s in the image's /etc/group",
		       log_quote(quoted, sizeof(quoted), want));
}

static bool is_member(char *members, const char *name)
{
	char *m;

	while ((m = strsep(&members, ",")))
		if (str_eq(m, name))
			return true;
	return false;
}

static int add_memberships(const char *group, const char *name, struct oci_user *u, struct err *e)
{
	_cleanup_(line_done) struct line l = { 0 };
	uint32_t gid;
	int r;

	while ((r = next_line(&group, &l)) > 0) {
		if (l.n < 4 || !parse_id(l.field[2], &gid) || !is_member(l.field[3], name))
			continue;
		r = add_group(u, gid, e);
		if (r < 0)
			return r;
	}
	return r;
}

static int lookup(const struct oci_users *users, char *want, const struct strv *further,
		  struct oci_user *u, struct err *e)
{
	_cleanup_(freep) char *name = NULL;
	char *group = strchr(want, ':');
	uint32_t gid;
	int r;

	if (group)
		*group++ = '\0';
	r = find_user(users->passwd, *want ? want : "0", u, &name, e);
	if (r == 0 && !str_empty(group))
		r = find_group(users->group, group, &u->gid, e);
	else if (r == 0 && name)
		r = add_memberships(users->group, name, u, e);
	for (size_t i = 0; r == 0 && further && i < further->n; i++) {
		r = find_group(users->group, further->v[i], &gid, e);
		if (r == 0)
			r = add_group(u, gid, e);
	}
	return r;
}

int oci_user_lookup(const struct oci_users *users, const char *text, const struct strv *further,
		    struct oci_user *ret, struct err *e)
{
	_cleanup_(oci_user_done) struct oci_user u = { 0 };
	_cleanup_(freep) char *want = strdup(text ? text : "");
	int r;

	if (!want || str_set(&u.home, "/") < 0)
		return err_oom(e);
	r = lookup(users, want, further, &u, e);
	if (r == -ENOMEM)
		return err_oom(e);
	if (r < 0)
		return r;
	*ret = u;
	u = (struct oci_user){ 0 };
	return 0;
}

void oci_user_done(struct oci_user *user)
{
	free(user->groups);
	free(user->home);
	*user = (struct oci_user){ 0 };
}

int oci_user_json(struct json_object *process, const struct oci_user *user)
{
	struct json_object *obj = json_add_object(process, "user");
	struct json_object *groups;

	if (!obj || json_add_int(obj, "uid", user->uid) < 0 ||
	    json_add_int(obj, "gid", user->gid) < 0)
		return -ENOMEM;
	if (user->n_groups == 0)
		return 0;
	groups = json_add_array(obj, "additionalGids");
	if (!groups)
		return -ENOMEM;
	for (size_t i = 0; i < user->n_groups; i++)
		if (json_push(groups, json_object_new_int64(user->groups[i])) < 0)
			return -ENOMEM;
	return 0;
}
