/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that containers share, with a monitor that the test plays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "sandbox/disks.h"
#include "sandbox/sandbox-internal.h"
#include "vmm/vmm-internal.h"

#define OPS 8

/* A command that the monitor hasn't answered: plugging or unplugging a disk. */
struct op {
	bool plug;
	unsigned int lun;
	vmm_done done;
	void *data;
};

/**
 * struct fixture - A sandbox that runs
 * @ops:	All commands that were given, in their order
 * @answered:	How many of them have been answered
 * @a, @b:	Two files
 * @plugged, @failed: How often a set was told
 * @gone:	How often a set was unplugged
 */
struct fixture {
	struct loop *loop;
	struct rundir rd;
	struct sandbox_config config;
	struct sandbox *sandbox;
	struct vmm_driver driver;
	struct op ops[OPS];
	unsigned int n_ops;
	unsigned int answered;
	unsigned int luns;
	int a;
	int b;
	int plugged;
	int failed;
	int gone;
};

static int note(struct fixture *f, bool plug, unsigned int lun, vmm_done done, void *data)
{
	assert_true(f->n_ops < OPS);
	f->ops[f->n_ops++] = (struct op){ plug, lun, done, data };
	return 0;
}

static int fake_attach(struct vmm *vmm, const struct vmm_disk *disk, struct vmm_disk_addr *ret,
		       vmm_done done, void *data, struct err *e)
{
	struct fixture *f = vmm->state;

	snprintf(ret->driver, sizeof(ret->driver), "scsi");
	snprintf(ret->source, sizeof(ret->source), "%u", f->luns);
	return note(f, true, f->luns++, done, data);
}

static int fake_detach(struct vmm *vmm, const struct vmm_disk_addr *addr, vmm_done done, void *data,
		       struct err *e)
{
	return note(vmm->state, false, (unsigned int)atoi(addr->source), done, data);
}

static void answer(struct fixture *f, const struct err *e)
{
	struct op *op = &f->ops[f->answered++];

	assert_true(f->answered <= f->n_ops);
	op->done(op->data, e);
}

static void fake_failed(struct vmm *vmm, const char *why)
{
	struct fixture *f = vmm->state;
	struct err e = { 0 };

	err_set(&e, -ECONNRESET, "the monitor has ended");
	while (f->answered < f->n_ops)
		answer(f, &e);
}

static void fake_free(struct vmm *vmm)
{
}

static void on_monitor_exit(void *data, const struct vmm_exit *exit)
{
}

static int setup(void **state)
{
	char *argv[] = { (char *)"sleep", (char *)"1000", NULL };
	struct fixture *f = calloc(1, sizeof(*f));
	struct spawn s = SPAWN_INIT;

	*state = f;
	if (!f || loop_new(&f->loop) < 0)
		return -1;
	f->rd = RUNDIR_INIT;
	f->config.rundir = &f->rd;
	f->a = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	f->b = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	f->driver = (struct vmm_driver){
		.name = "fake",
		.attach_disk = fake_attach,
		.detach_disk = fake_detach,
		.failed = fake_failed,
		.free = fake_free,
	};
	if (sandbox_new(f->loop, &f->config, NULL, NULL, &f->sandbox) < 0 ||
	    vmm_new(f->loop, &f->driver, NULL, NULL, &f->sandbox->vmm) < 0)
		return -1;
	f->sandbox->vmm->state = f;
	s.path = argv[0];
	s.argv = argv;
	return vmm_proc_start(f->loop, &s, on_monitor_exit, NULL, &f->sandbox->vmm->proc, NULL);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	sandbox_free(f->sandbox);
	loop_free(f->loop);
	close(f->a);
	close(f->b);
	free(f);
	return 0;
}

static void on_done(void *data, const struct err *e)
{
	struct fixture *f = data;

	f->plugged += !e;
	f->failed += e != NULL;
}

static void on_gone(void *data)
{
	struct fixture *f = data;

	f->gone++;
}

/* A container's disks: read-only files, up to a negative one. */
static struct disk_set *plug(struct fixture *f, int fd1, int fd2, int expected)
{
	struct vmm_disk disks[] = { { .fd = fd1, .readonly = true },
				    { .fd = fd2, .readonly = true } };
	struct disk_set *set = NULL;

