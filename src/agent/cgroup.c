/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "agent/metrics.h"
#include "agent/paths.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define FILE_LIMIT     ((size_t)256 << 10)
#define AGENT_CGROUP   DIR_CGROUP "/agent"
#define AGENT_PROTECT  "16777216"	   /* memory.low of /agent: agent, crun and its libraries */
#define RESERVE_MIN    ((uint64_t)6 << 20) /* for crun while it starts a process */
#define RESERVE_SHIFT  6		   /* and 1/64 of the memory: the kernel's own growth */
#define RESERVE_TASKS  64
#define MAX_TREE_DEPTH 16
#define RECLAIM_ALL    "1073741824"

int cgroup_field(const char *text, const char *name, uint64_t *ret)
{
	size_t n = strlen(name);

	for (const char *line = text; line && *line;) {
		const char *end = strchrnul(line, '\n');

		if ((size_t)(end - line) > n && memcmp(line, name, n) == 0 && line[n] == ' ') {
			char value[24];
			size_t len = (size_t)(end - line) - n - 1;

			if (len >= sizeof(value))
				return -EINVAL;
			memcpy(value, line + n + 1, len);
			value[len] = '\0';
			if (str_eq(value, "max")) {
				*ret = UINT64_MAX;
				return 0;
			}
			return parse_u64(value, UINT64_MAX, ret) < 0 ? -EINVAL : 0;
		}
		line = *end ? end + 1 : end;
	}
	return -ENOENT;
}

int cgroup_u64(int dir, const char *file, uint64_t *ret)
{
	_cleanup_(freep) char *text = NULL;
	int r = file_read(dir, file, FILE_LIMIT, &text, NULL);

	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	if (str_eq(text, "max")) {
		*ret = UINT64_MAX;
		return 0;
	}
	return parse_u64(text, UINT64_MAX, ret);
}

/* Memory that was not available when we had booted: the kernel's and ours. */
static uint64_t used_at_boot;

/* Memory that the guest had when /pod was limited. */
static uint64_t limited;

uint64_t cgroup_pod_limit(uint64_t total, uint64_t used)
{
	uint64_t rest = total > used ? total - used : 0;
	uint64_t reserve = RESERVE_MIN + (total >> RESERVE_SHIFT);

	/* Too small for any reserve to make sense: half of it. */
	return rest > 2 * reserve ? rest - reserve : rest / 2;
}

static void note_use_at_boot(uint64_t total)
{
	_cleanup_(freep) char *text = NULL;

	if (file_read(AT_FDCWD, "/proc/meminfo", FILE_LIMIT, &text, NULL) == 0)
		used_at_boot = total - MIN(total, meminfo_field(text, "MemAvailable"));
}

void cgroup_limit_pod(void)
{
	struct sysinfo info = { 0 };
	char value[24];
	uint64_t total;

	/* Every container asks, and /proc/meminfo is dear. */
	if (sysinfo(&info) < 0)
		return;
	total = (uint64_t)info.totalram * info.mem_unit;
	if (total == limited)
		return;
	if (!used_at_boot)
		note_use_at_boot(total);
	snprintf(value, sizeof(value), "%llu",
		 (unsigned long long)cgroup_pod_limit(total, used_at_boot));
	if (file_write(AT_FDCWD, DIR_POD "/memory.max", value) < 0)
		log_warn("cannot limit the memory of the pod", "bytes=%s", value);
	else
		limited = total;
}

static void limit_tasks(void)
{
	uint64_t max;
	char value[24];

	if (cgroup_u64(AT_FDCWD, "/proc/sys/kernel/threads-max", &max) < 0)
		return;
	snprintf(value, sizeof(value), "%llu",
		 (unsigned long long)(max > 2 * RESERVE_TASKS ? max - RESERVE_TASKS : max / 2));
	if (file_write(AT_FDCWD, DIR_POD "/pids.max", value) < 0)
		log_warn("cannot limit the processes of the pod", "pids=%s", value);
}

/* What containers can be limited by, or is counted. Each costs every container memory and time. */
static const char *const controllers[] = { "cpu", "cpuset", "hugetlb", "io", "memory", "pids" };

static bool is_useful(const char *controller)
{
	for (size_t i = 0; i < ARRAY_SIZE(controllers); i++)
		if (str_eq(controllers[i], controller))
			return true;
	return false;
}

/* Pass on to the children the controllers that @dir itself has. */
static int enable_controllers(const char *dir)
{
	_cleanup_(close_fdp) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(freep) char *there = NULL;
	char text[256] = "";
	char *save = NULL;
	size_t n = 0;
	int r;

	if (fd < 0)
		return -errno;
	r = file_read(fd, "cgroup.controllers", sizeof(text) / 2, &there, NULL);
	if (r < 0)
		return r;
	for (char *s = strtok_r(there, " \n", &save); s; s = strtok_r(NULL, " \n", &save))
		if (is_useful(s))
			n += (size_t)snprintf(text + n, sizeof(text) - n, "+%s ", s);
	return file_write(fd, "cgroup.subtree_control", text);
}

static int make_pod(struct err *e)
{
	int r;

	if (mkdir(DIR_POD, 0755) < 0)
		return err_errno(e, -errno, "cannot make " DIR_POD);
	r = enable_controllers(DIR_POD);
	if (r < 0)
		return err_errno(e, r, "cannot enable the controllers of " DIR_POD);
	limited = 0;
	cgroup_limit_pod();
	limit_tasks();
	return 0;
}

void cgroup_renew_pod(void)
{
	struct err e = { 0 };

	/* What the kernel keeps for a cgroup that is gone would keep the cgroup. */
	(void)file_write(AT_FDCWD, DIR_POD "/memory.reclaim", RECLAIM_ALL);
	if (rmdir(DIR_POD) == 0 && make_pod(&e) < 0)
		log_error("there is no cgroup for containers", "error=\"%s\"", e.msg);
}

