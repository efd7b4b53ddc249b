/* SPDX-License-Identifier: Apache-2.0 */
/*
 * podvm stats: what containers use, in their guest and on the host. CPU is the share of one CPU
 * since the last time a container was asked, the first time since it was started. A pod has a line
 * of its own with what its machine uses, and one for every container.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/procs.h"
#include "cli/table.h"
#include "cli/target.h"
#include "loop/loop.h"
#include "oci/json.h"
#include "proto/agent.pb-c.h"
#include "sandbox/container.h"

#define USAGE "podvm stats [OPTIONS] [NAME...]"

/**
 * struct sample - What one container uses
 * @id:		Of the container, or of the pod
 * @member:	It's a container of a pod: network and host are the pod's
 * @time_ns:	When it was asked
 * @cpu_percent: 100: all of one CPU
 * @limit:	Of memory: the container's, or what the machine has
 * @disk_used, @disk_size: Of what it writes to
 * @filesystems: Everything of the guest that it writes to, as JSON; NULL: nothing
 * @host:	The host's processes, as JSON; NULL: not told
 * @host_pss:	Sum over them, and @host_private that of their private memory
 */
struct sample {
	char id[RUNDIR_CONTAINER_LEN + 1];
	char *name;
	bool member;
	uint64_t started_ns;
	uint64_t time_ns;
	uint64_t cpu_usec;
	double cpu_percent;
	uint64_t memory;
	uint64_t limit;
	uint64_t rx_bytes;
	uint64_t tx_bytes;
	uint64_t read_bytes;
	uint64_t written_bytes;
	uint64_t pids;
	uint64_t disk_used;
	uint64_t disk_size;
	struct json_object *filesystems;
	struct json_object *host;
	uint64_t host_pss;
	uint64_t host_private;
};

struct samples {
	struct sample *v;
	size_t n;
};

static void sample_done(struct sample *s)
{
	free(s->name);
	json_object_put(s->filesystems);
	json_object_put(s->host);
}

static void samples_cut(struct samples *s, size_t n)
{
	while (s->n > n)
		sample_done(&s->v[--s->n]);
}

static void samples_done(struct samples *s)
{
	samples_cut(s, 0);
	free(s->v);
	*s = (struct samples){ 0 };
}

static int take_filesystems(const Podvm__Agent__V1__StatsContainerResponse *resp, struct sample *s)
{
	s->filesystems = json_object_new_array();
	if (!s->filesystems)
		return -ENOMEM;
	for (size_t i = 0; i < resp->n_filesystems; i++) {
		const Podvm__Agent__V1__FilesystemStats *f = resp->filesystems[i];
		struct json_object *obj = json_push_object(s->filesystems);

		if (!obj || json_add_string(obj, "name", f->name) < 0 ||
		    json_add_u64(obj, "bytes", f->bytes) < 0 ||
		    json_add_u64(obj, "bytes_used", f->bytes_used) < 0 ||
		    json_add_u64(obj, "inodes", f->inodes) < 0 ||
		    json_add_u64(obj, "inodes_used", f->inodes_used) < 0)
			return -ENOMEM;
		if (!str_eq(f->name, CONTAINER_LAYER))
			continue;
		s->disk_used = f->bytes_used;
		s->disk_size = f->bytes;
	}
	return 0;
}

static int ask_container(const struct target *t, const char *id, struct sample *s, struct err *e)
{
	Podvm__Agent__V1__ContainerRequest req = PODVM__AGENT__V1__CONTAINER_REQUEST__INIT;
	const Podvm__Agent__V1__StatsContainerResponse *resp;
	ProtobufCMessage *msg;
	int r;

	req.container_id = (char *)id;
	r = target_call(t, "StatsContainer", &req.base, &msg, e);
	if (r < 0)
		return r;
	resp = (const void *)msg;
	s->time_ns = clock_real_ns();
	if (resp->cpu)
		s->cpu_usec = resp->cpu->usage_usec;
	if (resp->memory) {
		s->memory = resp->memory->usage;
		s->limit = resp->memory->limit;
	}
	if (resp->pids)
		s->pids = resp->pids->current;
	for (size_t i = 0; i < resp->n_io; i++) {
		s->read_bytes += resp->io[i]->rbytes;
		s->written_bytes += resp->io[i]->wbytes;
	}
	r = take_filesystems(resp, s);
	protobuf_c_message_free_unpacked(msg, NULL);
	return r < 0 ? err_oom(e) : 0;
}

