/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_VMM_QEMU_H
#define PODVM_VMM_QEMU_H

/* What the files of the QEMU driver share. */

#include "base/list.h"
#include "base/str.h"
#include "vmm/qmp.h"
#include "vmm/vmm-internal.h"

/* How long QEMU may take for a command; it does them at once unless the host is very busy. */
#define QEMU_COMMAND_TIMEOUT_MS 60000

/* How long the guest may take to make use of new memory. */
#define QEMU_RESIZE_TIMEOUT_MS 15000

/* Memory is plugged in pieces of what the guest's kernel manages at once. */
#define QEMU_MEMORY_PIECE ((uint64_t)128 << 20)

/* The kernel describes each page in memory that it has from the beginning: 1/64 of all of it. */
#define QEMU_MEMORY_FACTOR 8

/* Where QEMU believes that the memory of a template is. There is no such directory. */
#define QEMU_MEMORY_PATH "/podvm-template/memory"

/* How long it may take to write the state of devices. */
#define QEMU_SAVE_TIMEOUT_MS 60000

/* How long the guest may take to let go of a disk. */
#define QEMU_UNPLUG_TIMEOUT_MS 15000

/**
 * struct qemu_machine - What a command line is made from
 * @binary:	Program
 * @config:	Configuration
 * @accel:	KVM or TCG
 * @pci:	Devices sit on PCI (q35), not in virtio-mmio slots (microvm)
 * @strict_memory: The host promises no memory that it hasn't got (vm.overcommit_memory is 2)
 * @console_fd, @agent_fd, @qmp_fd: QEMU's ends of the socket pairs
 * @kernel_fd:	The kernel, open
 * @tsc_khz:	Rate of the host's time stamp counter, for emulated guests
 */
struct qemu_machine {
	const char *binary;
	const struct vmm_config *config;
	enum vmm_accel accel;
	bool pci;
	bool strict_memory;
	int console_fd;
	int agent_fd;
	int qmp_fd;
	int kernel_fd;
	unsigned int tsc_khz;
};

/** qemu_is_pci() - Whether the machine type has PCI. Return: 0 (in *@ret) or -EINVAL */
int qemu_is_pci(const char *machine, bool *ret, struct err *e);

/** qemu_find() - As vmm_driver.find */
int qemu_find(const struct vmm_config *config, enum vmm_accel accel, char **ret, struct err *e);

/**
 * qemu_cmdline() - Arguments and descriptors of QEMU
 * @m:		Machine
 * @argv:	Gets the arguments, the program's name first
 * @s:		Gets the descriptors, borrowed
 *
 * Return: 0, -ENOSPC (too many devices), -EINVAL (a name or address that isn't one), -E2BIG
 * (kernel command line), -ENOMEM
 */
int qemu_cmdline(const struct qemu_machine *m, struct strv *argv, struct spawn *s, struct err *e);

/**
 * qemu_kernel_cmdline() - The kernel command line with what this machine needs appended
 *
 * Return: A new string or NULL when out of memory
 */
char *qemu_kernel_cmdline(const struct qemu_machine *m);

/** qemu_spare_memory() - How much memory can be plugged into a machine later, whole pieces */
uint64_t qemu_spare_memory(const struct qemu_machine *m);

/** tsc_khz() - Rate of the host's time stamp counter, measured for a few milliseconds */
unsigned int tsc_khz(void);

/**
 * struct qemu - State of the driver
 * @vmm:	The machine
 * @qmp:	Control connection
 * @done, @done_data: Of vmm_start() until it's answered
 * @shutdown:	Reason of QEMU's SHUTDOWN event, a short word; empty: none came
 * @halted:	The guest's CPUs were stopped because of an error
 * @memory, @memory_fd: Opens the file of its memory for it, and the file; NULL: it has none
 * @save:	It's being saved, NULL: it isn't
 * @state_fd:	Of what it's a copy of: incoming state, QEMU's number; 0: it boots
 * @stopped:	We asked for that the CPUs stop
 * @ops:	Disks being plugged or unplugged
 * @luns:	Bit N: LUN N of the controller is in use
 * @pci:	As in struct qemu_machine
 * @boot_memory: What the machine had at its start
 * @spare_memory: What can be plugged
 * @max_vcpus:	CPUs that it has, for the guest to use
 * @resize:	It's growing, NULL: it isn't
 */
