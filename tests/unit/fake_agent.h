/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_TESTS_FAKE_AGENT_H
#define PODVM_TESTS_FAKE_AGENT_H

/*
 * The guest's agent as a test plays it: served at one end of a socket pair, with those methods that
 * the test has a handler for.
 */

#include <sys/socket.h>

#include "base/str.h"
#include "proto/agent.pb-c.h"
#include "ttrpc/ttrpc.h"

#define FAKE_AGENT_METHODS 64

struct fake_agent {
	ttrpc_handler handlers[FAKE_AGENT_METHODS];
	struct ttrpc_service service;
	struct ttrpc_server *server;
};

static inline void fake_agent_serve(struct fake_agent *a, const char *name, ttrpc_handler handler)
{
	const ProtobufCServiceDescriptor *d = &podvm__agent__v1__agent__descriptor;

	assert_true(d->n_methods <= FAKE_AGENT_METHODS);
	for (unsigned int i = 0; i < d->n_methods; i++)
		if (str_eq(d->methods[i].name, name))
			a->handlers[i] = handler;
}

/* Handlers get @data; @ret is the other end. Return: 0 or a negative errno */
static inline int fake_agent_start(struct fake_agent *a, struct loop *loop, void *data,
				   struct ttrpc_client **ret)
{
	int fds[2];

	a->service = (struct ttrpc_service){
		.desc = &podvm__agent__v1__agent__descriptor,
		.handlers = a->handlers,
		.data = data,
	};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ||
	    ttrpc_server_new(loop, &a->service, 1, &a->server) < 0 ||
	    ttrpc_server_add(a->server, fds[0], NULL, NULL) < 0)
		return -1;
	return ttrpc_client_new(loop, fds[1], NULL, NULL, ret);
}

/* The connection ends. */
static inline void fake_agent_end(struct fake_agent *a)
{
	ttrpc_server_free(a->server);
	a->server = NULL;
}

static inline void reply_empty(struct ttrpc_call *call)
{
	Podvm__Agent__V1__Empty resp = PODVM__AGENT__V1__EMPTY__INIT;

	ttrpc_reply(call, &resp.base);
}

#endif
