/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox that grows: the test plays the monitor, which plugs, and the agent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "sandbox/agent_client.h"
#include "sandbox/growth.h"
#include "sandbox/sandbox-internal.h"
#include "vmm/vmm-internal.h"

#include "fake_agent.h"

#define DEADLINE_MS 60000
#define MIB	    ((uint64_t)1 << 20)

struct result {
	bool over;
	int code;
};

struct fixture {
	struct loop *loop;
	struct rundir rd;
	struct sandbox_config config;
	struct sandbox *sandbox;
	struct fake_agent agent;
	struct ttrpc_call *resize; /* not answered yet */
	uint32_t cpus;
	uint64_t memory_total;
	/* what the monitor was asked for */
	unsigned int n_plugs;
	unsigned int vcpus;
	uint64_t memory;
	vmm_done plugged;
	void *plugged_data;
	bool resizing;
};

/* ---- the monitor ---- */

static int fake_resize(struct vmm *vmm, unsigned int vcpus, uint64_t memory, vmm_done done,
		       void *data, struct err *e)
{
	struct fixture *f = vmm->state;

	if (vcpus > 64)
		return err_set(e, -EOPNOTSUPP, "it can't grow");
	f->n_plugs++;
	f->vcpus = vcpus;
	f->memory = memory;
	f->plugged = done;
	f->plugged_data = data;
	return 0;
}

static void fake_failed(struct vmm *vmm, const char *why)
{
	struct fixture *f = vmm->state;
	vmm_done done = f->plugged;
	struct err e = { 0 };

	err_set(&e, -ECONNRESET, "the monitor has ended");
	f->plugged = NULL;
	if (done)
		done(f->plugged_data, &e);
}

static void fake_free(struct vmm *vmm)
{
}

static void on_monitor_exit(void *data, const struct vmm_exit *exit)
{
}

/* Any process will do. */
static int start_monitor(struct fixture *f)
{
	static const struct vmm_driver driver = {
		.name = "fake",
		.resize = fake_resize,
		.failed = fake_failed,
		.free = fake_free,
	};
	char *argv[] = { (char *)"sleep", (char *)"1000", NULL };
	struct spawn s = SPAWN_INIT;
	int r = vmm_new(f->loop, &driver, NULL, NULL, &f->sandbox->vmm);

	if (r < 0)
		return r;
	f->sandbox->vmm->state = f;
	f->sandbox->vmm->vcpus = 1;
	f->sandbox->vmm->memory = 128 * MIB;
	s.path = argv[0];
	s.argv = argv;
	return vmm_proc_start(f->loop, &s, on_monitor_exit, NULL, &f->sandbox->vmm->proc, NULL);
}

/* The monitor has done as much of it as this. */
static void plug_done(struct fixture *f, unsigned int vcpus, uint64_t memory, int code)
{
	vmm_done done = TAKE_PTR(f->plugged);
	struct err e = { 0 };

	f->sandbox->vmm->vcpus = vcpus;
	f->sandbox->vmm->memory = memory;
	if (code < 0)
		err_set(&e, code, "not all of it");
	done(f->plugged_data, code < 0 ? &e : NULL);
}

static void serve_resize(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Podvm__Agent__V1__ResizeRequest *req = (const void *)msg;
	struct fixture *f = data;

	f->cpus = req->cpus;
	f->memory_total = req->memory_total;
	f->resize = call;
	f->resizing = true;
}

static void agent_answers(struct fixture *f)
{
	Podvm__Agent__V1__ResizeResponse resp = PODVM__AGENT__V1__RESIZE_RESPONSE__INIT;

	assert_int_equal(loop_run_until(f->loop, &f->resizing, DEADLINE_MS), 0);
	f->resizing = false;
	ttrpc_reply(TAKE_PTR(f->resize), &resp.base);
}

static void on_done(void *data, const struct err *e)
{
	struct result *r = data;

	assert_false(r->over);
	r->over = true;
	r->code = e ? e->code : 0;
}

static void await(struct fixture *f, const struct result *r)
{
	assert_int_equal(loop_run_until(f->loop, &r->over, DEADLINE_MS), 0);
}

/* A sandbox of one CPU and 128 MiB, whose guest has 100 MiB. */
static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (!f || loop_new(&f->loop) < 0)
		return -1;
	f->rd = RUNDIR_INIT;
	f->config = (struct sandbox_config){ .rundir = &f->rd, .vcpus = 1, .memory = 128 * MIB };
	fake_agent_serve(&f->agent, "Resize", serve_resize);
	if (sandbox_new(f->loop, &f->config, NULL, NULL, &f->sandbox) < 0 || start_monitor(f) < 0)
		return -1;
	f->sandbox->state = SANDBOX_RUNNING;
	f->sandbox->guest_memory = 100 * MIB;
	return fake_agent_start(&f->agent, f->loop, f, &f->sandbox->agent);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	sandbox_free(f->sandbox);
	fake_agent_end(&f->agent);
	loop_free(f->loop);
	free(f);
	return 0;
}

static int grow(struct fixture *f, unsigned int vcpus, uint64_t mib, struct result *r,
		struct growth **g, struct err *e)
{
	*r = (struct result){ 0 };
	return sandbox_grow(f->sandbox, vcpus, mib * MIB, on_done, r, g, e);
}

