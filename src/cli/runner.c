/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/runner.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/relay.h"
#include "cli/run_options.h"
#include "cli/terminal.h"
#include "sandbox/control.h"
#include "sandbox/event_log.h"
#include "sandbox/log_writer.h"

#define SHUTDOWN_MS 5000
#define BROKEN_MS   1000  /* to end by itself when nobody reads its output any more */
#define KILLED_MS   12000 /* from SIGKILL to its end; less than `podvm stop` waits for us */

enum phase { STARTING, RUNNING, DRAINING, ENDING, ENDED };

struct runner {
	const struct runner_config *config;
	struct loop *loop;
	struct sandbox *sandbox;
	struct container *container;
	struct volume_set *volumes; /* of sockets */
	size_t n_awaited;	    /* of those */
	struct control *control;
	struct relay *relay;
	struct log_writer *log;
	struct loop_timer *kill_timer;
	struct container_config container_config;
	const char *shares[RUN_MAX_VOLUMES];
	struct buf hosts;
	struct buf resolv;
	char hostname[256];
	enum phase phase;
	bool ended;
	bool exited; /* the container has ended, perhaps before its start was answered */
	bool stop_requested;
	bool killed;
	bool stop_early;	    /* asked to stop before it ran */
	unsigned int stop_early_ms; /* the least time that was given then */
	int interrupted;	    /* signal that came before the container ran */
	uint64_t start_us;	    /* when the container was told to start */
	uint64_t output_us;	    /* of its first output */
	int code;
	struct err err;
};

static void write_state(struct runner *r, enum rundir_status status)
{
	static const char *const events[] = {
		[RUNDIR_CREATED] = "create",
		[RUNDIR_RUNNING] = "start",
		[RUNDIR_STOPPING] = NULL,
		[RUNDIR_EXITED] = "exit",
	};
	struct rundir *rd = r->config->sandbox.rundir;
	struct rundir_state *st = r->config->state;
	int ret;

	st->status = status;
	ret = rundir_write_state(rd, st);
	if (ret < 0)
		log_warn("cannot write state.json", "sandbox=%s error=%s", rd->id, strerror(-ret));
	if (status == RUNDIR_EXITED && st->oom_killed)
		event_log_add(rd, "oom", st);
	if (events[status])
		event_log_add(rd, events[status], st);
}

/* ---- the end ---- */

static void on_stopped(void *data)
{
	struct runner *r = data;

	r->phase = ENDED;
	r->ended = true;
}

static void end(struct runner *r)
{
	if (r->phase >= ENDING)
		return;
	r->phase = ENDING;
	relay_stop(r->relay);
	loop_timer_free(TAKE_PTR(r->kill_timer));
	sandbox_stop(r->sandbox, SHUTDOWN_MS, on_stopped, r);
}

static void fail(struct runner *r, const struct err *e)
{
	if (!r->err.code)
		r->err = *e;
	end(r);
}

static void on_lost(void *data, const struct err *e)
{
	fail(data, e);
}

static void on_drained(void *data)
{
	end(data);
}

/* The container has ended: its output is read to the end. */
static void drain(struct runner *r)
{
	r->phase = DRAINING;
	r->config->state->finished_ns = clock_real_ns();
	loop_timer_free(TAKE_PTR(r->kill_timer));
	relay_drain(r->relay);
}

/* A lost connection is reported by the sandbox, which knows why. */
static bool is_loss(const struct err *e)
{
	return e->code == -ECONNRESET || e->code == -ENOTCONN;
}

static void on_container_exit(void *data, const struct container_exit *exit, const struct err *e)
{
	struct runner *r = data;

	if (!exit) {
		if (!is_loss(e))
			fail(r, e);
		return;
	}
	if (r->phase != RUNNING && r->phase != STARTING)
		return;
	r->exited = true;
	r->code = (int)exit->status;
	r->config->state->exit_code = r->code;
	r->config->state->oom_killed = exit->oom_killed;
	/* Before the answer to its start nobody knows whether the command has run at all. */
	if (r->phase == RUNNING)
		drain(r);
}

