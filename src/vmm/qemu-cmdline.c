/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's command line. Every device is here; see qemu.c for which there are and why.
 *
 * What the settings are for:
 *
 *  - microvm with acpi=off,pcie=off: virtio-mmio devices are named on the kernel command line (by
 *    QEMU), CPUs in an MP table. Nothing is probed, there are no tables to interpret.
 *  - Under emulation microvm gets PIT, PIC and RTC: the kernel has no paravirtual clock and would
 *    hang calibrating its TSC without a PIT. Under KVM there are kvm-clock, the in-kernel local
 *    APIC with its TSC deadline timer and no use for any of them: three devices less.
 *  - Under emulation the kernel has to find out how fast the local APIC's timer is, which takes it
 *    200 ms, and else has the PIT's tick, also while it's idle as soon as it may have a second CPU.
 *    A machine that boots does without the timer; a template has it, for all its copies.
 *  - Guest memory is memory-backend-ram: anonymous pages that the host allocates when they are
 *    written, 2 MiB at once, because QEMU asks for huge pages. Of a small guest's that would be a
 *    lot for nothing: its memory is a shared memfd, whose pages are small. (A private mapping of
 *    one would cost many pages twice, the file's and the copy.)
 *  - That of a template, and of its copies, is a file; see qemu-memory.c for how it's opened.
 *  - A machine that may grow has all its CPUs, and the guest's kernel is told how many to use
 *    (maxcpus=). Plugging them needs ACPI in the guest and a hypervisor that Linux knows, so q35 on
 *    KVM. Memory comes by virtio-mem, which costs nothing until it's plugged.
 *  - reserve=off: a guest may have more memory than the host could give it at this moment, as a
 *    cgroup may have a higher limit. Where the host promises nothing that it hasn't got
 *    (vm.overcommit_memory=2) there is no such thing, and a machine doesn't grow.
 *  - Disks on PCI would get a queue for each CPU, with an interrupt that the guest has to set up.
 *  - force-legacy=false, -pci-non-transitional: virtio 1 only.
 *  - tb-size bounds the emulator's translation cache, which else may grow to 1 GiB a pod.
 *  - dump-guest-core=off: a core dump of QEMU doesn't hold the guest's memory.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

#include "vmm/qemu.h"

#define MICROVM_SLOTS 8
#define SMALL_MEMORY  (256ULL << 20) /* without huge pages */
#define TB_SIZE_MIB   256
#define CMDLINE_MAX   2047
#define CMDLINE_MMIO  48 /* what QEMU appends for each virtio-mmio device, at most */
#define GUEST_HZ      250 /* CONFIG_HZ of the guest kernel: its delay loops need no calibration then */
#define EMULATION_FLAGS \
	"mitigations=off tsc=reliable no_timer_check noreplace-smp lapic_timer_khz=1000000"

/* A command line under construction; the first failure sticks. */
struct cmdline {
	const struct qemu_machine *m;
	struct strv *argv;
	struct spawn *s;
	int r;
};

static void add(struct cmdline *c, const char *arg)
{
	if (c->r >= 0)
		c->r = strv_add(c->argv, arg);
}

__attribute__((format(printf, 3, 4))) static void opt(struct cmdline *c, const char *name,
						      const char *fmt, ...)
{
	char value[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof(value))
		c->r = -E2BIG;
	add(c, name);
	add(c, value);
}

/* The number that a descriptor of ours has in QEMU. */
static int give(struct cmdline *c, int fd)
{
	int target = spawn_fd(c->s, fd);

	if (target < 0)
		c->r = target;
	return target;
}

static const char *bus(const struct cmdline *c)
{
	return c->m->pci ? "pci-non-transitional" : "device";
}

int qemu_is_pci(const char *machine, bool *ret, struct err *e)
{
	if (machine && !str_eq(machine, "microvm") && !str_eq(machine, "q35")) {
		err_set(e, -EINVAL, "QEMU machine '%s' is not supported", machine);
		err_hint(e, "use microvm or q35");
		return -EINVAL;
	}
	*ret = machine && str_eq(machine, "q35");
	return 0;
}

char *qemu_kernel_cmdline(const struct qemu_machine *m)
{
	const struct vmm_config *config = m->config;
	char emulation[160] = "";
	char cpus[24] = "";

	if (m->accel == VMM_ACCEL_TCG)
		snprintf(emulation, sizeof(emulation),
			 " " EMULATION_FLAGS " tsc_early_khz=%u lpj=%u", m->tsc_khz,
			 m->tsc_khz * (1000 / GUEST_HZ));
	if (config->max_vcpus > config->vcpus)
		snprintf(cpus, sizeof(cpus), " maxcpus=%u", config->vcpus);
	/* reboot=t: whatever ends the guest resets the machine, and QEMU exits. */
	return str_printf("%s%sconsole=ttyS0 reboot=t%s%s%s%s",
			  config->cmdline ? config->cmdline : "", config->cmdline ? " " : "",
			  m->pci ? "" : " acpi=off pci=off", cpus, emulation,
			  config->debug ? " ignore_loglevel" : "");
}

/* Names that become part of an option, where a comma would begin the next one. */
static bool is_plain(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("._:-", *s))
			return false;
	return true;
}

