/* SPDX-License-Identifier: Apache-2.0 */
/* Machines from start to end, with a QEMU that is played by this very program (fake_qemu.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fd.h"
#include "base/str.h"
#include "fake_qemu.h"
#include "vmm/vmm-internal.h"

#define PATIENCE_MS 60000

static char self[PATH_MAX];

/* How an operation ended. */
struct result {
	bool over;
	struct err e;
	struct bed *free_bed;
};

struct bed {
	struct loop *loop;
	struct vmm *vmm;
	char dir[64];
	char kernel[96];
	int disk;
	int image;
	struct result start;
	struct result op;
	bool exited;
	bool closed;
	/* as they were when `exited` was called */
	bool op_was_over;
	char last_words[64];
	struct vmm_exit exit;
	size_t output;
};

static void on_done(void *data, const struct err *e)
{
	struct result *result = data;

	assert_false(result->over);
	result->over = true;
	if (e)
		result->e = *e;
	if (result->free_bed)
		vmm_free(TAKE_PTR(result->free_bed->vmm));
}

static void on_exited(void *data, const struct vmm_exit *exit)
{
	struct bed *bed = data;

	assert_false(bed->exited);
	bed->exited = true;
	bed->op_was_over = bed->op.over;
	vmm_console_tail(bed->vmm, 1, bed->last_words, sizeof(bed->last_words));
	bed->exit = *exit;
}

static int setup(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));

	if (!bed)
		return -1;
	*state = bed;
	snprintf(bed->dir, sizeof(bed->dir), "/tmp/podvm-vmm-test-XXXXXX");
	if (!mkdtemp(bed->dir) || loop_new(&bed->loop) < 0)
		return -1;
	bed->disk = open(bed->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	bed->image = open(self, O_RDONLY | O_CLOEXEC);
	if (bed->disk < 0 || bed->image < 0)
		return -1;
	return vmm_new(bed->loop, vmm_driver_find("qemu"), on_exited, bed, &bed->vmm);
}

static int teardown(void **state)
{
	struct bed *bed = *state;

	vmm_free(bed->vmm);
	loop_free(bed->loop);
	close(bed->disk);
	close(bed->image);
	(void)rm_rf(AT_FDCWD, bed->dir);
	free(bed);
	return 0;
}

static struct vmm_config config(struct bed *bed, const char *mode)
{
	int fd;

