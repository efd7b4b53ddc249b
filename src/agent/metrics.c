/* SPDX-License-Identifier: Apache-2.0 */
/* GetMetrics: numbers of the guest as a whole and of the agent itself. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "agent/metrics.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define FILE_LIMIT ((size_t)64 << 10)

uint64_t meminfo_field(const char *text, const char *name)
{
	size_t n = strlen(name);
	unsigned long long kb;

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, n) == 0 && line[n] == ':' &&
		    sscanf(line + n + 1, "%llu kB", &kb) == 1)
			return (uint64_t)kb * 1024;
	}
	return 0;
}

int net_dev_parse(char *line, Podvm__Agent__V1__NetworkStats *ret)
{
	char *colon = strchr(line, ':');
	unsigned long long v[12];

	podvm__agent__v1__network_stats__init(ret);
	if (!colon)
		return -EINVAL;
	*colon = '\0';
	/* bytes packets errs drop fifo frame compressed multicast, then the same of sending */
	if (sscanf(colon + 1, "%llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0],
		   &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8], &v[9], &v[10],
		   &v[11]) != 12)
		return -EINVAL;
	ret->name = line + strspn(line, " ");
	ret->rx_bytes = v[0];
	ret->rx_packets = v[1];
	ret->rx_errors = v[2];
	ret->rx_dropped = v[3];
	ret->tx_bytes = v[8];
	ret->tx_packets = v[9];
	ret->tx_errors = v[10];
	ret->tx_dropped = v[11];
	return 0;
}

static void read_memory(PB(GetMetricsResponse) * resp)
{
	_cleanup_(freep) char *text = NULL;

	if (file_read(AT_FDCWD, "/proc/meminfo", FILE_LIMIT, &text, NULL) < 0)
		return;
	resp->memory_total = meminfo_field(text, "MemTotal");
	resp->memory_free = meminfo_field(text, "MemFree");
	resp->memory_available = meminfo_field(text, "MemAvailable");
	resp->memory_cached = meminfo_field(text, "Cached");
}

static void read_agent(PB(GetMetricsResponse) * resp)
{
	_cleanup_(freep) char *text = NULL;
	struct timespec ts;
	unsigned long long rss;

	if (file_read(AT_FDCWD, "/proc/self/statm", 256, &text, NULL) == 0 &&
	    sscanf(text, "%*u %llu", &rss) == 1)
		resp->agent_rss = rss * (uint64_t)sysconf(_SC_PAGESIZE);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	resp->agent_cpu_ns = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
	clock_gettime(CLOCK_BOOTTIME, &ts);
	resp->uptime_ns = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

HANDLER(serve_get_metrics)
{
	const struct agent *a = data;
	PB(GetMetricsResponse) resp = PODVM__AGENT__V1__GET_METRICS_RESPONSE__INIT;
	PB(NetworkStats) devices[METRICS_DEVICES];
	PB(NetworkStats) * list[METRICS_DEVICES];
	_cleanup_(freep) char *text = NULL;
	struct sysinfo info = { 0 };
	char *save = NULL;

	read_memory(&resp);
	read_agent(&resp);
	sysinfo(&info);
	resp.processes = info.procs;
	resp.containers = (uint32_t)a->n_containers;
	if (file_read(AT_FDCWD, "/proc/net/dev", FILE_LIMIT, &text, NULL) == 0) {
		for (char *line = strtok_r(text, "\n", &save);
		     line && resp.n_networks < METRICS_DEVICES;
		     line = strtok_r(NULL, "\n", &save)) {
			list[resp.n_networks] = &devices[resp.n_networks];
			resp.n_networks += net_dev_parse(line, &devices[resp.n_networks]) == 0;
		}
	}
	resp.networks = list;
	ttrpc_reply(call, &resp.base);
}
