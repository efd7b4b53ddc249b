/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_DAEMON_H
#define PODVM_SHIM_DAEMON_H

/* The verbs of the program; each returns the exit code. */

#include "shim/options.h"

#define SHIM_LISTEN_FD 3 /* of the daemon */

/** shim_start() - `start`: find or start the pod's daemon and print its address */
int shim_start(const struct shim_options *o);

/** shim_remove() - `delete`: clean up after a daemon that has gone, print a DeleteResponse */
int shim_remove(const struct shim_options *o);

/** shim_serve() - Be the daemon, until the pod has ended */
int shim_serve(const struct shim_options *o);

/** shim_fail() - Print an error, as containerd shows it. Return: 1 */
int shim_fail(const struct err *e);

#endif
