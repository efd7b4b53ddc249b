/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/resize.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "agent/service.h"
#include "agent/uevent.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

/**
 * struct resize - A call under way
 * @cpus:	How many are wanted
 * @memory:	MemTotal that is wanted, in bytes
 * @events:	What the kernel announces
 */
struct resize {
	struct agent *agent;
	struct ttrpc_call *call;
	unsigned int cpus;
	uint64_t memory;
	int events;
	struct loop_io *io;
	struct loop_timer *deadline;
};

static uint64_t memory_total(void)
{
	struct sysinfo info = { 0 };

	sysinfo(&info);
	return (uint64_t)info.totalram * info.mem_unit;
}

/* The first one can't be taken offline and has no such file. Return: Whether it's online */
static bool bring_online(unsigned int number)
{
	_cleanup_(freep) char *state = NULL;
	char path[80];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/online", number);
	if (number == 0)
		return true;
	if (file_read(AT_FDCWD, path, 16, &state, NULL) < 0)
		return false;
	return *state == '1' || file_write(AT_FDCWD, path, "1") == 0;
}

/* All of them are there from the start. Return: How many are online of those that are wanted */
static unsigned int bring_cpus_online(unsigned int wanted)
{
	unsigned int n = 0;

	while (n < wanted && bring_online(n))
		n++;
	return n;
}

void resize_done(struct agent *a)
{
	struct resize *rs = TAKE_PTR(a->resize);

	if (!rs)
		return;
	loop_timer_free(rs->deadline);
	loop_io_free(rs->io);
	close_fdp(&rs->events);
	free(rs);
}

static void answer(struct resize *rs, unsigned int cpus, uint64_t memory)
{
	PB(ResizeResponse) resp = PODVM__AGENT__V1__RESIZE_RESPONSE__INIT;
	struct ttrpc_call *call = rs->call;

	log_info("resized", "cpus=%u of=%u memory=%llu of=%llu", cpus, rs->cpus,
		 (unsigned long long)memory, (unsigned long long)rs->memory);
	resize_done(rs->agent);
	cgroup_limit_pod();
	resp.cpus = cpus;
	resp.memory_total = memory;
	ttrpc_reply(call, &resp.base);
}

/* Return: Whether it has been answered */
static bool try(struct resize *rs, bool last)
{
	uint64_t memory = memory_total();

	if (!last && memory < rs->memory)
		return false;
	answer(rs, bring_cpus_online(rs->cpus), memory);
	return true;
}

static void on_event(void *data, int events)
{
	struct resize *rs = data;

	(void)uevent_drain(rs->events);
	(void)try(rs, false);
}

static void on_deadline(void *data)
{
	(void)try(data, true);
}

static int watch(struct resize *rs)
{
	struct loop *loop = rs->agent->loop;
	int r;

	rs->events = uevent_open();
	if (rs->events < 0)
		return rs->events;
	r = loop_io_new(loop, rs->events, LOOP_READ, on_event, rs, &rs->io);
	return r < 0 ? r
		     : loop_timer_new(loop, call_timeout(rs->call), on_deadline, rs, &rs->deadline);
}

HANDLER(serve_resize)
{
	const PB(ResizeRequest) *req = (const void *)msg;
	struct agent *a = data;
	struct resize *rs;

	if (a->resize) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "another Resize is under way");
		return;
	}
	rs = calloc(1, sizeof(*rs));
	if (!rs) {
		reply_oom(call);
		return;
	}
	*rs = (struct resize){ .agent = a,
			       .call = call,
			       .cpus = req->cpus,
			       .memory = req->memory_total,
			       .events = -EBADF };
	a->resize = rs;
	/* From here on nothing is missed. */
	if (watch(rs) < 0) {
		resize_done(a);
		reply_oom(call);
		return;
	}
	(void)try(rs, false);
}
