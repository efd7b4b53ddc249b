/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_VOLUMES_H
#define PODVM_SHIM_VOLUMES_H

/*
 * Theory of operation
 *
 * What a container's spec wants of the host (struct spec_plan) is brought to the machine, each as
 * what it is (volume_kind.h):
 *
 *	shares		are bound below the pod's shared directory, where virtiofsd shows them;
 *			only a pod that has one needs virtiofsd
 *	copies		directories of the kubelet, files, and file systems in memory are copied
 *			into the guest or made there by the sandbox core (sandbox/volume.h)
 *	disks		are plugged into the machine and mounted there once, for all containers
 *	devices		are looked up in the guest (devices.h)
 *	/dev/shm	is a file system of the guest, the pod's
 *
 * A directory or file system in memory is the pod's: it's there once, for all containers that mount
 * it, and until the machine ends, so a container that is started again finds it. A file is the
 * container's own, below /run/podvm/files/ID, and goes with it; what a container writes to a copy
 * stays in the guest, with one exception: the kubelet's termination log is fetched back when the
 * container's first process has ended, before that is told.
 */

#include "base/err.h"

struct shim;
struct task;

/**
 * volumes_prepare() - Stage of a Create: bring everything to the machine
 * @obj:	struct task that is being created and whose plan is made; its spec gets the places
 *		in the guest
 * @e:		What failed
 *
 * Return: as a stage
 */
int volumes_prepare(void *obj, struct err *e);

/** volumes_undo() - The Create has failed */
void volumes_undo(void *obj);

/**
 * volumes_collect() - The first process of a task has ended: fetch what the host wants of it
 *
 * If there is something, @t->collecting is set meanwhile, and process_collected() called at the
 * end, which comes in any case.
 */
void volumes_collect(struct task *t);

/** volumes_task_freed() - A task goes, with what was its own */
void volumes_task_freed(struct task *t);

/** volumes_pod_ended() - The machine has gone */
void volumes_pod_ended(struct shim *shim);

#endif
