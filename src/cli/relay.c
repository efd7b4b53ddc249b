/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/relay.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/terminal.h"
#include "sandbox/agent_client.h"

static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH };

struct relay {
	struct relay_config config;
	struct ttrpc_client *client;
	const char *container_id;
	const char *exec_id;
	struct streams *streams;
	struct loop_signal *signals[ARRAY_SIZE(signals)];
	struct loop_timer *drain;
	bool draining;
};

void relay_resize(struct relay *r)
{
	Podvm__Agent__V1__ResizeTerminalRequest req =
		PODVM__AGENT__V1__RESIZE_TERMINAL_REQUEST__INIT;

	if (!r->config.terminal || !r->client)
		return;
	terminal_size(&req.columns, &req.rows);
	req.container_id = (char *)r->container_id;
	req.exec_id = (char *)r->exec_id;
	if (req.columns && req.rows)
		(void)agent_call(r->client, "ResizeTerminal", &req.base, AGENT_TIMEOUT_MS,
				 agent_ignore, NULL, NULL);
}

void relay_signal(struct relay *r, int signum)
{
	Podvm__Agent__V1__SignalRequest req = PODVM__AGENT__V1__SIGNAL_REQUEST__INIT;

	if (!r->client)
		return;
	req.container_id = (char *)r->container_id;
	req.exec_id = (char *)r->exec_id;
	req.signal = (uint32_t)signum;
	(void)agent_call(r->client, "Signal", &req.base, AGENT_TIMEOUT_MS, agent_ignore, NULL,
			 NULL);
}

static void on_signal(void *data, int signum)
{
	struct relay *r = data;

	if (signum == SIGWINCH)
		relay_resize(r);
	else
		r->config.signal(r->config.data, signum);
}

int relay_new(const struct relay_config *config, struct relay **ret)
{
	struct relay *r = calloc(1, sizeof(*r));
	int ret_code = 0;

	if (!r)
		return -ENOMEM;
	r->config = *config;
	for (size_t i = 0; ret_code == 0 && i < ARRAY_SIZE(signals); i++)
		ret_code = loop_signal_new(config->loop, signals[i], on_signal, r, &r->signals[i]);
	if (ret_code < 0)
		relay_free(r);
	else
		*ret = r;
	return ret_code;
}

static void on_output(void *data, enum streams_which stream, const void *bytes, size_t n)
{
	struct relay *r = data;

	if (r->config.output)
		r->config.output(r->config.data, stream, bytes, n);
}

static void on_broken(void *data)
{
	struct relay *r = data;

	r->config.broken(r->config.data);
}

static void drained(void *data)
{
	struct relay *r = data;

	if (!r->draining)
		return;
	r->draining = false;
	loop_timer_free(TAKE_PTR(r->drain));
	r->config.drained(r->config.data);
}

static void on_streams_done(void *data, const struct err *e)
{
	struct relay *r = data;

	if (e && e->code != -ECONNRESET && e->code != -ENOTCONN)
		r->config.failed(r->config.data, e);
	drained(r);
}

int relay_start(struct relay *r, struct ttrpc_client *client, const char *container_id,
		const char *exec_id)
{
	const struct relay_config *c = &r->config;
	struct streams_config config = {
		.loop = c->loop,
		.client = client,
		.container_id = container_id,
		.exec_id = exec_id,
		.terminal = c->terminal,
		.fds = { STDOUT_FILENO, STDERR_FILENO },
		.stdin_fd = c->input && !c->quiet ? STDIN_FILENO : -1,
		.output = on_output,
		.broken = on_broken,
		.done = on_streams_done,
		.data = r,
	};

	if (c->quiet)
		config.fds[STREAMS_STDOUT] = config.fds[STREAMS_STDERR] = -1;
	r->client = client;
	r->container_id = container_id;
	r->exec_id = exec_id;
	if (c->terminal && config.stdin_fd >= 0)
		terminal_raw();
	return streams_new(&config, &r->streams);
}

void relay_drain(struct relay *r)
{
	r->draining = true;
	if (!r->streams || streams_done(r->streams) ||
	    loop_timer_new(r->config.loop, RELAY_DRAIN_MS, drained, r, &r->drain) < 0)
		drained(r);
}

void relay_stop(struct relay *r)
{
	terminal_restore();
	r->client = NULL;
	r->draining = false;
	loop_timer_free(TAKE_PTR(r->drain));
}

void relay_free(struct relay *r)
{
	if (!r)
		return;
	relay_stop(r);
	streams_free(r->streams);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		loop_signal_free(r->signals[i]);
	free(r);
}
