/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the guest lives. As long as its agent answers, nothing is asked. When a call has had no
 * answer in time, that call may have been a long one, or the guest hangs: Hello, which the agent
 * answers at once, tells which. So a guest that is at rest is left at rest, and one that hangs is
 * noticed by the first who wants something of it: a probe, statistics, an exec, a signal.
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

static void on_timeout(void *data)
{
	Podvm__Agent__V1__HelloRequest req = PODVM__AGENT__V1__HELLO_REQUEST__INIT;
	struct sandbox *sb = data;

	if (sb->state != SANDBOX_RUNNING || sb->asked)
		return;
	log_warn("the guest has not answered in time", "sandbox=%s", sb->config->rundir->id);
	req.version = (char *)PODVM_VERSION;
	sb->asked = agent_call(sb->agent, "Hello", &req.base, sb->config->agent_timeout_ms,
			       on_hello, sb, NULL) == 0;
}

void sandbox_watch_agent(struct sandbox *sb)
{
	ttrpc_client_on_timeout(sb->agent, on_timeout, sb);
}
