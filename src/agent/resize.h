/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_RESIZE_H
#define PODVM_AGENT_RESIZE_H

/*
 * A machine that has grown. The kernel finds new CPUs and memory by itself (ACPI, virtio-mem) and
 * announces them, but brings CPUs online only when it's told to; and the pod's cgroup is limited to
 * the memory that there was. Nothing of this runs before the host says that there is something new.
 */

struct agent;

/** resize_done() - Forget a call that is under way */
void resize_done(struct agent *a);

#endif