	assert_int_equal(disk_set_plug(f->sandbox, disks, fd2 < 0 ? 1 : 2, on_done, f, &set, NULL),
			 expected);
	return set;
}

static struct disk_set *plug_writable(struct fixture *f, int fd)
{
	struct vmm_disk disk = { .fd = fd };
	struct disk_set *set = NULL;

	assert_int_equal(disk_set_plug(f->sandbox, &disk, 1, on_done, f, &set, NULL),
			 STAGE_PENDING);
	return set;
}

static void test_all_at_once(void **state)
{
	struct fixture *f = *state;
	struct disk_set *set = plug(f, f->a, f->b, STAGE_PENDING);

	assert_int_equal(f->n_ops, 2);
	answer(f, NULL);
	assert_int_equal(f->plugged, 0);
	answer(f, NULL);
	assert_int_equal(f->plugged, 1);
	assert_string_equal(disk_set_addr(set, 0)->source, "0");
	assert_string_equal(disk_set_addr(set, 1)->source, "1");
	disk_set_unplug(set, NULL, NULL);
	assert_int_equal(f->n_ops, 4);
}

static void test_shared_until_nobody_uses_it(void **state)
{
	struct fixture *f = *state;
	struct disk_set *first = plug(f, f->a, -1, STAGE_PENDING);
	struct disk_set *second = plug(f, f->a, -1, STAGE_PENDING);
	struct disk_set *third;

	assert_int_equal(f->n_ops, 1);
	answer(f, NULL);
	assert_int_equal(f->plugged, 2);
	third = plug(f, f->a, -1, 0);
	assert_string_equal(disk_set_addr(third, 0)->source, disk_set_addr(first, 0)->source);
	disk_set_unplug(first, NULL, NULL);
	disk_set_unplug(second, NULL, NULL);
	assert_int_equal(f->n_ops, 1);
	disk_set_unplug(third, NULL, NULL);
	assert_int_equal(f->n_ops, 2);
	assert_false(f->ops[1].plug);
}

static void test_writable_disks_are_not_shared(void **state)
{
	struct fixture *f = *state;
	struct disk_set *first = plug_writable(f, f->a);
	struct disk_set *second = plug_writable(f, f->a);

	assert_int_equal(f->n_ops, 2);
	disk_set_unplug(first, NULL, NULL);
	disk_set_unplug(second, NULL, NULL);
}

/* Its file is free when the monitor has let go of it, and only then. */
static void test_end_of_a_writable_disk_is_told(void **state)
{
	struct fixture *f = *state;
	struct disk_set *set = plug_writable(f, f->a);

	answer(f, NULL);
	disk_set_unplug(set, on_gone, f);
	assert_int_equal(f->gone, 0);
	answer(f, NULL);
	assert_int_equal(f->gone, 1);
}

static void test_nobody_waits_for_shared_disks(void **state)
{
	struct fixture *f = *state;
	struct disk_set *set = plug(f, f->a, -1, STAGE_PENDING);

	answer(f, NULL);
	disk_set_unplug(set, on_gone, f);
	assert_int_equal(f->gone, 1);
}

static void test_wanted_again_while_it_is_unplugged(void **state)
{
	struct fixture *f = *state;
	struct disk_set *set = plug(f, f->a, -1, STAGE_PENDING);

	answer(f, NULL);
	disk_set_unplug(set, NULL, NULL);
	set = plug(f, f->a, -1, STAGE_PENDING);
	assert_string_equal(disk_set_addr(set, 0)->source, "1");
	answer(f, NULL);
	answer(f, NULL);
	assert_int_equal(f->plugged, 2);
	disk_set_unplug(set, NULL, NULL);
}

static void test_given_up_and_wanted_again_while_it_is_plugged(void **state)
{
	struct fixture *f = *state;
	struct disk_set *set = plug(f, f->a, -1, STAGE_PENDING);

	disk_set_unplug(set, NULL, NULL);
	set = plug(f, f->a, -1, STAGE_PENDING);
	assert_int_equal(f->n_ops, 1);
	answer(f, NULL);
	assert_int_equal(f->plugged, 1);
	assert_int_equal(f->n_ops, 1);
	disk_set_unplug(set, NULL, NULL);
	assert_int_equal(f->n_ops, 2);
}