static int check(const struct qemu_machine *m, const char *kernel_cmdline, struct err *e)
{
	const struct vmm_config *config = m->config;
	size_t devices = 5 + config->n_nics;

	if (!m->pci && devices > MICROVM_SLOTS) {
		err_set(e, -ENOSPC, "QEMU's microvm has room for %d network devices, not for %zu",
			MICROVM_SLOTS - 5, devices - 5);
		err_hint(e, "use machine q35, which has no such limit");
		return -ENOSPC;
	}
	for (size_t i = 0; i < config->n_nics; i++)
		if (!is_plain(config->nics[i].mac))
			return err_set(e, -EINVAL, "network device %zu has no valid address", i);
	if (strlen(kernel_cmdline) + MICROVM_SLOTS * CMDLINE_MMIO > CMDLINE_MAX)
		return err_set(e, -E2BIG, "the kernel command line is too long");
	return 0;
}

uint64_t qemu_spare_memory(const struct qemu_machine *m)
{
	const struct vmm_config *config = m->config;
	bool grows = m->pci && !m->strict_memory;
	uint64_t max = config->memory > UINT64_MAX / QEMU_MEMORY_FACTOR
			       ? config->max_memory
			       : MIN(config->max_memory, config->memory * QEMU_MEMORY_FACTOR);
	uint64_t spare = grows && max > config->memory ? max - config->memory : 0;

	return spare - spare % QEMU_MEMORY_PIECE;
}

static void add_ram(struct cmdline *c, unsigned long long size)
{
	enum vmm_template template = c->m->config->template;
	const char *reserve = c->m->strict_memory ? "on" : "off";

	if (template != VMM_TEMPLATE_NONE)
		opt(c, "-object",
		    "memory-backend-file,id=ram,size=%llu,mem-path=%s,share=%s,reserve=%s", size,
		    QEMU_MEMORY_PATH, template == VMM_TEMPLATE_MAKE ? "on" : "off", reserve);
	else
		opt(c, "-object", "memory-backend-%s,id=ram,size=%llu,reserve=%s",
		    size <= SMALL_MEMORY ? "memfd,share=on" : "ram", size, reserve);
}

/* CPUs and memory, and room for more of them. */
static void add_size(struct cmdline *c)
{
	const struct vmm_config *config = c->m->config;
	unsigned long long spare = qemu_spare_memory(c->m);
	/* A limit may be any number; QEMU rounds up by itself, but then the backend doesn't fit. */
	unsigned long long memory = vmm_memory_size(config->memory);

	opt(c, "-smp", "%u", MAX(config->vcpus, config->max_vcpus));
	if (spare > 0)
		opt(c, "-m", "size=%lluB,maxmem=%lluB", memory, memory + spare);
	else
		opt(c, "-m", "size=%lluB", memory);
	add_ram(c, memory);
	if (spare > 0) {
		opt(c, "-object", "memory-backend-ram,id=spare,size=%llu,reserve=off", spare);
		opt(c, "-device", "virtio-mem-pci,id=spare0,memdev=spare,requested-size=0");
	}
}

static void add_machine(struct cmdline *c)
{
	const struct qemu_machine *m = c->m;
	bool kvm = m->accel == VMM_ACCEL_KVM;

	if (m->pci)
		opt(c, "-machine",
		    "q35,sata=off,smbus=off,i8042=off,vmport=off,hpet=off,usb=off,"
		    "dump-guest-core=off,memory-backend=ram");
	else
		opt(c, "-machine",
		    "microvm,acpi=off,pcie=off,pit=%1$s,pic=%1$s,rtc=%1$s,isa-serial=on,"
		    "x-option-roms=off,dump-guest-core=off,memory-backend=ram",
		    kvm ? "off" : "on");
	if (kvm)
		opt(c, "-accel", "kvm");
	else
		/* One thread for all CPUs: a guest with several, whose kernel patches its own code
		 * while it boots, was seen to crash with QEMU 7.2's thread per CPU. */
		opt(c, "-accel", "tcg,tb-size=%d,thread=single", TB_SIZE_MIB);
	/* Emulated, `rep movsb` goes byte by byte: without ERMS the guest's kernel copies by words.
	 */
	opt(c, "-cpu", kvm ? "host" : "max,-erms");
	add_size(c);
	opt(c, "-global", "virtio-mmio.force-legacy=false");
}

