/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_SPEC_H
#define PODVM_SHIM_SPEC_H

/*
 * Theory of operation
 *
 * containerd writes config.json for a container on this host's kernel. In the guest the same
 * container needs another root file system path, paths of the guest for its bind mounts, no
 * namespaces that the pod has in common (the guest's own are those of the pod), and nothing that
 * only means something to the host: host CPUs, device numbers of limits, hooks, security labels.
 *
 * spec_rewrite() changes the JSON tree in place and says in a struct spec_plan what the container
 * wants to have of the host: bind mounts and devices. It decides by the spec alone and touches no
 * file. What becomes of these is found out by looking at them (volume_kind.h); spec_bind_to() and
 * spec_devices_done() put it into the tree.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/json.h"
#include "oci/oci.h"

#define SPEC_CONTAINER_TYPE "io.kubernetes.cri.container-type"
#define SPEC_SANDBOX_ID	    "io.kubernetes.cri.sandbox-id"
#define SPEC_CONTAINER_NAME "io.kubernetes.cri.container-name"
#define SPEC_IMAGE_NAME	    "io.kubernetes.cri.image-name"

#define SPEC_MAX_BINDS	 128
#define SPEC_MAX_DEVICES 128
#define SPEC_SHM	 "/run/podvm/shm"    /* in the guest: /dev/shm of the pod */
#define SPEC_PID_NS	 "/run/podvm/ns/pid" /* in the guest: kept by the agent */

/**
 * spec_read() - Read config.json of a bundle
 * @bundle:	Directory
 * @crio:	CRI-O has written it, and not containerd
 * @ret:	Tree, to be released with json_object_put()
 * @e:		Says what is wrong with it
 *
 * Return: 0, -ENOENT, or another negative errno
 */
int spec_read(const char *bundle, bool crio, struct json_object **ret, struct err *e);

/** spec_from_crio() - Give annotations of CRI-O the names of containerd's. Return: 0 or -ENOMEM */
int spec_from_crio(struct json_object *spec, struct err *e);

/** spec_annotation() - Value of an annotation, borrowed; NULL: there is none */
const char *spec_annotation(struct json_object *spec, const char *name);

/**
 * struct spec_bind - A bind mount
 * @mount:	Entry of `mounts`, borrowed from the tree
 * @source:	Absolute path on the host
 * @destination: In the container
 * @readonly:	The container can't write to it
 * @deep:	Nor to what is mounted below it
 * @slave:	It asks for what is mounted on the host later
 */
struct spec_bind {
	struct json_object *mount;
	const char *source;
	const char *destination;
	bool readonly;
	bool deep;
	bool slave;
};

/**
 * struct spec_device - A device node
 * @obj:	Entry of `linux.devices`, borrowed from the tree, as is @path, its place in the
 * container
 * @block:	It's a block device, otherwise a character device
 * @readonly:	The container may only read from it
 * @absent:	The guest hasn't got it, to be filled in: it's taken out of the spec
 * @major, @minor: Its number on the host
 * @guest_major, @guest_minor: And in the guest, to be filled in
 */
struct spec_device {
	struct json_object *obj;
	const char *path;
	bool block;
	bool readonly;
	bool absent;
	uint32_t major;
	uint32_t minor;
	uint32_t guest_major;
	uint32_t guest_minor;
};

/**
 * struct spec_plan - What a container's spec wants of the host
 * @any_device:	It may use every device: the list is what the host happens to have (a privileged
 *		container), not what it needs
 * @owner:	Holds the strings of @binds; to be released with spec_plan_done()
 */
struct spec_plan {
	struct spec_bind binds[SPEC_MAX_BINDS];
	size_t n_binds;
	struct spec_device devices[SPEC_MAX_DEVICES];
	size_t n_devices;
	bool any_device;
	struct strv owner;
};

/**
 * struct spec_target - Where a container will be in the guest
 * @id:		Its id, also for its cgroup
 * @rootfs:	Path of its root file system
 * @terminal:	It gets a terminal
 * @member:	It's in a pod with others: IPC and host name are the pod's
 */
struct spec_target {
	const char *id;
	const char *rootfs;
	bool terminal;
	bool member;
};

/**
 * spec_rewrite() - Make a container's spec one for the guest
 * @spec:	Tree, changed in place
 * @target:	Where it will be
 * @plan:	All zero; gets what is needed, and is to be released also on failure
 * @e:		Says what can't be done
 *
 * Return: 0 or a negative errno
 */
int spec_rewrite(struct json_object *spec, const struct spec_target *target, struct spec_plan *plan,
		 struct err *e);

void spec_plan_done(struct spec_plan *plan);

/** spec_bind_to() - Where in the guest a bind mount's source is. Return: 0 or -ENOMEM */
int spec_bind_to(const struct spec_bind *b, const char *path);

/** spec_bind_readonly() - The container must not write to it. Return: 0 or -ENOMEM */
int spec_bind_readonly(const struct spec_bind *b);

/** spec_bind_writable() - The guest needn't see to it that a bind mount is read-only */
void spec_bind_writable(const struct spec_bind *b);

/**
 * spec_devices_done() - Put the guest's numbers of all devices into the tree, and into the rules of
 * `linux.resources.devices` that are about them
 *
 * Return: 0 or -ENOMEM
 */
int spec_devices_done(struct json_object *spec, const struct spec_plan *plan);

/** spec_clean_resources() - Drop what a linux.resources says about the host alone */
void spec_clean_resources(struct json_object *resources);

/**
 * spec_clean_process() - Drop what a process object says about the host alone
 * @process:	Object of the spec or of an exec
 * @terminal:	It gets a terminal
 *
 * Return: 0 or -ENOMEM
 */
int spec_clean_process(struct json_object *process, bool terminal);

#endif
