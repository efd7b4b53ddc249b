/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_CREATE_H
#define PODVM_SHIM_CREATE_H

/*
 * Theory of operation
 *
 * A Create is a table of stages (create.c), which run when the pod's machine does:
 *
 *	rootfs		what containerd mounts as the root file system becomes something that the
 *			machine can have (rootfs.h)
 *	spec		config.json for the host becomes one for the guest (spec.h)
 *	volumes		what the spec binds from the host is brought to the machine (volumes.h)
 *	size		the machine grows if the pod's containers are to have more than it has
 *	guest		the sandbox core makes the container (sandbox/container.h)
 *
 * Each stage puts its part into config. What a stage took on the host belongs to the task and is
 * released with it, so a Create that fails undoes nothing itself: it frees the task.
 */

#include "proto/task.pb-c.h"
#include "sandbox/container.h"
#include "sandbox/stages.h"
#include "shim/devices.h"
#include "shim/spec.h"

struct task;

struct pod_volume;

/**
 * struct task_create - A Create that is under way
 * @req:	Its request
 * @spec:	config.json, later the one for the guest
 * @member:	It's a container of a CRI pod
 * @root:	Its root file system while it's prepared
 * @rootfs:	Where the root file system will be in the guest
 * @plan:	What the spec wants of the host
 * @config:	The container for the sandbox core
 * @text:	@spec as text
 * @fit:	The machine is growing
 * @uses:	What has to be in the guest before the container (volumes.c), @n_uses of them
 * @mounts:	Volumes and parts of them, for @config
 * @disks:	For each: the disk whose address it gets, or NULL
 * @paths:	Their paths
 * @devices:	Devices of the spec, and those that are mounted
 * @lookup:	Call to the agent for devices
 * @looked_up:	It was made
 * @waiting:	The stage of the volumes is pending
 */
struct task_create {
	const Containerd__Task__V2__CreateTaskRequest *req;
	struct json_object *spec;
	bool member;
	struct stages stages;
	struct rootfs *root;
	char *rootfs;
	struct spec_plan plan;
	struct container_config config;
	char *text;
	struct size_fit *fit;
	struct pod_volume *uses[2 * SPEC_MAX_BINDS + SPEC_MAX_DEVICES];
	size_t n_uses;
	struct container_mount mounts[3 * SPEC_MAX_BINDS];
	struct pod_volume *disks[3 * SPEC_MAX_BINDS];
	struct strv paths;
	struct device_plan devices;
	struct ttrpc_pending *lookup;
	bool looked_up;
	bool waiting;
};

/** create_free() - End it if it's under way, and free it; NULL is fine */
void create_free(struct task_create *c);

#endif
