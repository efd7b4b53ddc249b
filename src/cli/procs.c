/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/procs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "sandbox/pool.h"

#define STAT_MAX ((size_t)4 << 10)

/* A line of the process table. */
struct entry {
	struct host_process process;
	pid_t parent;
};

struct entries {
	struct entry *v;
	size_t n;
};

/* "PID (NAME) STATE PPID ...": the name may hold anything, also parentheses (proc(5)). */
static int parse_stat(const char *text, struct entry *ret)
{
	const char *open = strchr(text, '(');
	const char *close = strrchr(text, ')');

	if (!open || !close || close < open)
		return -EINVAL;
	if (sscanf(close + 1, " %*c %d", &ret->parent) != 1)
		return -EINVAL;
	snprintf(ret->process.name, sizeof(ret->process.name), "%.*s", (int)(close - open - 1),
		 open + 1);
	return 0;
}

static int add_entry(struct entries *es, const char *name)
{
	_cleanup_(freep) char *path = str_printf("/proc/%s/stat", name);
	_cleanup_(freep) char *text = NULL;
	struct entry entry = { 0 };
	struct entry *v;
	uint64_t pid;

	if (parse_u64(name, INT32_MAX, &pid) < 0)
		return 0;
	if (!path)
		return -ENOMEM;
	/* It may have ended meanwhile. */
	if (file_read(AT_FDCWD, path, STAT_MAX, &text, NULL) < 0 || parse_stat(text, &entry) < 0)
		return 0;
	entry.process.pid = (pid_t)pid;
	v = reallocarray(es->v, es->n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	es->v = v;
	v[es->n++] = entry;
	return 0;
}

static int read_table(struct entries *es)
{
	_cleanup_(closedirp) DIR *dir = opendir("/proc");
	struct dirent *d;
	int r = 0;

	if (!dir)
		return -errno;
	while (r == 0 && (d = readdir(dir)))
		r = add_entry(es, d->d_name);
	return r;
}

static bool is_among(const struct host_process *v, size_t n, pid_t pid)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].pid == pid)
			return true;
	return false;
}

/* A machine of the pool has a parent of its own, else that's the owner. */
static pid_t parent_of(const struct entries *es, pid_t pid)
{
	for (size_t i = 0; i < es->n; i++)
		if (pid > 0 && es->v[i].process.pid == pid)
			return es->v[i].parent;
	return 0;
}

/* Move the owner, then its children, then theirs, to the result. */
static size_t select_family(const struct entries *es, pid_t owner, pid_t monitor,
			    struct host_process *v)
{
	pid_t guard = parent_of(es, monitor);
	size_t n = 0;
	size_t before;

	for (size_t i = 0; i < es->n; i++)
		if (es->v[i].process.pid == owner)
			v[n++] = es->v[i].process;
	for (size_t i = 0; i < es->n && n > 0; i++)
		if (es->v[i].process.pid == guard && guard > 1 && guard != owner)
			v[n++] = es->v[i].process;
	do {
		before = n;
		for (size_t i = 0; i < es->n; i++)
			if (is_among(v, n, es->v[i].parent) &&
			    !is_among(v, n, es->v[i].process.pid))
				v[n++] = es->v[i].process;
	} while (n > before);
	return n;
}

static const char *role(const struct host_process *p, pid_t owner, pid_t monitor)
{
	if (p->pid == owner)
		return "owner";
	if (p->pid == monitor)
		return "monitor";
	return str_eq(p->name, POOL_GUARD_NAME) ? "guard" : "helper";
}

int host_processes(pid_t owner, pid_t monitor, struct host_process **ret, size_t *ret_n)
{
	struct entries es = { 0 };
	struct host_process *v = NULL;
	int r = read_table(&es);

	if (r == 0) {
		v = calloc(es.n + 1, sizeof(*v));
		r = v ? 0 : -ENOMEM;
	}
	if (r == 0) {
		*ret_n = select_family(&es, owner, monitor, v);
		for (size_t i = 0; i < *ret_n; i++) {
			v[i].role = role(&v[i], owner, monitor);
			v[i].memory = process_memory(v[i].pid);
		}
		*ret = v;
	}
	free(es.v);
	return r;
}

int host_processes_json(struct json_object *array, const struct host_process *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct json_object *p = json_push_object(array);

		if (!p || json_add_int(p, "pid", v[i].pid) < 0 ||
		    json_add_string(p, "name", v[i].name) < 0 ||
		    json_add_string(p, "role", v[i].role) < 0 ||
		    json_add_u64(p, "pss", v[i].memory.pss) < 0 ||
		    json_add_u64(p, "private", v[i].memory.private) < 0)
			return -ENOMEM;
	}
	return 0;
}
