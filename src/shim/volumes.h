/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_VOLUMES_H
#define PODVM_SHIM_VOLUMES_H

/*
 * What a container's spec binds from the host (struct spec_plan): directories and files are bound
 * below the pod's shared directory, where virtiofs shows them to the guest; small files of the
 * pod (hosts, resolv.conf, hostname) are copied.
 */

#include "base/err.h"

/**
 * volumes_prepare() - Stage of a Create: bring the host's part of the volumes to the machine
 * @obj:	struct task that is being created and whose plan is made; its config gets the files
 * @e:		What failed
 *
 * Return: as a stage
 */
int volumes_prepare(void *obj, struct err *e);

#endif