static int ask_guest(const struct target *t, struct sample *s, struct err *e)
{
	Podvm__Agent__V1__GetMetricsRequest req = PODVM__AGENT__V1__GET_METRICS_REQUEST__INIT;
	const Podvm__Agent__V1__GetMetricsResponse *resp;
	ProtobufCMessage *msg;
	int r = target_call(t, "GetMetrics", &req.base, &msg, e);

	if (r < 0)
		return r;
	resp = (const void *)msg;
	/* A pod has no limit of its own, and uses what isn't there any more for anybody in it. */
	if (!s->limit)
		s->memory = resp->memory_total - MIN(resp->memory_total, resp->memory_available);
	s->limit = s->limit ? MIN(s->limit, resp->memory_total) : resp->memory_total;
	for (size_t i = 0; i < resp->n_networks; i++) {
		if (s->member || str_eq(resp->networks[i]->name, "lo"))
			continue;
		s->rx_bytes += resp->networks[i]->rx_bytes;
		s->tx_bytes += resp->networks[i]->tx_bytes;
	}
	protobuf_c_message_free_unpacked(msg, NULL);
	return 0;
}

static int ask_host(const struct target *t, struct sample *s, struct err *e)
{
	_cleanup_(freep) struct host_process *v = NULL;
	size_t n = 0;
	int r = host_processes(t->st.owner_pid, t->st.vmm_pid, &v, &n);

	if (r < 0)
		return err_errno(e, r, "cannot read the processes in /proc");
	for (size_t i = 0; i < n; i++) {
		s->host_pss += v[i].memory.pss;
		s->host_private += v[i].memory.private;
	}
	s->host = json_object_new_array();
	return s->host && host_processes_json(s->host, v, n) == 0 ? 0 : err_oom(e);
}

static double cpu_percent(const struct sample *s, const struct samples *before)
{
	uint64_t since = s->started_ns;
	uint64_t usec = s->cpu_usec;

	for (size_t i = 0; i < before->n; i++) {
		if (!str_eq(before->v[i].id, s->id))
			continue;
		since = before->v[i].time_ns;
		usec -= MIN(usec, before->v[i].cpu_usec);
	}
	if (s->time_ns <= since)
		return 0;
	return (double)usec * 1000 * 100 / (double)(s->time_ns - since);
}

/* Takes the sample over. */
static int add_sample(struct samples *to, struct sample *s, const char *id, const char *name,
		      uint64_t started_ns, const struct samples *before)
{
	struct sample *v = reallocarray(to->v, to->n + 1, sizeof(*v));

	if (v)
		to->v = v;
	if (!v || str_set(&s->name, name) < 0)
		return -ENOMEM;
	snprintf(s->id, sizeof(s->id), "%s", id);
	s->started_ns = started_ns;
	s->cpu_percent = cpu_percent(s, before);
	v[to->n++] = *s;
	*s = (struct sample){ 0 };
	return 0;
}

/* What is needed for the samples of a pod's containers. */
struct round {
	const struct target *target;
	const struct samples *before;
	struct samples *samples;
	struct sample sum;
};

static int sample_member(void *data, int dirfd, const struct rundir_state *st)
{
	struct round *round = data;
	_cleanup_(sample_done) struct sample s = { .member = true };
	_cleanup_(freep) char *name = str_printf("%s/%s", round->target->st.name, st->name);

	if (!name)
		return -ENOMEM;
	/* It may have ended meanwhile. */
	if (st->status != RUNDIR_RUNNING || ask_container(round->target, st->id, &s, NULL) < 0 ||
	    ask_guest(round->target, &s, NULL) < 0)
		return 0;
	round->sum.cpu_usec += s.cpu_usec;
	round->sum.read_bytes += s.read_bytes;
	round->sum.written_bytes += s.written_bytes;
	round->sum.pids += s.pids;
	return add_sample(round->samples, &s, st->id, name, st->started_ns, round->before);
}

