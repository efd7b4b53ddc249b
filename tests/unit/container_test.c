/* SPDX-License-Identifier: Apache-2.0 */
/* Containers with a monitor and an agent that the test plays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "sandbox/agent_client.h"
#include "sandbox/container.h"
#include "sandbox/sandbox-internal.h"
#include "vmm/vmm-internal.h"

#include "fake_agent.h"

#define DEADLINE_MS 60000
#define DISKS	    2

/**
 * struct fixture - A sandbox that runs
 * @plugging:	Disks whose plugging isn't answered, in their order
 * @asked:	All disks of a container were asked for
 * @unplugging: Disks whose unplugging isn't answered, and how many were
 * @all_gone:	All of them were unplugged, in turns of the loop that @timers make
 * @disk_fd:	Any file
 * @files:	Written into the guest
 * @create:	CreateContainer that isn't answered, and @wait a Wait
 * @created, @waiting, @removed: The agent was asked for that
 * @storages:	"DRIVER:MOUNTPOINT " of each
 * @refuse:	The agent can't create it
 * @done, @e:	How what the test began has ended
 * @exited, @status, @lost: What container_wait() told
 */
struct fixture {
	struct loop *loop;
	struct rundir rd;
	struct sandbox_config config;
	struct sandbox *sandbox;
	struct vmm_driver driver;
	struct fake_agent agent;
	struct {
		vmm_done done;
		void *data;
	} plugging[DISKS], unplugging[DISKS];
	int disks;
	bool asked;
	int unplugged;
	bool all_gone;
	struct loop_timer *timers[DISKS];
	int disk_fd;
	int files;
	struct ttrpc_call *create;
	struct ttrpc_call *wait;
	bool created;
	bool waiting;
	bool removed;
	char storages[256];
	bool refuse;
	struct container *container;
	bool done;
	struct err e;
	bool exited;
	unsigned int status;
	int lost;
};

/* ---- the monitor ---- */

static int fake_attach(struct vmm *vmm, const struct vmm_disk *disk, struct vmm_disk_addr *ret,
		       vmm_done done, void *data, struct err *e)
{
	struct fixture *f = vmm->state;

	assert_true(f->disks < DISKS);
	snprintf(ret->driver, sizeof(ret->driver), "scsi");
	snprintf(ret->source, sizeof(ret->source), "%d", f->disks);
	f->plugging[f->disks].done = done;
	f->plugging[f->disks++].data = data;
	f->asked = disk->discard;
	return 0;
}

static void on_let_go(void *data)
{
	struct fixture *f = data;

	for (int i = 0; i < f->unplugged; i++)
		if (f->unplugging[i].done)
			TAKE_PTR(f->unplugging[i].done)(f->unplugging[i].data, NULL);
	f->all_gone = f->unplugged == DISKS;
}

/* The monitor lets go of a disk in the next turn of the loop. */
static int fake_detach(struct vmm *vmm, const struct vmm_disk_addr *addr, vmm_done done, void *data,
		       struct err *e)
{
	struct fixture *f = vmm->state;

	assert_true(f->unplugged < DISKS);
	f->unplugging[f->unplugged].done = done;
	f->unplugging[f->unplugged++].data = data;
	return loop_timer_new(f->loop, 0, on_let_go, f, &f->timers[f->unplugged - 1]);
}

static void fake_failed(struct vmm *vmm, const char *why)
{
	struct fixture *f = vmm->state;
	struct err e = { 0 };

	err_set(&e, -ECONNRESET, "the monitor has ended");
	for (int i = 0; i < f->disks; i++)
		if (f->plugging[i].done)
			TAKE_PTR(f->plugging[i].done)(f->plugging[i].data, &e);
	for (int i = 0; i < f->unplugged; i++)
		if (f->unplugging[i].done)
			TAKE_PTR(f->unplugging[i].done)(f->unplugging[i].data, &e);
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
	char *argv[] = { (char *)"sleep", (char *)"1000", NULL };
	struct spawn s = SPAWN_INIT;
	int r;

	f->driver = (struct vmm_driver){
		.name = "fake",
		.attach_disk = fake_attach,
		.detach_disk = fake_detach,
		.failed = fake_failed,
		.free = fake_free,
	};
	r = vmm_new(f->loop, &f->driver, NULL, NULL, &f->sandbox->vmm);
	if (r < 0)
		return r;
	f->sandbox->vmm->state = f;
	s.path = argv[0];
	s.argv = argv;
	return vmm_proc_start(f->loop, &s, on_monitor_exit, NULL, &f->sandbox->vmm->proc, NULL);
}

