/* SPDX-License-Identifier: Apache-2.0 */
/* The generic part of a machine: drivers by name, the console, the end of the process. */
#include "vmm/vmm.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "vmm/vmm-internal.h"

#define MEMORY_UNIT ((uint64_t)1 << 20)

static const struct vmm_driver *const drivers[] = { &vmm_qemu_driver };

const struct vmm_driver *vmm_driver_at(size_t i)
{
	return i < ARRAY_SIZE(drivers) ? drivers[i] : NULL;
}

const struct vmm_driver *vmm_driver_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		if (str_eq(drivers[i]->name, name))
			return drivers[i];
	return NULL;
}

const char *vmm_driver_name(const struct vmm_driver *driver)
{
	return driver->name;
}

unsigned int vmm_driver_caps(const struct vmm_driver *driver)
{
	return driver->caps;
}

void vmm_enter(struct vmm *vmm)
{
	vmm->busy++;
}

void vmm_leave(struct vmm *vmm)
{
	if (--vmm->busy > 0 || !vmm->freed)
		return;
	vmm->driver->free(vmm);
	loop_io_free(vmm->console_io);
	close_fdp(&vmm->console_fd);
	close_fdp(&vmm->agent_fd);
	free(vmm);
}

int vmm_socketpair(int *ours, int *theirs)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	*ours = fds[0];
	*theirs = fds[1];
	return fd_nonblock(*ours);
}

/*
 * Returns 1 when there may be more (and the machine may have been freed by the one who is told),
 * 0 when there is nothing now, or a negative errno at the end.
 */
static int read_console(struct vmm *vmm)
{
	char chunk[4096];
	ssize_t n = read(vmm->console_fd, chunk, sizeof(chunk));

	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	console_write(&vmm->console, chunk, (size_t)n);
	if (vmm->on_output)
		vmm->on_output(vmm->on_output_data, chunk, (size_t)n);
	return 1;
}

/* One read for each turn of the loop: a guest that floods its console doesn't stop the rest. */
static void on_console(void *data, int events)
{
	struct vmm *vmm = data;

	vmm_enter(vmm);
	if (read_console(vmm) < 0)
		loop_io_free(TAKE_PTR(vmm->console_io));
	vmm_leave(vmm);
}

int vmm_console_open(struct vmm *vmm, int fd)
{
	vmm->console_fd = fd;
	return loop_io_new(vmm->loop, fd, LOOP_READ, on_console, vmm, &vmm->console_io);
}

void vmm_exited(void *data, const struct vmm_exit *exit)
{
	struct vmm *vmm = data;
	struct vmm_exit copy = *exit;

	vmm_enter(vmm);
	/* Nobody writes any more, so this ends: at most what a socket holds. */
	while (!vmm->freed && vmm->console_io && read_console(vmm) > 0)
		;
	if (!vmm->freed)
		vmm->driver->failed(vmm, copy.message);
	if (!vmm->freed && vmm->started && vmm->exited)
		vmm->exited(vmm->data, &copy);
	vmm_leave(vmm);
}

int vmm_new(struct loop *loop, const struct vmm_driver *driver,
	    void (*exited)(void *data, const struct vmm_exit *exit), void *data, struct vmm **ret)
{
	struct vmm *vmm = calloc(1, sizeof(*vmm));

	if (!vmm)
		return -ENOMEM;
	vmm->loop = loop;
	vmm->driver = driver;
	vmm->exited = exited;
	vmm->data = data;
	vmm->agent_fd = -EBADF;
	vmm->console_fd = -EBADF;
	*ret = vmm;
	return 0;
}

int vmm_start(struct vmm *vmm, const struct vmm_config *config, vmm_done done, void *data,
	      struct err *e)
{
	int r;

	if (vmm->state)
		return err_set(e, -EALREADY, "the machine has been started already");
	vmm->accel = config->accel;
	vmm->vcpus = config->vcpus;
	vmm->memory = config->memory;
	if (vmm->accel == VMM_ACCEL_AUTO)
		vmm->accel = vmm_accel_auto(vmm->driver, config, NULL);
	r = vmm->driver->start(vmm, config, done, data, e);
	vmm->started = r >= 0;
	return r;
}

/* Whether an operation can be passed on to the driver. */
static int check_op(const struct vmm *vmm, bool supported, struct err *e)
{
	if (!supported)
		return err_set(e, -EOPNOTSUPP, "%s can't do that", vmm->driver->name);
	if (!vmm_pid(vmm))
		return err_set(e, -ECONNRESET, "the machine doesn't run");
	return 0;
}

void vmm_handover_done(struct vmm_handover *h)
{
	for (size_t i = 0; i < VMM_HANDOVER_FDS; i++) {
		close_fdp(&h->fds[i]);
		h->fds[i] = -EBADF;
	}
}

int vmm_hand_over(struct vmm *vmm, int agent_fd, struct vmm_handover *ret, struct err *e)
{
	struct vmm_handover h = VMM_HANDOVER_INIT;
	int r = check_op(vmm, vmm->driver->hand_over, e);

	if (r < 0)
		return r;
	h.pid = vmm_pid(vmm);
	h.fds[VMM_HANDOVER_AGENT] = fcntl(agent_fd, F_DUPFD_CLOEXEC, 3);
	r = h.fds[VMM_HANDOVER_AGENT] < 0 ? -errno : vmm->driver->hand_over(vmm, &h);
	if (r < 0) {
		vmm_handover_done(&h);
		return err_errno(e, r, "the machine can't be handed over");
	}
	loop_io_free(TAKE_PTR(vmm->console_io));
	h.fds[VMM_HANDOVER_CONSOLE] = TAKE_FD(vmm->console_fd);
	*ret = h;
	return 0;
}

