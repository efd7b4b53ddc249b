/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a template: a machine is booted, its agent prepares the guest, the machine is saved, and
 * its files take their place in the store. The caller holds the store's lock, so the directory of
 * what is being made is ours, and what is in it was left by somebody who died.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "net/pod.h"
#include "sandbox/agent_client.h"
#include "sandbox/monitor_uid.h"
#include "sandbox/rehearsal.h"
#include "sandbox/template.h"
#include "sandbox/template_internal.h"

#define MAKING "making"

/**
 * struct maker - A template that is being made
 * @dir_fd:	Its directory
 * @nic_fd, @peer_fd: Network device, and who is at its other end
 * @uid_fd:	Keeps the monitor's user ours
 */
struct maker {
	const struct sandbox_config *c;
	struct loop *loop;
	struct vmm *vmm;
	struct ttrpc_client *agent;
	struct ttrpc_pending *call;
	struct rehearsal *rehearsal;
	char *dir;
	int dir_fd;
	int memory_fd;
	int state_fd;
	int rootfs_fd;
	int nic_fd;
	int peer_fd;
	int uid_fd;
	bool over;
	struct err e;
};

static void finish(struct maker *m, const struct err *e)
{
	if (e && !m->e.code)
		m->e = *e;
	m->over = true;
}

/* ---- what happens ---- */

static void on_vmm_exit(void *data, const struct vmm_exit *exit)
{
	struct err e = { 0 };

	err_set(&e, -EIO, "the machine ended (%d): %s", exit->code,
		exit->message[0] ? exit->message : "no reason was given");
	finish(data, &e);
}

static void on_agent_closed(void *data)
{
	struct err e = { 0 };

	err_set(&e, -ECONNRESET, "the guest's agent has closed its connection");
	finish(data, &e);
}

static void on_saved(void *data, const struct err *e)
{
	finish(data, e);
}

static void on_prepared(void *data, const struct err *e)
{
	struct maker *m = data;
	struct err err = { 0 };

	if (e)
		finish(m, e);
	else if (vmm_save(m->vmm, m->state_fd, on_saved, m, &err) < 0)
		finish(m, &err);
}

static void on_hello(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct maker *m = data;
	struct err err = { 0 };

	m->call = NULL;
	if (e)
		finish(m, e);
	else if (rehearsal_start(m->c, m->vmm, m->agent, m->c->boot_timeout_ms, on_prepared, m,
				 &m->rehearsal, &err) < 0)
		finish(m, &err);
}

static void on_started(void *data, const struct err *e)
{
	if (e)
		finish(data, e);
}

/* ---- what it needs ---- */

