/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_SANDBOX_FILES_H
#define PODVM_SHIM_SANDBOX_FILES_H

/*
 * /etc/hostname, /etc/hosts, /etc/resolv.conf and /dev/shm of a pod's containers. containerd makes
 * them for a pod with a pause container; a shim that is the sandbox controller has to do it. The
 * files are kept in the sandbox's bundle, and a container's config.json gets the same mounts that
 * containerd would have put in, unless it has one in that place already.
 */

#include "oci/json.h"
#include "proto/cri.pb-c.h"

/**
 * sandbox_files_write() - Write the files
 * @bundle:	Of the sandbox
 * @hostname:	Of the pod
 * @dns:	What resolv.conf is to say, NULL: the same as the host's
 * @e:		Which file can't be written, and why
 *
 * Return: 0 or a negative errno
 */
int sandbox_files_write(const char *bundle, const char *hostname, const Runtime__V1__DNSConfig *dns,
			struct err *e);

/**
 * sandbox_files_mount() - Put them into a container's config.json
 * @spec:	Tree, changed in place
 * @bundle:	Of the sandbox
 * @e:		No memory
 *
 * Return: 0 or a negative errno
 */
int sandbox_files_mount(struct json_object *spec, const char *bundle, struct err *e);

#endif
