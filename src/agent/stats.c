/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>

#include "agent/cgroup.h"
#include "agent/container.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define FILE_LIMIT ((size_t)64 << 10)

/* Room for one answer; too large for the stack. */
struct stats {
	PB(CpuStats) cpu;
	PB(MemoryStats) memory;
	PB(PidsStats) pids;
	struct counters memory_stat;
	struct counters memory_events;
	PB(IoStats) io[STATS_DEVICES];
	PB(IoStats) * io_list[STATS_DEVICES];
	PB(HugetlbStats) hugetlb[STATS_HUGETLB];
	PB(HugetlbStats) * hugetlb_list[STATS_HUGETLB];
	char page_sizes[STATS_HUGETLB][16];
	PB(FilesystemStats) filesystems[STATS_FILESYSTEMS];
	PB(FilesystemStats) * filesystem_list[STATS_FILESYSTEMS];
};

void counters_parse(struct counters *c)
{
	char *save = NULL;

	for (char *line = strtok_r(c->text, "\n", &save); line && c->n < STATS_COUNTERS;
	     line = strtok_r(NULL, "\n", &save)) {
		Podvm__Agent__V1__Counter *counter = &c->v[c->n];
		char *value = strchr(line, ' ');
		uint64_t v;

		if (!value || value == line || parse_u64(value + 1, UINT64_MAX, &v) < 0)
			continue;
		*value = '\0';
		podvm__agent__v1__counter__init(counter);
		counter->name = line;
		counter->value = v;
		c->list[c->n++] = counter;
	}
}

int stats_parse_io(char *line, Podvm__Agent__V1__IoStats *ret)
{
	static const struct {
		const char *name;
		size_t offset;
	} fields[] = {
		{ "rbytes=", offsetof(Podvm__Agent__V1__IoStats, rbytes) },
		{ "wbytes=", offsetof(Podvm__Agent__V1__IoStats, wbytes) },
		{ "rios=", offsetof(Podvm__Agent__V1__IoStats, rios) },
		{ "wios=", offsetof(Podvm__Agent__V1__IoStats, wios) },
	};
	char *save = NULL;
	char *word = strtok_r(line, " ", &save);

	podvm__agent__v1__io_stats__init(ret);
	if (!word || sscanf(word, "%u:%u", &ret->major, &ret->minor) != 2)
		return -EINVAL;
	while ((word = strtok_r(NULL, " ", &save))) {
		for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
			uint64_t *value = (void *)((char *)ret + fields[i].offset);

			if (str_starts(word, fields[i].name))
				(void)parse_u64(word + strlen(fields[i].name), UINT64_MAX, value);
		}
	}
	return 0;
}

/* A file that a controller which isn't there doesn't have leaves zeros. */
static char *read_text(int dir, const char *file)
{
	char *text = NULL;

	return file_read(dir, file, FILE_LIMIT, &text, NULL) == 0 ? text : NULL;
}

static void read_cpu(int dir, PB(CpuStats) * cpu)
{
	_cleanup_(freep) char *text = read_text(dir, "cpu.stat");

	podvm__agent__v1__cpu_stats__init(cpu);
	if (!text)
		return;
	(void)cgroup_field(text, "usage_usec", &cpu->usage_usec);
	(void)cgroup_field(text, "user_usec", &cpu->user_usec);
	(void)cgroup_field(text, "system_usec", &cpu->system_usec);
	(void)cgroup_field(text, "nr_periods", &cpu->nr_periods);
	(void)cgroup_field(text, "nr_throttled", &cpu->nr_throttled);
	(void)cgroup_field(text, "throttled_usec", &cpu->throttled_usec);
}

static void read_memory(int dir, struct stats *s)
{
	PB(MemoryStats) *m = &s->memory;

	podvm__agent__v1__memory_stats__init(m);
	(void)cgroup_u64(dir, "memory.current", &m->usage);
	(void)cgroup_u64(dir, "memory.max", &m->limit);
	(void)cgroup_u64(dir, "memory.peak", &m->peak);
	(void)cgroup_u64(dir, "memory.swap.current", &m->swap_usage);
	(void)cgroup_u64(dir, "memory.swap.max", &m->swap_limit);
	s->memory_stat.text = read_text(dir, "memory.stat");
	s->memory_events.text = read_text(dir, "memory.events");
	if (s->memory_stat.text)
		counters_parse(&s->memory_stat);
	if (s->memory_events.text)
		counters_parse(&s->memory_events);
	m->n_stat = s->memory_stat.n;
	m->stat = s->memory_stat.list;
	m->n_events = s->memory_events.n;
	m->events = s->memory_events.list;
}

