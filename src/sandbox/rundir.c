/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "net/net.h"
#include "net/pod.h"
#include "sandbox/event_log.h"
#include "sandbox/host_cgroup.h"
#include "sandbox/rundir-internal.h"

#define JOURNAL_MAX	((size_t)64 << 10)
#define KILL_TIMEOUT_MS 5000

static int open_lock(int dirfd)
{
	int fd = openat(dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

static int open_dir(const char *state_dir, const char *id, struct rundir *ret)
{
	_cleanup_(freep) char *path = str_printf("%s/%s", state_dir, id);
	int fd;

	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret = RUNDIR_INIT;
	snprintf(ret->id, sizeof(ret->id), "%s", id);
	ret->path = TAKE_PTR(path);
	ret->fd = fd;
	return 0;
}

static int take_lock(struct rundir *rd)
{
	_cleanup_(close_fdp) int fd = open_lock(rd->fd);

	if (fd < 0)
		return fd;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	rd->lock_fd = TAKE_FD(fd);
	return 0;
}

/* The name of a directory: it can't lead anywhere else, nor is it a hidden one. */
bool name_valid(const char *name, size_t max)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	size_t n = strlen(name);

	return n > 0 && n <= max && strspn(name, letters) > 0 &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			    "0123456789_.-") == n;
}

static bool is_id(const char *name)
{
	return name_valid(name, RUNDIR_ID_LEN);
}

int rundir_open(const char *state_dir, const char *id, struct rundir *ret)
{
	return is_id(id) ? open_dir(state_dir, id, ret) : -ENOENT;
}

int rundir_create(const char *state_dir, struct rundir *ret, struct err *e)
{
	char id[RUNDIR_ID_LEN + 1];
	int r = random_hex(id, RUNDIR_ID_LEN);

	return r < 0 ? err_errno(e, r, "cannot make an id")
		     : rundir_create_id(state_dir, id, ret, e);
}

/* Give the directory its name, which nobody may have. */
static int publish(const char *tmp, const char *path)
{
	return renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) < 0 ? -errno : 0;
}

int rundir_create_id(const char *state_dir, const char *id, struct rundir *ret, struct err *e)
{
	_cleanup_(freep) char *tmp = NULL;
	_cleanup_(freep) char *path = NULL;
	char unique[17];
	int r;

	*ret = RUNDIR_INIT;
	if (!is_id(id))
		return err_set(e, -EINVAL, "this can't be the id of a sandbox");
	r = mkdir_p(state_dir, 0711);
	if (r < 0)
		return err_errno(e, r, "cannot make %s", state_dir);
	r = random_hex(unique, sizeof(unique) - 1);
	if (r < 0)
		return err_errno(e, r, "cannot make a name");
	/* It gets its name when its lock is held, so nobody takes it for one of a crash. */
	tmp = str_printf("%s/.%s", state_dir, unique);
	path = str_printf("%s/%s", state_dir, id);
	if (!tmp || !path)
		return err_oom(e);
	if (mkdir(tmp, 0700) < 0)
		return err_errno(e, -errno, "cannot make %s", tmp);
	r = open_dir(state_dir, tmp + strlen(state_dir) + 1, ret);
	if (r == 0)
		r = take_lock(ret);
	if (r == 0)
		r = publish(tmp, path);
	if (r < 0) {
		rundir_close(ret);
		rm_rf(AT_FDCWD, tmp);
		return err_errno(e, r, "cannot make %s", path);
	}
	snprintf(ret->id, sizeof(ret->id), "%s", id);
	free(ret->path);
	ret->path = TAKE_PTR(path);
	return 0;
}

