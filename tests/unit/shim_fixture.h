/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_TESTS_SHIM_FIXTURE_H
#define PODVM_TESTS_SHIM_FIXTURE_H

/* A shim without a machine that serves a client in the same process. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "shim/service.h"
#include "shim/shim.h"
#include "shim/task.h"

struct fixture {
	struct shim shim;
	struct ttrpc_client *client;
	char dir[32];
};

static inline void on_changed(void *data, const struct err *e)
{
}

static inline int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct shim *s = f ? &f->shim : NULL;
	int fds[2];

	*state = f;
	signal(SIGPIPE, SIG_IGN);
	log_init(-1, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
	if (!f || loop_new(&s->loop) < 0 || events_new(s->loop, NULL, "ns", &s->events) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
		return -1;
	s->namespace = "ns";
	s->pod_id = "pod";
	list_init(&s->tasks);
	list_init(&s->shares);
	pod_init(&s->pod, s->loop, s->namespace, s->pod_id, on_changed, on_changed, s);
	service_fill(s);
	snprintf(f->dir, sizeof(f->dir), "/tmp/shim-test.XXXXXX");
	if (!mkdtemp(f->dir) ||
	    ttrpc_server_new(s->loop, s->services, ARRAY_SIZE(s->services), &s->server) < 0 ||
	    ttrpc_server_add(s->server, fds[0], NULL, NULL) < 0)
		return -1;
	return ttrpc_client_new(s->loop, fds[1], NULL, NULL, &f->client);
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	ttrpc_client_free(f->client);
	ttrpc_server_free(f->shim.server);
	while (!list_empty(&f->shim.tasks))
		task_free(list_entry(f->shim.tasks.next, struct task, node));
	pod_done(&f->shim.pod);
	events_free(f->shim.events);
	loop_free(f->shim.loop);
	rm_rf(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

#endif
