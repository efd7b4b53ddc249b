/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "shim/volume_kind.h"

#define NAMES_MAX 256 /* the agent's limit */

void device_plan_done(struct device_plan *p)
{
	strv_done(&p->names);
	strv_done(&p->where);
}

int devices_add(struct device_plan *p, const char *name, const char *where, struct err *e)
{
	if (p->names.n == NAMES_MAX)
		return err_set(e, -E2BIG, "a container has at most %d devices", NAMES_MAX);
	if (strv_add(&p->names, name) < 0 || strv_add(&p->where, where) < 0)
		return err_oom(e);
	return 0;
}

static int refuse_block(const struct spec_device *d, struct err *e)
{
	char quoted[256];

	err_set(e, -EOPNOTSUPP,
		"%s is a block device of the host, which is not available in the pod",
		log_quote(quoted, sizeof(quoted), d->path));
	err_hint(e, "Volumes have to be of volumeMode Filesystem. For privileged containers set "
		    "privileged_without_host_devices = true in containerd's runtime.");
	return -EOPNOTSUPP;
}

int devices_of_spec(struct device_plan *p, const struct spec_plan *plan, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < plan->n_devices; i++) {
		const struct spec_device *d = &plan->devices[i];
		_cleanup_(freep) char *name = NULL;

		if (d->block)
			return refuse_block(d, e);
		name = volume_device_name(makedev(d->major, d->minor), d->path);
		r = name ? devices_add(p, name, d->path, e) : err_oom(e);
	}
	return r;
}

int devices_found(const struct device_plan *p, const Podvm__Agent__V1__LookupDevicesResponse *resp,
		  struct spec_plan *plan, struct err *e)
{
	char quoted[256];

	if (resp->n_devices != p->names.n)
		return err_set(e, -EPROTO, "the guest answers for %zu devices instead of %zu",
			       resp->n_devices, p->names.n);
	for (size_t i = 0; i < p->names.n; i++) {
		const Podvm__Agent__V1__Device *d = resp->devices[i];

		if (i < plan->n_devices && plan->any_device && (!d->found || d->block)) {
			plan->devices[i].absent = true;
			continue;
		}
		if (!d->found || d->block) {
			err_set(e, -ENODEV, "the guest has no device %s",
				log_quote(quoted, sizeof(quoted), p->names.v[i]));
			err_hint(e,
				 "The container asks for %s of the host; a pod gets the device of "
				 "that name that its own kernel has.",
				 p->where.v[i]);
			return -ENODEV;
		}
		if (i < plan->n_devices) {
			plan->devices[i].guest_major = d->major;
			plan->devices[i].guest_minor = d->minor;
		}
	}
	return 0;
}
