/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_DEVICES_H
#define PODVM_SHIM_DEVICES_H

/*
 * Devices of a container (/dev/fuse, /dev/net/tun) are the guest's own of the same names, which
 * have other numbers perhaps: the agent is asked for them, and the spec gets its answers. Names are
 * those of the host's kernel; where a device is in the container is the spec's business. One that
 * the guest hasn't got is an error, but not in the list that a privileged container has of the
 * host: that is cut down to what the guest has.
 */

#include <stddef.h>

#include "base/err.h"
#include "base/str.h"
#include "proto/agent.pb-c.h"
#include "shim/spec.h"

/**
 * struct device_plan - Devices that a container needs
 * @names:	Below /dev, first those of struct spec_plan in their order, then others
 * @where:	What to call each in messages
 */
struct device_plan {
	struct strv names;
	struct strv where;
};

/**
 * devices_of_spec() - Begin with the devices of a spec
 * @p:		Empty
 * @plan:	Of the spec
 * @e:		Says which one there is no way to have
 *
 * Return: 0 or a negative errno
 */
int devices_of_spec(struct device_plan *p, const struct spec_plan *plan, struct err *e);

/** devices_add() - Append one. Return: 0, -E2BIG or -ENOMEM */
int devices_add(struct device_plan *p, const char *name, const char *where, struct err *e);

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
		  struct spec_plan *plan, struct err *e);

void device_plan_done(struct device_plan *p);

#endif
