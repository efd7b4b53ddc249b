/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/stats.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "proto/metrics.pb-c.h"
#include "proto/sandbox.pb-c.h"
#include "proto/task.pb-c.h"

#define M(name)	     Io__Containerd__Cgroups__V2__##name
#define S(name)	     Containerd__Runtime__Sandbox__V1__##name
#define METRICS_TYPE "io.containerd.cgroups.v2.Metrics"

/* Names of memory.stat and memory.events. */
struct counter {
	const char *name;
	size_t offset;
};

#define COUNTER(name)                                \
	{                                            \
#name, offsetof(M(MemoryStat), name) \
	}

static const struct counter memory_counters[] = {
	COUNTER(anon),
	COUNTER(file),
	COUNTER(kernel_stack),
	COUNTER(slab),
	COUNTER(sock),
	COUNTER(shmem),
	COUNTER(file_mapped),
	COUNTER(file_dirty),
	COUNTER(file_writeback),
	COUNTER(anon_thp),
	COUNTER(inactive_anon),
	COUNTER(active_anon),
	COUNTER(inactive_file),
	COUNTER(active_file),
	COUNTER(unevictable),
	COUNTER(slab_reclaimable),
	COUNTER(slab_unreclaimable),
	COUNTER(pgfault),
	COUNTER(pgmajfault),
	COUNTER(workingset_nodereclaim),
	COUNTER(pgrefill),
	COUNTER(pgscan),
	COUNTER(pgsteal),
	COUNTER(pgactivate),
	COUNTER(pgdeactivate),
	COUNTER(pglazyfree),
	COUNTER(pglazyfreed),
	COUNTER(thp_fault_alloc),
	COUNTER(thp_collapse_alloc),
	/* Since Linux 5.9 there is one for each kind of page. */
	{ "workingset_refault_file", offsetof(M(MemoryStat), workingset_refault) },
	{ "workingset_activate_file", offsetof(M(MemoryStat), workingset_activate) },
};

#define EVENT(name)                                    \
	{                                              \
#name, offsetof(M(MemoryEvents), name) \
	}

static const struct counter event_counters[] = {
	EVENT(low), EVENT(high), EVENT(max), EVENT(oom), EVENT(oom_kill), EVENT(oom_group_kill),
};

static void fill_counters(void *to, const struct counter *table, size_t n,
			  Podvm__Agent__V1__Counter *const *from, size_t n_from)
{
	for (size_t i = 0; i < n_from; i++)
		for (size_t k = 0; k < n; k++)
			if (str_eq(from[i]->name, table[k].name))
				*(uint64_t *)(void *)((char *)to + table[k].offset) =
					from[i]->value;
}

