/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/proclist.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/container.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/fd.h"

/* One line of the answer. */
struct row {
	PB(Process) msg;
	char command[PROCLIST_COMMAND + 1];
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
static int fill_row(struct row *row, int pid)
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
	podvm__agent__v1__process__init(&row->msg);
	row->msg.pid = (uint32_t)pid;
	row->msg.ppid = ps.ppid;
	row->msg.uid = st.st_uid;
	row->msg.cpu_ns = ps.cpu_ticks * (1000000000 / (uint64_t)sysconf(_SC_CLK_TCK));
	row->msg.rss = ps.rss_pages * (uint64_t)sysconf(_SC_PAGESIZE);
	fd = openat(dir, "cmdline", O_RDONLY | O_CLOEXEC);
	n = fd >= 0 ? read(fd, raw, sizeof(raw)) : 0;
	close_fdp(&fd);
	/* A zombie or a kernel thread has none. */
	if (n > 0)
		proc_command(raw, (size_t)n, row->command);
	else
		proc_command(ps.comm, strlen(ps.comm), row->command);
	row->msg.command = row->command;
	return 0;
}

static const char *exec_id_of(const struct container *c, int pid)
{
	struct process *p;

	list_for_each (p, &c->processes, node)
		if (p->state == PROCESS_RUNNING && p->entry.pid == pid)
			return p->id;
	return "";
}

HANDLER(serve_list_processes)
{
	const PB(ContainerRequest) *req = (const void *)msg;
	struct container *c = find_container(data, call, req->container_id);
	PB(ListProcessesResponse) resp = PODVM__AGENT__V1__LIST_PROCESSES_RESPONSE__INIT;
	_cleanup_(freep) int *pids = NULL;
	_cleanup_(freep) struct row *rows = NULL;
	_cleanup_(freep) PB(Process) **list = NULL;
	int n;

	if (!c)
		return;
	n = cgroup_pids(c->id, &pids, PROCLIST_MAX);
	n = MAX(n, 0); /* a stopped container has nothing to list */
	rows = calloc((size_t)n + 1, sizeof(*rows));
	list = calloc((size_t)n + 1, sizeof(*list));
	if (!rows || !list) {
		reply_oom(call);
		return;
	}
	for (int i = 0; i < n; i++) {
		struct row *row = &rows[resp.n_processes];

		if (fill_row(row, pids[i]) < 0)
			continue;
		row->msg.exec_id = (char *)exec_id_of(c, pids[i]);
		list[resp.n_processes++] = &row->msg;
	}
	resp.processes = list;
	ttrpc_reply(call, &resp.base);
}
