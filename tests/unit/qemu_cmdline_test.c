/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's command line: which devices there are, that every descriptor arrives, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/qemu.h"

/* Numbers that no test gives away by accident. */
enum { ROOT_FD = 901, CONSOLE_FD, AGENT_FD, QMP_FD, NIC_FD, TAP_FD, KERNEL_FD };

/* A machine, its configuration, and what came out. */
struct bed {
	struct vmm_config config;
	struct qemu_machine machine;
	struct strv argv;
	struct spawn spawn;
	struct err e;
	char *joined;
};

static int setup(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));

	if (!bed)
		return -1;
	bed->config = (struct vmm_config){
		.kernel = "/usr/share/podvm/vmlinux",
		.cmdline = "root=/dev/vda",
		.rootfs_fd = ROOT_FD,
		.vcpus = 2,
		.memory = UINT64_C(128) << 20,
	};
	bed->machine = (struct qemu_machine){
		.binary = "/usr/bin/qemu-system-x86_64",
		.config = &bed->config,
		.accel = VMM_ACCEL_TCG,
		.console_fd = CONSOLE_FD,
		.agent_fd = AGENT_FD,
		.qmp_fd = QMP_FD,
		.kernel_fd = KERNEL_FD,
		.tsc_khz = 2500000,
	};
	bed->spawn = SPAWN_INIT;
	*state = bed;
	return 0;
}

static int teardown(void **state)
{
	struct bed *bed = *state;

	strv_done(&bed->argv);
	free(bed->joined);
	free(bed);
	return 0;
}

static void add_nic(struct bed *bed, int fd, bool tap, const char *mac)
{
	struct vmm_nic *nic = &bed->config.nics[bed->config.n_nics++];

	*nic = (struct vmm_nic){ .fd = fd, .tap = tap };
	snprintf(nic->mac, sizeof(nic->mac), "%s", mac);
}

/* All arguments, each followed by a newline. */
static const char *make(struct bed *bed)
{
	size_t len = 1;

	assert_int_equal(qemu_cmdline(&bed->machine, &bed->argv, &bed->spawn, &bed->e), 0);
	for (size_t i = 0; i < bed->argv.n; i++)
		len += strlen(bed->argv.v[i]) + 1;
	bed->joined = calloc(1, len);
	assert_non_null(bed->joined);
	for (size_t i = 0; i < bed->argv.n; i++)
		strcat(strcat(bed->joined, bed->argv.v[i]), "\n");
	return bed->joined;
}

static int refuse(struct bed *bed)
{
	int r = qemu_cmdline(&bed->machine, &bed->argv, &bed->spawn, &bed->e);

	assert_true(bed->e.msg[0]);
	return r;
}

static void assert_has(const char *args, const char *what)
{
	if (!args || !strstr(args, what))
		fail_msg("no %s in:\n%s", what, args ? args : "nothing");
}

static void assert_lacks(const char *args, const char *what)
{
	if (!args || strstr(args, what))
		fail_msg("%s in:\n%s", what, args ? args : "nothing");
}

/* QEMU finds the descriptor @fd where @before on the command line says that it is. */
static void assert_given(const struct bed *bed, const char *before, int fd)
{
	const char *at = strstr(bed->joined, before);
	int target;

	assert_non_null(at);
	target = atoi(at + strlen(before));
	for (size_t i = 0; i < bed->spawn.n_fds; i++) {
		if (bed->spawn.fds[i].fd != fd)
			continue;
		assert_int_equal(bed->spawn.fds[i].target, target);
		return;
	}
	fail_msg("descriptor %d is not given", fd);
}

static size_t count_devices(const struct bed *bed)
{
	size_t n = 0;

	for (size_t i = 0; i < bed->argv.n; i++)
		n += str_eq(bed->argv.v[i], "-device");
	return n;
}

static void full_machine(struct bed *bed)
{
	add_nic(bed, NIC_FD, false, "02:00:00:00:00:01");
	add_nic(bed, TAP_FD, true, "02:00:00:00:00:02");
}

static void test_every_descriptor_is_given_and_no_other(void **state)
{
	struct bed *bed = *state;

	full_machine(bed);
	make(bed);
	assert_given(bed, "socket,id=qmp,fd=", QMP_FD);
	assert_given(bed, "socket,id=console,fd=", CONSOLE_FD);
	assert_given(bed, "socket,id=agent,fd=", AGENT_FD);
	assert_given(bed, "-add-fd\nfd=", ROOT_FD);
	assert_given(bed, "-kernel\n/proc/self/fd/", KERNEL_FD);
	assert_given(bed, "addr.type=fd,addr.str=", NIC_FD);
	assert_given(bed, "tap,id=net1,fd=", TAP_FD);
	assert_int_equal(bed->spawn.n_fds, 7);
}

