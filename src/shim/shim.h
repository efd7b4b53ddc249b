/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_SHIM_H
#define PODVM_SHIM_SHIM_H

/*
 * Theory of operation
 *
 * containerd-shim-podvm-v2 is what containerd talks to instead of a runtime on the host. There is
 * one process of it, and one machine, per pod.
 *
 *	start.c		`start`: finds the pod's shim or becomes it: binds the socket, starts the
 *			daemon with it, prints its address
 *	remove.c	`delete`: cleans up after a shim that has crashed
 *	daemon.c	the daemon: serves until Shutdown finds no task
 *	service.c	containerd's Task service (v2 and v3): requests to tasks, tasks to answers
 *	sandbox_service.c
 *			containerd 2's Sandbox service, for a shim that is the sandbox controller
 *	task.c		a container: start, exit, delete
 *	create.c	how one is made, in stages: rootfs.c, spec.c, volumes.c
 *	update.c	its limits change; size.c: the machine follows
 *	process.c	a process of one (its first, or an exec): streams, exit, waiting
 *	pod.c		the machine: starts with the first Create, ends with the pod
 *	mounts.c	what the machine sees of the host
 *	record.c	what other podvm commands see of it
 *	events.c, oom.c, procio.c, logger.c, stats.c
 *
 * The container that Kubernetes calls sandbox (pause) is the machine itself: nothing runs for it
 * in the guest. It runs from its Start until it's killed, which ends the machine. A container that
 * was made without Kubernetes is a pod of its own. With containerd 2 and `sandboxer = "shim"` there
 * is no such container: the Sandbox service makes the machine, and a task without a config.json
 * stands for it, so that both services know it by its id.
 *
 * An exit is told in one order: output has been written and the termination log fetched (for 2 s at
 * most), the state is STOPPED,
 * TaskExit is published, Wait is answered. Exits of execs come before that of their container's
 * first process. When the machine is lost every process has ended with 137.
 *
 * Nothing blocks in a request but the mounts of a Create and reading config.json.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "config/config.h"
#include "loop/loop.h"
#include "shim/events.h"
#include "shim/pod.h"
#include "shim/procio.h"
#include "shim/size.h"
#include "shim/spec.h"
#include "ttrpc/ttrpc.h"

/* How long output may take after the end of its process. */
#define SHIM_DRAIN_MS 2000

/* Exit status of what ended because the machine did: killed. */
#define SHIM_KILLED 137

/* containerd's exit status for "nobody knows". */
#define SHIM_UNKNOWN 255

enum process_state {
	PROCESS_CREATED,
	PROCESS_STARTING,
	PROCESS_RUNNING,
	PROCESS_STOPPED,
};

/**
 * struct process - The first process of a container, or an exec
 * @node:	In the task's list of execs
 * @task:	Container
 * @id:		Exec id, "" for the first process
 * @state:	STOPPED is told only when everything about the exit is known
 * @paths:	Its streams
 * @io:		And where they are open
 * @spec:	Of an exec: process object as JSON
 * @columns, @rows: Size of its terminal, 0: unknown
 * @exited:	Its exit is known, but perhaps not told yet
 * @exit_status, @exited_ns: The exit
 * @waiters:	Calls of Wait
 * @call:	Call of Start or Delete that is under way
 * @pending:	Call to the agent for it
 * @waiting:	Call of Wait to the agent
 * @drain:	Until output is given up
 * @finished:	While it's deleted: called when output is at its end
 */
struct process {
	struct list node;
	struct task *task;
	char *id;
	enum process_state state;
	struct procio_paths paths;
	struct procio io;
	char *spec;
	unsigned int columns;
	unsigned int rows;
	bool exited;
	uint32_t exit_status;
	uint64_t exited_ns;
	struct list waiters;
	struct ttrpc_call *call;
	struct ttrpc_pending *pending;
	struct ttrpc_pending *waiting;
	struct loop_timer *drain;
	void (*finished)(struct process *p);
};

struct shim;

/**
 * struct task - A container
 * @node:	In the shim's list
 * @sandbox:	It's the pod's sandbox: the machine itself
 * @creating:	Create hasn't been answered
 * @deleting:	Delete hasn't been answered
 * @ends_pod:	...and is when the machine has ended, because this was all of the pod
 * @oom_told:	TaskOOM was published
 * @limits:	What it may take
 * @collecting:	What has to be told before the exit of its first process is being fetched
 */
struct task {
	struct list node;
	struct shim *shim;
	char *id;
	char *bundle;
	bool sandbox;
	bool creating;
	bool deleting;
	bool ends_pod;
	bool paused;
	bool oom_told;
	bool collecting;
	struct process init;
	struct list execs;
	struct container *container;
	struct task_create *create;	 /* while it's created */
	struct ttrpc_call *call;	 /* Create, Start or Delete */
	char *names[SPEC_MAX_BINDS + 1]; /* of the shared directory */
	size_t n_names;
	struct rundir_state record; /* see record.h */
	struct size_limits limits;
};

/**
 * struct shim - The daemon
 * @namespace:	Of containerd
 * @pod_id:	Id of the pod
 * @crio:	CRI-O has started it, and not containerd
 * @config_file: Configuration that was chosen for the runtime, NULL: the machine's
 * @box:	The sandbox, if the Sandbox service has made it: no task events are told of it
 * @volumes:	What is copied into the guest, NULL: nothing yet
 * @shares:	Of the host with its containers (volume_share.h)
 * @n_shares:	How many there have been, for their names
 * @share_watch: ...of the host's mounts, while one of them follows these
 * @last_event:	Of the agent's events, the last one seen
 * @done:	Shutdown was asked for and nothing is left
 */
struct shim {
	struct loop *loop;
	const char *namespace;
	const char *pod_id;
	bool crio;
	const char *config_file;
	struct events *events;
	struct ttrpc_server *server;
	struct ttrpc_service services[3];
	struct pod pod;
	struct list tasks;
	struct task *box;
	struct volumes *volumes;
	struct list shares;
	unsigned int n_shares;
	struct share_watch *share_watch;
	uint64_t last_event;
	bool done;
};

#endif