/* ---- stopping it ---- */

static void on_killed_timeout(void *data)
{
	struct runner *r = data;
	struct err e = { 0 };

	err_set(&e, -ETIMEDOUT, "the guest did not end the container within %d s of SIGKILL",
		KILLED_MS / 1000);
	err_stage(&e, "stop");
	fail(r, &e);
}

static void kill_container(struct runner *r)
{
	if (r->killed)
		return;
	r->killed = true;
	relay_signal(r->relay, SIGKILL);
	loop_timer_free(TAKE_PTR(r->kill_timer));
	if (loop_timer_new(r->loop, KILLED_MS, on_killed_timeout, r, &r->kill_timer) < 0)
		on_killed_timeout(r);
}

static void on_kill_timeout(void *data)
{
	kill_container(data);
}

/* Stop as `podvm stop` does. Asked again with less time it hurries; asked too early it waits. */
static void stop(void *data, unsigned int timeout_ms)
{
	struct runner *r = data;

	if (r->phase == STARTING) {
		r->stop_early_ms = r->stop_early ? MIN(r->stop_early_ms, timeout_ms) : timeout_ms;
		r->stop_early = true;
	}
	if (r->phase != RUNNING || r->killed)
		return;
	if (timeout_ms == 0) {
		kill_container(r);
		return;
	}
	if (!r->stop_requested) {
		relay_signal(r->relay, r->config->stop_signal);
		write_state(r, RUNDIR_STOPPING);
	}
	r->stop_requested = true;
	loop_timer_free(TAKE_PTR(r->kill_timer));
	if (loop_timer_new(r->loop, timeout_ms, on_kill_timeout, r, &r->kill_timer) < 0)
		kill_container(r);
}

/* Passed on to the container, or what stops a detached one. */
static void on_signal(void *data, int signum)
{
	struct runner *r = data;

	if (r->phase == STARTING) {
		r->interrupted = signum;
		err_set(&r->err, -EINTR, "interrupted by signal %d while it was starting", signum);
		end(r);
	} else if (r->phase == RUNNING && !r->config->detached) {
		relay_signal(r->relay, signum);
	} else if (r->phase == RUNNING && signum != SIGHUP) {
		stop(r, r->config->stop_timeout_ms);
	}
}

/* ---- its output ---- */

static void on_output(void *data, enum streams_which stream, const void *bytes, size_t n)
{
	struct runner *r = data;

	if (!r->output_us)
		r->output_us = clock_us();
	log_writer_add(r->log, stream, bytes, n);
}

/* Nobody reads our output any more, as in `podvm run IMAGE yes | head`. */
static void on_broken(void *data)
{
	struct runner *r = data;

	stop(r, BROKEN_MS);
}

static void on_streams_failed(void *data, const struct err *e)
{
	struct runner *r = data;

	if (r->phase <= RUNNING)
		fail(r, e);
}

/* ---- the start ---- */

static void on_started(void *data, const struct err *e)
{
	struct runner *r = data;
	struct err err;

	/* It's being ended already, or will be. */
	if (r->phase != STARTING || (e && is_loss(e)))
		return;
	if (e) {
		err = *e;
		err_stage(&err, "start");
		fail(r, &err);
		return;
	}
	r->phase = RUNNING;
	r->config->state->started_ns = clock_real_ns();
	write_state(r, RUNDIR_RUNNING);
	if (r->config->ready)
		r->config->ready(r->config->data);
	if (r->exited) {
		drain(r);
		return;
	}
	relay_resize(r->relay);
	if (r->stop_early)
		stop(r, r->stop_early_ms);
}