	snprintf(bed->kernel, sizeof(bed->kernel), "%s/%s", bed->dir, mode);
	fd = open(bed->kernel, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	return (struct vmm_config){
		.binary = self,
		.accel = VMM_ACCEL_TCG,
		.kernel = bed->kernel,
		.rootfs_fd = bed->image,
		.vcpus = 1,
		.memory = UINT64_C(128) << 20,
		.state_dir = bed->dir,
	};
}

static void wait_for(struct bed *bed, const bool *flag)
{
	assert_int_equal(loop_run_until(bed->loop, flag, PATIENCE_MS), 0);
}

static void start(struct bed *bed, const char *mode)
{
	struct vmm_config c = config(bed, mode);

	assert_int_equal(vmm_start(bed->vmm, &c, on_done, &bed->start, NULL), 0);
	assert_false(bed->start.over);
}

static void start_well(struct bed *bed, const char *mode)
{
	start(bed, mode);
	wait_for(bed, &bed->start.over);
	assert_int_equal(bed->start.e.code, 0);
}

static int attach(struct bed *bed, bool readonly, struct vmm_disk_addr *addr)
{
	struct vmm_disk disk = { .fd = readonly ? bed->image : bed->disk,
				 .readonly = readonly,
				 .serial = "disk" };

	bed->op = (struct result){ .free_bed = bed->op.free_bed };
	return vmm_attach_disk(bed->vmm, &disk, addr, on_done, &bed->op, NULL);
}

static void attach_well(struct bed *bed, const char *lun)
{
	struct vmm_disk_addr addr;

	assert_int_equal(attach(bed, true, &addr), 0);
	assert_string_equal(addr.driver, "scsi");
	assert_string_equal(addr.source, lun);
	wait_for(bed, &bed->op.over);
	assert_int_equal(bed->op.e.code, 0);
}

static void detach_well(struct bed *bed, const char *lun)
{
	struct vmm_disk_addr addr = { .driver = "scsi" };

	snprintf(addr.source, sizeof(addr.source), "%s", lun);
	bed->op = (struct result){ 0 };
	assert_int_equal(vmm_detach_disk(bed->vmm, &addr, on_done, &bed->op, NULL), 0);
	wait_for(bed, &bed->op.over);
	assert_int_equal(bed->op.e.code, 0);
}

/* Wait until the console's last lines are these. */
static void assert_console(struct bed *bed, unsigned int lines, const char *expected)
{
	uint64_t deadline = clock_ms() + PATIENCE_MS;
	char tail[1024];

	do {
		bool never = false;

		(void)loop_run_until(bed->loop, &never, 2);
		vmm_console_tail(bed->vmm, lines, tail, sizeof(tail));
	} while (!str_eq(tail, expected) && clock_ms() < deadline);
	assert_string_equal(tail, expected);
}

static void test_start(void **state)
{
	struct bed *bed = *state;
	_cleanup_(close_fdp) int agent = -EBADF;

	start_well(bed, "ok");
	assert_true(vmm_pid(bed->vmm) > 0);
	assert_int_equal(vmm_accel(bed->vmm), VMM_ACCEL_TCG);
	agent = vmm_agent_fd(bed->vmm);
	assert_true(agent >= 0);
	assert_true(vmm_agent_fd(bed->vmm) < 0);
	assert_false(bed->exited);
}

static void test_the_process_has_nothing_of_ours(void **state)
{
	struct bed *bed = *state;

	start_well(bed, "report");
	/* stdin, stdout, stderr, control connection, console, agent, root image, kernel */
	assert_console(bed, 1, "/ environment=none descriptors=8");
}

static void test_a_start_that_is_refused_calls_nobody(void **state)
{
	struct bed *bed = *state;
	struct vmm_config c = config(bed, "ok");
	struct err e = { 0 };

	c.binary = "/nonexistent/qemu";
	assert_int_equal(vmm_start(bed->vmm, &c, on_done, &bed->start, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "/nonexistent/qemu"));
	assert_true(e.hint[0]);
	vmm_free(TAKE_PTR(bed->vmm));
	assert_false(bed->start.over);
	assert_false(bed->exited);
}

static void test_a_death_at_the_start_says_why(void **state)
{
	struct bed *bed = *state;

	start(bed, "dies");
	wait_for(bed, &bed->exited);
	assert_int_equal(bed->exit.code, 1);
	assert_string_equal(bed->exit.message, "fake-qemu: cannot go on");
	assert_int_equal(bed->start.e.code, -ECONNRESET);
	assert_non_null(strstr(bed->start.e.msg, "cannot go on"));
}

static void test_freeing_a_machine_that_hangs_at_the_start(void **state)
{
	struct bed *bed = *state;

	start(bed, "hangs");
	vmm_free(TAKE_PTR(bed->vmm));
	assert_int_equal(bed->start.e.code, -ECONNRESET);
	assert_false(bed->exited);
}

static void test_a_reset_of_the_guest_is_an_exit(void **state)
{
	struct bed *bed = *state;

	start(bed, "reset");
	wait_for(bed, &bed->exited);
	assert_int_equal(bed->exit.code, 0);
	assert_non_null(strstr(bed->exit.message, "guest-reset"));
	assert_string_equal(bed->last_words, "Kernel panic");
}

static void test_a_halted_cpu_is_an_exit(void **state)
{
	struct bed *bed = *state;

	start(bed, "internal-error");
	wait_for(bed, &bed->exited);
	assert_non_null(strstr(bed->exit.message, "KVM internal error"));
}

static void test_without_control_connection_it_is_killed(void **state)
{
	static const char *const modes[] = { "closes", "garbage" };

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct bed *bed;

		if (i > 0)
			assert_int_equal(setup(state), 0);
		bed = *state;
		start(bed, modes[i]);
		wait_for(bed, &bed->exited);
		assert_int_equal(bed->exit.code, 128 + SIGKILL);
		if (i + 1 < ARRAY_SIZE(modes))
			teardown(state);
	}
}