static void test_given_up_while_it_is_plugged(void **state)
{
	struct fixture *f = *state;
	struct disk_set *set = plug_writable(f, f->a);

	disk_set_unplug(set, on_gone, f);
	assert_int_equal(f->n_ops, 1);
	answer(f, NULL);
	assert_int_equal(f->n_ops, 2);
	assert_int_equal(f->gone, 0);
	answer(f, NULL);
	assert_int_equal(f->gone, 1);
	assert_int_equal(f->plugged, 0);
}

/* Both who wanted the disk are told; the other disk of the one is taken away again. */
static void test_disk_that_can_not_be_plugged(void **state)
{
	struct fixture *f = *state;
	struct disk_set *first = plug(f, f->a, f->b, STAGE_PENDING);
	struct disk_set *second = plug(f, f->a, -1, STAGE_PENDING);
	struct err e = { 0 };

	err_set(&e, -EIO, "no room");
	answer(f, &e);
	assert_int_equal(f->failed, 2);
	disk_set_unplug(first, NULL, NULL);
	disk_set_unplug(second, NULL, NULL);
	answer(f, NULL);
	assert_int_equal(f->n_ops, 3);
	assert_false(f->ops[2].plug);
	assert_int_equal(f->ops[2].lun, 1);
	assert_int_equal(f->plugged, 0);
}

static void test_forgotten_disks_stay(void **state)
{
	struct fixture *f = *state;

	disk_set_free(plug(f, f->a, -1, STAGE_PENDING));
	answer(f, NULL);
	assert_int_equal(f->n_ops, 1);
	assert_int_equal(f->plugged, 0);
	disk_set_free(NULL);
}

static void test_room(void **state)
{
	struct fixture *f = *state;
	size_t room = disks_room(f->sandbox);
	struct disk_set *set = plug(f, f->a, f->b, STAGE_PENDING);

	assert_int_equal(disks_room(f->sandbox), room - 2);
	disk_set_unplug(set, NULL, NULL);
}

static void test_what_is_there_when_the_machine_has_ended(void **state)
{
	struct fixture *f = *state;
	int unnamed = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct disk_set *image = plug(f, f->a, -1, STAGE_PENDING);
	struct disk_set *scratch = plug_writable(f, unnamed);
	struct disk_set *volume;

	assert_false(disks_kept(f->sandbox));
	volume = plug_writable(f, f->b);
	assert_true(disks_kept(f->sandbox));
	for (int i = 0; i < 3; i++)
		answer(f, NULL);
	disk_set_unplug(volume, NULL, NULL);
	assert_true(disks_kept(f->sandbox));
	answer(f, NULL);
	assert_false(disks_kept(f->sandbox));
	disk_set_unplug(image, NULL, NULL);
	disk_set_unplug(scratch, NULL, NULL);
	close(unnamed);
}

static void test_machine_ends_first(void **state)
{
	struct fixture *f = *state;
	struct disk_set *used = plug(f, f->a, -1, STAGE_PENDING);
	struct disk_set *leaving;
	struct disk_set *coming;

	answer(f, NULL);
	leaving = plug_writable(f, f->b);
	answer(f, NULL);
	disk_set_unplug(leaving, on_gone, f);
	coming = plug_writable(f, f->b);
	sandbox_free(TAKE_PTR(f->sandbox));
	assert_int_equal(f->gone, 1);
	assert_int_equal(f->failed, 1);
	disk_set_unplug(used, on_gone, f);
	disk_set_unplug(coming, on_gone, f);
	assert_int_equal(f->gone, 3);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_all_at_once),
		TEST(test_shared_until_nobody_uses_it),
		TEST(test_writable_disks_are_not_shared),
		TEST(test_end_of_a_writable_disk_is_told),
		TEST(test_nobody_waits_for_shared_disks),
		TEST(test_wanted_again_while_it_is_unplugged),
		TEST(test_given_up_and_wanted_again_while_it_is_plugged),
		TEST(test_given_up_while_it_is_plugged),
		TEST(test_disk_that_can_not_be_plugged),
		TEST(test_forgotten_disks_stay),
		TEST(test_room),
		TEST(test_what_is_there_when_the_machine_has_ended),
		TEST(test_machine_ends_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