static void test_the_devices_are_these_and_no_more(void **state)
{
	static const char *const devices[] = {
		"virtio-serial-device,", "virtserialport,",    "virtio-blk-device,",
		"virtio-scsi-device,",	 "virtio-rng-device,", "virtio-balloon-device,",
		"virtio-net-device,",
	};
	struct bed *bed = *state;
	const char *args;

	full_machine(bed);
	args = make(bed);
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
		assert_has(args, devices[i]);
	assert_int_equal(count_devices(bed), ARRAY_SIZE(devices) + 1); /* two networks */
	assert_has(args, "\n-nodefaults\n");
	assert_has(args, "\n-no-user-config\n");
	assert_has(args, "\n-no-reboot\n");
	assert_has(args, "filename=/dev/fdset/1,read-only=on");
}

/* A limit of Kubernetes ("100M") may be no multiple of anything. */
static void test_any_size_of_memory(void **state)
{
	struct bed *bed = *state;
	const char *args;

	bed->config.memory = 99999999;
	args = make(bed);
	assert_has(args, "\nsize=100663296B\n");
	assert_has(args, "memory-backend-memfd,share=on,id=ram,size=100663296,reserve=off\n");
}

static void test_room_to_grow(void **state)
{
	struct bed *bed = *state;
	const char *args;

	bed->config.machine = "q35";
	bed->config.max_vcpus = 8;
	bed->config.max_memory = UINT64_C(1000) << 20;
	bed->machine.pci = true;
	args = make(bed);
	assert_has(args, "-smp\n8\n");
	assert_has(args, "virtio-blk-pci-non-transitional,drive=root,serial=root,num-queues=2\n");
	assert_has(args, "virtio-scsi-pci-non-transitional,id=scsi0,num_queues=2\n");
	/* 128 MiB, and six whole pieces of 128 MiB */
	assert_has(args, "\nsize=134217728B,maxmem=939524096B\n");
	assert_has(args, "\nmemory-backend-ram,id=spare,size=805306368,reserve=off\n");
	assert_has(args, "\nvirtio-mem-pci,id=spare0,memdev=spare,requested-size=0\n");
}

/* vm.overcommit_memory is 2: what QEMU maps has to be there. */
static void test_a_host_that_promises_nothing(void **state)
{
	struct bed *bed = *state;
	const char *args;

	bed->config.machine = "q35";
	bed->config.max_memory = UINT64_C(1000) << 20;
	bed->machine.pci = true;
	bed->machine.strict_memory = true;
	args = make(bed);
	assert_has(args, "memory-backend-memfd,share=on,id=ram,size=134217728,reserve=on\n");
	assert_lacks(args, "reserve=off");
	assert_lacks(args, "virtio-mem");
	assert_lacks(args, "maxmem");
}

/* All are there, and the guest leaves alone what it isn't told to use. */
static void test_room_for_cpus(void **state)
{
	struct bed *bed = *state;
	const char *args;

	bed->config.max_vcpus = 8;
	args = make(bed);
	assert_has(args, "-smp\n8\n");
	assert_has(args, " maxcpus=2");
}

/* What describes the memory that comes later has to fit into what is there from the start. */
static void test_memory_grows_to_eight_times_the_size(void **state)
{
	struct bed *bed = *state;

	bed->config.machine = "q35";
	bed->config.max_memory = UINT64_C(1) << 40;
	bed->machine.pci = true;
	assert_has(make(bed), "\nsize=134217728B,maxmem=1073741824B\n");
}

static void test_microvm_has_no_room_for_memory(void **state)
{
	struct bed *bed = *state;
	const char *args;

	bed->config.max_memory = UINT64_C(1) << 30;
	args = make(bed);
	assert_has(args, "-smp\n2\n");
	assert_lacks(args, "maxcpus");
	assert_lacks(args, "maxmem");
	assert_lacks(args, "virtio-mem");
}

/* A template's memory is a file, which its copies map privately; the rest is the same machine. */
static void test_template_and_copy(void **state)
{
	struct bed *bed = *state;
	const char *args;

	bed->config.template = VMM_TEMPLATE_MAKE;
	args = make(bed);
	assert_has(args, "memory-backend-file,id=ram,size=134217728,mem-path=" QEMU_MEMORY_PATH
			 ",share=on,reserve=off\n");
	assert_has(args, "-kernel");
	assert_lacks(args, "free-page-reporting");
	strv_done(&bed->argv);
	free(bed->joined);
	bed->spawn = SPAWN_INIT;
	bed->config.template = VMM_TEMPLATE_USE;
	args = make(bed);
	assert_has(args, ",share=off,reserve=off\n");
	assert_has(args, "-incoming\ndefer\n");
	assert_has(args, "migration.announce-rounds=0");
	assert_lacks(args, "-kernel");
	assert_lacks(args, "free-page-reporting");
}

static void test_q35_has_modern_pci_devices_only(void **state)
{
	struct bed *bed = *state;
	const char *args;

	full_machine(bed);
	bed->config.machine = "q35";
	bed->machine.pci = true;
	args = make(bed);
	assert_int_equal(count_devices(bed), 9);
	assert_lacks(args, "-device,");
	assert_has(args, "vmgenid,");
	assert_has(args, "virtio-blk-pci-non-transitional,");
	assert_has(args, "sata=off");
	assert_has(args, ",romfile=\n");
	assert_lacks(args, "acpi=off");
}

