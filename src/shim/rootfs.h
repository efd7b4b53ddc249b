/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_ROOTFS_H
#define PODVM_SHIM_ROOTFS_H

/*
 * Root file systems as containerd gives them: mounts that make them, or a directory that the spec
 * names. They are mounted below the pod's shared directory, where virtiofs shows them to the guest.
 */

#include "base/err.h"

/**
 * rootfs_prepare() - Stage of a Create: bring the root file system to the machine
 * @obj:	struct task that is being created; gets create->rootfs and what the config needs
 * @e:		What failed
 *
 * Return: as a stage
 */
int rootfs_prepare(void *obj, struct err *e);

#endif
