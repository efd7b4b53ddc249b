/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_OPTIONS_H
#define PODVM_SHIM_OPTIONS_H

/*
 * The command line that containerd gives to shims. It's that of Go's flag package: one or two
 * dashes, "-name value" or "-name=value", flags end at the first argument that is none.
 */

#include <stdbool.h>

#include "base/err.h"

/**
 * struct shim_options - Command line; strings point into argv, NULL: not given
 * @namespace:	Of containerd
 * @id:		Of the container
 * @address:	containerd's gRPC socket
 * @publish_binary: containerd's program, for shims that publish events through it
 * @bundle:	Bundle directory, for `delete`
 * @config:	Configuration file; not containerd's but our own, for the daemon
 * @debug:	containerd logs at debug level
 * @version:	Print the version
 * @info:	Print a RuntimeInfo message
 * @action:	"start", "delete", or NULL: serve (the listening socket is descriptor 3)
 */
struct shim_options {
	const char *namespace;
	const char *id;
	const char *address;
	const char *publish_binary;
	const char *bundle;
	const char *config;
	bool debug;
	bool version;
	bool info;
	const char *action;
};

/**
 * shim_options_parse() - Parse a command line
 * @argv:	With the program as argv[0], ended by NULL
 * @ret:	Options
 * @e:		Says which flag is wrong
 *
 * Return: 0 or -EINVAL
 */
int shim_options_parse(char **argv, struct shim_options *ret, struct err *e);

/** shim_is_crio() - Whether CRI-O calls, which has no socket for shims and gives an empty @address */
bool shim_is_crio(const struct shim_options *o);

#endif
