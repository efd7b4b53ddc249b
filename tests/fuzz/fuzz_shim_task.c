/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shim's services, fed with the bytes of a connection. What is there is chosen by the first
 * byte:
 *
 *	f	nothing yet: a shim that has just been started, whose machine can't be
 *	r	a pod that runs: its sandbox, a container, one that has ended, and an exec
 *	b	the same, made by the Sandbox service
 *	else	the same when the machine has ended and that hasn't been told yet
 *
 * The machine is a fake agent that answers everything at once. Containers are "box" and, in what
 * was recorded of containerd 1.6 and 2.1, "shared" and 64 times 'c'; the sandbox is "pod", or 64
 * times 'p'.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "proto/agent.pb-c.h"
#include "sandbox/sandbox-internal.h"
#include "shim/service.h"
#include "shim/task.h"

#define AGENT_METHODS 64
#define ANSWER_MAX    1024
#define LONG_ID	      64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* ---- streams: the paths of a request must not be opened ---- */

int procio_paths_set(struct procio_paths *p, const char *in, const char *out, const char *err,
		     bool terminal, struct err *e)
{
	p->terminal = terminal;
	check(str_set(&p->stdin, in) == 0 && str_set(&p->stdout, out) == 0 &&
	      str_set(&p->stderr, err) == 0);
	return 0;
}

void procio_paths_done(struct procio_paths *p)
{
	free(p->stdin);
	free(p->stdout);
	free(p->stderr);
}

void procio_init(struct procio *io)
{
	*io = (struct procio){ .done = true };
}

int procio_start(struct procio *io, const struct procio_paths *paths,
		 const struct streams_config *config, const char *namespace, void (*cb)(void *data),
		 void *data, struct err *e)
{
	return 0;
}

void procio_close_input(struct procio *io)
{
}

void procio_done(struct procio *io)
{
}

/* ---- the agent ---- */

static void answer(struct ttrpc_call *call, const ProtobufCMessage *req, void *data)
{
	const ProtobufCMessageDescriptor *d = ttrpc_call_method(call)->output;
	_Alignas(16) uint8_t bytes[ANSWER_MAX];
	ProtobufCMessage *resp = (void *)bytes;

	check(d->sizeof_message <= sizeof(bytes));
	d->message_init(resp);
	ttrpc_reply(call, resp);
}

/**
 * struct scene - A shim and what it talks to
 * @handlers, @service, @agent: The fake agent
 */
struct scene {
	struct shim shim;
	ttrpc_handler handlers[AGENT_METHODS];
	struct ttrpc_service service;
	struct ttrpc_server *agent;
};

static void turn(struct loop *loop)
{
	bool never = false;

	(void)loop_run_until(loop, &never, 0);
}

static void start_machine(struct scene *s)
{
	const ProtobufCServiceDescriptor *d = &podvm__agent__v1__agent__descriptor;
	struct pod *pod = &s->shim.pod;
	int fds[2];

	check(d->n_methods <= AGENT_METHODS);
	for (unsigned int i = 0; i < d->n_methods; i++)
		s->handlers[i] = answer;
	s->service = (struct ttrpc_service){ .desc = d, .handlers = s->handlers };
	pod->sandbox_config.rundir = &pod->rundir;
	check(sandbox_new(s->shim.loop, &pod->sandbox_config, NULL, NULL, &pod->sandbox) == 0);
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	check(ttrpc_server_new(s->shim.loop, &s->service, 1, &s->agent) == 0);
	check(ttrpc_server_add(s->agent, fds[0], NULL, NULL) == 0);
	check(ttrpc_client_new(s->shim.loop, fds[1], NULL, NULL, &pod->sandbox->agent) == 0);
	pod->run_state.started_ns = 1;
	pod->state = POD_RUNNING;
}

/* ---- the shim ---- */

static struct task *add_task(struct shim *shim, const char *id, enum process_state state)
{
	struct task *t = task_new(shim, id, "/nonexistent");

	check(t && procio_paths_set(&t->init.paths, "", "", "", false, NULL) == 0);
	t->init.state = state;
	return t;
}

static void add_exec(struct task *t, const char *id)
{
	struct process *exec;

	check(exec_add(t, id, &exec) == 0);
	exec->state = PROCESS_RUNNING;
}

static void add_tasks(struct shim *shim, bool box)
{
	static char pod[LONG_ID + 1];
	static char container[LONG_ID + 1];
	struct task *t;

	memset(pod, 'p', LONG_ID);
	memset(container, 'c', LONG_ID);
	t = add_task(shim, box ? pod : "pod", PROCESS_RUNNING);
	t->sandbox = true;
	if (box)
		shim->box = t;
	else
		add_task(shim, pod, PROCESS_RUNNING)->sandbox = true;
	add_exec(add_task(shim, "box", PROCESS_RUNNING), "e");
	add_task(shim, container, PROCESS_RUNNING);
	add_task(shim, "shared", PROCESS_RUNNING);
	add_task(shim, "old", PROCESS_STOPPED);
}

static void on_started(void *data, const struct err *e)
{
	check(false); /* there is no image that could be */
}

static void on_ended(void *data, const struct err *e)
{
	task_pod_ended(data, e);
}

static void begin(struct scene *s, char kind)
{
	struct shim *shim = &s->shim;

	log_init(-1, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
	/* Not the machine's own configuration: with none there is no guest image. */
	check(setenv("PODVM_CONFIG", "/nonexistent", 1) == 0);
	check(loop_new(&shim->loop) == 0);
	check(events_new(shim->loop, NULL, "ns", &shim->events) == 0);
	list_init(&shim->tasks);
	list_init(&shim->shares);
	shim->namespace = "ns";
	shim->pod_id = "pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp";
	pod_init(&shim->pod, shim->loop, shim->namespace, shim->pod_id, on_started, on_ended, shim);
	service_fill(shim);
	check(ttrpc_server_new(shim->loop, shim->services, ARRAY_SIZE(shim->services),
			       &shim->server) == 0);
	if (kind == 'f')
		return;
	add_tasks(shim, kind == 'b');
	if (kind == 'r' || kind == 'b')
		start_machine(s);
	else
		shim->pod.state = POD_GONE;
}

static void end(struct scene *s)
{
	struct shim *shim = &s->shim;

	pod_done(&shim->pod);
	task_pod_ended(shim, NULL);
	while (!list_empty(&shim->tasks))
		task_free(list_entry(shim->tasks.next, struct task, node));
	ttrpc_server_free(shim->server);
	ttrpc_server_free(s->agent);
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
		/* Small pieces, so that the agent's answers come in between. */
		ssize_t n = send(fds[0], data, MIN(size, 512), MSG_DONTWAIT | MSG_NOSIGNAL);

		check(n > 0 || errno == EAGAIN);
		if (n > 0) {
			data += n;
			size -= (size_t)n;
		}
		for (int i = 0; i < 4; i++)
			turn(shim->loop);
		while (recv(fds[0], chunk, sizeof(chunk), MSG_DONTWAIT) > 0)
			;
	}
	for (int i = 0; i < 4; i++)
		turn(shim->loop);
	close(fds[0]);
	turn(shim->loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char kind = size > 0 ? (char)*data : '\0';
	struct scene s = { 0 };

	begin(&s, kind);
	/* A frame begins with 0. */
	feed(&s.shim, kind ? data + 1 : data, kind ? size - 1 : size);
	end(&s);
	return 0;
}
