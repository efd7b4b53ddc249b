/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_VOLUME_SHARE_H
#define PODVM_SHIM_VOLUME_SHARE_H

/*
 * Theory of operation
 *
 * What is mounted of the host and can't be anything better is bound into the pod's shared
 * directory, where virtiofs shows it, and is a file system of its own in the guest. So that
 * containers of a pod see each other's locks, memory maps and the newest attributes, what several
 * of them mount is shared once, and goes with the last one. The same directory may be mounted
 * anywhere on the host, as the kubelet does it for a subPath: what counts is where it is in its
 * file system. What lies in a directory that is shared already is mounted from there. (A part that
 * comes first is shared alone: the machine is to have no more of the host than its containers.)
 * One that may only read uses that which another one may write to, as long as that's there: the
 * guest sees to it then, which could write there anyway.
 *
 * If something is mounted below the source it's shared for each container anew, as it is then:
 * what a container sees of the host's mounts is what there was at its start. One that asks for what
 * comes later (HostToContainer) has a share of its own as well, whose mounts are kept in step with
 * the host's (storage/mount_follow.h).
 */

#include "shim/spec.h"
#include "shim/task.h"

struct pod_share;

/**
 * volume_share_bind() - Let a container's mount be of something that is shared
 * @t:		Task that is being created
 * @b:		The mount
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int volume_share_bind(struct task *t, const struct spec_bind *b, struct err *e);

/** volume_shares_done() - A task goes: what nobody uses any more isn't shared any more */
void volume_shares_done(struct task *t);

#endif
