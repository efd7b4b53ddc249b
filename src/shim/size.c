/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/size.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "sandbox/growth.h"
#include "shim/task.h"

#define DEFAULT_CPU_PERIOD 100000
#define WHOLE_CPU	   1000

/**
 * struct size_fit - A machine that is made to fit
 * @growth:	What the sandbox core does
 * @vcpus, @memory: What is wanted
 */
struct size_fit {
	struct shim *shim;
	struct growth *growth;
	unsigned int vcpus;
	uint64_t memory;
	void (*done)(void *data);
	void *data;
};

/* ---- limits ---- */

/* Whether there is such a number; what isn't positive means that there's no limit. */
static bool find_limit(struct json_object *obj, const char *name, uint64_t *ret)
{
	struct json_object *n = obj ? json_get(obj, name, json_type_int) : NULL;
	int64_t v = n ? json_object_get_int64(n) : 0;

	if (n)
		*ret = v > 0 ? (uint64_t)v : 0;
	return n;
}

void size_limits_update(struct size_limits *l, struct json_object *resources)
{
	struct json_object *memory = json_get(resources, "memory", json_type_object);
	struct json_object *cpu = json_get(resources, "cpu", json_type_object);
	uint64_t period = 0;
	uint64_t quota;

	(void)find_limit(memory, "limit", &l->memory);
	if (!find_limit(cpu, "quota", &quota))
		return;
	(void)find_limit(cpu, "period", &period);
	if (period == 0)
		period = DEFAULT_CPU_PERIOD;
	if (__builtin_mul_overflow(quota, WHOLE_CPU, &l->cpu))
		l->cpu = UINT64_MAX;
	l->cpu /= period;
}

static void add(uint64_t *sum, uint64_t n)
{
	if (__builtin_add_overflow(*sum, n, sum))
		*sum = UINT64_MAX;
}

/* What all tasks want that run or are going to. */
static struct size_limits sum(const struct shim *shim)
{
	struct size_limits all = { 0 };
	struct size_limits pod = { 0 };
	struct task *t;

	list_for_each (t, &shim->tasks, node) {
		if (t->sandbox)
			pod = t->limits;
		if (t->sandbox || t->init.state == PROCESS_STOPPED)
			continue;
		add(&all.memory, t->limits.memory);
		add(&all.cpu, t->limits.cpu);
	}
	return (struct size_limits){ MAX(all.memory, pod.memory), MAX(all.cpu, pod.cpu) };
}

/* ---- the machine ---- */

/* What this pod got, and nobody has been told of a better one yet. */
static void report(struct size_fit *f, const struct err *e)
{
	struct pod *pod = &f->shim->pod;
	unsigned int vcpus = 0;
	uint64_t memory = 0;
	bool less;

	if (e && e->code == -ECONNRESET)
		return;
	pod_size(pod, &vcpus, &memory);
	less = vcpus < f->vcpus || memory < f->memory;
	if ((!e && !less) || pod->growth_refused)
		return;
	log_warn("the machine is smaller than the limits of its containers",
		 "sandbox=%s vcpus=%u wanted=%u memory=%llu wanted=%llu error=\"%s\" hint=\"%s\"",
		 pod->rundir.id, vcpus, f->vcpus, (unsigned long long)memory,
		 (unsigned long long)f->memory, e ? e->msg : "its maximum is reached",
		 e ? e->hint : "");
	pod->growth_refused = true;
}

static void on_grown(void *data, const struct err *e)
{
	struct size_fit *f = data;

	f->growth = NULL;
	report(f, e);
	f->done(f->data);
	free(f);
}

/* Never less than the pod was started with. */
static void set_wanted(struct size_fit *f)
{
	const struct pod *pod = &f->shim->pod;
	struct size_limits want = sum(f->shim);

	f->vcpus = MAX((unsigned int)MIN(want.cpu / WHOLE_CPU + (want.cpu % WHOLE_CPU != 0), 1024),
		       pod->sandbox_config.vcpus);
	if (want.memory)
		add(&want.memory, pod->config.guest_overhead);
	f->memory = MAX(want.memory, pod->sandbox_config.memory);
}

int size_fit(struct shim *shim, void (*done)(void *data), void *data, struct size_fit **ret)
{
	struct size_fit *f = calloc(1, sizeof(*f));
	struct err e = { 0 };
	int r;

	if (!f) {
		log_warn("cannot let the machine grow", "error=\"out of memory\"");
		return 0;
	}
	*f = (struct size_fit){ .shim = shim, .done = done, .data = data };
	set_wanted(f);
	r = sandbox_grow(shim->pod.sandbox, f->vcpus, f->memory, on_grown, f, &f->growth, &e);
	if (r == STAGE_PENDING) {
		*ret = f;
		return r;
	}
	if (r < 0)
		report(f, &e);
	free(f);
	return 0;
}

void size_fit_cancel(struct size_fit *f)
{
	if (!f)
		return;
	growth_cancel(f->growth);
	free(f);
}
