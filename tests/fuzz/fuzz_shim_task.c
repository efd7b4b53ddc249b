/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim's Task service, fed with the bytes of a connection. There are a sandbox, a container
 * that runs, one that has ended, and an exec, but no machine: its end has not been told yet.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "shim/service.h"
#include "shim/task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void turn(struct loop *loop)
{
	bool never = false;

	(void)loop_run_until(loop, &never, 0);
}

static struct task *add_task(struct shim *shim, const char *id, enum process_state state)
{
	struct task *t = calloc(1, sizeof(*t));

	check(t);
	list_init(&t->execs);
	list_append(&shim->tasks, &t->node);
	t->shim = shim;
	check(process_init(&t->init, t, "") == 0 && str_set(&t->id, id) == 0 &&
	      str_set(&t->bundle, "/bundle") == 0 &&
	      procio_paths_set(&t->init.paths, "", "", "", false, NULL) == 0);
	t->init.state = state;
	return t;
}

static void on_started(void *data, const struct err *e)
{
}

static void on_ended(void *data, const struct err *e)
{
}

static void begin(struct shim *shim)
{
	struct process *exec;
	struct task *box;

	log_init(-1, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
	check(loop_new(&shim->loop) == 0);
	check(events_new(shim->loop, NULL, "ns", &shim->events) == 0);
	list_init(&shim->tasks);
	shim->namespace = "ns";
	pod_init(&shim->pod, shim->loop, "ns", "pod", on_started, on_ended, shim);
	shim->pod.state = POD_GONE;
	service_fill(shim);
	check(ttrpc_server_new(shim->loop, shim->services, ARRAY_SIZE(shim->services),
			       &shim->server) == 0);
	add_task(shim, "pod", PROCESS_RUNNING)->sandbox = true;
	box = add_task(shim, "box", PROCESS_RUNNING);
	check(exec_add(box, "e", &exec) == 0);
	exec->state = PROCESS_RUNNING;
	add_task(shim, "old", PROCESS_STOPPED);
}

static void end(struct shim *shim)
{
	task_pod_ended(shim, NULL);
	while (!list_empty(&shim->tasks))
		task_free(list_entry(shim->tasks.next, struct task, node));
	ttrpc_server_free(shim->server);
	pod_done(&shim->pod);
	events_free(shim->events);
	loop_free(shim->loop);
}

/* Frames in, answers dropped, then the client hangs up. */
static void feed(struct shim *shim, const uint8_t *data, size_t size)
{
	char chunk[4096];
	int fds[2];

	check(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	check(ttrpc_server_add(shim->server, fds[1], NULL, NULL) == 0);
	while (size > 0) {
		ssize_t n = send(fds[0], data, size, MSG_DONTWAIT | MSG_NOSIGNAL);

		check(n > 0 || errno == EAGAIN);
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		}
		turn(shim->loop);
		while (recv(fds[0], chunk, sizeof(chunk), MSG_DONTWAIT) > 0)
			;
	}
	turn(shim->loop);
	close(fds[0]);
	turn(shim->loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct shim shim = { 0 };

	begin(&shim);
	feed(&shim, data, size);
	end(&shim);
	return 0;
}