/* The pod's line comes first, but is known last. */
static int sample_pod(struct round *round, struct err *e)
{
	const struct target *t = round->target;
	struct sample s = { 0 };
	size_t first = round->samples->n;
	int r;

	r = add_sample(round->samples, &s, t->rd.id, t->st.name, t->st.started_ns, round->before);
	if (r == 0)
		r = rundir_each_container(&t->rd, sample_member, round);
	if (r < 0)
		return err_errno(e, r, "cannot ask the containers of pod %s", t->st.name);
	s = round->samples->v[first];
	s.time_ns = clock_real_ns();
	s.cpu_usec = round->sum.cpu_usec;
	s.read_bytes = round->sum.read_bytes;
	s.written_bytes = round->sum.written_bytes;
	s.pids = round->sum.pids;
	s.cpu_percent = cpu_percent(&s, round->before);
	r = ask_guest(t, &s, e);
	if (r == 0)
		r = ask_host(t, &s, e);
	round->samples->v[first] = s;
	if (r < 0)
		samples_cut(round->samples, first);
	return r;
}

static int take_sample(const struct target *t, const struct samples *before, struct samples *ret,
		       struct err *e)
{
	struct round round = { .target = t, .before = before, .samples = ret };
	_cleanup_(sample_done) struct sample s = { .member = t->dir >= 0 };
	int r;

	if (t->st.pod)
		return sample_pod(&round, e);
	r = ask_container(t, t->st.id, &s, e);
	if (r == 0)
		r = ask_guest(t, &s, e);
	if (r == 0 && !s.member)
		r = ask_host(t, &s, e);
	if (r < 0)
		return r;
	r = add_sample(ret, &s, t->st.id, t->st.name, t->st.started_ns, before);
	return r < 0 ? err_oom(e) : 0;
}

/* "1.2MB / 3.4MB" */
static const char *pair(char *buf, size_t size, uint64_t a, uint64_t b)
{
	char left[32];
	char right[32];

	snprintf(buf, size, "%s / %s", cli_human_size(left, sizeof(left), a),
		 cli_human_size(right, sizeof(right), b));
	return buf;
}

static int add_row(struct table *table, const struct sample *s)
{
	char id[16];
	char cpu[32];
	char mem[80];
	char percent[32];
	char net[80];
	char block[80];
	char disk[80];
	char pids[32];
	char host[80];

	snprintf(id, sizeof(id), "%.12s", s->id);
	snprintf(cpu, sizeof(cpu), "%.2f%%", s->cpu_percent);
	snprintf(percent, sizeof(percent), "%.2f%%",
		 s->limit ? 100 * (double)s->memory / (double)s->limit : 0);
	snprintf(pids, sizeof(pids), "%llu", (unsigned long long)s->pids);
	return table_row(
		table, id, s->name, cpu, pair(mem, sizeof(mem), s->memory, s->limit), percent,
		s->member ? "--" : pair(net, sizeof(net), s->rx_bytes, s->tx_bytes),
		pair(block, sizeof(block), s->read_bytes, s->written_bytes),
		s->disk_size ? pair(disk, sizeof(disk), s->disk_used, s->disk_size) : "--", pids,
		s->member ? "--" : pair(host, sizeof(host), s->host_pss, s->host_private));
}

static int print_table(const struct samples *samples)
{
	_cleanup_(table_done) struct table table = { .columns = 10 };
	int r = table_row(&table, "ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET IO",
			  "BLOCK IO", "DISK USAGE / SIZE", "PIDS", "HOST PSS / PRIVATE");

	for (size_t i = 0; i < samples->n && r == 0; i++)
		r = add_row(&table, &samples->v[i]);
	if (r == 0)
		table_print(&table);
	return r;
}

