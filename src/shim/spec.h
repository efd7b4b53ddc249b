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
 * spec_rewrite() changes the JSON tree in place and says in a struct spec_plan what has to be
 * brought into the guest for it. It decides by the spec alone and touches no file.
 *
 * Bind mounts become one of
 *	a file copied into the guest	hosts, hostname, resolv.conf: small and read by the resolver
 *	the pod's /dev/shm		a tmpfs of the guest
 *	a share				everything else, through virtiofs
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/json.h"
#include "oci/oci.h"

#define SPEC_CONTAINER_TYPE	"io.kubernetes.cri.container-type"
#define SPEC_SANDBOX_NAME	"io.kubernetes.cri.sandbox-name"
#define SPEC_SANDBOX_NAMESPACE	"io.kubernetes.cri.sandbox-namespace"
#define SPEC_CONTAINER_NAME	"io.kubernetes.cri.container-name"
#define SPEC_IMAGE_NAME		"io.kubernetes.cri.image-name"
#define SPEC_SANDBOX_CPU_QUOTA	"io.kubernetes.cri.sandbox-cpu-quota"
#define SPEC_SANDBOX_CPU_PERIOD "io.kubernetes.cri.sandbox-cpu-period"
#define SPEC_SANDBOX_MEMORY	"io.kubernetes.cri.sandbox-memory"

#define SPEC_MAX_SHARES 128
#define SPEC_MAX_FILES	8
#define SPEC_SHM	"/run/podvm/shm"    /* in the guest: /dev/shm of the pod */
#define SPEC_PID_NS	"/run/podvm/ns/pid" /* in the guest: kept by the agent */

/**
 * spec_read() - Read config.json of a bundle
 * @bundle:	Directory
 * @ret:	Tree, to be released with json_object_put()
 * @e:		Says what is wrong with it
 *
 * Return: 0, -ENOENT, or another negative errno
 */
int spec_read(const char *bundle, struct json_object **ret, struct err *e);

/** spec_annotation() - Value of an annotation, borrowed; NULL: there is none */
const char *spec_annotation(struct json_object *spec, const char *name);

/* A host file or directory that the guest is to see below its shared directory. */
struct spec_share {
	const char *source; /* borrowed from @owner */
	char name[160];	    /* in the shared directory */
	bool readonly;
};

/* A host file that is copied to CONTAINER_FILE of the guest. */
struct spec_file {
	const char *source; /* borrowed from @owner */
	const char *name;   /* constant */
};

/**
 * struct spec_plan - What a container's spec needs in the guest
 * @shares:	Shares
 * @files:	Copies
 * @shm:	It uses the pod's /dev/shm, whose host directory is @shm_source
 * @owner:	Holds the strings; to be released with spec_plan_done()
 */
struct spec_plan {
	struct spec_share shares[SPEC_MAX_SHARES];
	size_t n_shares;
	struct spec_file files[SPEC_MAX_FILES];
	size_t n_files;
	bool shm;
	const char *shm_source;
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