/* The monitor has plugged a disk. */
static void plug(struct fixture *f, int i, const struct err *e)
{
	TAKE_PTR(f->plugging[i].done)(f->plugging[i].data, e);
}

static void plug_both(struct fixture *f)
{
	plug(f, 0, NULL);
	plug(f, 1, NULL);
}

/* ---- the agent ---- */

static void serve_write_file(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Podvm__Agent__V1__WriteFileRequest *req = (const void *)msg;
	struct fixture *f = data;

	assert_true(str_starts(req->path, "/run/podvm/files/box/"));
	f->files++;
	reply_empty(call);
}

static void serve_create(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Podvm__Agent__V1__CreateContainerRequest *req = (const void *)msg;
	struct fixture *f = data;

	assert_string_equal(req->container_id, "box");
	for (size_t i = 0; i < req->n_storages; i++) {
		strcat(f->storages, req->storages[i]->driver);
		strcat(f->storages, ":");
		strcat(f->storages, req->storages[i]->mount_point);
		strcat(f->storages, " ");
	}
	f->created = true;
	if (f->refuse)
		ttrpc_reply_error(call, TTRPC_NOT_FOUND, "there is no such command");
	else
		f->create = call;
}

static void serve_remove(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	struct fixture *f = data;

	f->removed = true;
	reply_empty(call);
}

static void serve_wait(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	struct fixture *f = data;

	f->wait = call;
	f->waiting = true;
}

static int start_agent(struct fixture *f)
{
	fake_agent_serve(&f->agent, "WriteFile", serve_write_file);
	fake_agent_serve(&f->agent, "CreateContainer", serve_create);
	fake_agent_serve(&f->agent, "RemoveContainer", serve_remove);
	fake_agent_serve(&f->agent, "Wait", serve_wait);
	return fake_agent_start(&f->agent, f->loop, f, &f->sandbox->agent);
}

/* ---- a sandbox ---- */

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	signal(SIGPIPE, SIG_IGN);
	if (!f || loop_new(&f->loop) < 0)
		return -1;
	f->rd = RUNDIR_INIT;
	f->disk_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	f->config.rundir = &f->rd;
	if (sandbox_new(f->loop, &f->config, NULL, NULL, &f->sandbox) < 0)
		return -1;
	f->sandbox->state = SANDBOX_RUNNING;
	return start_agent(f) < 0 || start_monitor(f) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	container_free(f->container);
	sandbox_free(f->sandbox);
	fake_agent_end(&f->agent);
	if (f->create)
		reply_empty(f->create);
	if (f->wait)
		reply_empty(f->wait);
	for (size_t i = 0; i < ARRAY_SIZE(f->timers); i++)
		loop_timer_free(f->timers[i]);
	close(f->disk_fd);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void await(struct fixture *f, bool *what)
{
	assert_int_equal(loop_run_until(f->loop, what, DEADLINE_MS), 0);
	*what = false;
}

static void on_done(void *data, const struct err *e)
{
	struct fixture *f = data;

	assert_false(f->done);
	f->done = true;
	f->e = e ? *e : (struct err){ 0 };
}

static void begin(struct fixture *f)
{
	static struct container_config config = {
		.id = "box",
		.spec = "{}",
		.disks = { { .fd = 100, .fstype = "erofs" } },
		.n_disks = 1,
		.scratch = CONTAINER_SCRATCH_DISK,
		.files = { { "hosts", "127.0.0.1 localhost\n", 0644 },
			   { "hostname", "box\n", 0644 } },
		.n_files = 2,
	};

	config.disks[0].fd = config.scratch_fd = f->disk_fd;
	assert_int_equal(container_create(f->sandbox, &config, on_done, f, &f->container), 0);
	await(f, &f->asked);
}

static void on_exit_status(void *data, const struct container_exit *exit, const struct err *e)
{
	struct fixture *f = data;

	f->exited = true;
	f->status = exit ? exit->status : 0;
	f->lost = e ? e->code : 0;
}

static void create(struct fixture *f)
{
	Podvm__Agent__V1__CreateContainerResponse resp =
		PODVM__AGENT__V1__CREATE_CONTAINER_RESPONSE__INIT;

	begin(f);
	plug_both(f);
	await(f, &f->created);
	ttrpc_reply(TAKE_PTR(f->create), &resp.base);
	await(f, &f->done);
	assert_int_equal(f->e.code, 0);
}