static int open_files(struct maker *m, struct err *e)
{
	m->dir = str_printf("%s/" MAKING, m->c->templates);
	if (!m->dir)
		return err_oom(e);
	(void)rm_rf(AT_FDCWD, m->dir);
	if (mkdir(m->dir, 0700) < 0)
		return err_errno(e, -errno, "cannot make %s", m->dir);
	m->dir_fd = open(m->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	m->memory_fd = openat(m->dir_fd, "memory", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	m->state_fd = openat(m->dir_fd, "state", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (m->memory_fd < 0 || m->state_fd < 0 ||
	    ftruncate(m->memory_fd, (off_t)vmm_memory_size(m->c->memory)) < 0)
		return err_errno(e, -errno, "cannot make files in %s", m->dir);
	m->rootfs_fd = open(m->c->image->rootfs_path, O_RDONLY | O_CLOEXEC);
	return m->rootfs_fd < 0 ? err_errno(e, -errno, "cannot open %s", m->c->image->rootfs_path)
				: 0;
}

/* Nobody is at its other end, and nothing is sent: the guest doesn't use it yet. */
static int open_nic(struct maker *m, enum template_nic nic, struct err *e)
{
	int fds[2];

	if (nic == TEMPLATE_NIC_NONE)
		return 0;
	if (nic == TEMPLATE_NIC_TAP) {
		m->nic_fd = net_tap_open("podvm0");
		return m->nic_fd < 0 ? err_errno(e, m->nic_fd, "cannot make a tap device") : 0;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(e, -errno, "cannot make a socket");
	m->nic_fd = fds[0];
	m->peer_fd = fds[1];
	return 0;
}

static int start_machine(struct maker *m, enum template_nic nic, struct err *e)
{
	struct vmm_config config;
	int r;

	template_machine(m->c, &config);
	config.rootfs_fd = m->rootfs_fd;
	config.template = VMM_TEMPLATE_MAKE;
	config.memory_fd = m->memory_fd;
	config.n_nics = nic == TEMPLATE_NIC_NONE ? 0 : 1;
	config.nics[0] = (struct vmm_nic){
		.fd = m->nic_fd,
		.tap = nic == TEMPLATE_NIC_TAP,
		.mac = TEMPLATE_MAC,
	};
	if (m->c->uid_base != 0 && geteuid() == 0) {
		m->uid_fd = monitor_uid_take(m->c->state_dir, m->c->uid_base, &config.uid);
		if (m->uid_fd < 0)
			return err_errno(e, m->uid_fd, "cannot find a user for the monitor");
	}
	r = vmm_new(m->loop, m->c->driver, on_vmm_exit, m, &m->vmm);
	return r < 0 ? err_oom(e) : vmm_start(m->vmm, &config, on_started, m, e);
}

static int say_hello(struct maker *m, struct err *e)
{
	Podvm__Agent__V1__HelloRequest req = PODVM__AGENT__V1__HELLO_REQUEST__INIT;
	int fd = vmm_agent_fd(m->vmm);
	int r = fd < 0 ? fd : ttrpc_client_new(m->loop, fd, on_agent_closed, m, &m->agent);

	req.version = (char *)PODVM_VERSION;
	if (r == 0)
		r = agent_call(m->agent, "Hello", &req.base, m->c->boot_timeout_ms, on_hello, m,
			       &m->call);
	return r < 0 ? err_errno(e, r, "cannot call the agent") : 0;
}

static int run(struct maker *m, enum template_nic nic, struct err *e)
{
	int r = loop_new(&m->loop);

	if (r < 0)
		return err_errno(e, r, "cannot begin");
	if (unshare(CLONE_NEWNET) < 0)
		return err_errno(e, -errno, "cannot get a network namespace");
	r = open_files(m, e);
	if (r == 0)
		r = open_nic(m, nic, e);
	if (r == 0)
		r = start_machine(m, nic, e);
	if (r == 0)
		r = say_hello(m, e);
	if (r < 0)
		return r;
	/* Every step has a deadline of its own. */
	loop_run_until(m->loop, &m->over, -1);
	if (m->e.code)
		*e = m->e;
	return m->e.code;
}

static void stop(struct maker *m)
{
	if (m->call)
		ttrpc_cancel(TAKE_PTR(m->call));
	rehearsal_free(TAKE_PTR(m->rehearsal));
	ttrpc_client_free(TAKE_PTR(m->agent));
	vmm_free(TAKE_PTR(m->vmm));
	loop_free(TAKE_PTR(m->loop));
}

static void maker_done(struct maker *m)
{
	stop(m);
	close_fdp(&m->dir_fd);
	close_fdp(&m->memory_fd);
	close_fdp(&m->state_fd);
	close_fdp(&m->rootfs_fd);
	close_fdp(&m->nic_fd);
	close_fdp(&m->peer_fd);
	close_fdp(&m->uid_fd);
	if (m->dir)
		(void)rm_rf(AT_FDCWD, m->dir);
	free(m->dir);
}

/* ---- putting it in its place ---- */

static int write_info(const struct maker *m, enum template_nic nic, struct err *e)
{
	static const char *const nets[] = { "none", "user", "pod" };
	char memory[SHA256_HEX_SIZE];
	char state[SHA256_HEX_SIZE];
	struct template_info info = {
		.memory = m->c->memory,
		.vcpus = m->c->vcpus,
		.machine = (char *)(m->c->machine ? m->c->machine : "microvm"),
		.accel = (char *)(m->c->accel == VMM_ACCEL_KVM ? "kvm" : "tcg"),
		.network = (char *)nets[nic],
		.image = m->c->image->version,
		.created_ns = clock_real_ns(),
		.memory_sha256 = memory,
		.state_sha256 = state,
	};
	_cleanup_(freep) char *text = NULL;
	int r = template_hash(m->memory_fd, memory);

	if (r == 0)
		r = template_hash(m->state_fd, state);
	if (r < 0)
		return err_errno(e, r, "cannot read the template");
	text = template_info_text(&info);
	r = text ? file_replace(m->dir_fd, "template.json", text, strlen(text), 0600) : -ENOMEM;
	return r < 0 ? err_errno(e, r, "cannot write template.json") : 0;
}

/* A file that is written through a mapping need not have got its last times before this. */
static int settle(const struct maker *m, struct err *e)
{
	if (fsync(m->memory_fd) < 0 || fsync(m->state_fd) < 0 || fchmod(m->memory_fd, 0400) < 0 ||
	    fchmod(m->state_fd, 0400) < 0)
		return err_errno(e, -errno, "cannot write the template");
	return 0;
}

static int publish(const struct maker *m, const char *key, struct buf *text, struct err *e)
{
	_cleanup_(freep) char *dir = str_printf("%s/%s", m->c->templates, key);
	int r;

	if (!dir)
		return err_oom(e);
	r = file_replace(m->dir_fd, "description", buf_cstr(text), buf_len(text), 0600);
	if (r < 0)
		return err_errno(e, r, "cannot write into %s", m->dir);
	(void)rm_rf(AT_FDCWD, dir);
	if (rename(m->dir, dir) < 0)
		return err_errno(e, -errno, "cannot rename %s to %s", m->dir, dir);
	r = template_note_checked(m->c->state_dir, key, m->memory_fd, m->state_fd);
	return r < 0 ? err_errno(e, r, "cannot write into %s", m->c->state_dir) : 0;
}

int template_make(const struct sandbox_config *c, enum template_nic nic,
		  char key[TEMPLATE_KEY_SIZE], struct err *e)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	_cleanup_(maker_done) struct maker m = {
		.c = c,
		.dir_fd = -EBADF,
		.memory_fd = -EBADF,
		.state_fd = -EBADF,
		.rootfs_fd = -EBADF,
		.nic_fd = -EBADF,
		.peer_fd = -EBADF,
		.uid_fd = -EBADF,
	};
	int r = template_describe(c, nic, &text, key, e);

	if (r == 0)
		r = run(&m, nic, e);
	stop(&m);
	if (r == 0)
		r = settle(&m, e);
	if (r == 0)
		r = write_info(&m, nic, e);
	if (r == 0)
		r = publish(&m, key, &text, e);
	return r;
}
