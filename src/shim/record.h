/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_RECORD_H
#define PODVM_SHIM_RECORD_H

/*
 * What `podvm ps` and the other verbs know of a pod: the states of the pod and its containers in
 * the run directory, the specs of the containers, a copy of the shim's log, the control socket, and
 * the machine's event log. All of it is for people: failures are logged, and nothing else fails for
 * them. The sandbox container is the pod itself.
 */

#include "shim/shim.h"

/** record_pod_log() - There is a run directory: what is logged is kept there, too */
void record_pod_log(struct pod *p);

/** record_pod_created() - The state of the pod is known */
void record_pod_created(struct pod *p);

/** record_pod_started() - The machine runs; its control socket is served from now on */
void record_pod_started(struct pod *p);

/** record_pod_ended() - It has ended, by itself (@e says why) or because it was to (NULL) */
void record_pod_ended(struct pod *p, const struct err *e);

/** record_pod_done() - Let go of everything */
void record_pod_done(struct pod *p);

/** record_names() - Take over what a container is called; its spec is still as containerd made it */
void record_names(struct task *t, struct json_object *spec);

/** record_created() - A container was made; its create is still there */
void record_created(struct task *t);

/** record_started() - It runs */
void record_started(struct task *t);

/** record_oom() - The kernel killed a process of it for want of memory */
void record_oom(struct task *t);

/** record_exited() - Its first process has ended */
void record_exited(struct task *t);

/** record_deleted() - It's gone */
void record_deleted(struct task *t);

#endif