static void until_unplugged(struct fixture *f)
{
	await(f, &f->all_gone);
	assert_int_equal(f->unplugged, 2);
}

/* ---- tests ---- */

static void test_created_waited_for_and_removed(void **state)
{
	Podvm__Agent__V1__WaitResponse resp = PODVM__AGENT__V1__WAIT_RESPONSE__INIT;
	struct fixture *f = *state;

	create(f);
	assert_int_equal(f->files, 2);
	assert_string_equal(f->storages, "scsi:/run/podvm/images/0 scsi:/run/podvm/scratch/box "
					 "overlay:/run/podvm/containers/box/rootfs ");
	assert_int_equal(container_wait(f->container, on_exit_status, f), 0);
	await(f, &f->waiting);
	resp.exit_status = 7;
	ttrpc_reply(TAKE_PTR(f->wait), &resp.base);
	await(f, &f->exited);
	assert_int_equal(f->status, 7);
	assert_int_equal(container_remove(f->container, on_done, f), 0);
	await(f, &f->done);
	assert_int_equal(f->e.code, 0);
	assert_true(f->removed);
	assert_int_equal(f->unplugged, 2);
}

static void test_refused_by_the_agent(void **state)
{
	struct fixture *f = *state;

	f->refuse = true;
	begin(f);
	plug_both(f);
	await(f, &f->done);
	assert_int_equal(f->e.code, -ENOENT);
	assert_string_equal(f->e.stage, "create");
	assert_string_equal(f->e.msg, "there is no such command");
	/* It's undone, in the guest as well. */
	await(f, &f->removed);
	until_unplugged(f);
}

static void test_disk_that_can_not_be_plugged(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };

	begin(f);
	plug(f, 0, NULL);
	err_set(&e, -EIO, "no room");
	plug(f, 1, &e);
	await(f, &f->done);
	assert_string_equal(f->e.stage, "disks");
	assert_string_equal(f->e.msg, "no room");
	assert_int_equal(f->unplugged, 1);
	assert_false(f->created);
}

/* The monitor's answers come after the container was forgotten: its disks are taken away then. */
static void test_freed_while_a_disk_is_plugged(void **state)
{
	struct fixture *f = *state;

	begin(f);
	plug(f, 0, NULL);
	container_free(TAKE_PTR(f->container));
	assert_int_equal(f->unplugged, 1);
	plug(f, 1, NULL);
	assert_int_equal(f->unplugged, 2);
	assert_false(f->done);
}

static void test_freed_while_a_disk_is_plugged_and_the_machine_ends(void **state)
{
	struct fixture *f = *state;

	begin(f);
	container_free(TAKE_PTR(f->container));
	sandbox_free(TAKE_PTR(f->sandbox));
	assert_int_equal(f->unplugged, 0);
	assert_false(f->done);
}

static void test_freed_while_it_is_created(void **state)
{
	struct fixture *f = *state;

	begin(f);
	plug_both(f);
	await(f, &f->created);
	container_free(TAKE_PTR(f->container));
	/* Not before the guest has let go of them. */
	assert_int_equal(f->unplugged, 0);
	await(f, &f->removed);
	until_unplugged(f);
	assert_false(f->done);
}

/* A container that runs, and one that is being created. */
static void test_machine_ends(void **state)
{
	struct fixture *f = *state;

	create(f);
	assert_int_equal(container_wait(f->container, on_exit_status, f), 0);
	await(f, &f->waiting);
	sandbox_free(TAKE_PTR(f->sandbox));
	assert_true(f->exited);
	assert_int_equal(f->lost, -ECONNRESET);
}

static void test_machine_ends_while_it_is_created(void **state)
{
	struct fixture *f = *state;

	begin(f);
	sandbox_free(TAKE_PTR(f->sandbox));
	assert_true(f->done);
	assert_int_equal(f->e.code, -ECONNRESET);
	assert_string_equal(f->e.stage, "disks");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_created_waited_for_and_removed),
		TEST(test_refused_by_the_agent),
		TEST(test_disk_that_can_not_be_plugged),
		TEST(test_freed_while_a_disk_is_plugged),
		TEST(test_freed_while_a_disk_is_plugged_and_the_machine_ends),
		TEST(test_freed_while_it_is_created),
		TEST(test_machine_ends),
		TEST(test_machine_ends_while_it_is_created),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