static size_t read_io(int dir, struct stats *s)
{
	_cleanup_(freep) char *text = read_text(dir, "io.stat");
	char *save = NULL;
	size_t n = 0;

	for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line && n < STATS_DEVICES;
	     line = strtok_r(NULL, "\n", &save)) {
		if (stats_parse_io(line, &s->io[n]) < 0)
			continue;
		s->io_list[n] = &s->io[n];
		n++;
	}
	return n;
}

static void read_page_size(int dir, PB(HugetlbStats) * h)
{
	_cleanup_(freep) char *events = NULL;
	char file[64];

	snprintf(file, sizeof(file), "hugetlb.%s.current", h->page_size);
	(void)cgroup_u64(dir, file, &h->current);
	snprintf(file, sizeof(file), "hugetlb.%s.max", h->page_size);
	(void)cgroup_u64(dir, file, &h->limit);
	snprintf(file, sizeof(file), "hugetlb.%s.events", h->page_size);
	events = read_text(dir, file);
	if (events)
		(void)cgroup_field(events, "max", &h->failcnt);
}

static size_t read_hugetlb(const char *id, int dir, struct stats *s)
{
	int fd = cgroup_open(id);
	_cleanup_(closedirp) DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	size_t n = 0;

	while (d && n < STATS_HUGETLB && (entry = readdir(d))) {
		if (sscanf(entry->d_name, "hugetlb.%15[0-9KMGB].current", s->page_sizes[n]) != 1 ||
		    !strstr(entry->d_name, "B.current"))
			continue;
		podvm__agent__v1__hugetlb_stats__init(&s->hugetlb[n]);
		s->hugetlb[n].page_size = s->page_sizes[n];
		read_page_size(dir, &s->hugetlb[n]);
		s->hugetlb_list[n] = &s->hugetlb[n];
		n++;
	}
	return n;
}

/* Those that have names are the guest's own: nobody outside of it is waited for. */
static size_t read_filesystems(const struct storage_set *set, struct stats *s)
{
	const char *point;
	const char *name;
	size_t next = 0;
	size_t n = 0;

	while (n < STATS_FILESYSTEMS && (name = storage_named(set, &next, &point))) {
		PB(FilesystemStats) *f = &s->filesystems[n];
		struct statfs st;

		if (statfs(point, &st) < 0)
			continue;
		podvm__agent__v1__filesystem_stats__init(f);
		f->name = (char *)name;
		f->bytes = (uint64_t)st.f_blocks * (uint64_t)st.f_bsize;
		f->bytes_used = (uint64_t)(st.f_blocks - st.f_bfree) * (uint64_t)st.f_bsize;
		f->inodes = st.f_files;
		f->inodes_used = st.f_files - st.f_ffree;
		s->filesystem_list[n++] = f;
	}
	return n;
}

static void stats_free(struct stats *s)
{
	free(s->memory_stat.text);
	free(s->memory_events.text);
	free(s);
}

DEFINE_CLEANUP(stats_freep, struct stats *, stats_free)

HANDLER(serve_stats_container)
{
	const PB(ContainerRequest) *req = (const void *)msg;
	struct container *c = find_container(data, call, req->container_id);
	PB(StatsContainerResponse) resp = PODVM__AGENT__V1__STATS_CONTAINER_RESPONSE__INIT;
	_cleanup_(stats_freep) struct stats *s = NULL;
	_cleanup_(close_fdp) int dir = -EBADF;

	if (!c)
		return;
	dir = cgroup_open(c->id);
	if (dir < 0) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "the container has no cgroup");
		return;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		reply_oom(call);
		return;
	}
	read_cpu(dir, &s->cpu);
	read_memory(dir, s);
	podvm__agent__v1__pids_stats__init(&s->pids);
	(void)cgroup_u64(dir, "pids.current", &s->pids.current);
	(void)cgroup_u64(dir, "pids.max", &s->pids.limit);
	resp.time_ns = now_ns();
	resp.cpu = &s->cpu;
	resp.memory = &s->memory;
	resp.pids = &s->pids;
	resp.n_io = read_io(dir, s);
	resp.io = s->io_list;
	resp.n_hugetlb = read_hugetlb(c->id, dir, s);
	resp.hugetlb = s->hugetlb_list;
	resp.n_filesystems = read_filesystems(&c->mounts, s);
	resp.filesystems = s->filesystem_list;
	ttrpc_reply(call, &resp.base);
}
