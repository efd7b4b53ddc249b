/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "sandbox/agent_client.h"
#include "sandbox/clone.h"
#include "sandbox/disks.h"
#include "sandbox/host_socket.h"
#include "sandbox/network.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/shares.h"

#define LOSS_GRACE_MS 1000
#define CONSOLE_LINES 12

static const char *const state_names[] = {
	[SANDBOX_NEW] = "new",	       [SANDBOX_STARTING] = "starting",
	[SANDBOX_RUNNING] = "running", [SANDBOX_STOPPING] = "stopping",
	[SANDBOX_STOPPED] = "stopped",
};

static void set_state(struct sandbox *sb, enum sandbox_state state)
{
	log_debug("sandbox changes state", "sandbox=%s from=%s to=%s", sb->config->rundir->id,
		  state_names[sb->state], state_names[state]);
	sb->state = state;
}

struct loop *sandbox_loop(struct sandbox *sb)
{
	return sb->loop;
}

struct vmm *sandbox_vmm(struct sandbox *sb)
{
	return sb->vmm;
}

struct ttrpc_client *sandbox_agent(struct sandbox *sb)
{
	return sb->agent;
}

uint64_t sandbox_booted_ns(const struct sandbox *sb)
{
	return sb->booted_ns;
}

const char *sandbox_template(const struct sandbox *sb)
{
	return sb->cloned ? sb->template.key : NULL;
}

bool sandbox_from_pool(const struct sandbox *sb)
{
	return sb->from_pool;
}

void sandbox_note_timings(struct sandbox *sb, const struct stages *stages)
{
	for (size_t i = 0; i < stages->n_timings && sb->n_timings < SANDBOX_MAX_TIMINGS; i++)
		sb->timings[sb->n_timings++] = stages->timings[i];
}

size_t sandbox_timings(const struct sandbox *sb, const struct stage_timing **ret)
{
	*ret = sb->timings;
	return sb->n_timings;
}

int sandbox_new(struct loop *loop, const struct sandbox_config *config, sandbox_done lost,
		void *data, struct sandbox **ret)
{
	struct sandbox *sb = calloc(1, sizeof(*sb));

	if (!sb)
		return -ENOMEM;
	sb->loop = loop;
	sb->config = config;
	sb->lost = lost;
	sb->lost_data = data;
	sb->share_fd = -EBADF;
	sb->virtiofs_fd = -EBADF;
	sb->uid_fd = -EBADF;
	sb->template = TEMPLATE_INIT;
	sb->pooled = POOL_MACHINE_INIT;
	list_init(&sb->share_waits);
	list_init(&sb->growths);
	sb->console_fd = -EBADF;
	list_init(&sb->disks);
	*ret = sb;
	return 0;
}

void sandbox_add_console(const struct sandbox *sb, struct err *e)
{
	char tail[sizeof(e->hint) - 64];
	const char *line;

	if (!sb->vmm)
		return;
	vmm_console_tail(sb->vmm, CONSOLE_LINES, tail, sizeof(tail));
	/* What was too long has lost its begin. */
	line = strlen(tail) + 1 == sizeof(tail) ? strchr(tail, '\n') : NULL;
	if (*tail)
		err_hint(e, "the last lines of the guest's console:\n%s", line ? line + 1 : tail);
	else
		err_hint(e, "the guest's console is empty");
}

static void on_started(void *obj, const struct err *e);

static int run_stages(struct sandbox *sb)
{
	sb->loss = (struct err){ 0 };
	return stages_run(&sb->stages, sb->loop, sandbox_start_stages, sandbox_n_start_stages, 0,
			  on_started, sb);
}

static void on_started(void *obj, const struct err *e)
{
	struct sandbox *sb = obj;

	if (e && clone_retry(sb, e) && run_stages(sb) == 0)
		return;
	sandbox_note_timings(sb, &sb->stages);
	set_state(sb, e ? SANDBOX_STOPPED : SANDBOX_RUNNING);
	if (!e)
		clone_booted(sb);
	sb->started(sb->started_data, e);
}

int sandbox_start(struct sandbox *sb, sandbox_done done, void *data)
{
	int r;

	sb->started = done;
	sb->started_data = data;
	r = run_stages(sb);
	if (r == 0)
		set_state(sb, SANDBOX_STARTING);
	return r;
}