static void test_it_is_large_enough(void **state)
{
	struct fixture *f = *state;
	struct growth *g;
	struct result r;

	assert_int_equal(grow(f, 1, 128, &r, &g, NULL), 0);
	assert_int_equal(grow(f, 0, 0, &r, &g, NULL), 0);
	assert_int_equal(f->n_plugs, 0);
}

static void test_first_the_monitor_then_the_guest(void **state)
{
	struct fixture *f = *state;
	struct growth *g;
	struct result r;

	assert_int_equal(grow(f, 2, 300, &r, &g, NULL), STAGE_PENDING);
	assert_int_equal(f->vcpus, 2);
	assert_int_equal(f->memory, 300 * MIB);
	plug_done(f, 2, 384 * MIB, 0);
	agent_answers(f);
	await(f, &r);
	assert_int_equal(r.code, 0);
	/* What the kernel keeps to itself stays the same. */
	assert_int_equal(f->cpus, 2);
	assert_int_equal(f->memory_total, (384 - 28) * MIB);
}

static void test_what_was_plugged_before_a_failure_is_used(void **state)
{
	struct fixture *f = *state;
	struct growth *g;
	struct result r;

	assert_int_equal(grow(f, 4, 128, &r, &g, NULL), STAGE_PENDING);
	plug_done(f, 2, 128 * MIB, -EIO);
	agent_answers(f);
	await(f, &r);
	assert_int_equal(f->cpus, 2);
	assert_int_equal(r.code, -EIO);
}

static void test_wishes_come_one_after_the_other(void **state)
{
	struct result a, b, c;
	struct fixture *f = *state;
	struct growth *g;

	assert_int_equal(grow(f, 2, 256, &a, &g, NULL), STAGE_PENDING);
	assert_int_equal(grow(f, 2, 200, &b, &g, NULL), STAGE_PENDING);
	assert_int_equal(grow(f, 3, 200, &c, &g, NULL), STAGE_PENDING);
	assert_int_equal(f->n_plugs, 1);
	plug_done(f, 2, 256 * MIB, 0);
	agent_answers(f);
	await(f, &a);
	/* The second one was fulfilled with the first. */
	assert_true(b.over && b.code == 0 && !c.over);
	assert_int_equal(f->n_plugs, 2);
	plug_done(f, 3, 256 * MIB, 0);
	agent_answers(f);
	await(f, &c);
	assert_int_equal(c.code, 0);
}

static void test_a_machine_that_cannot_grow(void **state)
{
	struct fixture *f = *state;
	struct result a, b;
	struct err e = { 0 };
	struct growth *g;

	assert_int_equal(grow(f, 65, 128, &a, &g, &e), -EOPNOTSUPP);
	assert_string_equal(e.msg, "it can't grow");
	assert_int_equal(grow(f, 2, 128, &a, &g, NULL), STAGE_PENDING);
	assert_int_equal(grow(f, 65, 128, &b, &g, NULL), STAGE_PENDING);
	plug_done(f, 2, 128 * MIB, 0);
	agent_answers(f);
	await(f, &b);
	assert_int_equal(a.code, 0);
	assert_int_equal(b.code, -EOPNOTSUPP);
}

static void test_who_has_gone_is_not_told(void **state)
{
	struct fixture *f = *state;
	struct result a, b;
	struct growth *g;

	assert_int_equal(grow(f, 2, 128, &a, &g, NULL), STAGE_PENDING);
	growth_cancel(g);
	assert_int_equal(grow(f, 3, 128, &b, &g, NULL), STAGE_PENDING);
	plug_done(f, 2, 128 * MIB, 0);
	agent_answers(f);
	while (f->n_plugs < 2)
		(void)loop_run_until(f->loop, &b.over, 1);
	plug_done(f, 3, 128 * MIB, 0);
	agent_answers(f);
	await(f, &b);
	assert_false(a.over);
}

/* Whether it's plugging or the guest is asked: all wishes end with the machine. */
static void test_the_end_of_the_machine(void **state)
{
	struct fixture *f = *state;
	struct result a, b;
	struct growth *g;

	assert_int_equal(grow(f, 2, 128, &a, &g, NULL), STAGE_PENDING);
	assert_int_equal(grow(f, 3, 128, &b, &g, NULL), STAGE_PENDING);
	if (f->config.vcpus == 1)
		plug_done(f, 2, 128 * MIB, 0);
	sandbox_free(TAKE_PTR(f->sandbox));
	assert_true(a.over && b.over);
	assert_true(a.code < 0 && b.code < 0);
}

static void test_the_end_while_it_plugs(void **state)
{
	struct fixture *f = *state;

	f->config.vcpus = 2;
	test_the_end_of_the_machine(state);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_it_is_large_enough),
		T(test_first_the_monitor_then_the_guest),
		T(test_what_was_plugged_before_a_failure_is_used),
		T(test_wishes_come_one_after_the_other),
		T(test_a_machine_that_cannot_grow),
		T(test_who_has_gone_is_not_told),
		T(test_the_end_of_the_machine),
		T(test_the_end_while_it_plugs),
	};

	return cmocka_run_group_tests_name("growth", tests, NULL, NULL);
}
