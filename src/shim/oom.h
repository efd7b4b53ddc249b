/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_OOM_H
#define PODVM_SHIM_OOM_H

/*
 * Tells containerd (TaskOOM) when the guest's kernel kills a process of a container for want of
 * memory, also if it isn't the first one and the container goes on.
 */

#include "shim/shim.h"

/** oom_watch() - Begin, when the machine runs; it ends with the machine */
void oom_watch(struct shim *shim);

#endif
