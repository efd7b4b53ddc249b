/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_ADDRESS_H
#define PODVM_SHIM_ADDRESS_H

/*
 * Where a pod's shim listens. The path of the socket follows from containerd's address, the
 * namespace and the pod's id, so that `start` of the pod's next container finds the shim that runs
 * already. containerd itself takes whatever path `start` prints.
 */

#include <stdbool.h>

#include "base/err.h"

#define SHIM_SOCKET_DIR "/run/containerd/s"

/* In the bundle of the sandbox, or of each container when there's none: what `delete` has to find. */
#define SHIM_STATE_FILE "podvm-state"

/**
 * struct shim_pod - Which pod a container belongs to, as its annotations say
 * @id:		Of the sandbox (CRI), the group (containerd's own annotation), or of the container;
 *		owned
 * @role:	What the container is in it
 */
enum shim_role { SHIM_SINGLE, SHIM_SANDBOX, SHIM_MEMBER };

struct shim_pod {
	char *id;
	enum shim_role role;
};

/**
 * shim_pod_find() - Find out which pod a container belongs to
 * @bundle:	Its bundle; one without config.json is a pod of its own
 * @id:		Its id
 * @crio:	CRI-O has made it, and not containerd
 * @ret:	To be released with shim_pod_done()
 * @e:		Says what is wrong with config.json
 *
 * Return: 0 or a negative errno
 */
int shim_pod_find(const char *bundle, const char *id, bool crio, struct shim_pod *ret,
		  struct err *e);

void shim_pod_done(struct shim_pod *p);

/** shim_socket_path() - Path of a pod's socket, to be freed, or NULL: no memory */
char *shim_socket_path(const char *address, const char *namespace, const char *pod_id);

/**
 * shim_socket_listen() - Become the shim of a pod
 * @path:	Socket
 * @e:		Why not
 *
 * A socket that nobody listens on (of a crash) is replaced.
 *
 * Return: Listening descriptor, -EADDRINUSE when a shim listens there, or another negative errno
 */
int shim_socket_listen(const char *path, struct err *e);

/**
 * shim_answers() - Whether the shim of a pod lives
 * @path:	Its socket
 * @timeout_ms:	How long it may take; one that is silent for so long lives, but hangs
 *
 * It's asked something. The kernel takes connections for a process that was killed until it has
 * closed the socket, and by then it may have closed those by which containerd knew of it.
 */
bool shim_answers(const char *path, unsigned int timeout_ms);

/**
 * shim_run_id() - Name of a pod's run directory
 * @namespace:	Of containerd
 * @pod_id:	Id of the pod
 *
 * That of a Kubernetes pod is the sandbox's id. Names that a user chose may be the same in two
 * namespaces and are put together with the namespace.
 *
 * Return: At most RUNDIR_ID_LEN characters, to be freed; NULL: no memory
 */
char *shim_run_id(const char *namespace, const char *pod_id);

#endif
