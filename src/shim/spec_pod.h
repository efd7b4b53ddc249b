/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_SPEC_POD_H
#define PODVM_SHIM_SPEC_POD_H

/*
 * What is said about a pod as a whole. It comes in one of two ways: in the config.json of the pod's
 * first container, or, when the shim is its own sandbox controller, as the PodSandboxConfig that
 * CRI got from the kubelet. What is made of it is the same for both.
 */

#include <stdbool.h>
#include <stdint.h>

#include "oci/json.h"
#include "oci/oci.h"
#include "proto/cri.pb-c.h"

#define SPEC_SANDBOX_CPU_QUOTA	"io.kubernetes.cri.sandbox-cpu-quota"
#define SPEC_SANDBOX_CPU_PERIOD "io.kubernetes.cri.sandbox-cpu-period"
#define SPEC_SANDBOX_MEMORY	"io.kubernetes.cri.sandbox-memory"

#define SPEC_SANDBOX_NAME      "io.kubernetes.cri.sandbox-name"
#define SPEC_SANDBOX_NAMESPACE "io.kubernetes.cri.sandbox-namespace"

/**
 * struct spec_pod - A pod
 * @name, @namespace: As Kubernetes calls it, NULL: it doesn't
 * @hostname:	May be empty
 * @netns:	Path of the network namespace, NULL: an own one without anything in it
 * @host_network: The host's network namespace is asked for
 * @cgroup:	As linux.cgroupsPath of a runtime spec, may be empty
 * @sysctl:	To be set in the guest
 * @annotations: Those for config_annotate()
 * @memory:	Limit of all containers in bytes, 0: none is known
 * @cpus:	CPUs that their limit amounts to, rounded up; 0: none is known
 */
struct spec_pod {
	char *name;
	char *namespace;
	char *hostname;
	char *netns;
	bool host_network;
	char *cgroup;
	struct oci_map sysctl;
	struct oci_map annotations;
	uint64_t memory;
	unsigned int cpus;
};

/**
 * spec_pod_from_config() - Find out about a pod from the config.json of its first container
 * @spec:	Tree
 * @sandbox:	It's that of a CRI sandbox: limits are in its annotations
 * @ret:	All zero; to be released with spec_pod_done() also on failure
 * @e:		Says what is wrong
 *
 * Return: 0 or a negative errno
 */
int spec_pod_from_config(struct json_object *spec, bool sandbox, struct spec_pod *ret,
			 struct err *e);

/**
 * spec_pod_from_cri() - Find out about a pod from what CRI knows
 * @config:	The kubelet's configuration of the pod
 * @id:		Of the sandbox
 * @netns:	Path of the network namespace, "": there is none
 * @ret:	All zero; to be released with spec_pod_done() also on failure
 * @e:		Says what is wrong
 *
 * Return: 0 or a negative errno
 */
int spec_pod_from_cri(const Runtime__V1__PodSandboxConfig *config, const char *id,
		      const char *netns, struct spec_pod *ret, struct err *e);

void spec_pod_done(struct spec_pod *p);

#endif