static void test_disks_come_and_go(void **state)
{
	struct bed *bed = *state;

	start_well(bed, "ok");
	attach_well(bed, "0");
	attach_well(bed, "1");
	assert_console(bed, 3, "add-fd\nblockdev-add\ndevice_add");
	detach_well(bed, "0");
	assert_console(bed, 3, "device_del\nblockdev-del\nremove-fd");
	attach_well(bed, "0");
	attach_well(bed, "2");
}

static void test_disk_whose_flushes_do_nothing(void **state)
{
	struct bed *bed = *state;
	struct vmm_disk disk = { .fd = bed->disk, .serial = "disk", .unsafe = true };
	struct vmm_disk_addr addr;

	start_well(bed, "ok");
	assert_int_equal(vmm_attach_disk(bed->vmm, &disk, &addr, on_done, &bed->op, NULL), 0);
	wait_for(bed, &bed->op.over);
	assert_console(bed, 3, "add-fd\nblockdev-add without flushes\ndevice_add");
}

static void test_a_disk_grows(void **state)
{
	struct vmm_disk_addr addr = { .driver = "scsi", .source = "0" };
	struct bed *bed = *state;

	start_well(bed, "ok");
	attach_well(bed, "0");
	assert_console(bed, 3, "add-fd\nblockdev-add\ndevice_add");
	bed->op = (struct result){ 0 };
	assert_int_equal(vmm_grow_disk(bed->vmm, &addr, UINT64_C(1) << 30, on_done, &bed->op, NULL),
			 0);
	wait_for(bed, &bed->op.over);
	assert_int_equal(bed->op.e.code, 0);
	assert_console(bed, 1, "block_resize");
}

static void test_a_disk_that_fails_leaves_nothing(void **state)
{
	struct bed *bed = *state;
	struct vmm_disk_addr addr;

	start_well(bed, "bad-device");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(attach(bed, true, &addr), 0);
		assert_string_equal(addr.source, "0");
		wait_for(bed, &bed->op.over);
		assert_int_equal(bed->op.e.code, -EIO);
		assert_string_equal(bed->op.e.msg, "device_add: no");
		assert_console(bed, 5, "add-fd\nblockdev-add\ndevice_add\nblockdev-del\nremove-fd");
	}
}

/* A machine that may grow to four CPUs and a whole lot of memory. */
static void start_growing(struct bed *bed, const char *mode, const char *machine)
{
	struct vmm_config c = config(bed, mode);

	c.machine = machine;
	c.accel = VMM_ACCEL_KVM;
	c.max_vcpus = 4;
	c.max_memory = UINT64_C(1) << 30;
	assert_int_equal(vmm_start(bed->vmm, &c, on_done, &bed->start, NULL), 0);
	wait_for(bed, &bed->start.over);
	assert_int_equal(bed->start.e.code, 0);
}

static int grow(struct bed *bed, unsigned int vcpus, uint64_t mib, struct err *e)
{
	bed->op = (struct result){ .free_bed = bed->op.free_bed };
	return vmm_resize(bed->vmm, vcpus, mib << 20, on_done, &bed->op, e);
}

static void assert_size(struct bed *bed, unsigned int vcpus, uint64_t mib)
{
	unsigned int got;
	uint64_t memory;

	vmm_size(bed->vmm, &got, &memory);
	assert_int_equal(got, vcpus);
	assert_int_equal(memory, mib << 20);
}

static void test_a_machine_grows(void **state)
{
	struct bed *bed = *state;

	start_growing(bed, "ok", "q35");
	assert_size(bed, 1, 128);
	assert_int_equal(grow(bed, 3, 200, NULL), 0);
	wait_for(bed, &bed->op.over);
	assert_int_equal(bed->op.e.code, 0);
	assert_console(bed, 1, "qom-set");
	assert_size(bed, 3, 256); /* whole pieces */
}

static void test_a_machine_grows_to_its_limit_and_never_shrinks(void **state)
{
	struct bed *bed = *state;

	start_growing(bed, "ok", "q35");
	assert_int_equal(grow(bed, 100, 100000, NULL), 0);
	wait_for(bed, &bed->op.over);
	assert_int_equal(bed->op.e.code, 0);
	assert_size(bed, 4, 1024);
	assert_int_equal(grow(bed, 1, 64, NULL), 0);
	wait_for(bed, &bed->op.over);
	assert_int_equal(bed->op.e.code, 0);
	assert_size(bed, 4, 1024);
}

