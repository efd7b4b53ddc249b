/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_DAEMON_H
#define PODVM_SHIM_DAEMON_H

/* The verbs of the program; each returns the exit code. */

#include "shim/options.h"

#define SHIM_LISTEN_FD 3 /* of the daemon */

/*
 * There's a shim for every pod, and one thread in it: no cache of freed memory, which keeps pages
 * from going back (64 KiB of them were measured), and large blocks go back at once, also those that
 * come often. glibc reads this when a program starts.
 */
#define SHIM_MALLOC_NAME "GLIBC_TUNABLES"
#define SHIM_MALLOC	 "glibc.malloc.tcache_count=0:glibc.malloc.mmap_threshold=131072"

/** shim_start() - `start`: find or start the pod's daemon and print its address */
int shim_start(const struct shim_options *o);

/** shim_remove() - `delete`: clean up after a daemon that has gone, print a DeleteResponse */
int shim_remove(const struct shim_options *o);

/** shim_serve() - Be the daemon, until the pod has ended */
int shim_serve(const struct shim_options *o);

/** shim_fail() - Print an error, as containerd shows it. Return: 1 */
int shim_fail(const struct err *e);

#endif
