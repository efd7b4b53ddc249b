/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_LOOPDEV_H
#define PODVM_SHIM_LOOPDEV_H

#include <stdbool.h>

#include "base/err.h"

#define LOOPDEV_PATH_MAX 32

/**
 * loopdev_attach() - Make a block device of a file
 * @file:	Path
 * @readonly:	It can't be written
 * @path:	Gets the device's path
 * @e:		What failed
 *
 * The device ends with its last user: who mounts it keeps the descriptor until it's mounted.
 *
 * Return: Descriptor of the device or a negative errno
 */
int loopdev_attach(const char *file, bool readonly, char path[LOOPDEV_PATH_MAX], struct err *e);

#endif
