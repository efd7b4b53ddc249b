/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the guest lives. As long as its agent answers, nothing is asked. When a call has had no
 * answer for a while, that call may be a long one, or the guest hangs: Hello, which the agent
 * answers at once, tells which. So a guest that is at rest is left at rest, and one that hangs is
 * noticed by the first who wants something of it: a probe, statistics, an exec, a signal.
 *
 * What a guest does may take long, above all where it's emulated on a busy host, and its calls have
 * deadlines that are longer than anybody waits. That it answers at all takes next to nothing of the
 * host, and that is what agent_timeout is for.
 */
#include <errno.h>

#include "base/log.h"
#include "sandbox/agent_client.h"
#include "sandbox/sandbox-internal.h"

static void on_hello(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct sandbox *sb = data;
	struct err err = { 0 };

	sb->asked = false;
	if (!e || e->code != -ETIMEDOUT)
		return;
	err_set(&err, -ETIMEDOUT, "the guest hangs: its agent has not answered for %llu s",
		(unsigned long long)(sb->config->agent_timeout_ms / 1000));
	sandbox_lose(sb, &err);
}

/* After so much of agent_timeout without an answer it's asked; the rest is for the answer. */
static uint64_t part_ms(const struct sandbox *sb)
{
	return sb->config->agent_timeout_ms / 4;
}

static void on_slow(void *data)
{
	Podvm__Agent__V1__HelloRequest req = PODVM__AGENT__V1__HELLO_REQUEST__INIT;
	struct sandbox *sb = data;

	if (sb->state != SANDBOX_RUNNING || sb->asked)
		return;
	log_debug("a call takes long: does the guest live?", "sandbox=%s", sb->config->rundir->id);
	req.version = (char *)PODVM_VERSION;
	sb->asked = agent_call(sb->agent, "Hello", &req.base,
			       sb->config->agent_timeout_ms - part_ms(sb), on_hello, sb, NULL) == 0;
}

void sandbox_watch_agent(struct sandbox *sb)
{
	ttrpc_client_on_slow(sb->agent, part_ms(sb), on_slow, sb);
}