static void test_growing_twice_at_once_is_refused(void **state)
{
	struct result second = { 0 };
	struct bed *bed = *state;

	start_growing(bed, "ok", "q35");
	assert_int_equal(grow(bed, 2, 128, NULL), 0);
	assert_int_equal(vmm_resize(bed->vmm, 3, 0, on_done, &second, NULL), -EBUSY);
	wait_for(bed, &bed->op.over);
	assert_false(second.over);
	assert_size(bed, 2, 128);
}

static void test_microvm_gets_cpus_and_no_memory(void **state)
{
	struct bed *bed = *state;

	start_growing(bed, "ok", "microvm");
	assert_int_equal(grow(bed, 2, 128, NULL), 0);
	wait_for(bed, &bed->op.over);
	assert_int_equal(bed->op.e.code, 0);
	assert_size(bed, 2, 128);
	assert_int_equal(grow(bed, 3, 256, NULL), 0);
	wait_for(bed, &bed->op.over);
	assert_int_equal(bed->op.e.code, -EOPNOTSUPP);
	assert_non_null(strstr(bed->op.e.hint, "q35"));
	assert_size(bed, 3, 128);
}

static void test_the_end_of_a_machine_that_is_growing(void **state)
{
	struct bed *bed = *state;

	start_growing(bed, "plugs-nothing", "q35");
	assert_int_equal(grow(bed, 1, 256, NULL), 0);
	assert_console(bed, 1, "qom-set");
	assert_false(bed->op.over);
	vmm_free(TAKE_PTR(bed->vmm));
	assert_true(bed->op.over);
	assert_int_equal(bed->op.e.code, -ECONNRESET);
}

static void test_no_more_memory_is_believed_than_there_is(void **state)
{
	struct bed *bed = *state;

	start_growing(bed, "plugs-too-much", "q35");
	assert_int_equal(grow(bed, 1, 256, NULL), 0);
	wait_for(bed, &bed->op.over);
	assert_size(bed, 1, 1024);
}

static void test_there_is_room_for_so_many_disks(void **state)
{
	struct bed *bed = *state;
	struct vmm_disk_addr addr;

	start_well(bed, "ok");
	for (int i = 0; i < VMM_MAX_DISKS; i++) {
		assert_int_equal(attach(bed, true, &addr), 0);
		wait_for(bed, &bed->op.over);
	}
	assert_int_equal(attach(bed, true, &addr), -ENOSPC);
}

static void test_disks_that_are_none(void **state)
{
	struct bed *bed = *state;
	struct vmm_disk disk = { .fd = bed->disk, .readonly = true };
	struct vmm_disk_addr addr;
	int pipe_fds[2];

	start_well(bed, "ok");
	/* opened for writing, but to be read-only */
	assert_int_equal(vmm_attach_disk(bed->vmm, &disk, &addr, on_done, &bed->op, NULL), -EINVAL);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	disk.fd = pipe_fds[0];
	assert_int_equal(vmm_attach_disk(bed->vmm, &disk, &addr, on_done, &bed->op, NULL), -EINVAL);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	disk = (struct vmm_disk){ .fd = bed->disk, .serial = "a\",\"b\":\"c" };
	assert_int_equal(vmm_attach_disk(bed->vmm, &disk, &addr, on_done, &bed->op, NULL), -EINVAL);
	addr = (struct vmm_disk_addr){ .driver = "scsi", .source = "9" };
	assert_int_equal(vmm_detach_disk(bed->vmm, &addr, on_done, &bed->op, NULL), -ENODEV);
}

static void test_death_fails_what_is_under_way_before_it_is_told(void **state)
{
	struct bed *bed = *state;
	struct vmm_disk_addr addr;

	start_well(bed, "mute");
	assert_int_equal(attach(bed, true, &addr), 0);
	assert_console(bed, 1, "add-fd");
	assert_int_equal(kill(vmm_pid(bed->vmm), SIGKILL), 0);
	wait_for(bed, &bed->exited);
	assert_true(bed->op_was_over);
	assert_int_equal(bed->op.e.code, -ECONNRESET);
	assert_int_equal(bed->exit.code, 128 + SIGKILL);
	assert_int_equal(attach(bed, true, &addr), -ECONNRESET);
}

