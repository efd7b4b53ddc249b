/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_POD_H
#define PODVM_SHIM_POD_H

/*
 * The machine of a pod: what a sandbox of the core needs to be started for containerd.
 */

#include <stdbool.h>

#include "config/config.h"
#include "sandbox/control.h"
#include "sandbox/log_file.h"
#include "sandbox/sandbox.h"
#include "shim/spec_pod.h"

enum pod_state { POD_NONE, POD_PREPARED, POD_STARTING, POD_RUNNING, POD_STOPPING, POD_GONE };

/**
 * struct pod - The machine
 * @namespace, @id: Of containerd, of the pod; borrowed
 * @network:	The pod's network namespace, when it has one that isn't empty
 * @cgroup:	Cgroup of the host that we're in, NULL: the one that we were started in
 * @shared_dir:	What virtiofs shows of the host, see mounts.h
 * @growth_refused: That it can't be as large as it should be was told
 * @started:	Called once, when it's up or has failed
 * @ended:	Called once when it was up and has gone, with the reason or, when it was stopped,
 * NULL
 * @find_volume: For the control socket
 */
struct pod {
	struct loop *loop;
	const char *namespace;
	const char *id;
	enum pod_state state;
	struct config config;
	struct guest_image image;
	struct rundir rundir;
	struct rundir_state run_state;
	struct sandbox_config sandbox_config;
	struct sandbox *sandbox;
	struct control *control; /* for other podvm commands */
	struct log_file log;
	struct oci_map sysctl;
	struct net_pod_options network;
	char *netns;
	char *cgroup;
	char *hostname;
	char *shared_dir;
	int host_mounts; /* namespace of the host's mounts */
	char *templates; /* directory */
	bool growth_refused;
	sandbox_done started;
	sandbox_done ended;
	control_find_volume find_volume;
	void *data;
};

/**
 * struct pod_request - What machine is wanted
 * @spec:	What is known about the pod; its sysctls are taken out of it
 * @sandbox:	It's a pod of CRI's, and not a lone container
 * @bundle:	As for pod_note_bundle()
 * @config_file: Configuration that was chosen for the runtime, NULL: the machine's
 */
struct pod_request {
	struct spec_pod *spec;
	bool sandbox;
	const char *bundle;
	const char *config_file;
};

/** pod_init() - No machine; @namespace, @id and the callbacks' data live as long as it */
void pod_init(struct pod *p, struct loop *loop, const char *namespace, const char *id,
	      sandbox_done started, sandbox_done ended, void *data);

/**
 * pod_prepare() - Decide what the machine will be; nothing is taken on the host
 * @p:		In state NONE, then PREPARED, or GONE when it fails
 * @request:	What is wanted, borrowed for this call
 * @e:		What can't be done
 *
 * Return: 0 or a negative errno
 */
int pod_prepare(struct pod *p, const struct pod_request *request, struct err *e);

/**
 * pod_start() - Start the machine
 * @p:		In state PREPARED
 * @e:		What failed at once
 *
 * Return: 0 (pod_init()'s @started will be called) or a negative errno (it will not)
 */
int pod_start(struct pod *p, struct err *e);

/**
 * pod_note_bundle() - Let `delete` find what the machine has taken (see SHIM_STATE_FILE)
 * @p:		Prepared
 * @bundle:	Of one more container that it's to be called for
 */
int pod_note_bundle(const struct pod *p, const char *bundle, struct err *e);

/** pod_running() - Whether containers can be made in it, and its agent be called */
bool pod_running(const struct pod *p);

/** pod_pid() - Process id for containerd: that of the monitor, or ours */
uint32_t pod_pid(const struct pod *p);

/** pod_size() - CPUs and memory that it has now; that's noted in its state as well */
void pod_size(struct pod *p, unsigned int *vcpus, uint64_t *memory);

/* For a guest that somebody waits to be rid of. */
#define POD_STOP_MS 3000

/** pod_stop() - End it; the guest has @timeout_ms to write out its disks. @ended will be called */
void pod_stop(struct pod *p, unsigned int timeout_ms);

/** pod_done() - End it at once and leave nothing */
void pod_done(struct pod *p);

#endif
