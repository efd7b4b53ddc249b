/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_TASK_H
#define PODVM_SHIM_TASK_H

/* Containers: create, start, delete; see shim.h. Requests are answered from here. */

#include "proto/task.pb-c.h"
#include "shim/process.h"
#include "shim/service.h"

/** task_find() - By id, NULL: there is none */
struct task *task_find(struct shim *shim, const char *id);

/** task_exec() - An exec of a task, "": its first process; NULL: there is none */
struct process *task_exec(struct task *t, const char *exec_id);

/**
 * task_create() - Make a container, and the machine if it's the pod's first one
 * @shim:	Daemon
 * @call:	To be answered later
 * @req:	Its request, which lives as long as @call
 */
void task_create(struct shim *shim, struct ttrpc_call *call,
		 const Containerd__Task__V2__CreateTaskRequest *req);

/** task_new() - A task that nothing has been done for, in the shim's list; NULL: no memory */
struct task *task_new(struct shim *shim, const char *id, const char *bundle);

/** task_pod_started() - The machine runs, or doesn't (@e): go on with what waited for it */
void task_pod_started(struct shim *shim, const struct err *e);

/** task_pod_ended() - The machine has gone: tell it for everything in it */
void task_pod_ended(struct shim *shim, const struct err *e);

/** task_give_up() - End a Create that is under way: it fails, and the task is gone */
void task_give_up(struct task *t);

/** task_start() - Run its first process, which is in state CREATED, and answer the call */
void task_start(struct task *t, struct ttrpc_call *call);

/** task_update() - Change its limits, and the size of the machine if need be; answer the call */
void task_update(struct task *t, struct ttrpc_call *call,
		 const Containerd__Task__V2__UpdateTaskRequest *req);

/** task_delete() - Remove a task that doesn't run, and answer the call */
void task_delete(struct task *t, struct ttrpc_call *call);

/**
 * task_note_share() - Remember something of the host that a task that is made will mount
 * @name:	In the pod's shared directory; it's unmounted with the task
 */
int task_note_share(struct task *t, const char *name, struct err *e);

/** task_free() - Forget it */
void task_free(struct task *t);

/** task_publish_oom() - Tell, once, that the kernel killed a process of it */
void task_publish_oom(struct task *t);

#endif