static void on_created(void *data, const struct err *e)
{
	struct runner *r = data;
	struct err err = { 0 };
	int ret;

	/* It's being ended already, or will be. */
	if (r->phase != STARTING || (e && is_loss(e)))
		return;
	if (e) {
		fail(r, e);
		return;
	}
	r->start_us = clock_us();
	ret = control_new(r->sandbox, stop, r, &r->control, &err);
	if (ret == 0 && (ret = relay_start(r->relay, sandbox_agent(r->sandbox),
					   r->config->sandbox.rundir->id, "")) < 0)
		err_errno(&err, ret, "cannot relay the container's streams");
	if (ret == 0 && (ret = container_wait(r->container, on_container_exit, r)) < 0)
		err_errno(&err, ret, "cannot watch the container");
	if (ret == 0 && (ret = container_start(r->container, on_started, r)) < 0)
		err_errno(&err, ret, "cannot start the container");
	if (ret < 0)
		fail(r, &err);
}

static void add_file(struct runner *r, const char *name, const char *text)
{
	struct container_config *c = &r->container_config;

	c->files[c->n_files++] = (struct container_file){ name, text, 0644 };
}

/* /etc/hosts and the like, which need the guest's addresses. */
static int make_files(struct runner *r)
{
	const struct net_config *net = sandbox_network(r->sandbox);
	struct net_config none = { 0 };
	int ret;

	ret = net_hosts_text(r->config->sandbox.hostname, net ? net : &none, r->config->add_hosts,
			     &r->hosts);
	if (ret == 0)
		ret = net_resolv_text(net ? &net->dns : r->config->dns, &r->resolv);
	if (ret < 0)
		return ret;
	snprintf(r->hostname, sizeof(r->hostname), "%s\n", r->config->sandbox.hostname);
	if (!buf_cstr(&r->hosts) || !buf_cstr(&r->resolv))
		return -ENOMEM;
	add_file(r, "hosts", buf_cstr(&r->hosts));
	add_file(r, "resolv.conf", buf_cstr(&r->resolv));
	add_file(r, "hostname", r->hostname);
	return 0;
}

static void create(struct runner *r)
{
	struct err err = { 0 };
	int ret = container_create(r->sandbox, &r->container_config, on_created, r, &r->container);

	if (ret < 0) {
		err_errno(&err, ret, "cannot create the container");
		fail(r, &err);
	}
}

static void on_sockets(void *data, const struct err *e)
{
	struct runner *r = data;

	if (r->phase != STARTING)
		return;
	if (e)
		fail(r, e);
	else if (--r->n_awaited == 0)
		create(r);
}

static int add_sockets(struct runner *r)
{
	const struct runner_config *c = r->config;
	struct volume *v;
	int ret = volume_set_new(r->sandbox, &r->volumes);

	r->n_awaited = c->n_sockets;
	for (size_t i = 0; ret == 0 && i < c->n_sockets; i++)
		ret = volume_add(r->volumes, &c->sockets[i], on_sockets, r, &v);
	return ret;
}

static void on_sandbox_started(void *data, const struct err *e)
{
	struct runner *r = data;
	const struct runner_config *c = r->config;
	struct err err = { 0 };
	int ret;

	if (e) {
		fail(r, e);
		return;
	}
	c->state->booted_ns = sandbox_booted_ns(r->sandbox);
	c->state->vmm_pid = vmm_pid(sandbox_vmm(r->sandbox));
	ret = str_set(&c->state->accel,
		      vmm_accel(sandbox_vmm(r->sandbox)) == VMM_ACCEL_KVM ? "kvm" : "tcg");
	if (ret == 0)
		ret = str_set(&c->state->template, sandbox_template(r->sandbox));
	r->container_config = (struct container_config){
		.id = c->sandbox.rundir->id,
		.spec = c->spec,
		.disks = { { .fd = c->image_fd,
			     .fstype = "erofs",
			     .parts = c->image_part,
			     .n_parts = c->image_part->data > 0 } },
		.n_disks = 1,
		.scratch = CONTAINER_SCRATCH_DISK,
		.scratch_fd = c->scratch_fd,
		.scratch_unsafe = c->scratch_unsafe,
		.directories = c->directories,
		.shares = r->shares,
		.n_shares = c->sandbox.n_shares,
		.terminal = c->terminal,
		.input = c->input,
	};
	for (size_t i = 0; i < c->sandbox.n_shares; i++)
		r->shares[i] = c->sandbox.shares[i].name;
	terminal_size(&r->container_config.columns, &r->container_config.rows);
	if (ret == 0)
		ret = make_files(r);
	if (ret == 0 && c->n_sockets > 0)
		ret = add_sockets(r);
	if (ret < 0) {
		err_errno(&err, ret, "cannot create the container");
		fail(r, &err);
	} else if (c->n_sockets == 0) {
		create(r);
	}
}

