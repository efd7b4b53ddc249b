/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "shim/volume_kind.h"

void device_plan_done(struct device_plan *p)
{
	strv_done(&p->names);
	strv_done(&p->where);
}

static int add(struct device_plan *p, const char *name, const char *where,
	       struct spec_device *device, struct err *e)
{
	size_t n = p->names.n;

	if (n == DEVICES_MAX)
		return err_set(e, -E2BIG, "a container has at most %d devices", DEVICES_MAX);
	if (strv_add(&p->names, name) < 0 || strv_add(&p->where, where) < 0)
		return err_oom(e);
	p->devices[n] = device;
	return 0;
}

int devices_add(struct device_plan *p, const char *name, const char *where, struct err *e)
{
	return add(p, name, where, NULL, e);
}

int devices_add_disk(struct device_plan *p, struct pod_volume *volume, struct spec_device *device,
		     const struct spec_bind *bind, struct err *e)
{
	if (p->n_disks == DEVICES_MAX_DISKS)
		return err_set(e, -E2BIG, "a container has at most %d block devices",
			       DEVICES_MAX_DISKS);
	p->disks[p->n_disks++] = (struct device_disk){ volume, device, bind };
	return 0;
}

int devices_of_spec(struct device_plan *p, struct spec_plan *plan, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < plan->n_devices; i++) {
		struct spec_device *d = &plan->devices[i];
		_cleanup_(freep) char *name = NULL;

		if (d->block)
			continue;
		name = volume_device_name(makedev(d->major, d->minor), d->path);
		r = name ? add(p, name, d->path, d, e) : err_oom(e);
	}
	return r;
}

static int missing(const struct device_plan *p, size_t i, struct err *e)
{
	char quoted[256];

	err_set(e, -ENODEV, "the guest has no device %s",
		log_quote(quoted, sizeof(quoted), p->names.v[i]));
	err_hint(e,
		 "The container asks for %s of the host; a pod gets the device of that name that "
		 "its own kernel has.",
		 p->where.v[i]);
	return -ENODEV;
}

static int take_disk(const struct device_disk *disk, const Podvm__Agent__V1__Device *d,
		     struct err *e)
{
	char path[64];

	if (!d->found || !d->block || !*d->name || strchr(d->name, '/'))
		return err_set(e, -ENODEV, "the guest doesn't find the disk of a block device");
	if (disk->device) {
		disk->device->guest_major = d->major;
		disk->device->guest_minor = d->minor;
	}
	if (snprintf(path, sizeof(path), "/dev/%s", d->name) >= (int)sizeof(path))
		return err_set(e, -EPROTO, "the guest's name of a disk is too long");
	return disk->bind && spec_bind_to(disk->bind, path) < 0 ? err_oom(e) : 0;
}

int devices_found(const struct device_plan *p, const Podvm__Agent__V1__LookupDevicesResponse *resp,
		  const struct spec_plan *plan, struct err *e)
{
	int r = 0;

	if (resp->n_devices != p->names.n + p->n_disks)
		return err_set(e, -EPROTO, "the guest answers for %zu devices instead of %zu",
			       resp->n_devices, p->names.n + p->n_disks);
	for (size_t i = 0; i < p->names.n; i++) {
		const Podvm__Agent__V1__Device *d = resp->devices[i];
		struct spec_device *device = p->devices[i];
		bool found = d->found && !d->block;

		if (!found && !(device && plan->any_device))
			return missing(p, i, e);
		if (!device)
			continue;
		device->absent = !found;
		device->guest_major = d->major;
		device->guest_minor = d->minor;
	}
	for (size_t i = 0; r == 0 && i < p->n_disks; i++)
		r = take_disk(&p->disks[i], resp->devices[p->names.n + i], e);
	return r;
}
