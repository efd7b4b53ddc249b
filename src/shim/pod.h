/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_POD_H
#define PODVM_SHIM_POD_H

/*
 * The machine of a pod: what a sandbox of the core needs to be started for containerd.
 */

#include <stdbool.h>

#include "config/config.h"
#include "sandbox/sandbox.h"
#include "shim/spec.h"

enum pod_state { POD_NONE, POD_STARTING, POD_RUNNING, POD_STOPPING, POD_GONE };

/**
 * struct pod - The machine
 * @network:	The pod's network namespace, when it has one that isn't empty
 * @cgroup:	Cgroup of the host that we're in, NULL: the one that we were started in
 * @shared_dir:	What virtiofs shows of the host, see mounts.h
 * @started:	Called once, when it's up or has failed
 * @ended:	Called once when it was up and has gone, with the reason or, when it was stopped,
 * NULL
 */
struct pod {
	struct loop *loop;
	enum pod_state state;
	struct config config;
	struct guest_image image;
	struct rundir rundir;
	struct rundir_state run_state;
	struct sandbox_config sandbox_config;
	struct sandbox *sandbox;
	struct oci_map sysctl;
	struct net_pod_options network;
	char *netns;
	char *cgroup;
	char *hostname;
	char *shared_dir;
	sandbox_done started;
	sandbox_done ended;
	void *data;
};

/**
 * struct pod_request - What machine is wanted
 * @namespace, @id: Of containerd, of the pod
 * @spec:	config.json of its first container
 * @sandbox:	Which is a CRI sandbox
 * @config_file: Configuration that was chosen for the runtime, NULL: the machine's
 */
struct pod_request {
	const char *namespace;
	const char *id;
	struct json_object *spec;
	bool sandbox;
	const char *config_file;
};

/** pod_init() - No machine */
void pod_init(struct pod *p, struct loop *loop, sandbox_done ended, void *data);

/**
 * pod_start() - Start the machine
 * @p:		Without one
 * @request:	What is wanted, borrowed for this call
 * @started:	Called later with NULL or what failed
 * @e:		What failed at once
 *
 * Return: 0 (@started will be called) or a negative errno (it will not)
 */
int pod_start(struct pod *p, const struct pod_request *request, sandbox_done started,
	      struct err *e);

/** pod_running() - Whether containers can be made in it, and its agent be called */
bool pod_running(const struct pod *p);

/** pod_pid() - Process id for containerd: that of the monitor, or ours */
uint32_t pod_pid(const struct pod *p);

/** pod_stop() - End it; the guest gets a moment to write out its disks. @ended will be called */
void pod_stop(struct pod *p);

/** pod_done() - End it at once and leave nothing */
void pod_done(struct pod *p);

#endif
