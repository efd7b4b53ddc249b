/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_DEVICES_H
#define PODVM_SHIM_DEVICES_H

/*
 * Devices of a container (/dev/fuse, /dev/net/tun) are the guest's own of the same names, which
 * have other numbers perhaps: the agent is asked for them, and the spec gets its answers. Names are
 * those of the host's kernel; where a device is in the container is the spec's business. One that
 * the guest hasn't got is an error, but not in the list that a privileged container has of the
 * host: that is cut down to what the guest has.
 * Block devices are the host's: they are plugged into the machine before (volume_disk.h).
 */

#include <stddef.h>

#include "base/err.h"
#include "base/str.h"
#include "proto/agent.pb-c.h"
#include "shim/spec.h"

#define DEVICES_MAX	  256 /* the agent's limits */
#define DEVICES_MAX_DISKS 64

struct pod_volume;

/**
 * struct device_disk - A block device of the host, which has become a disk of the machine
 * @device:	Device of the spec that it's for, or NULL
 * @bind:	Mount that it's for, or NULL
 */
struct device_disk {
	struct pod_volume *volume;
	struct spec_device *device;
	const struct spec_bind *bind;
};

/**
 * struct device_plan - Devices that a container needs
 * @names:	Of character devices, below /dev
 * @where:	What to call each in messages
 * @devices:	Device of the spec that each is for, NULL: it's mounted
 * @disks:	Block devices
 */
struct device_plan {
	struct strv names;
	struct strv where;
	struct spec_device *devices[DEVICES_MAX];
	struct device_disk disks[DEVICES_MAX_DISKS];
	size_t n_disks;
};

/**
 * devices_of_spec() - Add the character devices of a spec
 * @p:		Gets them
 * @plan:	Of the spec, which lives longer
 * @e:		Says what is too much
 *
 * Return: 0 or a negative errno
 */
int devices_of_spec(struct device_plan *p, struct spec_plan *plan, struct err *e);

/** devices_add() - Append one. Return: 0, -E2BIG or -ENOMEM */
int devices_add(struct device_plan *p, const char *name, const char *where, struct err *e);

/** devices_add_disk() - Append a block device. Return: 0 or -E2BIG */
int devices_add_disk(struct device_plan *p, struct pod_volume *volume, struct spec_device *device,
		     const struct spec_bind *bind, struct err *e);

/**
 * devices_found() - Use the agent's answer
 * @p:		What it was asked for
 * @resp:	Its answer
 * @plan:	Its devices get their numbers of the guest
 * @e:		Names a device that the guest hasn't got
 *
 * Return: 0 or a negative errno
 */
int devices_found(const struct device_plan *p, const Podvm__Agent__V1__LookupDevicesResponse *resp,
		  const struct spec_plan *plan, struct err *e);

void device_plan_done(struct device_plan *p);

#endif