static int add_json(struct json_object *array, const struct sample *s)
{
	struct json_object *obj = json_push_object(array);

	if (!obj || json_add_string(obj, "id", s->id) < 0 ||
	    json_add_string(obj, "name", s->name) < 0 ||
	    json_add(obj, "cpu_percent", json_object_new_double(s->cpu_percent)) < 0 ||
	    json_add_u64(obj, "cpu_usec", s->cpu_usec) < 0 ||
	    json_add_u64(obj, "memory", s->memory) < 0 ||
	    json_add_u64(obj, "memory_limit", s->limit) < 0 ||
	    json_add_u64(obj, "net_rx_bytes", s->rx_bytes) < 0 ||
	    json_add_u64(obj, "net_tx_bytes", s->tx_bytes) < 0 ||
	    json_add_u64(obj, "block_read_bytes", s->read_bytes) < 0 ||
	    json_add_u64(obj, "block_written_bytes", s->written_bytes) < 0 ||
	    json_add_u64(obj, "pids", s->pids) < 0 ||
	    (s->filesystems && json_add(obj, "filesystems", json_object_get(s->filesystems)) < 0) ||
	    json_add_u64(obj, "host_pss", s->host_pss) < 0 ||
	    json_add_u64(obj, "host_private", s->host_private) < 0 ||
	    (s->host && json_add(obj, "host_processes", json_object_get(s->host)) < 0))
		return -ENOMEM;
	return 0;
}

static int print_json(const struct samples *samples)
{
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();
	int r = array ? 0 : -ENOMEM;

	for (size_t i = 0; i < samples->n && r == 0; i++)
		r = add_json(array, &samples->v[i]);
	return r < 0 ? r : cli_print_json(array);
}

/* One round over the containers that are named, or all that run. */
static int sample_all(struct cli *cli, char **names, const struct samples *before,
		      struct samples *ret)
{
	_cleanup_(targets_done) struct targets ts = { 0 };
	int code = targets_get(cli, !*names, TARGETS_RUNNING, names, USAGE, &ts);

	for (size_t i = 0; i < ts.n; i++) {
		struct err e = { 0 };

		/* Among all there may be one that is just starting or ending. */
		if (take_sample(&ts.v[i], before, ret, &e) < 0 && *names)
			code = cli_fail(&e);
	}
	return code;
}

static int stats_once(struct cli *cli, char **names, bool json, struct samples *before)
{
	struct samples now = { 0 };
	struct err e = { 0 };
	int code = sample_all(cli, names, before, &now);

	if ((json ? print_json(&now) : print_table(&now)) < 0) {
		err_oom(&e);
		code = cli_fail(&e);
	}
	samples_done(before);
	*before = now;
	return code;
}

static void on_tick(void *data)
{
	loop_stop(data);
}

static int stats_stream(struct cli *cli, char **names, bool json, unsigned int seconds,
			struct samples *before)
{
	struct loop_timer *tick = NULL;
	struct loop *loop = NULL;
	struct err e = { 0 };
	int r = loop_new(&loop);
	int code = 0;

	if (r == 0)
		r = loop_timer_new(loop, 0, on_tick, loop, &tick);
	while (r == 0 && code == 0 && !ferror(stdout)) {
		loop_run(loop);
		if (!json && isatty(STDOUT_FILENO))
			fputs("\033[H\033[J", stdout);
		code = stats_once(cli, names, json, before);
		fflush(stdout);
		r = loop_timer_set(tick, (uint64_t)seconds * 1000);
	}
	loop_timer_free(tick);
	loop_free(loop);
	if (r < 0) {
		err_errno(&e, r, "cannot use a timer");
		code = cli_fail(&e);
	}
	return code;
}

int cli_stats(struct cli *cli, int argc, char **argv)
{
	_cleanup_(samples_done) struct samples before = { 0 };
	unsigned int seconds = 5;
	bool no_stream = false;
	bool json = false;
	const struct cli_option options[] = {
		{ "no-stream", 0, CLI_FLAG, &no_stream, NULL, "Only once" },
		{ "interval", 'i', CLI_UINT, &seconds, "SECONDS", "Between two times; default: 5" },
		{ "json", 0, CLI_FLAG, &json, NULL, "As JSON" },
	};
	struct err e = { 0 };
	int rest = 0;
	int r = cli_parse(USAGE, options, ARRAY_SIZE(options), argc, argv, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0 && seconds == 0)
		r = err_set(&e, -EINVAL, "--interval is at least 1");
	if (r < 0)
		return cli_fail(&e);
	if (no_stream)
		return stats_once(cli, argv + rest, json, &before);
	return stats_stream(cli, argv + rest, json, seconds, &before);
}