/* Debian's small program is built without libseccomp; any other has to have it. */
static bool has_sandbox(const char *binary)
{
	size_t len = strlen(binary);
	size_t suffix = strlen("-microvm");

	return len < suffix || !str_eq(binary + len - suffix, "-microvm");
}

static void add_process(struct cmdline *c)
{
	add(c, "-no-user-config");
	add(c, "-nodefaults");
	add(c, "-no-reboot");
	opt(c, "-display", "none");
	if (has_sandbox(c->m->binary))
		opt(c, "-sandbox",
		    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	opt(c, "-chardev", "socket,id=qmp,fd=%d,server=off", give(c, c->m->qmp_fd));
	opt(c, "-mon", "chardev=qmp,mode=control");
}

static void add_channels(struct cmdline *c)
{
	opt(c, "-chardev", "socket,id=console,fd=%d,server=off", give(c, c->m->console_fd));
	opt(c, "-serial", "chardev:console");
	opt(c, "-chardev", "socket,id=agent,fd=%d,server=off", give(c, c->m->agent_fd));
	opt(c, "-device", "virtio-serial-%s,id=serial0,max_ports=3", bus(c));
	opt(c, "-device", "virtserialport,bus=serial0.0,chardev=agent,id=agent,name=podvm.agent");
}

static void add_disks(struct cmdline *c)
{
	unsigned int queues = c->m->pci ? c->m->config->vcpus : 1;

	opt(c, "-add-fd", "fd=%d,set=1,opaque=root", give(c, c->m->config->rootfs_fd));
	opt(c, "-blockdev",
	    "driver=file,node-name=root,filename=/dev/fdset/1,read-only=on,aio=threads");
	opt(c, "-device", "virtio-blk-%s,drive=root,serial=root,num-queues=%u", bus(c), queues);
	opt(c, "-device", "virtio-scsi-%s,id=scsi0,num_queues=%u", bus(c), queues);
}

static void add_memory_and_entropy(struct cmdline *c)
{
	opt(c, "-object", "rng-builtin,id=rng0");
	opt(c, "-device", "virtio-rng-%s,rng=rng0", bus(c));
	/* QEMU gives free pages back in the file as well: not with one that others share. */
	opt(c, "-device", "virtio-balloon-%s%s", bus(c),
	    c->m->config->template == VMM_TEMPLATE_NONE ? ",free-page-reporting=on" : "");
	if (c->m->pci)
		opt(c, "-device", "vmgenid,guid=auto");
}

static void add_nic(struct cmdline *c, size_t i)
{
	const struct vmm_nic *nic = &c->m->config->nics[i];
	int fd = give(c, nic->fd);

	if (nic->tap)
		opt(c, "-netdev", "tap,id=net%zu,fd=%d", i, fd);
	else
		opt(c, "-netdev", "stream,id=net%zu,server=off,addr.type=fd,addr.str=%d", i, fd);
	opt(c, "-device", "virtio-net-%s,netdev=net%zu,mac=%s%s", bus(c), i, nic->mac,
	    c->m->pci ? ",romfile=" : "");
}

/* The kernel of a copy is in its memory already. */
static void add_kernel(struct cmdline *c, const char *kernel_cmdline)
{
	if (c->m->config->template == VMM_TEMPLATE_USE) {
		opt(c, "-incoming", "defer");
		/* Nobody is to hear of the template's address, which the guest doesn't keep. */
		opt(c, "-global", "migration.announce-rounds=0");
		return;
	}
	/* Whoever QEMU runs as need not reach the kernel by its path. */
	opt(c, "-kernel", "/proc/self/fd/%d", give(c, c->m->kernel_fd));
	add(c, "-append");
	add(c, kernel_cmdline);
}

static void add_all(struct cmdline *c, const char *kernel_cmdline)
{
	add(c, c->m->binary);
	add_machine(c);
	add_process(c);
	add_kernel(c, kernel_cmdline);
	add_channels(c);
	add_disks(c);
	add_memory_and_entropy(c);
	for (size_t i = 0; i < c->m->config->n_nics; i++)
		add_nic(c, i);
}

int qemu_cmdline(const struct qemu_machine *m, struct strv *argv, struct spawn *s, struct err *e)
{
	_cleanup_(freep) char *kernel_cmdline = qemu_kernel_cmdline(m);
	struct cmdline c = { .m = m, .argv = argv, .s = s };
	int r;

	if (!kernel_cmdline)
		return err_oom(e);
	r = check(m, kernel_cmdline, e);
	if (r < 0)
		return r;
	add_all(&c, kernel_cmdline);
	if (c.r < 0)
		return err_errno(e, c.r, "cannot make QEMU's command line");
	return 0;
}
