/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_HOST_CGROUP_H
#define PODVM_SANDBOX_HOST_CGROUP_H

/*
 * Where a pod's processes are accounted on the host. Who made the pod (the kubelet) has a cgroup
 * for it, with its limits, and reads its statistics there. The process that owns the sandbox joins
 * a cgroup below that one before it starts anything, so the monitor and all helpers are in it.
 *
 * Works with cgroup v2, v1 and both side by side: the same path is used in every hierarchy that
 * accounts or limits something. No limits are set: those of the parent hold. The guest has its
 * own cgroups for the containers.
 */

#include <sys/types.h>

#include "base/err.h"

/**
 * host_cgroup_path() - Path of a cgroup from linux.cgroupsPath of a runtime spec
 * @text:	"/kubepods/pod1/ID", or "a-b.slice:prefix:name" as systemd has it
 * @ret:	"/kubepods/pod1/ID", "/a.slice/a-b.slice/prefix-name.scope"; the caller frees it
 * @e:		Says what is wrong with it
 *
 * Return: 0, -EINVAL or -ENOMEM
 */
int host_cgroup_path(const char *text, char **ret, struct err *e);

/**
 * host_cgroup_join() - Make a cgroup and move this process into it
 * @path:	From host_cgroup_path()
 * @e:		What failed
 *
 * Return: 0, -ENOENT (the host has no cgroups) or another negative errno
 */
int host_cgroup_join(const char *path, struct err *e);

/** host_cgroup_bring() - Move another process to where we are. Return: 0 or a negative errno */
int host_cgroup_bring(pid_t pid);

/** host_cgroup_leave() - Move this process to the top, then host_cgroup_remove() */
void host_cgroup_leave(const char *path);

/** host_cgroup_top() - Move this process to the top, out of whatever pod it was started for */
void host_cgroup_top(void);

/**
 * host_cgroup_remove() - Kill whoever is left in a cgroup but ourselves, and remove it
 * @path:	That of a sandbox alone
 *
 * Return: 0, also if it's gone, or a negative errno
 */
int host_cgroup_remove(const char *path);

#endif
