/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_CREATE_H
#define PODVM_SHIM_CREATE_H

/* What is only needed while a task is created. */

struct task_create;

/** create_free() - Free it; NULL is fine */
void create_free(struct task_create *c);

#endif