static void test_death_while_the_guest_holds_a_disk(void **state)
{
	struct bed *bed = *state;
	struct vmm_disk_addr addr = { .driver = "scsi", .source = "0" };

	start_well(bed, "holds-disk");
	attach_well(bed, "0");
	bed->op = (struct result){ 0 };
	assert_int_equal(vmm_detach_disk(bed->vmm, &addr, on_done, &bed->op, NULL), 0);
	assert_console(bed, 1, "device_del");
	assert_false(bed->op.over);
	assert_int_equal(kill(vmm_pid(bed->vmm), SIGKILL), 0);
	wait_for(bed, &bed->op.over);
	assert_int_equal(bed->op.e.code, -ECONNRESET);
}

static void note_closed(void *data, const char *name)
{
	struct bed *bed = data;

	bed->closed = str_eq(name, "podvm.test");
}

static void test_guest_that_closes_a_channel(void **state)
{
	struct bed *bed = *state;
	int fd;

	start_well(bed, "closes-port");
	vmm_on_channel_closed(bed->vmm, note_closed, bed);
	bed->op = (struct result){ 0 };
	assert_int_equal(vmm_add_channel(bed->vmm, "podvm.test", &fd, on_done, &bed->op, NULL), 0);
	wait_for(bed, &bed->op.over);
	assert_int_equal(bed->op.e.code, 0);
	wait_for(bed, &bed->closed);
	close(fd);
}

static void test_freeing_in_a_callback(void **state)
{
	struct bed *bed = *state;
	struct vmm_disk_addr addr;

	start_well(bed, "mute");
	bed->op.free_bed = bed;
	assert_int_equal(attach(bed, true, &addr), 0);
	assert_console(bed, 1, "add-fd");
	assert_int_equal(kill(vmm_pid(bed->vmm), SIGKILL), 0);
	wait_for(bed, &bed->op.over);
	assert_null(bed->vmm);
	assert_false(bed->exited);
}

static void test_pause_and_resume(void **state)
{
	struct bed *bed = *state;

	start_well(bed, "ok");
	assert_int_equal(vmm_pause(bed->vmm, on_done, &bed->op, NULL), 0);
	wait_for(bed, &bed->op.over);
	bed->op = (struct result){ 0 };
	assert_int_equal(vmm_resume(bed->vmm, on_done, &bed->op, NULL), 0);
	wait_for(bed, &bed->op.over);
	assert_int_equal(bed->op.e.code, 0);
	assert_console(bed, 2, "stop\ncont");
}

/* ---- given to another process ---- */

struct taker {
	struct vmm *vmm;
	int guard_fd; /* the old owner's end */
	bool exited;
	struct vmm_exit exit;
};

static void on_taken_exited(void *data, const struct vmm_exit *exit)
{
	struct taker *t = data;

	t->exited = true;
	t->exit = *exit;
}

/* Both owners are this process. */
static void hand_over(struct bed *bed, struct taker *t)
{
	_cleanup_(close_fdp) int agent = -EBADF;
	struct vmm_handover h = VMM_HANDOVER_INIT;
	struct vmm_config c = config(bed, "ok");
	int guard[2];

	start_well(bed, "ok");
	agent = vmm_agent_fd(bed->vmm);
	assert_int_equal(vmm_hand_over(bed->vmm, agent, &h, NULL), 0);
	assert_int_equal(h.pid, vmm_pid(bed->vmm));
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, guard), 0);
	*t = (struct taker){ .guard_fd = guard[0] };
	assert_int_equal(vmm_new(bed->loop, vmm_driver_find("qemu"), on_taken_exited, t, &t->vmm),
			 0);
	assert_int_equal(vmm_adopt(t->vmm, &c, &h, guard[1], NULL), 0);
}

