/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/host_cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define OPTIONS_SIZE	512
#define MOUNTINFO_MAX	((size_t)4 << 20)
#define PROCS_MAX	((size_t)1 << 20)
#define KILL_TIMEOUT_MS 2000

/*
 * Controllers of v1 that count or limit. A new cgroup of cpuset takes no process, and devices,
 * freezer and the like have nothing to say about a machine.
 */
static const char *const controllers[] = {
	"name=systemd", "cpu", "cpuacct", "memory", "pids", "blkio",
};

/* Does the list "rw,cpu,cpuacct" have one of them? */
static bool counts(char *options)
{
	char *save = NULL;

	for (char *o = strtok_r(options, ",", &save); o; o = strtok_r(NULL, ",", &save))
		for (size_t i = 0; i < ARRAY_SIZE(controllers); i++)
			if (str_eq(o, controllers[i]))
				return true;
	return false;
}

/*
 * One line of /proc/self/mountinfo (proc(5)): "ID PARENT DEVICE ROOT POINT OPTIONS [TAG...] - TYPE
 * SOURCE SUPER". Return: The mount point of a hierarchy that we use, else NULL
 */
static const char *hierarchy(char *line, char options[static OPTIONS_SIZE])
{
	char *rest = strstr(line, " - ");
	char type[16];
	char super[OPTIONS_SIZE];
	char *point = line;

	_Static_assert(OPTIONS_SIZE == 512, "the format below says so");
	if (!rest || sscanf(rest, " - %15s %*s %511s", type, super) != 2)
		return NULL;
	strcpy(options, str_eq(type, "cgroup2") ? "" : super);
	for (int field = 0; field < 4 && point; field++)
		point = strchr(point, ' ') ? strchr(point, ' ') + 1 : NULL;
	if (!point || !strchr(point, ' '))
		return NULL;
	*strchr(point, ' ') = '\0';
	if (str_eq(type, "cgroup2") || (str_eq(type, "cgroup") && counts(super)))
		return point;
	return NULL;
}

/* A line of /proc/self/cgroup: "ID:CONTROLLERS:PATH", without any controllers for v2. */
static const char *path_of_line(char *line, const char *options)
{
	char *controller = strchr(line, ':');
	char *path = controller ? strchr(controller + 1, ':') : NULL;
	const char *at;
	size_t n;

	if (!path)
		return NULL;
	*path++ = '\0';
	controller++;
	controller[strcspn(controller, ",")] = '\0';
	n = strlen(controller);
	if (n == 0 || !*options)
		return n == 0 && !*options ? path : NULL;
	for (at = strstr(options, controller); at; at = strstr(at + 1, controller))
		if ((at == options || at[-1] == ',') && (at[n] == ',' || at[n] == '\0'))
			return path;
	return NULL;
}

/* Our cgroup in the hierarchy with these options, to be freed; NULL: none, or no memory. */
static char *own_path(const char *options)
{
	_cleanup_(freep) char *text = NULL;
	char *save = NULL;

	if (file_read(AT_FDCWD, "/proc/self/cgroup", PROCS_MAX, &text, NULL) < 0)
		return NULL;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		const char *path = path_of_line(l, options);

		if (path)
			return strdup(path);
	}
	return NULL;
}

/*
 * Call back with the directory of @path in every hierarchy, or of our own cgroup there (@path
 * NULL). Return: How many, or the first error
 */
static int each_hierarchy(const char *path, int (*cb)(void *data, const char *top, const char *dir),
			  void *data)
{
	char options[OPTIONS_SIZE];
	_cleanup_(freep) char *text = NULL;
	char *save = NULL;
	int n = 0;
	int r;

	r = file_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL);
	for (char *l = r < 0 ? NULL : strtok_r(text, "\n", &save); l && r >= 0;
	     l = strtok_r(NULL, "\n", &save)) {
		const char *top = hierarchy(l, options);
		_cleanup_(freep) char *own = top && !path ? own_path(options) : NULL;
		_cleanup_(freep) char *dir = NULL;

		if (!top || (!path && !own))
			continue;
		dir = str_printf("%s%s", top, path ? path : own);
		r = dir ? cb(data, top, dir) : -ENOMEM;
		n++;
	}
	return r < 0 ? r : n;
}

/* "a-b.slice" lies in "a.slice". */
static int slice_path(const char *slice, char **ret)
{
	size_t len = strlen(slice) - strlen(".slice");
	char *path = strdup("");

	for (size_t i = 1; path && i <= len; i++) {
		char *longer;

		if (i < len && slice[i] != '-')
			continue;
		longer = str_printf("%s/%.*s.slice", path, (int)i, slice);
		free(path);
		path = longer;
	}
	*ret = path;
	return path ? 0 : -ENOMEM;
}

