/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_VMM_VMM_H
#define PODVM_VMM_VMM_H

/*
 * Theory of operation
 *
 * A `struct vmm` is one virtual machine monitor process and the machine in it. What differs
 * between monitors is in a driver: one const table of operations with capability bits. An
 * operation that a driver hasn't got is NULL and is answered -EOPNOTSUPP here, in one place.
 *
 * Life: vmm_new() keeps a copy of the configuration; vmm_start() starts the process with every
 * device on its command line and the guest's vCPUs running; vmm_attach_disk() may come later;
 * vmm_free() kills what is left of it, at any time. Operations that take time are asynchronous:
 * they call back once, with their result, from the loop; when the process dies first they fail at
 * once with -ECONNRESET. The process dies with us (PR_SET_PDEATHSIG), and when it dies first the
 * `exited` callback tells, after all pending operations have failed.
 *
 * The monitor gets descriptors, not paths: sockets for its control connection, the agent's channel,
 * the console and the network are pairs made here; disks are open files. So nothing of a machine
 * stays in the file system, whoever dies first.
 *
 * The guest's console is read into a ring of the last VMM_CONSOLE_SIZE bytes, for error messages
 * and logs. It holds foreign bytes: vmm_console_tail() makes them printable.
 *
 * A template is a machine that was saved when its guest had booted: its memory in a file, and the
 * state of its devices in another one. Any number of machines can start as copies of it, all at
 * the same time. They share the pages of the file until they write to them.
 *
 * A machine can be handed over to another process (vmm_hand_over(), vmm_adopt()): the new one has
 * the descriptors, and decides and is told what the old one was. The monitor's parent stays the old
 * one, which has nothing to do but to tell how the monitor ends, and to end itself when nobody is
 * there who would be told: the monitor ends with it.
 *
 * Whether a monitor can run guests on this machine is found out by running one (vmm_probe()): that
 * /dev/kvm opens proves nothing.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "loop/loop.h"

#define VMM_STATE_DIR	 "/run/podvm"
#define VMM_CONSOLE_SIZE ((size_t)16 << 10)
#define VMM_MAX_DISKS	 64
#define VMM_MAX_NICS	 8

/* What a driver, or a machine of it, can do. */
enum vmm_caps {
	VMM_CAP_KVM = 1 << 0,	    /* can use KVM */
	VMM_CAP_EMULATION = 1 << 1, /* works without KVM */
	VMM_CAP_DISK_HOTPLUG = 1 << 2,
	VMM_CAP_DISK_UNPLUG = 1 << 3,
	VMM_CAP_CHANNEL = 1 << 4, /* channels for a running guest */
	VMM_CAP_PAUSE = 1 << 5,
	VMM_CAP_BALLOON = 1 << 6,
	VMM_CAP_VSOCK = 1 << 7,	   /* the agent's channel may be vhost-vsock */
	VMM_CAP_RESIZE = 1 << 8,   /* a machine can grow, at least of one type */
	VMM_CAP_TEMPLATE = 1 << 9, /* can save machines, and start copies of a saved one */
};

enum vmm_accel { VMM_ACCEL_AUTO, VMM_ACCEL_KVM, VMM_ACCEL_TCG };

/* What a machine has to do with a template. */
enum vmm_template {
	VMM_TEMPLATE_NONE, /* nothing: it boots, and that's it */
	VMM_TEMPLATE_MAKE, /* it boots with its memory in a file, and will be saved */
	VMM_TEMPLATE_USE,  /* it's a copy of one that was saved */
};

/**
 * struct vmm_disk - A disk
 * @fd:		Open image file or block device; borrowed during the call
 * @readonly:	The guest can't write
 * @serial:	Serial number that the guest sees, at most 20 characters
 * @discard:	Blocks that the guest discards are given back to the host's file system
 * @unsafe:	Nothing is lost with it: the guest's flushes are answered without doing anything
 */
struct vmm_disk {
	int fd;
	bool readonly;
	const char *serial;
	bool discard;
	bool unsafe;
};

/**
 * struct vmm_nic - A network device
 * @fd:		Connected stream socket of a user-mode network (passt), or a tap device
 * @tap:	@fd is a tap device
 * @mac:	Its address, "02:..."
 */
struct vmm_nic {
	int fd;
	bool tap;
	char mac[18];
};

