/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_VOLUME_ROOT_H
#define PODVM_AGENT_VOLUME_ROOT_H

/*
 * What is changed in a file system before containers see it: directories that have to be there,
 * and the group that its files are given to. For workers. What is in it may be a container's, but
 * nobody changes it meanwhile.
 */

#include "base/err.h"
#include "proto/agent.pb-c.h"

/**
 * volume_root_directories() - Make the directories of a storage
 * @s:		Checked storage
 * @root:	Descriptor of its mount
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int volume_root_directories(const Podvm__Agent__V1__Storage *s, int root, struct err *e);

/**
 * volume_root_group() - Give everything to a group, as the kubelet does it on a host
 * @group:	The group
 * @root:	Descriptor of a mount that is writable
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int volume_root_group(const Podvm__Agent__V1__FsGroup *group, int root, struct err *e);

#endif