/* The metrics in an Any. Return: Its bytes to be freed, or NULL: the call was answered */
static uint8_t *wrap(struct ttrpc_call *call, const M(Metrics) * metrics,
		     Containerd__Types__Any *ret)
{
	size_t len = protobuf_c_message_get_packed_size(&metrics->base);
	uint8_t *bytes = malloc(len + 1);

	if (!bytes) {
		ttrpc_reply_error(call, TTRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	protobuf_c_message_pack(&metrics->base, bytes);
	containerd__types__any__init(ret);
	ret->type_url = (char *)METRICS_TYPE;
	ret->value.data = bytes;
	ret->value.len = len;
	return bytes;
}

static void reply(struct ttrpc_call *call, const M(Metrics) * metrics)
{
	Containerd__Task__V2__StatsResponse resp = CONTAINERD__TASK__V2__STATS_RESPONSE__INIT;
	Containerd__Types__Any any;
	_cleanup_(freep) uint8_t *bytes = wrap(call, metrics, &any);

	if (!bytes)
		return;
	resp.stats = &any;
	ttrpc_reply(call, &resp.base);
}

static void reply_sandbox(struct ttrpc_call *call, const M(Metrics) * metrics)
{
	const S(SandboxRequest) *req = (const void *)ttrpc_call_request(call);
	S(SandboxMetricsResponse)
	resp = CONTAINERD__RUNTIME__SANDBOX__V1__SANDBOX_METRICS_RESPONSE__INIT;
	S(Metric) metric = CONTAINERD__RUNTIME__SANDBOX__V1__METRIC__INIT;
	Containerd__Types__Timestamp now = CONTAINERD__TYPES__TIMESTAMP__INIT;
	Containerd__Types__Any any;
	_cleanup_(freep) uint8_t *bytes = wrap(call, metrics, &any);
	struct timespec ts;

	if (!bytes)
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	now.seconds = ts.tv_sec;
	now.nanos = (int32_t)ts.tv_nsec;
	metric.timestamp = &now;
	metric.id = req->sandbox_id;
	metric.data = &any;
	resp.metrics = &metric;
	ttrpc_reply(call, &resp.base);
}

static void fill_memory(const Podvm__Agent__V1__MemoryStats *from, M(MemoryStat) * to,
			M(MemoryEvents) * events)
{
	to->usage = from->usage;
	to->usage_limit = from->limit;
	to->swap_usage = from->swap_usage;
	to->swap_limit = from->swap_limit;
	to->max_usage = from->peak;
	fill_counters(to, memory_counters, ARRAY_SIZE(memory_counters), from->stat, from->n_stat);
	fill_counters(events, event_counters, ARRAY_SIZE(event_counters), from->events,
		      from->n_events);
}

static void fill_cpu(const Podvm__Agent__V1__CpuStats *from, M(CPUStat) * to)
{
	to->usage_usec = from->usage_usec;
	to->user_usec = from->user_usec;
	to->system_usec = from->system_usec;
	to->nr_periods = from->nr_periods;
	to->nr_throttled = from->nr_throttled;
	to->throttled_usec = from->throttled_usec;
}

/* Arrays of entries and of pointers to them. */
struct lists {
	M(IOEntry) * io;
	M(IOEntry) * *io_pointers;
	M(HugeTlbStat) * huge;
	M(HugeTlbStat) * *huge_pointers;
};

static void lists_done(struct lists *l)
{
	free(l->io);
	free(l->io_pointers);
	free(l->huge);
	free(l->huge_pointers);
}

static int fill_lists(const Podvm__Agent__V1__StatsContainerResponse *from, struct lists *l)
{
	l->io = calloc(from->n_io + 1, sizeof(*l->io));
	l->io_pointers = calloc(from->n_io + 1, sizeof(*l->io_pointers));
	l->huge = calloc(from->n_hugetlb + 1, sizeof(*l->huge));
	l->huge_pointers = calloc(from->n_hugetlb + 1, sizeof(*l->huge_pointers));
	if (!l->io || !l->io_pointers || !l->huge || !l->huge_pointers)
		return -1;
	for (size_t i = 0; i < from->n_io; i++) {
		io__containerd__cgroups__v2__ioentry__init(&l->io[i]);
		l->io[i].major = from->io[i]->major;
		l->io[i].minor = from->io[i]->minor;
		l->io[i].rbytes = from->io[i]->rbytes;
		l->io[i].wbytes = from->io[i]->wbytes;
		l->io[i].rios = from->io[i]->rios;
		l->io[i].wios = from->io[i]->wios;
		l->io_pointers[i] = &l->io[i];
	}
	for (size_t i = 0; i < from->n_hugetlb; i++) {
		io__containerd__cgroups__v2__huge_tlb_stat__init(&l->huge[i]);
		l->huge[i].current = from->hugetlb[i]->current;
		l->huge[i].max = from->hugetlb[i]->limit;
		l->huge[i].pagesize = from->hugetlb[i]->page_size;
		l->huge[i].failcnt = from->hugetlb[i]->failcnt;
		l->huge_pointers[i] = &l->huge[i];
	}
	return 0;
}

void stats_reply(struct ttrpc_call *call, const Podvm__Agent__V1__StatsContainerResponse *from)
{
	_cleanup_(lists_done) struct lists lists = { 0 };
	M(Metrics) metrics = IO__CONTAINERD__CGROUPS__V2__METRICS__INIT;
	M(CPUStat) cpu = IO__CONTAINERD__CGROUPS__V2__CPUSTAT__INIT;
	M(MemoryStat) memory = IO__CONTAINERD__CGROUPS__V2__MEMORY_STAT__INIT;
	M(MemoryEvents) events = IO__CONTAINERD__CGROUPS__V2__MEMORY_EVENTS__INIT;
	M(PidsStat) pids = IO__CONTAINERD__CGROUPS__V2__PIDS_STAT__INIT;
	M(IOStat) io = IO__CONTAINERD__CGROUPS__V2__IOSTAT__INIT;

	if (fill_lists(from, &lists) < 0) {
		ttrpc_reply_error(call, TTRPC_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	if (from->cpu)
		fill_cpu(from->cpu, &cpu);
	if (from->memory)
		fill_memory(from->memory, &memory, &events);
	if (from->pids) {
		pids.current = from->pids->current;
		pids.limit = from->pids->limit;
	}
	io.usage = lists.io_pointers;
	io.n_usage = from->n_io;
	metrics.cpu = &cpu;
	metrics.memory = &memory;
	metrics.memory_events = &events;
	metrics.pids = &pids;
	metrics.io = &io;
	metrics.hugetlb = lists.huge_pointers;
	metrics.n_hugetlb = from->n_hugetlb;
	reply(call, &metrics);
}

void stats_reply_guest(struct ttrpc_call *call, const Podvm__Agent__V1__GetMetricsResponse *from)
{
	M(Metrics) metrics = IO__CONTAINERD__CGROUPS__V2__METRICS__INIT;
	M(CPUStat) cpu = IO__CONTAINERD__CGROUPS__V2__CPUSTAT__INIT;
	M(MemoryStat) memory = IO__CONTAINERD__CGROUPS__V2__MEMORY_STAT__INIT;
	M(PidsStat) pids = IO__CONTAINERD__CGROUPS__V2__PIDS_STAT__INIT;

	cpu.usage_usec = from->agent_cpu_ns / 1000;
	memory.usage = from->memory_total - from->memory_available;
	memory.usage_limit = from->memory_total;
	memory.anon = from->agent_rss;
	pids.current = from->processes;
	metrics.cpu = &cpu;
	metrics.memory = &memory;
	metrics.pids = &pids;
	if (ttrpc_call_method(call)->output ==
	    &containerd__runtime__sandbox__v1__sandbox_metrics_response__descriptor)
		reply_sandbox(call, &metrics);
	else
		reply(call, &metrics);
}
