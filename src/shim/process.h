/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_PROCESS_H
#define PODVM_SHIM_PROCESS_H

/* What the first process of a container and an exec have in common, and execs; see shim.h. */

#include "proto/task.pb-c.h"
#include "shim/shim.h"

/** process_init() - A process that isn't started. Return: 0 or -ENOMEM */
int process_init(struct process *p, struct task *task, const char *id);

/** process_done() - Free what it holds; calls that wait are answered NOT_FOUND */
void process_done(struct process *p);

/** process_open() - Open its streams and begin to move bytes */
int process_open(struct process *p, struct err *e);

/** process_started() - It runs now; an exit that came first is told */
void process_started(struct process *p);

/** process_exited() - It has ended; told when its output has been written */
void process_exited(struct process *p, uint32_t status, bool oom_killed);

/** process_collected() - What was to be fetched before the exit of a first process is there */
void process_collected(struct process *p);

/** process_lost() - The machine has gone, and the process with it */
void process_lost(struct process *p);

/** process_wait() - Answer a call of Wait, now or at the end */
void process_wait(struct process *p, struct ttrpc_call *call);

/**
 * process_finish() - Wait for the rest of the output of a stopped process, not for long
 * @done:	Called once, perhaps at once; the streams are closed then
 */
void process_finish(struct process *p, void (*done)(struct process *p));

/** process_resize() - Tell the terminal its size, or remember it until there is one */
void process_resize(struct process *p, unsigned int columns, unsigned int rows);

/** exec_add() - A process that isn't started, for an exec. Return: 0 or a negative errno */
int exec_add(struct task *t, const char *id, struct process **ret);

/**
 * exec_set() - Take over what a request says about an exec
 * @p:		From exec_add()
 * @req:	Request
 * @e:		Says what is wrong with it
 *
 * Return: 0 or a negative errno
 */
int exec_set(struct process *p, const Containerd__Task__V2__ExecProcessRequest *req, struct err *e);

/** exec_publish_added() - Tell that there is a new exec */
void exec_publish_added(const struct process *p);

/** exec_free() - Forget an exec */
void exec_free(struct process *p);

/** exec_start() - Run it and answer the call; it's in state CREATED */
void exec_start(struct process *p, struct ttrpc_call *call);

/** exec_delete() - Remove a stopped exec and answer the call */
void exec_delete(struct process *p, struct ttrpc_call *call);

#endif