static void test_a_machine_that_was_handed_over_obeys_its_new_owner(void **state)
{
	struct bed *bed = *state;
	struct vmm_disk disk = { .fd = bed->image, .readonly = true, .serial = "disk" };
	_cleanup_(close_fdp) int agent = -EBADF;
	struct vmm_disk_addr addr;
	struct taker t;

	hand_over(bed, &t);
	assert_int_equal(vmm_pid(t.vmm), vmm_pid(bed->vmm));
	agent = vmm_agent_fd(t.vmm);
	assert_true(agent >= 0);
	assert_int_equal(vmm_pause(t.vmm, on_done, &bed->op, NULL), 0);
	wait_for(bed, &bed->op.over);
	assert_int_equal(bed->op.e.code, 0);
	bed->op = (struct result){ 0 };
	assert_int_equal(vmm_attach_disk(t.vmm, &disk, &addr, on_done, &bed->op, NULL), 0);
	wait_for(bed, &bed->op.over);
	assert_int_equal(bed->op.e.code, 0);
	vmm_free(t.vmm);
	wait_for(bed, &bed->exited);
	assert_int_equal(bed->exit.code, 128 + SIGKILL);
	assert_false(t.exited);
	close(t.guard_fd);
}

static void test_the_old_owner_tells_how_a_machine_has_ended(void **state)
{
	struct bed *bed = *state;
	struct taker t;
	int code = 3;

	hand_over(bed, &t);
	assert_int_equal(vmm_pause(t.vmm, on_done, &bed->op, NULL), 0);
	assert_int_equal(kill(vmm_pid(bed->vmm), SIGKILL), 0);
	wait_for(bed, &bed->exited);
	assert_false(t.exited);
	assert_int_equal(send(t.guard_fd, &code, sizeof(code), 0), sizeof(code));
	wait_for(bed, &t.exited);
	assert_int_equal(t.exit.code, 3);
	assert_true(bed->op.over);
	assert_int_equal(vmm_pid(t.vmm), 0);
	vmm_free(t.vmm);
	close(t.guard_fd);
}

static void test_a_machine_ends_when_the_old_owner_has_gone(void **state)
{
	struct bed *bed = *state;
	struct taker t;

	hand_over(bed, &t);
	close(t.guard_fd);
	wait_for(bed, &t.exited);
	assert_int_equal(t.exit.code, 128 + SIGKILL);
	wait_for(bed, &bed->exited);
	vmm_free(t.vmm);
}

static void test_a_busy_machine_is_not_handed_over(void **state)
{
	struct bed *bed = *state;
	struct vmm_handover h = VMM_HANDOVER_INIT;
	_cleanup_(close_fdp) int agent = -EBADF;

	start_well(bed, "ok");
	agent = vmm_agent_fd(bed->vmm);
	assert_int_equal(vmm_pause(bed->vmm, on_done, &bed->op, NULL), 0);
	assert_int_equal(vmm_hand_over(bed->vmm, agent, &h, NULL), -EBUSY);
	wait_for(bed, &bed->op.over);
	assert_int_equal(bed->op.e.code, 0);
}

static void count_output(void *data, const void *bytes, size_t n)
{
	struct bed *bed = data;

	bed->output += n;
}

static void test_a_flooded_console(void **state)
{
	struct bed *bed = *state;

	vmm_console_on_output(bed->vmm, count_output, bed);
	start_well(bed, "flood");
	assert_int_equal(vmm_pause(bed->vmm, on_done, &bed->op, NULL), 0);
	wait_for(bed, &bed->op.over);
	assert_console(bed, 2, "fifteen letters\nstop");
	assert_true(bed->output > 1 << 20);
}

static void free_nothing(struct vmm *vmm)
{
}

static void test_what_a_driver_has_not_got(void **state)
{
	static const struct vmm_driver bare = { .name = "bare", .free = free_nothing };
	struct bed *bed = *state;
	struct vmm *vmm;
	struct err e = { 0 };

	assert_int_equal(vmm_new(bed->loop, &bare, NULL, NULL, &vmm), 0);
	assert_int_equal(vmm_pause(vmm, on_done, NULL, &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "bare"));
	vmm_free(vmm);
	assert_null(vmm_driver_find("bare"));
	assert_string_equal(vmm_driver_name(vmm_driver_at(0)), "qemu");
}

static off_t runs(struct bed *bed)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s.runs", bed->kernel);
	return stat(path, &st) == 0 ? st.st_size : 0;
}

