/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_SERVICE_H
#define PODVM_SHIM_SERVICE_H

/* containerd's Task service, and answers that are given later. */

#include "proto/task.pb-c.h"
#include "shim/shim.h"

/** service_fill() - The services to be served, which live as long as @shim does */
void service_fill(struct shim *shim);

/** service_timestamp() - Nanoseconds since the epoch as a message */
void service_timestamp(Containerd__Types__Timestamp *ret, uint64_t ns);

/** service_reply_empty() - Answer that it's done */
void service_reply_empty(struct ttrpc_call *call);

/** service_reply_wait() - Answer a call that waited for the end of a process, which has stopped */
void service_reply_wait(const struct process *p, struct ttrpc_call *call);

/** service_reply_start() - Answer Start */
void service_reply_start(const struct shim *shim, struct ttrpc_call *call);

/** service_reply_delete() - Answer Delete of a process */
void service_reply_delete(const struct process *p, struct ttrpc_call *call);

/**
 * service_reply_failure() - Answer that something could not be done, and log it
 * @call:	Call
 * @what:	What couldn't be done
 * @e:		Stage, reason and hint, all of which containerd shows
 *
 * The code is UNKNOWN: containerd takes others (NOT_FOUND) for something about the task itself.
 */
void service_reply_failure(struct ttrpc_call *call, const char *what, const struct err *e);

#endif