/* Huge pages, which QEMU asks for, are for those that have memory enough to fill them. */
static void test_small_memory_has_small_pages(void **state)
{
	struct bed *bed = *state;

	bed->config.memory = UINT64_C(256) << 20;
	assert_has(make(bed), "memory-backend-memfd,share=on,id=ram,size=268435456,reserve=off\n");
}

static void test_much_memory_may_have_huge_pages(void **state)
{
	struct bed *bed = *state;

	bed->config.memory = UINT64_C(512) << 20;
	assert_has(make(bed), "memory-backend-ram,id=ram,size=536870912,reserve=off\n");
}

static void test_emulation(void **state)
{
	struct bed *bed = *state;
	const char *args = make(bed);

	assert_has(args, "\ntcg,tb-size=");
	assert_has(args, ",thread=single\n");
	assert_has(args, "\n-cpu\nmax,-erms\n");
	assert_has(args, "pit=on,pic=on,rtc=on");
	assert_has(args, " mitigations=off ");
	assert_has(args, " lapic_timer_khz=1000000 ");
	assert_has(args, " tsc_early_khz=2500000 lpj=10000000");
	assert_has(args, "\n-sandbox\non,");
}

static void test_kvm(void **state)
{
	struct bed *bed = *state;
	const char *args;

	bed->machine.accel = VMM_ACCEL_KVM;
	bed->machine.binary = "/usr/bin/qemu-system-x86_64-microvm";
	args = make(bed);
	assert_has(args, "\n-accel\nkvm\n");
	assert_has(args, "\n-cpu\nhost\n");
	assert_lacks(args, "mitigations=off");
	assert_lacks(args, "tsc_early_khz");
	assert_lacks(args, "-sandbox"); /* Debian's small program has none */
}

static void test_kernel_command_line(void **state)
{
	struct bed *bed = *state;
	_cleanup_(freep) char *usual = qemu_kernel_cmdline(&bed->machine);
	_cleanup_(freep) char *debug = NULL;

	assert_non_null(usual);
	assert_true(str_starts(usual, "root=/dev/vda console=ttyS0 reboot=t "));
	assert_lacks(usual, "loglevel");
	bed->config.debug = true;
	debug = qemu_kernel_cmdline(&bed->machine);
	assert_non_null(debug);
	assert_has(debug, " ignore_loglevel");
}

static void test_microvm_has_eight_slots(void **state)
{
	struct bed *bed = *state;

	full_machine(bed);
	add_nic(bed, NIC_FD, false, "02:00:00:00:00:03");
	add_nic(bed, NIC_FD, false, "02:00:00:00:00:04");
	assert_int_equal(refuse(bed), -ENOSPC);
	assert_has(bed->e.hint, "q35");
}

static void test_q35_has_room(void **state)
{
	struct bed *bed = *state;

	full_machine(bed);
	add_nic(bed, NIC_FD, false, "02:00:00:00:00:03");
	add_nic(bed, NIC_FD, false, "02:00:00:00:00:04");
	bed->machine.pci = true;
	make(bed);
}

static void test_an_address_is_needed(void **state)
{
	struct bed *bed = *state;

	add_nic(bed, NIC_FD, false, "");
	assert_int_equal(refuse(bed), -EINVAL);
}

static void test_a_long_kernel_command_line_is_refused(void **state)
{
	struct bed *bed = *state;
	char cmdline[2000];

	memset(cmdline, 'x', sizeof(cmdline) - 1);
	cmdline[sizeof(cmdline) - 1] = '\0';
	bed->config.cmdline = cmdline;
	assert_int_equal(refuse(bed), -E2BIG);
}

static void test_machine_types(void **state)
{
	struct bed *bed = *state;
	bool pci;

	assert_int_equal(qemu_is_pci(NULL, &pci, NULL), 0);
	assert_false(pci);
	assert_int_equal(qemu_is_pci("q35", &pci, NULL), 0);
	assert_true(pci);
	assert_int_equal(qemu_is_pci("isapc", &pci, &bed->e), -EINVAL);
	assert_true(bed->e.hint[0]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_every_descriptor_is_given_and_no_other),
		TEST(test_the_devices_are_these_and_no_more),
		TEST(test_any_size_of_memory),
		TEST(test_room_to_grow),
		TEST(test_a_host_that_promises_nothing),
		TEST(test_room_for_cpus),
		TEST(test_memory_grows_to_eight_times_the_size),
		TEST(test_microvm_has_no_room_for_memory),
		TEST(test_template_and_copy),
		TEST(test_q35_has_modern_pci_devices_only),
		TEST(test_small_memory_has_small_pages),
		TEST(test_much_memory_may_have_huge_pages),
		TEST(test_emulation),
		TEST(test_kvm),
		TEST(test_kernel_command_line),
		TEST(test_microvm_has_eight_slots),
		TEST(test_q35_has_room),
		TEST(test_an_address_is_needed),
		TEST(test_a_long_kernel_command_line_is_refused),
		TEST(test_machine_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
