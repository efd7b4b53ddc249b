/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guard: starts a machine, waits with it, gives it away, and stays its monitor's parent.
 *
 * Until the machine is given away the connection to the service is what keeps it: its end is ours.
 * Afterwards it's the connection to whom it was given.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fdpass.h"
#include "base/log.h"
#include "net/pod.h"
#include "sandbox/agent_client.h"
#include "sandbox/monitor_uid.h"
#include "sandbox/pool.h"
#include "sandbox/rehearsal.h"

/* Of the guest's first answer, and of its practice; a copy that takes longer is of no use. */
#define READY_TIMEOUT_MS 30000

#define MAKER_TIMEOUT_MS 60000

/* The first to be killed when the host is out of memory: nobody would miss it. */
#define OOM_SCORE "1000"

/**
 * struct guard - A machine and who it belongs to
 * @agent_fd:	Our copy of the agent's channel
 * @nic_fd:	The monitor's end of the network device
 * @peer_fd:	What is given away of it: the same, or the other end
 * @name:	Of the socket, while it's there
 * @service:	Connection to the service, < 0: there is none any more
 * @peer:	Who asks for the machine, and then who has it
 * @given:	It belongs to @peer
 */
struct guard {
	const struct sandbox_config *c;
	enum template_nic nic;
	struct template template;
	struct loop *loop;
	struct vmm *vmm;
	struct ttrpc_client *agent;
	struct ttrpc_pending *call;
	struct rehearsal *rehearsal;
	int agent_fd;
	int nic_fd;
	int peer_fd;
	int uid_fd;
	int dir_fd;
	char name[sizeof(POOL_PREFIX) + TEMPLATE_KEY_SIZE + 16];
	int listen_fd;
	struct loop_io *listen_io;
	int service;
	struct loop_io *service_io;
	int peer;
	struct loop_io *peer_io;
	bool given;
	bool over;
	struct err e;
};

static void finish(struct guard *g, const struct err *e)
{
	if (e && !g->e.code)
		g->e = *e;
	g->over = true;
}

/* ---- what was given away ---- */

static void tell_exit(struct guard *g, int code)
{
	(void)send(g->peer, &code, sizeof(code), MSG_NOSIGNAL | MSG_DONTWAIT);
	g->over = true;
}

static void on_vmm_exit(void *data, const struct vmm_exit *exit)
{
	struct guard *g = data;
	struct err e = { 0 };

	if (g->given) {
		tell_exit(g, exit->code);
		return;
	}
	err_set(&e, -EIO, "the machine ended (%d): %s", exit->code,
		exit->message[0] ? exit->message : "no reason was given");
	finish(g, &e);
}

static void stop_waiting(struct guard *g)
{
	loop_io_free(TAKE_PTR(g->listen_io));
	if (g->listen_fd >= 0) {
		(void)unlinkat(g->dir_fd, g->name, 0);
		close(TAKE_FD(g->listen_fd));
	}
	loop_io_free(TAKE_PTR(g->service_io));
	if (g->service >= 0)
		close(TAKE_FD(g->service));
}

/* Everything of the machine but its process is closed here: the other one has it now. */
static int give(struct guard *g)
{
	_cleanup_(vmm_handover_done) struct vmm_handover h = VMM_HANDOVER_INIT;
	struct pool_answer answer = { .nic = g->peer_fd >= 0, .uid = g->uid_fd >= 0 };
	int fds[VMM_HANDOVER_FDS + 2];
	size_t n = VMM_HANDOVER_FDS;
	int r;

	answer.agent_next = ttrpc_client_next(g->agent);
	ttrpc_client_free(TAKE_PTR(g->agent));
	r = vmm_hand_over(g->vmm, g->agent_fd, &h, &g->e);
	if (r < 0)
		return r;
	answer.vmm_pid = h.pid;
	for (size_t i = 0; i < n; i++)
		fds[i] = h.fds[i];
	if (answer.nic)
		fds[n++] = g->peer_fd;
	if (answer.uid)
		fds[n++] = g->uid_fd;
	r = fdpass_send(g->peer, &answer, sizeof(answer), fds, n);
	if (r < 0)
		return err_errno(&g->e, r, "cannot give the machine away");
	close_fdp(&g->agent_fd);
	close_fdp(&g->nic_fd);
	if (g->peer_fd != g->nic_fd)
		close_fdp(&g->peer_fd);
	g->agent_fd = g->nic_fd = g->peer_fd = -EBADF;
	return 0;
}

static void hang_up(struct guard *g)
{
	loop_io_free(TAKE_PTR(g->peer_io));
	close_fdp(&g->peer);
	g->peer = -EBADF;
	(void)loop_io_set(g->listen_io, LOOP_READ);
}