int cgroup_setup(struct err *e)
{
	int r;

	r = enable_controllers(DIR_CGROUP);
	if (r < 0)
		return err_errno(e, r, "cannot enable the cgroup controllers");
	if (mkdir(AGENT_CGROUP, 0755) < 0)
		return err_errno(e, -errno, "cannot make " AGENT_CGROUP);
	r = file_write(AT_FDCWD, AGENT_CGROUP "/cgroup.procs", "1");
	if (r < 0)
		return err_errno(e, r, "cannot enter " AGENT_CGROUP);
	(void)file_write(AT_FDCWD, AGENT_CGROUP "/memory.low", AGENT_PROTECT);
	(void)file_write(AT_FDCWD, AGENT_CGROUP "/cpu.weight", "1000");
	return make_pod(e);
}

int cgroup_open(const char *id)
{
	char path[sizeof(DIR_POD) + ID_MAX + 2];
	int fd;

	snprintf(path, sizeof(path), DIR_POD "%s%s", *id ? "/" : "", id);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int cgroup_kill(const char *id)
{
	_cleanup_(close_fdp) int dir = cgroup_open(id);

	return dir < 0 ? dir : file_write(dir, "cgroup.kill", "1");
}

int cgroup_wait(int dir, const char *field, uint64_t value, uint64_t deadline_ms)
{
	_cleanup_(close_fdp) int fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLPRI };
		uint64_t now = clock_ms();
		char text[256];
		uint64_t v;
		ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

		if (n < 0)
			return -errno;
		text[n] = '\0';
		if (cgroup_field(text, field, &v) == 0 && v == value)
			return 0;
		if (now >= deadline_ms)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)MIN(deadline_ms - now, 60000)) < 0 && errno != EINTR)
			return -errno;
	}
}

/* Remove the cgroups below one (takes fd). A container may have made some, though not deep ones. */
static int remove_below(int fd, int depth)
{
	_cleanup_(closedirp) DIR *dir = fdopendir(fd);
	struct dirent *d;
	int r = 0;

	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while ((d = readdir(dir))) {
		int child;

		if (d->d_type != DT_DIR || d->d_name[0] == '.')
			continue;
		if (unlinkat(fd, d->d_name, AT_REMOVEDIR) == 0)
			continue;
		if (depth == 0)
			return -ELOOP;
		child = openat(fd, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (child >= 0)
			(void)remove_below(child, depth - 1);
		if (unlinkat(fd, d->d_name, AT_REMOVEDIR) < 0)
			r = -errno;
	}
	return r;
}

int cgroup_remove(const char *id)
{
	_cleanup_(close_fdp) int pod = cgroup_open("");
	int fd;

	if (pod < 0)
		return pod;
	if (unlinkat(pod, id, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	fd = cgroup_open(id);
	if (fd < 0)
		return fd;
	(void)remove_below(fd, MAX_TREE_DEPTH);
	return unlinkat(pod, id, AT_REMOVEDIR) < 0 ? -errno : 0;
}

struct pid_list {
	int *pids;
	size_t n;
	size_t max;
};

static int add_pids(struct pid_list *list, char *text)
{
	char *save = NULL;

	for (char *s = strtok_r(text, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
		uint64_t pid;

		if (list->n == list->max)
			return -ENOBUFS;
		/* 0 is a process that isn't in our PID namespace, which can't be. */
		if (parse_u64(s, INT32_MAX, &pid) == 0 && pid > 0)
			list->pids[list->n++] = (int)pid;
	}
	return 0;
}

/* Takes fd. */
static int walk_pids(int fd, struct pid_list *list, int depth)
{
	_cleanup_(closedirp) DIR *dir = fdopendir(fd);
	_cleanup_(freep) char *text = NULL;
	struct dirent *d;
	int r;

	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	/* A threaded cgroup has no list of its own: its processes are in the one above. */
	if (file_read(fd, "cgroup.procs", (size_t)1 << 20, &text, NULL) == 0) {
		r = add_pids(list, text);
		if (r < 0)
			return r;
	}
	while (depth > 0 && (d = readdir(dir))) {
		int child;

		if (d->d_type != DT_DIR || d->d_name[0] == '.')
			continue;
		child = openat(fd, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		r = child >= 0 ? walk_pids(child, list, depth - 1) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

int cgroup_pids(const char *id, int **ret, size_t max)
{
	_cleanup_(freep) int *pids = calloc(max, sizeof(*pids));
	struct pid_list list = { .pids = pids, .max = max };
	int fd;
	int r;

	if (!pids)
		return -ENOMEM;
	fd = cgroup_open(id);
	if (fd < 0)
		return fd;
	r = walk_pids(fd, &list, MAX_TREE_DEPTH);
	if (r < 0 && r != -ENOBUFS)
		return r;
	*ret = TAKE_PTR(pids);
	return (int)list.n;
}

int cgroup_signal(const char *id, int signum)
{
	_cleanup_(freep) int *pids = NULL;
	int n;

	if (signum == SIGKILL)
		return cgroup_kill(id);
	n = cgroup_pids(id, &pids, 65536);
	for (int i = 0; i < n; i++)
		(void)kill(pids[i], signum);
	return MIN(n, 0);
}

uint64_t cgroup_oom_kills(const char *id)
{
	_cleanup_(close_fdp) int dir = cgroup_open(id);
	_cleanup_(freep) char *text = NULL;
	uint64_t n;

	if (dir < 0 || file_read(dir, "memory.events", FILE_LIMIT, &text, NULL) < 0)
		return 0;
	return cgroup_field(text, "oom_kill", &n) == 0 ? n : 0;
}
