/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_BOOTSTRAP_H
#define PODVM_SHIM_BOOTSTRAP_H

/*
 * What containerd says to `start`, and what it wants to hear.
 *
 * Standard input is empty, or the runtime's options as a google.protobuf.Any, or, since containerd
 * 2.3, BootstrapParams with the options as one of its extensions. Which of the two it is follows
 * from the first field: an id, and not the name of a type.
 *
 * The answer is the address alone, which all versions understand. It makes containerd 2 run
 * `start` for every container, which finds the pod's shim again. Only when a sandbox controller is
 * wanted it is JSON and says version 3: that comes with the Sandbox service, and the containers of
 * the pod are then made on the same connection without any further `start`.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/types.pb-c.h"

/**
 * bootstrap_read() - Read standard input to its end
 * @fd:		Descriptor
 * @ret:	The bytes, to be freed
 * @ret_len:	How many
 * @e:		Why not
 *
 * Return: 0 or a negative errno
 */
int bootstrap_read(int fd, uint8_t **ret, size_t *ret_len, struct err *e);

/**
 * bootstrap_config() - The configuration file that the runtime's options name (ConfigPath)
 * @data:	What was read
 * @len:	How many bytes
 * @id:		Of the container, as the command line has it
 * @ret:	Path, to be freed; NULL when no file is named. Options of other runtimes are ignored
 * @e:		Says that it's malformed
 *
 * Return: 0 or a negative errno
 */
int bootstrap_config(const uint8_t *data, size_t len, const char *id, char **ret, struct err *e);

/** bootstrap_options() - As bootstrap_config(), of options that are unpacked; NULL: there are none */
int bootstrap_options(const Containerd__Types__Any *any, char **ret, struct err *e);

/**
 * bootstrap_controller() - Whether containerd wants a sandbox controller
 * @bundle:	Absolute path of the bundle
 */
bool bootstrap_controller(const char *bundle);

/** bootstrap_answer() - What `start` prints, to be freed; NULL: no memory */
char *bootstrap_answer(const char *address, bool controller);

#endif