int rundir_each(const char *state_dir,
		int (*cb)(void *data, struct rundir *rd, const struct rundir_state *st), void *data)
{
	_cleanup_(closedirp) DIR *dir = opendir(state_dir);
	struct dirent *d;
	int r = 0;

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (d = readdir(dir))) {
		struct rundir rd = RUNDIR_INIT;
		struct rundir_state st = { 0 };

		if (!is_id(d->d_name) || open_dir(state_dir, d->d_name, &rd) < 0)
			continue;
		/* Without a state (a crash before the first one was written) it only has an id. */
		if (rundir_read_state(&rd, &st, NULL) < 0 && str_set(&st.id, rd.id) < 0)
			r = -ENOMEM;
		if (r == 0)
			r = cb(data, &rd, &st);
		rundir_state_done(&st);
		rundir_close(&rd);
	}
	return r;
}

bool rundir_owner_alive(const struct rundir *rd)
{
	_cleanup_(close_fdp) int fd = open_lock(rd->fd);

	if (rd->lock_fd >= 0)
		return true;
	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* Field 22 of /proc/PID/stat: clock ticks after boot at which the process began (proc(5)). */
static int process_start_time(pid_t pid, uint64_t *ret)
{
	_cleanup_(freep) char *text = NULL;
	char path[32];
	char *p;
	char *save = NULL;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	r = file_read(AT_FDCWD, path, 4096, &text, NULL);
	if (r < 0)
		return r;
	/* The name in parentheses may hold anything, the fields after it don't. */
	p = strrchr(text, ')');
	if (!p)
		return -EINVAL;
	p = strtok_r(p + 1, " ", &save);
	for (int field = 3; p && field < 22; field++)
		p = strtok_r(NULL, " ", &save);
	return p ? parse_u64(p, UINT64_MAX, ret) : -EINVAL;
}

static int journal_line(struct rundir *rd, const char *line)
{
	_cleanup_(close_fdp) int fd = -EBADF;

	fd = openat(rd->fd, "journal", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd_write_all(fd, line, strlen(line));
}

int rundir_journal_process(struct rundir *rd, const char *what, pid_t pid)
{
	_cleanup_(freep) char *line = NULL;
	uint64_t start;
	int r;

	r = process_start_time(pid, &start);
	if (r < 0)
		return r;
	line = str_printf("process %d %llu %s\n", pid, (unsigned long long)start, what);
	return line ? journal_line(rd, line) : -ENOMEM;
}

int rundir_journal_cgroup(struct rundir *rd, const char *path)
{
	_cleanup_(freep) char *text = str_printf("cgroup %s\n", path);

	return text ? journal_line(rd, text) : -ENOMEM;
}

int rundir_journal_netns(struct rundir *rd, const char *line)
{
	_cleanup_(freep) char *text = str_printf("netns %s\n", line);

	return text ? journal_line(rd, text) : -ENOMEM;
}

/* Kill the process if it's still the one that was recorded, and wait for its end. */
static int kill_process(pid_t pid, uint64_t start)
{
	_cleanup_(close_fdp) int pidfd = pidfd_open(pid, 0);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	uint64_t now;

	if (pidfd < 0)
		return errno == ESRCH ? 0 : -errno;
	if (process_start_time(pid, &now) < 0 || now != start)
		return 0;
	if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0)
		return errno == ESRCH ? 0 : -errno;
	return poll(&p, 1, KILL_TIMEOUT_MS) == 1 ? 0 : -ETIMEDOUT;
}

static int undo_line(const char *line)
{
	unsigned long long start;
	int pid;

	if (str_starts(line, "cgroup "))
		return host_cgroup_remove(line + strlen("cgroup "));
	if (str_starts(line, "netns "))
		return net_pod_undo(line + strlen("netns "));
	if (sscanf(line, "process %d %llu", &pid, &start) == 2)
		return kill_process(pid, start);
	return 0;
}

/*
 * What was taken last goes first. A line that the crash cut off is of something that hadn't got
 * the go-ahead.
 */
static int undo_journal(struct rundir *rd)
{
	_cleanup_(freep) char *text = NULL;
	char *end;
	int first = 0;
	int r;

	r = file_read(rd->fd, "journal", JOURNAL_MAX, &text, NULL);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	while ((end = strrchr(text, '\n'))) {
		char *line;

		*end = '\0';
		line = strrchr(text, '\n');
		r = undo_line(line ? line + 1 : text);
		if (r < 0 && first == 0)
			first = r;
	}
	return first;
}

static void set_crashed(struct rundir_state *st)
{
	st->status = RUNDIR_EXITED;
	st->exit_code = 255;
	st->finished_ns = clock_real_ns();
}

static int tell_container(void *data, int dirfd, const struct rundir_state *st)
{
	struct rundir_state end = *st;

	if (st->status == RUNDIR_EXITED)
		return 0;
	set_crashed(&end);
	event_log_add(data, "exit", &end);
	return 0;
}

/* What nobody could tell: everything in it has ended. */
static void tell_crash(struct rundir *rd, struct rundir_state *st)
{
	if (st->status == RUNDIR_EXITED)
		return;
	(void)rundir_each_container(rd, tell_container, rd);
	set_crashed(st);
	event_log_add(rd, "exit", st);
}

static int mark_crashed(struct rundir *rd, struct rundir_state *st)
{
	if (str_set(&st->error, "the process that ran the sandbox was killed") < 0)
		return -ENOMEM;
	return rundir_write_state(rd, st);
}

int rundir_recover(struct rundir *rd, struct err *e)
{
	_cleanup_(rundir_state_done) struct rundir_state st = { 0 };
	bool has_state;
	int r;

	if (rd->lock_fd >= 0)
		return 0;
	r = take_lock(rd);
	/* Its owner lives, or has removed it meanwhile. */
	if (r == -EWOULDBLOCK || r == -ENOENT)
		return 0;
	if (r < 0)
		return err_errno(e, r, "cannot lock %s", rd->path);
	has_state = rundir_read_state(rd, &st, NULL) == 0;
	if (has_state && st.status == RUNDIR_EXITED && !st.auto_remove) {
		close(TAKE_FD(rd->lock_fd));
		return 0;
	}
	r = undo_journal(rd);
	net_user_recover();
	if (has_state)
		tell_crash(rd, &st);
	if (r < 0)
		err_errno(e, r, "cannot clean up after the crash of sandbox %s", rd->id);
	else if (!has_state || st.auto_remove)
		r = rundir_remove(rd, e);
	else if ((r = mark_crashed(rd, &st)) < 0)
		err_errno(e, r, "cannot write the state of sandbox %s", rd->id);
	if (rd->lock_fd >= 0)
		close(TAKE_FD(rd->lock_fd));
	return r < 0 ? r : 1;
}

static int recover_one(void *data, struct rundir *rd, const struct rundir_state *st)
{
	struct err e = { 0 };
	char text[1024];

	if (rundir_recover(rd, &e) < 0)
		log_warn("cannot recover", "sandbox=%s error=%s", rd->id,
			 log_quote(text, sizeof(text), e.msg));
	return 0;
}

void rundir_recover_all(const char *state_dir)
{
	rundir_each(state_dir, recover_one, NULL);
}

int rundir_remove(struct rundir *rd, struct err *e)
{
	_cleanup_(rundir_state_done) struct rundir_state st = { 0 };
	bool known = rundir_read_state(rd, &st, NULL) == 0;
	int r = rm_rf(AT_FDCWD, rd->path);

	if (r == 0 && known)
		event_log_add(rd, "delete", &st);
	return r < 0 ? err_errno(e, r, "cannot remove %s", rd->path) : 0;
}

void rundir_close(struct rundir *rd)
{
	if (rd->lock_fd >= 0)
		close(TAKE_FD(rd->lock_fd));
	if (rd->fd >= 0)
		close(TAKE_FD(rd->fd));
	free(TAKE_PTR(rd->path));
}