/* Kill whatever still runs; in the order in which things depend on each other. */
static void end_everything(struct sandbox *sb)
{
	struct vmm *vmm = TAKE_PTR(sb->vmm);

	loop_timer_free(TAKE_PTR(sb->timer));
	if (sb->call)
		ttrpc_cancel(TAKE_PTR(sb->call));
	sandbox_stop_forward(sb);
	host_sockets_free(TAKE_PTR(sb->sockets));
	ttrpc_client_free(TAKE_PTR(sb->agent));
	vmm_free(vmm);
	close_fdp(&sb->uid_fd);
	sb->uid_fd = -EBADF;
	disks_close(sb);
	sandbox_stop_shares(sb);
	sandbox_stop_network(sb);
	if (sb->console_fd >= 0)
		close(TAKE_FD(sb->console_fd));
}

static void stopped(struct sandbox *sb)
{
	end_everything(sb);
	set_state(sb, SANDBOX_STOPPED);
	sb->stopped(sb->stopped_data);
}

static void on_stop_timer(void *data)
{
	stopped(data);
}

static void on_shutdown(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct sandbox *sb = data;
	char text[512];

	sb->call = NULL;
	if (e && e->code != -ECONNRESET)
		log_warn("the guest did not shut down", "sandbox=%s error=%s",
			 sb->config->rundir->id, log_quote(text, sizeof(text), e->msg));
	/* The disks are clean now: nothing is gained by waiting for the machine's reset. */
	loop_timer_free(TAKE_PTR(sb->timer));
	if (loop_timer_new(sb->loop, 0, on_stop_timer, sb, &sb->timer) < 0)
		stopped(sb);
}

/* Whether the guest may still hold back what somebody will look at when it has ended. */
static bool has_to_write(const struct sandbox *sb)
{
	return sb->alive > 0 || sb->shares_begun || disks_kept(sb);
}

void sandbox_stop(struct sandbox *sb, unsigned int timeout_ms, void (*done)(void *data), void *data)
{
	Podvm__Agent__V1__ShutdownRequest req = PODVM__AGENT__V1__SHUTDOWN_REQUEST__INIT;
	int r = -ENOTCONN;

	sb->stopped = done;
	sb->stopped_data = data;
	stages_abort(&sb->stages);
	if (sb->state == SANDBOX_RUNNING && sb->agent && timeout_ms > 0 && has_to_write(sb)) {
		req.timeout_ms = timeout_ms;
		r = agent_call(sb->agent, "Shutdown", &req.base, timeout_ms, on_shutdown, sb,
			       &sb->call);
	}
	set_state(sb, SANDBOX_STOPPING);
	if (r == 0)
		return;
	loop_timer_free(TAKE_PTR(sb->timer));
	if (loop_timer_new(sb->loop, 0, on_stop_timer, sb, &sb->timer) < 0)
		stopped(sb);
}

static void report_loss(void *data)
{
	struct sandbox *sb = data;
	struct err e = sb->loss;

	end_everything(sb);
	sb->lost(sb->lost_data, &e);
}

void sandbox_lose(struct sandbox *sb, const struct err *e)
{
	struct err err = *e;

	/* One that is being stopped has its end in sight, and the timer is for that. */
	if (sb->state != SANDBOX_STARTING && sb->state != SANDBOX_RUNNING)
		return;
	loop_timer_free(TAKE_PTR(sb->timer));
	sandbox_add_console(sb, &err);
	if (sb->state == SANDBOX_STARTING) {
		stages_next(&sb->stages, &err);
	} else {
		set_state(sb, SANDBOX_STOPPED);
		sb->loss = err;
		err_stage(&sb->loss, "run");
		/* Not from within a callback of the monitor or the agent, which are freed. */
		if (loop_timer_new(sb->loop, 0, report_loss, sb, &sb->timer) < 0)
			sb->lost(sb->lost_data, &sb->loss);
	}
}

static void on_grace_over(void *data)
{
	struct sandbox *sb = data;
	struct err e = sb->loss;

	sandbox_lose(sb, &e);
}

void sandbox_lose_soon(struct sandbox *sb, const struct err *e)
{
	if ((sb->state != SANDBOX_STARTING && sb->state != SANDBOX_RUNNING) || sb->loss.code)
		return;
	sb->loss = *e;
	loop_timer_free(TAKE_PTR(sb->timer));
	if (loop_timer_new(sb->loop, LOSS_GRACE_MS, on_grace_over, sb, &sb->timer) < 0)
		on_grace_over(sb);
}

void sandbox_free(struct sandbox *sb)
{
	if (!sb)
		return;
	stages_abort(&sb->stages);
	end_everything(sb);
	clone_done(sb);
	free(sb);
}
