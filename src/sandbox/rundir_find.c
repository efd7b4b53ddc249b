/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes, and the containers of pods, by what a user calls them. */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "sandbox/rundir.h"

/* How well something fits; of what fits equally well there must be one only. */
enum rank { RANK_NONE, RANK_PREFIX, RANK_NAME, RANK_EXACT };

/**
 * struct search - What is looked for, and the best there is
 * @sandbox:	What the sandbox is called, NULL: any
 * @what:	What the container or, without @sandbox, the sandbox is called
 * @rank:	How well the best fits, and @matches how many do so; the last one is @id, @container
 */
struct search {
	const char *sandbox;
	const char *what;
	enum rank rank;
	unsigned int matches;
	char id[RUNDIR_ID_LEN + 1];
	char container[RUNDIR_CONTAINER_LEN + 1];
	const struct rundir *rd; /* while it's looked at */
	const char *name;	 /* its name */
};

static enum rank fits(const struct rundir_state *st, const char *what, enum rank of_name)
{
	if (str_eq(st->id, what))
		return RANK_EXACT;
	if (st->name && str_eq(st->name, what))
		return of_name;
	return str_starts(st->id, what) ? RANK_PREFIX : RANK_NONE;
}

static void note(struct search *s, enum rank rank, const char *container)
{
	if (rank == RANK_NONE || rank < s->rank)
		return;
	s->matches = rank > s->rank ? 1 : s->matches + 1;
	s->rank = rank;
	snprintf(s->id, sizeof(s->id), "%s", s->rd->id);
	snprintf(s->container, sizeof(s->container), "%s", container);
}

static int match_container(void *data, int dirfd, const struct rundir_state *st)
{
	struct search *s = data;

	/* A lone container is called as its pod is, which stands for it. */
	if (s->sandbox || !s->name || !str_eq(st->id, s->name))
		note(s, fits(st, s->what, RANK_NAME), st->id);
	return 0;
}

static int match(void *data, struct rundir *rd, const struct rundir_state *st)
{
	struct search *s = data;

	s->rd = rd;
	s->name = st->name;
	if (!s->sandbox)
		note(s, fits(st, s->what, RANK_EXACT), "");
	if (!st->pod || (s->sandbox && fits(st, s->sandbox, RANK_EXACT) == RANK_NONE))
		return 0;
	return rundir_each_container(rd, match_container, s);
}

static int not_found(const struct search *s, const char *what, struct err *e)
{
	char quoted[160];

	log_quote(quoted, sizeof(quoted), what);
	if (s->matches > 1) {
		err_set(e, -ENOTUNIQ,
			"%u sandboxes or containers are called %s, or have an id that "
			"starts so",
			s->matches, quoted);
		err_hint(e, "give more of an id; 'podvm ps -a --containers' lists them");
		return -ENOTUNIQ;
	}
	err_set(e, -ENOENT, "no sandbox or container has the name or id %s", quoted);
	err_hint(e, "'podvm ps -a --containers' lists them");
	return -ENOENT;
}

int rundir_find(const char *state_dir, const char *what, struct rundir *ret, char **ret_container,
		struct err *e)
{
	_cleanup_(freep) char *sandbox = strdup(what);
	char *slash = sandbox ? strchr(sandbox, '/') : NULL;
	struct search s = { .what = what };
	int r = sandbox ? 0 : -ENOMEM;

	if (slash) {
		*slash = '\0';
		s.sandbox = sandbox;
		s.what = slash + 1;
	}
	if (r == 0 && *s.what && (!s.sandbox || *s.sandbox))
		r = rundir_each(state_dir, match, &s);
	if (r < 0)
		return err_errno(e, r, "cannot read %s", state_dir);
	if (s.matches != 1)
		return not_found(&s, what, e);
	*ret_container = NULL;
	if (*s.container && str_set(ret_container, s.container) < 0)
		return err_oom(e);
	r = rundir_open(state_dir, s.id, ret);
	return r < 0 ? err_errno(e, r, "cannot open sandbox %s", s.id) : 0;
}
