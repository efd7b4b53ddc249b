/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_CHECK_CONTAINERD_H
#define PODVM_CLI_CHECK_CONTAINERD_H

#include <stdbool.h>

/**
 * struct containerd_config - What counts of containerd's configuration; strings are owned
 * @handler:	Name of the runtime that is ours, NULL: there is none
 * @annotations: It gets some annotations of pods
 * @no_host_devices: Privileged containers of it don't get the host's devices
 * @streaming:	Its streams are no fifos
 * @cni_conf, @cni_bin: Directories of CNI
 */
struct containerd_config {
	char *handler;
	bool annotations;
	bool no_host_devices;
	bool streaming;
	char *cni_conf;
	char *cni_bin;
};

/**
 * containerd_config_parse() - Understand what `containerd config dump` prints
 * @text:	That; it's cut up
 * @ret:	All zero; released with containerd_config_done() also on failure
 *
 * Return: 0 or -ENOMEM
 */
int containerd_config_parse(char *text, struct containerd_config *ret);

void containerd_config_done(struct containerd_config *c);

/** is_shared_root() - Whether mounts below / of a mountinfo come to other namespaces */
bool is_shared_root(const char *mountinfo);

#endif
