/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_TESTS_REAL_AGENT_H
#define PODVM_TESTS_REAL_AGENT_H

/* The agent's services in the test's own process, at one end of a socket pair; the other calls them. */

#include <signal.h>
#include <sys/socket.h>

#include "agent/agent.h"
#include "agent/service.h"

#define DEADLINE_MS 60000
#define SERVICE	    (&podvm__agent__v1__agent__descriptor)

static inline int real_agent_start(struct loop **loop, struct agent *agent,
				   struct ttrpc_client **client)
{
	int fds[2];

	signal(SIGPIPE, SIG_IGN);
	if (loop_new(loop) < 0 || agent_init(agent, *loop) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
	    ttrpc_server_new(*loop, agent_services(agent), 1, &agent->server) < 0 ||
	    ttrpc_server_add(agent->server, fds[0], NULL, NULL) < 0)
		return -1;
	return ttrpc_client_new(*loop, fds[1], NULL, NULL, client);
}

static inline void real_agent_stop(struct loop *loop, struct agent *agent,
				   struct ttrpc_client *client)
{
	agent_done(agent);
	ttrpc_client_free(client);
	ttrpc_server_free(agent->server);
	loop_free(loop);
}

#endif