int vmm_adopt(struct vmm *vmm, const struct vmm_config *config, struct vmm_handover *h,
	      int guard_fd, struct err *e)
{
	_cleanup_(vmm_handover_done) struct vmm_handover all = *h;
	int r;

	*h = VMM_HANDOVER_INIT;
	if (!vmm->driver->adopt || vmm->state) {
		close(guard_fd);
		return err_set(e, -EOPNOTSUPP, "%s can't take over a machine", vmm->driver->name);
	}
	vmm->accel = config->accel;
	vmm->vcpus = config->vcpus;
	vmm->memory = config->memory;
	r = vmm->driver->adopt(vmm, config, &all, guard_fd, e);
	if (r < 0)
		return r;
	vmm->agent_fd = TAKE_FD(all.fds[VMM_HANDOVER_AGENT]);
	r = vmm_console_open(vmm, TAKE_FD(all.fds[VMM_HANDOVER_CONSOLE]));
	if (r < 0)
		return err_errno(e, r, "cannot read the console");
	vmm->started = true;
	return 0;
}

int vmm_agent_fd(struct vmm *vmm)
{
	return TAKE_FD(vmm->agent_fd);
}

pid_t vmm_pid(const struct vmm *vmm)
{
	return vmm_proc_pid(vmm->proc);
}

enum vmm_accel vmm_accel(const struct vmm *vmm)
{
	return vmm->accel;
}

int vmm_attach_disk(struct vmm *vmm, const struct vmm_disk *disk, struct vmm_disk_addr *ret,
		    vmm_done done, void *data, struct err *e)
{
	int r = check_op(vmm, vmm->driver->attach_disk, e);

	return r < 0 ? r : vmm->driver->attach_disk(vmm, disk, ret, done, data, e);
}

int vmm_detach_disk(struct vmm *vmm, const struct vmm_disk_addr *addr, vmm_done done, void *data,
		    struct err *e)
{
	int r = check_op(vmm, vmm->driver->detach_disk, e);

	return r < 0 ? r : vmm->driver->detach_disk(vmm, addr, done, data, e);
}

int vmm_add_channel(struct vmm *vmm, const char *name, int *ret_fd, vmm_done done, void *data,
		    struct err *e)
{
	int r = check_op(vmm, vmm->driver->add_channel, e);

	return r < 0 ? r : vmm->driver->add_channel(vmm, name, ret_fd, done, data, e);
}

void vmm_on_channel_closed(struct vmm *vmm, void (*closed)(void *data, const char *name),
			   void *data)
{
	vmm->channel_closed = closed;
	vmm->channel_closed_data = data;
}

void vmm_channel_closed(struct vmm *vmm, const char *name)
{
	if (vmm->channel_closed)
		vmm->channel_closed(vmm->channel_closed_data, name);
}

int vmm_grow_disk(struct vmm *vmm, const struct vmm_disk_addr *addr, uint64_t size, vmm_done done,
		  void *data, struct err *e)
{
	int r = check_op(vmm, vmm->driver->grow_disk, e);

	return r < 0 ? r : vmm->driver->grow_disk(vmm, addr, size, done, data, e);
}

int vmm_resize(struct vmm *vmm, unsigned int vcpus, uint64_t memory, vmm_done done, void *data,
	       struct err *e)
{
	int r = check_op(vmm, vmm->driver->resize, e);

	return r < 0 ? r : vmm->driver->resize(vmm, vcpus, memory, done, data, e);
}

void vmm_size(const struct vmm *vmm, unsigned int *vcpus, uint64_t *memory)
{
	*vcpus = vmm->vcpus;
	*memory = vmm->memory;
}

uint64_t vmm_memory_size(uint64_t memory)
{
	return (memory + MEMORY_UNIT - 1) / MEMORY_UNIT * MEMORY_UNIT;
}

int vmm_save(struct vmm *vmm, int fd, vmm_done done, void *data, struct err *e)
{
	int r = check_op(vmm, vmm->driver->save, e);

	return r < 0 ? r : vmm->driver->save(vmm, fd, done, data, e);
}

int vmm_describe(const struct vmm_driver *driver, const struct vmm_config *config,
		 enum vmm_accel accel, struct buf *text, struct err *e)
{
	if (!(driver->caps & VMM_CAP_TEMPLATE))
		return err_set(e, -EOPNOTSUPP, "%s has no templates", driver->name);
	return driver->describe(config, accel, text, e);
}

int vmm_pause(struct vmm *vmm, vmm_done done, void *data, struct err *e)
{
	int r = check_op(vmm, vmm->driver->pause, e);

	return r < 0 ? r : vmm->driver->pause(vmm, done, data, e);
}

int vmm_resume(struct vmm *vmm, vmm_done done, void *data, struct err *e)
{
	int r = check_op(vmm, vmm->driver->resume, e);

	return r < 0 ? r : vmm->driver->resume(vmm, done, data, e);
}

void vmm_console_tail(const struct vmm *vmm, unsigned int lines, char *buf, size_t size)
{
	console_tail(&vmm->console, lines, buf, size);
}

void vmm_console_on_output(struct vmm *vmm, void (*cb)(void *data, const void *bytes, size_t n),
			   void *data)
{
	vmm->on_output = cb;
	vmm->on_output_data = data;
}

void vmm_free(struct vmm *vmm)
{
	if (!vmm || vmm->freed)
		return;
	vmm_enter(vmm);
	vmm->freed = true;
	vmm->on_output = NULL;
	vmm_proc_free(TAKE_PTR(vmm->proc));
	if (vmm->state)
		vmm->driver->failed(vmm, "the machine was stopped");
	vmm_leave(vmm);
}
