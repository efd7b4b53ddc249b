/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/proclist.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/child.h"
#include "agent/container.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/fd.h"

/* After so long command lines are left out: a fork bomb's are slow to get. */
#define COMMANDS_MS 1000

/* One line of the answer. */
struct row {
	uint32_t pid;
	uint32_t ppid;
	uint32_t uid;
	uint64_t cpu_ns;
	uint64_t rss;
	char command[PROCLIST_COMMAND + 1];
};

/*
 * A call that is under way. The worker fills @rows, which is memory that it shares with us: reading
 * a process's command line waits for locks that the process may hold for ever.
 */
struct listing {
	struct agent *agent;
	struct ttrpc_call *call;
	char container_id[ID_MAX + 1];
	struct rows {
		size_t n;
		struct row v[PROCLIST_MAX];
	} * rows;
};

int proc_stat_parse(const char *text, struct proc_stat *ret)
{
	const char *open = strchr(text, '(');
	const char *close = strrchr(text, ')');
	unsigned long long user;
	unsigned long long system;
	unsigned long long rss;
	size_t n;

	if (!open || !close || close < open)
		return -EINVAL;
	n = MIN((size_t)(close - open - 1), sizeof(ret->comm) - 1);
	memcpy(ret->comm, open + 1, n);
	ret->comm[n] = '\0';
	/* state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime
	 * cutime cstime priority nice threads itrealvalue starttime vsize rss */
	if (sscanf(close + 1,
		   " %*c %u %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d "
		   "%*u %*u %llu",
		   &ret->ppid, &user, &system, &rss) != 4)
		return -EINVAL;
	ret->cpu_ticks = user + system;
	ret->rss_pages = rss;
	return 0;
}

void proc_command(const char *raw, size_t len, char out[PROCLIST_COMMAND + 1])
{
	size_t n = MIN(len, (size_t)PROCLIST_COMMAND);

	/* The last argument's NUL separates nothing. */
	while (n > 0 && n == len && raw[n - 1] == '\0')
		len = --n;
	for (size_t i = 0; i < n; i++) {
		out[i] = raw[i] == '\0' ? ' ' : raw[i];
		if (out[i] < 0x20 || out[i] > 0x7e)
			out[i] = '?';
	}
	out[n] = '\0';
}

/* Return: 0, or a negative errno when the process is gone */
static int fill_row(struct row *row, int pid, bool with_command)
{
	_cleanup_(close_fdp) int dir = -EBADF;
	_cleanup_(freep) char *stat_text = NULL;
	struct proc_stat ps;
	char raw[PROCLIST_COMMAND + 1];
	char path[32];
	struct stat st;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d", pid);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fstat(dir, &st) < 0)
		return -errno;
	if (file_read(dir, "stat", 4096, &stat_text, NULL) < 0 ||
	    proc_stat_parse(stat_text, &ps) < 0)
		return -ESRCH;
	row->pid = (uint32_t)pid;
	row->ppid = ps.ppid;
	row->uid = st.st_uid;
	row->cpu_ns = ps.cpu_ticks * (1000000000 / (uint64_t)sysconf(_SC_CLK_TCK));
	row->rss = ps.rss_pages * (uint64_t)sysconf(_SC_PAGESIZE);
	fd = with_command ? openat(dir, "cmdline", O_RDONLY | O_CLOEXEC) : -EBADF;
	n = fd >= 0 ? read(fd, raw, sizeof(raw)) : 0;
	close_fdp(&fd);
	/* A zombie or a kernel thread has none. */
	if (n > 0)
		proc_command(raw, (size_t)n, row->command);
	else
		proc_command(ps.comm, strlen(ps.comm), row->command);
	return 0;
}

/* Worker: a stopped container has nothing to list. */
static int work_list(void *arg, struct err *e)
{
	const struct listing *op = arg;
	_cleanup_(freep) int *pids = NULL;
	int n = cgroup_pids(op->container_id, &pids, PROCLIST_MAX);
	uint64_t start = clock_ms();

	for (int i = 0; i < n; i++) {
		bool patient = clock_ms() - start < COMMANDS_MS;

		op->rows->n += fill_row(&op->rows->v[op->rows->n], pids[i], patient) == 0;
	}
	return 0;
}

static const char *exec_id_of(const struct container *c, uint32_t pid)
{
	struct process *p;

	if (!c)
		return "";
	list_for_each (p, &c->processes, node)
		if (p->state == PROCESS_RUNNING && (uint32_t)p->entry.pid == pid)
			return p->id;
	return "";
}

static void reply_list(struct listing *op)
{
	PB(ListProcessesResponse) resp = PODVM__AGENT__V1__LIST_PROCESSES_RESPONSE__INIT;
	/* It may have been removed meanwhile. */
	struct container *c = container_find(op->agent, op->container_id);
	size_t n = op->rows->n;
	_cleanup_(freep) PB(Process) *msgs = calloc(n + 1, sizeof(*msgs));
	_cleanup_(freep) PB(Process) **list = calloc(n + 1, sizeof(*list));

	if (!msgs || !list) {
		reply_oom(op->call);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		struct row *row = &op->rows->v[i];

		podvm__agent__v1__process__init(&msgs[i]);
		msgs[i].pid = row->pid;
		msgs[i].ppid = row->ppid;
		msgs[i].uid = row->uid;
		msgs[i].cpu_ns = row->cpu_ns;
		msgs[i].rss = row->rss;
		msgs[i].command = row->command;
		msgs[i].exec_id = (char *)exec_id_of(c, row->pid);
		list[i] = &msgs[i];
	}
	resp.n_processes = n;
	resp.processes = list;
	ttrpc_reply(op->call, &resp.base);
}

static void listed(void *data, const struct err *e)
{
	struct listing *op = data;

	if (e)
		ttrpc_reply_err(op->call, e);
	else
		reply_list(op);
	munmap(op->rows, sizeof(*op->rows));
	free(op);
}

HANDLER(serve_list_processes)
{
	const PB(ContainerRequest) *req = (const void *)msg;
	struct container *c = find_container(data, call, req->container_id);
	struct err e = { 0 };
	struct listing *op;

	if (!c)
		return;
	op = calloc(1, sizeof(*op));
	if (!op) {
		reply_oom(call);
		return;
	}
	op->agent = c->agent;
	op->call = call;
	snprintf(op->container_id, sizeof(op->container_id), "%s", c->id);
	op->rows = mmap(NULL, sizeof(*op->rows), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	if (op->rows == MAP_FAILED) {
		free(op);
		reply_oom(call);
		return;
	}
	if (child_work(&c->agent->reaper, "listing processes", work_list, op, call_timeout(call),
		       listed, op, &e) < 0)
		listed(op, &e);
}