/**
 * struct vmm_config - A machine; strings and descriptors are borrowed until vmm_start() returns
 * @binary:	Program of the monitor, NULL: the driver finds it
 * @machine:	Machine type where the driver has several ("microvm", "q35"), NULL: the default
 * @accel:	KVM, emulation, or what vmm_probe() found usable
 * @kernel:	Path of vmlinux (PVH ELF)
 * @cmdline:	Kernel command line that doesn't depend on the driver (from the image's manifest);
 *		the driver appends its own
 * @rootfs_fd:	Root image, attached read-only as /dev/vda
 * @vcpus:	Number of CPUs
 * @memory:	Bytes
 * @max_vcpus:	How many CPUs it may have one day; no more than @vcpus: it doesn't get any. It has
 *		them from its start, and the guest's kernel uses @vcpus of them until it's told
 *		otherwise
 * @max_memory:	How much memory it may have one day; no more than @memory: it doesn't get any
 * @nics:	What they say
 * @uid:	User that the process runs as, 0: ours
 * @netns_fd:	Network namespace that the process lives in, 0: ours
 * @debug:	Kernel messages of all levels on the console
 * @template:	What it has to do with a template
 * @memory_fd:	With one: file of vmm_memory_size() bytes. It's the memory of a machine that makes a
 *		template; that of one that uses it is a private copy of it, page by page as it's
 *		written to, and the file need only be open for reading
 * @state_fd:	File that vmm_save() has filled, for VMM_TEMPLATE_USE
 * @state_dir:	Where vmm_accel_auto() remembers its answer, NULL: VMM_STATE_DIR
 */
struct vmm_config {
	const char *binary;
	const char *machine;
	enum vmm_accel accel;
	const char *kernel;
	const char *cmdline;
	int rootfs_fd;
	unsigned int vcpus;
	uint64_t memory;
	unsigned int max_vcpus;
	uint64_t max_memory;
	struct vmm_nic nics[VMM_MAX_NICS];
	size_t n_nics;
	uid_t uid;
	int netns_fd;
	bool debug;
	enum vmm_template template;
	int memory_fd;
	int state_fd;
	const char *state_dir;
};

/**
 * struct vmm_exit - How a monitor ended
 * @code:	Exit code, 128 + signal when a signal ended it
 * @message:	The last line it wrote to stderr, printable; may be empty
 */
struct vmm_exit {
	int code;
	char message[256];
};

struct vmm;

typedef void (*vmm_done)(void *data, const struct err *e); /* @e is NULL on success */

/* Address by which the guest's agent finds a disk: driver "scsi" or "blk" of agent.proto. */
struct vmm_disk_addr {
	char driver[8];
	char source[24];
};

struct vmm_driver; /* vmm-internal.h */

/** vmm_driver_find() - Driver by name ("qemu"), NULL when there is none of that name */
const struct vmm_driver *vmm_driver_find(const char *name);

/** vmm_driver_name() - Its name; vmm_driver_at(i) goes over all of them until NULL */
const char *vmm_driver_name(const struct vmm_driver *driver);
const struct vmm_driver *vmm_driver_at(size_t i);
unsigned int vmm_driver_caps(const struct vmm_driver *driver);

/**
 * vmm_new() - A machine that isn't started
 * @loop:	Loop
 * @driver:	Driver
 * @exited:	Called once when a started monitor has ended by itself (not by vmm_free())
 * @data:	For @exited
 *
 * Return: 0 or -ENOMEM
 */
int vmm_new(struct loop *loop, const struct vmm_driver *driver,
	    void (*exited)(void *data, const struct vmm_exit *exit), void *data, struct vmm **ret);

/**
 * vmm_start() - Start the process and the guest
 * @vmm:	Machine
 * @config:	Configuration, borrowed until this returns
 * @done:	Called when the monitor answers on its control connection and the guest runs
 * @data:	For @done
 * @e:		Why it could not even be started (no binary, no KVM and no emulation, ...)
 *
 * Return: 0 (@done will be called) or a negative errno (it will not)
 */
int vmm_start(struct vmm *vmm, const struct vmm_config *config, vmm_done done, void *data,
	      struct err *e);

/* What a machine on its way to another process consists of. */
enum vmm_handover_fd {
	VMM_HANDOVER_PROCESS, /* pidfd of the monitor */
	VMM_HANDOVER_CONTROL,
	VMM_HANDOVER_AGENT,
	VMM_HANDOVER_CONSOLE,
	VMM_HANDOVER_STDERR,
	VMM_HANDOVER_FDS,
};

/**
 * struct vmm_handover - A machine on its way to another process
 * @pid:	Process id of the monitor
 * @fds:	By enum vmm_handover_fd
 */