/* ---- all of it ---- */

static int begin(struct runner *r, struct err *e)
{
	struct relay_config relay = {
		.terminal = r->config->terminal,
		.input = r->config->input,
		.quiet = r->config->detached,
		.signal = on_signal,
		.output = on_output,
		.broken = on_broken,
		.failed = on_streams_failed,
		.drained = on_drained,
		.data = r,
	};
	int ret;

	ret = loop_new(&r->loop);
	if (ret == 0)
		ret = log_writer_new(r->config->sandbox.rundir->fd, &r->log);
	relay.loop = r->loop;
	if (ret == 0)
		ret = relay_new(&relay, &r->relay);
	if (ret == 0)
		ret = sandbox_new(r->loop, &r->config->sandbox, on_lost, r, &r->sandbox);
	if (ret == 0)
		ret = sandbox_start(r->sandbox, on_sandbox_started, r);
	return ret < 0 ? err_errno(e, ret, "cannot begin") : 0;
}

static void done(struct runner *r)
{
	relay_free(r->relay);
	container_free(r->container);
	volume_set_free(r->volumes);
	if (r->control)
		control_free(r->control);
	sandbox_free(r->sandbox);
	loop_timer_free(r->kill_timer);
	log_writer_free(r->log);
	buf_done(&r->hosts);
	buf_done(&r->resolv);
	loop_free(r->loop);
}

static void print_timing(const char *name, uint64_t us)
{
	fprintf(stderr, "  %-12s %9.1f ms\n", name, (double)us / 1000);
}

static void print_timings(const struct runner *r, uint64_t prepared_us)
{
	const struct stage_timing *timings;
	size_t n = sandbox_timings(r->sandbox, &timings);

	fprintf(stderr, "podvm: timings%s\n",
		sandbox_from_pool(r->sandbox)  ? " (machine of the pool)"
		: sandbox_template(r->sandbox) ? " (copy of a template)"
					       : "");
	print_timing("prepare", prepared_us - r->config->began_us);
	for (size_t i = 0; i < n; i++)
		print_timing(timings[i].name, timings[i].us);
	if (r->output_us) {
		print_timing("first output", r->output_us - r->start_us);
		print_timing("total", r->output_us - r->config->began_us);
	}
}

/* state.json says how it ended before anybody is told that it did. */
static void finish_state(struct runner *r)
{
	struct rundir_state *st = r->config->state;

	if (r->err.code) {
		st->exit_code = CLI_FAILED;
		(void)str_set(&st->error, r->err.msg);
	}
	if (!st->finished_ns)
		st->finished_ns = clock_real_ns();
	write_state(r, RUNDIR_EXITED);
}

int runner_run(const struct runner_config *config, int *ret_code, struct err *e)
{
	struct runner r = { .config = config };
	uint64_t prepared_us = clock_us();
	int ret;

	write_state(&r, RUNDIR_CREATED);
	ret = begin(&r, e);
	if (ret < 0)
		r.err = *e;
	else
		loop_run_until(r.loop, &r.ended, -1);
	if (ret == 0 && config->timings)
		print_timings(&r, prepared_us);
	finish_state(&r);
	if (r.control)
		control_stopped(r.control, (unsigned int)config->state->exit_code);
	done(&r);
	*ret_code = r.interrupted ? 128 + r.interrupted : r.code;
	*e = r.err;
	return r.err.code;
}