/* Make what is remembered so many seconds old. */
static void forget_after(struct bed *bed, time_t seconds)
{
	const struct timespec times[2] = { { .tv_sec = time(NULL) - seconds },
					   { .tv_sec = time(NULL) - seconds } };
	char path[128];

	snprintf(path, sizeof(path), "%s/qemu-kvm-usable", bed->dir);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void test_kvm_that_runs_a_guest_is_remembered(void **state)
{
	struct bed *bed = *state;
	struct vmm_config c = config(bed, "ok");

	if (access("/dev/kvm", R_OK | W_OK) < 0)
		skip();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(vmm_accel_auto(vmm_driver_find("qemu"), &c, NULL), VMM_ACCEL_KVM);
		assert_int_equal(runs(bed), 1);
	}
	forget_after(bed, 100000);
	assert_int_equal(vmm_accel_auto(vmm_driver_find("qemu"), &c, NULL), VMM_ACCEL_KVM);
	assert_int_equal(runs(bed), 1);
	/* With another kernel it's another question. */
	c = config(bed, "dies");
	assert_int_equal(vmm_accel_auto(vmm_driver_find("qemu"), &c, NULL), VMM_ACCEL_TCG);
	assert_int_equal(runs(bed), 1);
}

static void test_kvm_without_guests_is_remembered_with_the_reason(void **state)
{
	struct bed *bed = *state;
	struct vmm_config c = config(bed, "dies");

	if (access("/dev/kvm", R_OK | W_OK) < 0)
		skip();
	for (int i = 0; i < 2; i++) {
		struct err why = { 0 };

		assert_int_equal(vmm_accel_auto(vmm_driver_find("qemu"), &c, &why), VMM_ACCEL_TCG);
		assert_non_null(strstr(why.msg, "cannot go on"));
		assert_int_equal(runs(bed), 1);
	}
	/* The host may have been too busy only: after a while it's tried again. */
	forget_after(bed, 601);
	assert_int_equal(vmm_accel_auto(vmm_driver_find("qemu"), &c, NULL), VMM_ACCEL_TCG);
	assert_int_equal(runs(bed), 2);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_start),
		TEST(test_the_process_has_nothing_of_ours),
		TEST(test_a_start_that_is_refused_calls_nobody),
		TEST(test_a_death_at_the_start_says_why),
		TEST(test_freeing_a_machine_that_hangs_at_the_start),
		TEST(test_a_reset_of_the_guest_is_an_exit),
		TEST(test_a_halted_cpu_is_an_exit),
		TEST(test_without_control_connection_it_is_killed),
		TEST(test_disks_come_and_go),
		TEST(test_disk_whose_flushes_do_nothing),
		TEST(test_a_disk_grows),
		TEST(test_a_disk_that_fails_leaves_nothing),
		TEST(test_there_is_room_for_so_many_disks),
		TEST(test_a_machine_grows),
		TEST(test_a_machine_grows_to_its_limit_and_never_shrinks),
		TEST(test_growing_twice_at_once_is_refused),
		TEST(test_microvm_gets_cpus_and_no_memory),
		TEST(test_the_end_of_a_machine_that_is_growing),
		TEST(test_no_more_memory_is_believed_than_there_is),
		TEST(test_disks_that_are_none),
		TEST(test_death_fails_what_is_under_way_before_it_is_told),
		TEST(test_death_while_the_guest_holds_a_disk),
		TEST(test_guest_that_closes_a_channel),
		TEST(test_freeing_in_a_callback),
		TEST(test_pause_and_resume),
		TEST(test_a_machine_that_was_handed_over_obeys_its_new_owner),
		TEST(test_the_old_owner_tells_how_a_machine_has_ended),
		TEST(test_a_machine_ends_when_the_old_owner_has_gone),
		TEST(test_a_busy_machine_is_not_handed_over),
		TEST(test_a_flooded_console),
		TEST(test_what_a_driver_has_not_got),
		TEST(test_kvm_that_runs_a_guest_is_remembered),
		TEST(test_kvm_without_guests_is_remembered_with_the_reason),
	};

	if (argc > 1 && str_eq(argv[1], "-machine"))
		return fake_qemu_main(argv);
	if (!realpath("/proc/self/exe", self))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