struct vmm_handover {
	pid_t pid;
	int fds[VMM_HANDOVER_FDS];
};

#define VMM_HANDOVER_INIT \
	((struct vmm_handover){ .fds = { -EBADF, -EBADF, -EBADF, -EBADF, -EBADF } })

/**
 * vmm_hand_over() - Give the running machine away
 * @vmm:	Machine. It knows no more than its process now, and tells its exit (see vmm_new())
 * @agent_fd:	What vmm_agent_fd() has returned, borrowed
 * @ret:	Gets what the other process needs, to be released by vmm_handover_done()
 *
 * Return: 0, -EBUSY (something is under way), -EOPNOTSUPP or another negative errno
 */
int vmm_hand_over(struct vmm *vmm, int agent_fd, struct vmm_handover *ret, struct err *e);

/** vmm_handover_done() - Close what is left of it */
void vmm_handover_done(struct vmm_handover *h);

/**
 * vmm_adopt() - Take over a machine, in place of vmm_start()
 * @vmm:	Machine that isn't started
 * @config:	That of the machine, borrowed until this returns; descriptors of it aren't used
 * @h:		From another process's vmm_hand_over(), taken
 * @guard_fd:	Connection to that process, taken: when the monitor has ended, its exit code comes
 *		as an int. The process ends, with the monitor, when we close it
 *
 * Return: 0 or a negative errno
 */
int vmm_adopt(struct vmm *vmm, const struct vmm_config *config, struct vmm_handover *h,
	      int guard_fd, struct err *e);

/** vmm_agent_fd() - Our end of the agent's channel, connected, to be taken once by the caller */
int vmm_agent_fd(struct vmm *vmm);

/** vmm_pid() - Process id of the monitor, 0 when it isn't running */
pid_t vmm_pid(const struct vmm *vmm);

/** vmm_accel() - What the started machine runs on: VMM_ACCEL_KVM or VMM_ACCEL_TCG */
enum vmm_accel vmm_accel(const struct vmm *vmm);

/**
 * vmm_attach_disk() - Plug a disk into the running machine
 * @ret:	Its address, valid at once
 * @done:	Called when the monitor has it
 *
 * Return: 0 or a negative errno (-EOPNOTSUPP, -ENOSPC: no room for another one)
 */
int vmm_attach_disk(struct vmm *vmm, const struct vmm_disk *disk, struct vmm_disk_addr *ret,
		    vmm_done done, void *data, struct err *e);

/** vmm_detach_disk() - Unplug a disk by its address; the guest must not use it any more */
int vmm_detach_disk(struct vmm *vmm, const struct vmm_disk_addr *addr, vmm_done done, void *data,
		    struct err *e);

/**
 * vmm_add_channel() - Give the running guest one more stream of bytes to the host, as the agent's
 * @name:	Name that the guest finds it by, "podvm.NAME": a constant of ours
 * @ret_fd:	Our end, a non-blocking socket that the caller owns
 * @done:	Called when the monitor has plugged it
 *
 * Return: 0 or a negative errno
 */
int vmm_add_channel(struct vmm *vmm, const char *name, int *ret_fd, vmm_done done, void *data,
		    struct err *e);

/**
 * vmm_on_channel_closed() - Be told when the guest closes its end of such a channel
 * @closed:	Called with its name, from a callback of the monitor; NULL: don't
 */
void vmm_on_channel_closed(struct vmm *vmm, void (*closed)(void *data, const char *name),
			   void *data);

/**
 * vmm_grow_disk() - Tell the guest that a plugged disk has become larger
 * @size:	Bytes that its file or device has now
 *
 * Return: 0 or a negative errno
 */
int vmm_grow_disk(struct vmm *vmm, const struct vmm_disk_addr *addr, uint64_t size, vmm_done done,
		  void *data, struct err *e);

/**
 * vmm_resize() - Give the running machine more CPUs and memory
 * @vcpus:	How many CPUs it is to have; it doesn't lose any
 * @memory:	Bytes that it is to have; it doesn't lose any
 * @done:	Called when it has them, or as much as its configuration allows, or with what it
 *		can't be given (-EOPNOTSUPP: memory); the guest still has to bring the CPUs online
 *
 * Return: 0 or a negative errno (-EOPNOTSUPP: this monitor's machines don't grow, -EBUSY: it's
 * growing)
 */
int vmm_resize(struct vmm *vmm, unsigned int vcpus, uint64_t memory, vmm_done done, void *data,
	       struct err *e);

