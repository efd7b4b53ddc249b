/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_VMM_VMM_INTERNAL_H
#define PODVM_VMM_VMM_INTERNAL_H

/* What the drivers and the generic part of src/vmm share. Nobody else includes this. */

#include "base/spawn.h"
#include "vmm/vmm.h"

/* ---- text of foreign origin ---- */

/**
 * printable() - Copy foreign bytes as text that is safe on a terminal
 * @dst:	Where to put it, ended by a NUL
 * @size:	Its size, at least 1; when the text is longer, its end is kept
 * @src:	Bytes; escape sequences and carriage returns are dropped, what isn't printable ASCII
 *		becomes '?', tabs become spaces, newlines stay
 * @n:		How many
 */
void printable(char *dst, size_t size, const void *src, size_t n);

/* ---- console ring ---- */

/* The last bytes that the guest wrote; all zeros is an empty one. */
struct console {
	size_t end; /* where the next byte goes */
	size_t len; /* bytes held */
	char ring[VMM_CONSOLE_SIZE];
};

/** console_write() - Append bytes; the oldest ones make room */
void console_write(struct console *c, const void *data, size_t n);

/** console_tail() - As vmm_console_tail() */
void console_tail(const struct console *c, unsigned int lines, char *buf, size_t size);

/* ---- the monitor's process ---- */

/* A running monitor: noticed when it ends, and the last line of its stderr is kept. */
struct vmm_proc;

/**
 * vmm_proc_start() - Start a monitor with an empty environment in /, with the given descriptors
 * @loop:	Loop
 * @s:		Program, arguments and descriptors; the rest is filled in here
 * @exited:	Called once when it has ended, after its stderr was read to the end
 * @data:	For @exited
 * @ret:	The process
 *
 * Return: 0 or a negative errno
 */
int vmm_proc_start(struct loop *loop, struct spawn *s,
		   void (*exited)(void *data, const struct vmm_exit *exit), void *data,
		   struct vmm_proc **ret, struct err *e);

/**
 * vmm_proc_adopt() - Watch a monitor that another process has started
 * @h:		Its process and stderr are taken, also when this fails
 * @guard_fd:	As for vmm_adopt(), taken, also when this fails
 * @exited, @data, @ret: As for vmm_proc_start()
 */
int vmm_proc_adopt(struct loop *loop, struct vmm_handover *h, int guard_fd,
		   void (*exited)(void *data, const struct vmm_exit *exit), void *data,
		   struct vmm_proc **ret);

/** vmm_proc_hand_over() - Fill in process and stderr, which isn't read any more. Return: 0, errno */
int vmm_proc_hand_over(struct vmm_proc *p, struct vmm_handover *h);

/** vmm_proc_pid() - Its process id, 0 once it has ended (or for NULL) */
pid_t vmm_proc_pid(const struct vmm_proc *p);

/** vmm_proc_kill_in() - Kill it unless it ends by itself within so many milliseconds */
int vmm_proc_kill_in(struct vmm_proc *p, uint64_t ms);

/** vmm_proc_free() - Kill it if it runs, without calling back; NULL is fine */
void vmm_proc_free(struct vmm_proc *p);

/* ---- drivers ---- */

/**
 * struct vmm - The generic part of a machine
 * @loop, @driver, @exited, @data: From vmm_new()
 * @accel:	KVM or TCG once it is started
 * @vcpus, @memory: What it has
 * @started:	vmm_start() has succeeded
 * @guest_up, @guest_up_data: Called when the guest's agent opens its end of the channel, which
 *		proves that a guest runs; may be NULL
 * @channel_closed, @channel_closed_data: From vmm_on_channel_closed(); may be NULL
 * @proc:	The process, NULL before vmm_start()
 * @agent_fd:	Our end of the agent's channel, -EBADF once it was taken
 * @console_fd, @console_io, @on_output, @on_output_data: Reading of the console
 * @busy:	Callbacks of ours that are on the stack; the memory lives until the last returns
 * @freed:	vmm_free() was called
 * @state:	The driver's own
 */