struct qemu {
	struct vmm *vmm;
	struct qmp *qmp;
	vmm_done done;
	void *done_data;
	char shutdown[32];
	bool halted;
	struct memory_grant *memory;
	int memory_fd;
	struct save_op *save;
	int state_fd;
	bool stopped;
	struct list ops;
	uint64_t luns;
	bool pci;
	uint64_t boot_memory;
	uint64_t spare_memory;
	unsigned int max_vcpus;
	struct resize_op *resize;
};

_Static_assert(VMM_MAX_DISKS <= 64, "struct qemu keeps the LUNs in one word");

/* Operations on disks (qemu-disk.c), as in struct vmm_driver */
int qemu_attach_disk(struct vmm *vmm, const struct vmm_disk *disk, struct vmm_disk_addr *ret,
		     vmm_done done, void *data, struct err *e);
int qemu_detach_disk(struct vmm *vmm, const struct vmm_disk_addr *addr, vmm_done done, void *data,
		     struct err *e);
/**
 * memory_grant_new() - Prepare a child to get the file of its memory (qemu-memory.c)
 * @loop:	Loop
 * @fd:		The file, borrowed until memory_grant_free()
 * @s:		The child
 * @ret:	To be started after the child
 */
int memory_grant_new(struct loop *loop, int fd, struct spawn *s, struct memory_grant **ret);

/** memory_grant_start() - Answer the child, which has been started. Return: 0 or negative errno */
int memory_grant_start(struct memory_grant *g);

/** memory_grant_free() - Don't answer any more; NULL is fine */
void memory_grant_free(struct memory_grant *g);

/* Templates (qemu-template.c), as in struct vmm_driver */
int qemu_describe(const struct vmm_config *config, enum vmm_accel accel, struct buf *text,
		  struct err *e);
int qemu_save(struct vmm *vmm, int fd, vmm_done done, void *data, struct err *e);

/** qemu_load() - Have the state read that the machine is a copy of. Return: 0 or negative errno */
int qemu_load(struct qemu *q, qmp_done failed);

/** qemu_migrated() - QEMU's event MIGRATION: what has become of it */
void qemu_migrated(struct qemu *q, const char *status);

/** qemu_save_failed() - The machine has ended: fail what is under way */
void qemu_save_failed(struct qemu *q, const struct err *e);

/** qemu_disk_deleted() - QEMU's event DEVICE_DELETED */
void qemu_disk_deleted(struct qemu *q, const char *device);

/* Ids of their ports: this and the name. */
#define QEMU_PORT "port-"

/** qemu_add_channel() - As in struct vmm_driver (qemu-channel.c) */
int qemu_add_channel(struct vmm *vmm, const char *name, int *ret_fd, vmm_done done, void *data,
		     struct err *e);

/** qemu_resize() - As in struct vmm_driver (qemu-resize.c) */
int qemu_resize(struct vmm *vmm, unsigned int vcpus, uint64_t memory, vmm_done done, void *data,
		struct err *e);

/** qemu_memory_changed() - QEMU's event MEMORY_DEVICE_SIZE_CHANGE: bytes that are plugged */
void qemu_memory_changed(struct qemu *q, uint64_t plugged);

/** qemu_resize_failed() - The machine has ended: fail what is under way */
void qemu_resize_failed(struct qemu *q, const struct err *e);

/** qemu_disks_failed() - The machine has ended: fail what is under way */
void qemu_disks_failed(struct qemu *q, const struct err *e);

#endif