/** vmm_size() - CPUs and memory that the machine has now */
void vmm_size(const struct vmm *vmm, unsigned int *vcpus, uint64_t *memory);

/** vmm_memory_size() - Size of the file that holds the memory of a machine with @memory bytes */
uint64_t vmm_memory_size(uint64_t memory);

/**
 * vmm_save() - Stop a machine of VMM_TEMPLATE_MAKE for ever, and write the state of its devices
 * @fd:		File open for writing, borrowed during the call
 * @done:	Called when everything is written, there and in the file of its memory
 *
 * Return: 0 or a negative errno (-EOPNOTSUPP)
 */
int vmm_save(struct vmm *vmm, int fd, vmm_done done, void *data, struct err *e);

/**
 * vmm_describe() - Everything that a saved machine depends on, as a text to be compared
 * @driver:	Driver
 * @config:	Machine; descriptors may be any number, the template's are not used
 * @accel:	KVM or TCG
 * @text:	Gets it
 *
 * Two machines of the same description on the same boot of the host may be copies of each other.
 *
 * Return: 0 or a negative errno (-EOPNOTSUPP: such a machine can't be saved)
 */
int vmm_describe(const struct vmm_driver *driver, const struct vmm_config *config,
		 enum vmm_accel accel, struct buf *text, struct err *e);

/** vmm_pause(), vmm_resume() - Stop and continue the vCPUs */
int vmm_pause(struct vmm *vmm, vmm_done done, void *data, struct err *e);
int vmm_resume(struct vmm *vmm, vmm_done done, void *data, struct err *e);

/**
 * vmm_console_tail() - The last lines of the guest's console, printable
 * @vmm:	Machine
 * @lines:	How many at most
 * @buf:	Where to put them, ended by a NUL
 * @size:	Its size
 */
void vmm_console_tail(const struct vmm *vmm, unsigned int lines, char *buf, size_t size);

/**
 * vmm_console_on_output() - Be told of console output as it comes (for a log file)
 * @cb:		Called with raw bytes of the guest; NULL: don't
 */
void vmm_console_on_output(struct vmm *vmm, void (*cb)(void *data, const void *bytes, size_t n),
			   void *data);

/** vmm_free() - Kill the monitor if it runs, fail pending operations, free; NULL is fine */
void vmm_free(struct vmm *vmm);

/* ---- what this machine can do ---- */

enum vmm_usable { VMM_USABLE_NO, VMM_USABLE_EMULATION, VMM_USABLE_KVM };

/**
 * struct vmm_probe_result - What a driver can do here
 * @usable:	The best way that a guest really ran
 * @binary:	Program used, empty when there is none
 * @version:	What it says of itself
 * @kvm:	Why KVM is or isn't usable: one sentence
 * @emulation:	Why emulation is or isn't usable: one sentence
 * @hint:	What to change to get KVM; empty when it's there
 */
struct vmm_probe_result {
	enum vmm_usable usable;
	char binary[256];
	char version[64];
	char kvm[256];
	char emulation[256];
	char hint[512];
};

/**
 * vmm_accel_auto() - Whether to use KVM or emulation
 * @driver:	Driver
 * @config:	Machine; its binary, machine type, kernel, root image and state directory matter
 * @why:	Why it isn't KVM, when it isn't; or NULL
 *
 * Without a usable /dev/kvm the answer is there at once. Else it is remembered in the state
 * directory for this boot of the host (that KVM doesn't work: for ten minutes); when it isn't known
 * yet, a guest is run on KVM, which blocks for up to 8 seconds. vmm_start() calls this for
 * VMM_ACCEL_AUTO.
 *
 * Return: VMM_ACCEL_KVM or VMM_ACCEL_TCG
 */
enum vmm_accel vmm_accel_auto(const struct vmm_driver *driver, const struct vmm_config *config,
			      struct err *why);

/**
 * vmm_probe() - Find out by running a guest what a driver can do here
 * @driver:	Driver
 * @kernel:	Kernel to run (the guest image's)
 * @rootfs:	Root image
 * @cmdline:	Kernel command line of the image's manifest
 * @kvm_timeout_ms: Deadline for the guest on KVM
 * @ret:	Result
 *
 * Blocks, with its own loop. Starts guests and kills them. Renews what vmm_accel_auto() remembers.
 *
 * Return: 0, also when nothing is usable, or a negative errno
 */
int vmm_probe(const struct vmm_driver *driver, const char *kernel, const char *rootfs,
	      const char *cmdline, int kvm_timeout_ms, struct vmm_probe_result *ret, struct err *e);

#endif