struct vmm {
	struct loop *loop;
	const struct vmm_driver *driver;
	void (*exited)(void *data, const struct vmm_exit *exit);
	void *data;
	enum vmm_accel accel;
	unsigned int vcpus;
	uint64_t memory;
	bool started;
	void (*guest_up)(void *data);
	void *guest_up_data;
	void (*channel_closed)(void *data, const char *name);
	void *channel_closed_data;
	struct vmm_proc *proc;
	int agent_fd;
	int console_fd;
	struct loop_io *console_io;
	void (*on_output)(void *data, const void *bytes, size_t n);
	void *on_output_data;
	unsigned int busy;
	bool freed;
	void *state;
	struct console console;
};

/** vmm_channel_closed() - The guest has closed its end of a channel: tell who wants to know */
void vmm_channel_closed(struct vmm *vmm, const char *name);

/**
 * struct vmm_driver - A kind of monitor; the operations are as in vmm.h, NULL: unsupported
 * @find:	Path of the program that would run @config with @accel, owned by the caller
 * @start:	Makes vmm->proc, vmm->agent_fd and vmm->state
 * @adopt:	Makes the same of a process that runs; takes @guard_fd
 * @hand_over:	Fills in process, stderr and control connection, and lets go of them
 * @failed:	The process has ended or is about to be killed: every pending operation fails with
 *		-ECONNRESET and @why. May be called more than once, not before @start
 * @free:	Frees vmm->state, which may be NULL; nothing is pending any more
 */
struct vmm_driver {
	const char *name;
	unsigned int caps;
	int (*find)(const struct vmm_config *config, enum vmm_accel accel, char **ret,
		    struct err *e);
	int (*start)(struct vmm *vmm, const struct vmm_config *config, vmm_done done, void *data,
		     struct err *e);
	int (*adopt)(struct vmm *vmm, const struct vmm_config *config, struct vmm_handover *h,
		     int guard_fd, struct err *e);
	int (*hand_over)(struct vmm *vmm, struct vmm_handover *h);
	int (*attach_disk)(struct vmm *vmm, const struct vmm_disk *disk, struct vmm_disk_addr *ret,
			   vmm_done done, void *data, struct err *e);
	int (*detach_disk)(struct vmm *vmm, const struct vmm_disk_addr *addr, vmm_done done,
			   void *data, struct err *e);
	int (*add_channel)(struct vmm *vmm, const char *name, int *ret_fd, vmm_done done,
			   void *data, struct err *e);
	int (*grow_disk)(struct vmm *vmm, const struct vmm_disk_addr *addr, uint64_t size,
			 vmm_done done, void *data, struct err *e);
	int (*resize)(struct vmm *vmm, unsigned int vcpus, uint64_t memory, vmm_done done,
		      void *data, struct err *e);
	int (*pause)(struct vmm *vmm, vmm_done done, void *data, struct err *e);
	int (*resume)(struct vmm *vmm, vmm_done done, void *data, struct err *e);
	int (*describe)(const struct vmm_config *config, enum vmm_accel accel, struct buf *text,
			struct err *e);
	int (*save)(struct vmm *vmm, int fd, vmm_done done, void *data, struct err *e);
	void (*failed)(struct vmm *vmm, const char *why);
	void (*free)(struct vmm *vmm);
};

extern const struct vmm_driver vmm_qemu_driver;

/* vmm_enter(), vmm_leave() - Around callbacks, in which the machine may be freed */
void vmm_enter(struct vmm *vmm);
void vmm_leave(struct vmm *vmm);

/**
 * vmm_socketpair() - A connected pair of stream sockets
 * @ours:	Non-blocking
 * @theirs:	Blocking or not as the monitor likes
 */
int vmm_socketpair(int *ours, int *theirs);

/** vmm_console_open() - Read the console from a socket, which is taken also when this fails */
int vmm_console_open(struct vmm *vmm, int fd);

/** vmm_exited() - Tell that the process has ended: the driver's `exited` of vmm_proc_start() */
void vmm_exited(void *vmm, const struct vmm_exit *exit);

/**
 * vmm_runs_guest() - Run a guest until its agent opens the channel
 * @driver:	Driver
 * @config:	Machine with accel KVM or TCG, otherwise as small as it may be
 * @timeout_ms:	Deadline
 * @e:		Why it doesn't work
 *
 * Return: 0 when a guest ran, or a negative errno
 */
int vmm_runs_guest(const struct vmm_driver *driver, const struct vmm_config *config, int timeout_ms,
		   struct err *e);

#endif