static int systemd_path(const char *text, char **ret, struct err *e)
{
	_cleanup_(freep) char *copy = strdup(text);
	_cleanup_(freep) char *parent = NULL;
	char *prefix = copy ? strchr(copy, ':') : NULL;
	char *name = prefix ? strchr(prefix + 1, ':') : NULL;
	size_t n;

	if (!copy)
		return err_oom(e);
	if (!name || strchr(text, '/'))
		return err_set(e, -EINVAL, "cgroupsPath is no path and no slice:prefix:name");
	*prefix++ = '\0';
	*name++ = '\0';
	n = strlen(copy);
	if (n <= strlen(".slice") || !str_eq(copy + n - strlen(".slice"), ".slice") || !*name)
		return err_set(e, -EINVAL, "cgroupsPath names no slice");
	if (slice_path(copy, &parent) < 0)
		return err_oom(e);
	*ret = str_printf("%s/%s-%s.scope", parent, prefix, name);
	return *ret ? 0 : err_oom(e);
}

static bool leads_up(const char *path)
{
	for (const char *p = strstr(path, "/.."); p; p = strstr(p + 1, "/.."))
		if (p[3] == '/' || p[3] == '\0')
			return true;
	return false;
}

int host_cgroup_path(const char *text, char **ret, struct err *e)
{
	size_t n = strlen(text);

	if (n > 0 && text[0] != '/')
		return systemd_path(text, ret, e);
	while (n > 0 && text[n - 1] == '/')
		n--;
	if (n < 2 || leads_up(text) || strchr(text, '\n'))
		return err_set(e, -EINVAL, "cgroupsPath is no path of a cgroup");
	*ret = strndup(text, n);
	return *ret ? 0 : err_oom(e);
}

/* @pid: "0" is ourselves */
static int enter(const char *dir, const char *pid)
{
	_cleanup_(freep) char *procs = str_printf("%s/cgroup.procs", dir);

	return procs ? file_write(AT_FDCWD, procs, pid) : -ENOMEM;
}

static int bring_one(void *data, const char *top, const char *dir)
{
	return enter(dir, data);
}

static int join_one(void *data, const char *top, const char *dir)
{
	int r = mkdir_p(dir, 0755);

	return r < 0 ? r : enter(dir, "0");
}

static int leave_one(void *data, const char *top, const char *dir)
{
	(void)enter(top, "0");
	return 0;
}

/* Kill a process and wait for its end. Who has gone meanwhile is no error. */
static void kill_and_wait(pid_t pid)
{
	_cleanup_(close_fdp) int pidfd = pidfd_open(pid, 0);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	if (pidfd >= 0 && pidfd_send_signal(pidfd, SIGKILL, NULL, 0) == 0)
		(void)poll(&p, 1, KILL_TIMEOUT_MS);
}

static void kill_all(const char *dir)
{
	_cleanup_(freep) char *procs = str_printf("%s/cgroup.procs", dir);
	_cleanup_(freep) char *text = NULL;
	char *save = NULL;

	if (!procs || file_read(AT_FDCWD, procs, PROCS_MAX, &text, NULL) < 0)
		return;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		uint64_t pid;

		if (parse_u64(l, INT32_MAX, &pid) == 0 && pid > 1 && (pid_t)pid != getpid())
			kill_and_wait((pid_t)pid);
	}
}

static int remove_one(void *data, const char *top, const char *dir)
{
	kill_all(dir);
	return rmdir(dir) < 0 && errno != ENOENT ? -errno : 0;
}

int host_cgroup_join(const char *path, struct err *e)
{
	int r = each_hierarchy(path, join_one, NULL);

	if (r == 0)
		return err_set(e, -ENOENT, "no cgroups are mounted");
	return r < 0 ? err_errno(e, r, "cannot use the cgroup %s", path) : 0;
}

/* A move is slow, in every hierarchy, so it isn't made in vain. */
int host_cgroup_bring(pid_t pid)
{
	_cleanup_(freep) char *ours = NULL;
	_cleanup_(freep) char *theirs = NULL;
	char path[40];
	char number[16];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	r = file_read(AT_FDCWD, path, PROCS_MAX, &theirs, NULL);
	if (r == 0)
		r = file_read(AT_FDCWD, "/proc/self/cgroup", PROCS_MAX, &ours, NULL);
	if (r < 0 || str_eq(ours, theirs))
		return r;
	snprintf(number, sizeof(number), "%d", pid);
	r = each_hierarchy(NULL, bring_one, number);
	return MIN(r, 0);
}

void host_cgroup_leave(const char *path)
{
	(void)each_hierarchy(path, leave_one, NULL);
	(void)host_cgroup_remove(path);
}

void host_cgroup_top(void)
{
	(void)each_hierarchy("", leave_one, NULL);
}

int host_cgroup_remove(const char *path)
{
	int r = each_hierarchy(path, remove_one, NULL);

	return r < 0 ? r : 0;
}