static void on_peer(void *data, int events)
{
	struct guard *g = data;
	char request;
	ssize_t n = recv(g->peer, &request, 1, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (g->given) {
		/* It has nothing to say but that it doesn't need the machine any more. */
		finish(g, NULL);
	} else if (n == 1 && request == POOL_TAKE) {
		/* Whoever ends us now ends a pod. */
		signal(SIGTERM, SIG_IGN);
		signal(SIGINT, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		if (give(g) < 0)
			finish(g, NULL);
		g->given = true;
		stop_waiting(g);
	} else if (n == 1 && request == POOL_DROP) {
		finish(g, NULL);
	} else {
		hang_up(g);
	}
}

/* One after the other: the first who says what it wants gets it, the rest finds nobody. */
static void on_connection(void *data, int events)
{
	struct guard *g = data;

	g->peer = accept4(g->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (g->peer < 0)
		return;
	(void)loop_io_set(g->listen_io, 0);
	if (loop_io_new(g->loop, g->peer, LOOP_READ, on_peer, g, &g->peer_io) < 0)
		hang_up(g);
}

/* ---- waiting ---- */

static bool is_stale(struct guard *g)
{
	_cleanup_(template_close) struct template now = TEMPLATE_INIT;
	_cleanup_(buf_done) struct buf text = { 0 };
	char key[TEMPLATE_KEY_SIZE];

	return template_describe(g->c, g->nic, &text, key, NULL) < 0 ||
	       !str_eq(key, g->template.key) || template_open(g->c, key, &text, &now) < 0;
}

static void on_service(void *data, int events)
{
	struct guard *g = data;
	char request;
	ssize_t n = recv(g->service, &request, 1, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n != 1 || request != POOL_CHECK || is_stale(g))
		finish(g, NULL);
}

static int begin_waiting(struct guard *g, struct err *e)
{
	struct pool_ready ready = { .vmm_pid = vmm_pid(g->vmm) };
	int r;

	snprintf(ready.key, sizeof(ready.key), "%s", g->template.key);
	snprintf(g->name, sizeof(g->name), POOL_PREFIX "%s-%d", g->template.key, getpid());
	g->listen_fd = pool_listen(g->dir_fd, g->name);
	if (g->listen_fd < 0)
		return err_errno(e, g->listen_fd, "cannot listen in %s", g->c->state_dir);
	r = loop_io_new(g->loop, g->listen_fd, LOOP_READ, on_connection, g, &g->listen_io);
	if (r == 0 && send(g->service, &ready, sizeof(ready), MSG_NOSIGNAL) < 0)
		r = -errno;
	return r < 0 ? err_errno(e, r, "cannot wait") : 0;
}

static void on_paused(void *data, const struct err *e)
{
	struct guard *g = data;
	struct err err = { 0 };

	if (e)
		finish(g, e);
	else if (begin_waiting(g, &err) < 0)
		finish(g, &err);
}

/* An idle guest has timers; one that doesn't run has not. */
static void on_prepared(void *data, const struct err *e)
{
	struct guard *g = data;
	struct err err = { 0 };

	if (e)
		finish(g, e);
	else if (vmm_pause(g->vmm, on_paused, g, &err) < 0)
		finish(g, &err);
}

/*
 * What its template has done for the guest's memory is done for the monitor: pages that are written
 * to become its own, and an emulator has translated the code.
 */
static void on_hello(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct guard *g = data;
	struct err err = { 0 };

	g->call = NULL;
	if (e)
		finish(g, e);
	else if (rehearsal_start(g->c, g->vmm, g->agent, READY_TIMEOUT_MS, on_prepared, g,
				 &g->rehearsal, &err) < 0)
		finish(g, &err);
}

/* ---- starting ---- */

static void on_agent_closed(void *data)
{
	struct err e = { 0 };

	err_set(&e, -ECONNRESET, "the guest's agent has closed its connection");
	finish(data, &e);
}

static int say_hello(struct guard *g, struct err *e)
{
	Podvm__Agent__V1__HelloRequest req = PODVM__AGENT__V1__HELLO_REQUEST__INIT;
	int fd = vmm_agent_fd(g->vmm);
	int r;

	g->agent_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (g->agent_fd < 0)
		return err_errno(e, -errno, "there is no channel to the agent");
	r = ttrpc_client_new(g->loop, fd, on_agent_closed, g, &g->agent);
	req.version = (char *)PODVM_VERSION;
	if (r == 0)
		r = agent_call(g->agent, "Hello", &req.base, READY_TIMEOUT_MS, on_hello, g,
			       &g->call);
	return r < 0 ? err_errno(e, r, "cannot call the agent") : 0;
}

static void on_started(void *data, const struct err *e)
{
	struct guard *g = data;
	struct err err = { 0 };

	if (e)
		finish(g, e);
	else if (say_hello(g, &err) < 0)
		finish(g, &err);
}

/* The device is made where nobody else is, and moves to its pod later. */
static int open_nic(struct guard *g, struct err *e)
{
	int fds[2];

	if (g->nic == TEMPLATE_NIC_NONE)
		return 0;
	if (g->nic == TEMPLATE_NIC_TAP) {
		g->nic_fd = g->peer_fd = net_tap_open("podvm0");
		return g->nic_fd < 0 ? err_errno(e, g->nic_fd, "cannot make a tap device") : 0;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(e, -errno, "cannot make a socket");
	g->nic_fd = fds[0];
	g->peer_fd = fds[1];
	return 0;
}

static int start_machine(struct guard *g, struct err *e)
{
	_cleanup_(close_fdp) int rootfs = open(g->c->image->rootfs_path, O_RDONLY | O_CLOEXEC);
	struct vmm_config config;
	int r;

	if (rootfs < 0)
		return err_errno(e, -errno, "cannot open %s", g->c->image->rootfs_path);
	template_machine(g->c, &config);
	config.rootfs_fd = rootfs;
	config.template = VMM_TEMPLATE_USE;
	config.memory_fd = g->template.memory_fd;
	config.state_fd = g->template.state_fd;
	config.n_nics = g->nic == TEMPLATE_NIC_NONE ? 0 : 1;
	config.nics[0] = (struct vmm_nic){
		.fd = g->nic_fd,
		.tap = g->nic == TEMPLATE_NIC_TAP,
		.mac = TEMPLATE_MAC,
	};
	if (g->c->uid_base != 0 && geteuid() == 0) {
		g->uid_fd = monitor_uid_take(g->c->state_dir, g->c->uid_base, &config.uid);
		if (g->uid_fd < 0)
			return err_errno(e, g->uid_fd, "cannot find a user for the monitor");
	}
	r = vmm_new(g->loop, g->c->driver, on_vmm_exit, g, &g->vmm);
	return r < 0 ? err_oom(e) : vmm_start(g->vmm, &config, on_started, g, e);
}

/* Without one that can be used there is nothing to do but to have it made: -EAGAIN. */
static int find_template(struct guard *g, struct err *e)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	struct loop_child *maker = NULL;
	char key[TEMPLATE_KEY_SIZE];
	bool started = false;
	int r = template_describe(g->c, g->nic, &text, key, e);

	if (r == 0)
		r = template_open(g->c, key, &text, &g->template);
	if (r == 0)
		return 0;
	if (r == -ENOENT || r == -ESTALE) {
		r = template_wanted(g->c, g->nic, key, g->loop, &started, &maker, e);
		if (r < 0)
			return r;
		/* It only goes into the background. */
		if (maker)
			(void)loop_run_until(g->loop, &started, MAKER_TIMEOUT_MS);
		loop_child_free(maker);
		return err_set(e, -EAGAIN, "there is no template yet");
	}
	return e->code ? r : err_errno(e, r, "the template can't be used");
}

static int start(struct guard *g, struct err *e)
{
	int r = loop_new(&g->loop);

	if (r < 0)
		return err_errno(e, r, "cannot begin");
	r = find_template(g, e);
	if (r < 0)
		return r;
	g->dir_fd = open(g->c->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (g->dir_fd < 0)
		return err_errno(e, -errno, "cannot open %s", g->c->state_dir);
	if (unshare(CLONE_NEWNET) < 0)
		return err_errno(e, -errno, "cannot get a network namespace");
	(void)file_write(AT_FDCWD, "/proc/self/oom_score_adj", OOM_SCORE);
	r = open_nic(g, e);
	if (r == 0)
		r = start_machine(g, e);
	template_close_files(&g->template);
	if (r < 0)
		return r;
	r = loop_io_new(g->loop, g->service, LOOP_READ, on_service, g, &g->service_io);
	return r < 0 ? err_errno(e, r, "cannot watch the service") : 0;
}

static void guard_done(struct guard *g)
{
	stop_waiting(g);
	if (g->call)
		ttrpc_cancel(TAKE_PTR(g->call));
	rehearsal_free(g->rehearsal);
	ttrpc_client_free(g->agent);
	vmm_free(g->vmm);
	loop_io_free(g->peer_io);
	loop_free(g->loop);
	template_close(&g->template);
	close_fdp(&g->agent_fd);
	close_fdp(&g->nic_fd);
	if (g->peer_fd != g->nic_fd)
		close_fdp(&g->peer_fd);
	close_fdp(&g->uid_fd);
	close_fdp(&g->dir_fd);
	close_fdp(&g->peer);
}

int pool_guard(const struct sandbox_config *c, enum template_nic nic, int service, struct err *e)
{
	_cleanup_(guard_done) struct guard g = {
		.c = c,
		.nic = nic,
		.template = TEMPLATE_INIT,
		.agent_fd = -EBADF,
		.nic_fd = -EBADF,
		.peer_fd = -EBADF,
		.uid_fd = -EBADF,
		.dir_fd = -EBADF,
		.listen_fd = -EBADF,
		.service = service,
		.peer = -EBADF,
	};
	int r;

	/* It was run as /proc/self/exe. */
	(void)prctl(PR_SET_NAME, POOL_GUARD_NAME);
	r = start(&g, e);
	if (r < 0)
		return r;
	(void)loop_run_until(g.loop, &g.over, -1);
	if (g.e.code)
		*e = g.e;
	return g.e.code;
}
