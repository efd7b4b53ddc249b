/* SPDX-License-Identifier: Apache-2.0 */

/* Capabilities: names, the default set, and what users add and drop. */

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "oci/spec_internal.h"

static const char *const names[] = {
	[CAP_CHOWN] = "CAP_CHOWN",
	[CAP_DAC_OVERRIDE] = "CAP_DAC_OVERRIDE",
	[CAP_DAC_READ_SEARCH] = "CAP_DAC_READ_SEARCH",
	[CAP_FOWNER] = "CAP_FOWNER",
	[CAP_FSETID] = "CAP_FSETID",
	[CAP_KILL] = "CAP_KILL",
	[CAP_SETGID] = "CAP_SETGID",
	[CAP_SETUID] = "CAP_SETUID",
	[CAP_SETPCAP] = "CAP_SETPCAP",
	[CAP_LINUX_IMMUTABLE] = "CAP_LINUX_IMMUTABLE",
	[CAP_NET_BIND_SERVICE] = "CAP_NET_BIND_SERVICE",
	[CAP_NET_BROADCAST] = "CAP_NET_BROADCAST",
	[CAP_NET_ADMIN] = "CAP_NET_ADMIN",
	[CAP_NET_RAW] = "CAP_NET_RAW",
	[CAP_IPC_LOCK] = "CAP_IPC_LOCK",
	[CAP_IPC_OWNER] = "CAP_IPC_OWNER",
	[CAP_SYS_MODULE] = "CAP_SYS_MODULE",
	[CAP_SYS_RAWIO] = "CAP_SYS_RAWIO",
	[CAP_SYS_CHROOT] = "CAP_SYS_CHROOT",
	[CAP_SYS_PTRACE] = "CAP_SYS_PTRACE",
	[CAP_SYS_PACCT] = "CAP_SYS_PACCT",
	[CAP_SYS_ADMIN] = "CAP_SYS_ADMIN",
	[CAP_SYS_BOOT] = "CAP_SYS_BOOT",
	[CAP_SYS_NICE] = "CAP_SYS_NICE",
	[CAP_SYS_RESOURCE] = "CAP_SYS_RESOURCE",
	[CAP_SYS_TIME] = "CAP_SYS_TIME",
	[CAP_SYS_TTY_CONFIG] = "CAP_SYS_TTY_CONFIG",
	[CAP_MKNOD] = "CAP_MKNOD",
	[CAP_LEASE] = "CAP_LEASE",
	[CAP_AUDIT_WRITE] = "CAP_AUDIT_WRITE",
	[CAP_AUDIT_CONTROL] = "CAP_AUDIT_CONTROL",
	[CAP_SETFCAP] = "CAP_SETFCAP",
	[CAP_MAC_OVERRIDE] = "CAP_MAC_OVERRIDE",
	[CAP_MAC_ADMIN] = "CAP_MAC_ADMIN",
	[CAP_SYSLOG] = "CAP_SYSLOG",
	[CAP_WAKE_ALARM] = "CAP_WAKE_ALARM",
	[CAP_BLOCK_SUSPEND] = "CAP_BLOCK_SUSPEND",
	[CAP_AUDIT_READ] = "CAP_AUDIT_READ",
	[CAP_PERFMON] = "CAP_PERFMON",
	[CAP_BPF] = "CAP_BPF",
	[CAP_CHECKPOINT_RESTORE] = "CAP_CHECKPOINT_RESTORE",
};
_Static_assert(ARRAY_SIZE(names) == CAP_LAST_CAP + 1, "a capability has no name here");

const uint64_t oci_default_caps = CAP_BIT(CAP_CHOWN) | CAP_BIT(CAP_DAC_OVERRIDE) |
				  CAP_BIT(CAP_FOWNER) | CAP_BIT(CAP_FSETID) | CAP_BIT(CAP_KILL) |
				  CAP_BIT(CAP_NET_BIND_SERVICE) | CAP_BIT(CAP_SETFCAP) |
				  CAP_BIT(CAP_SETGID) | CAP_BIT(CAP_SETPCAP) | CAP_BIT(CAP_SETUID) |
				  CAP_BIT(CAP_SYS_CHROOT);

int oci_cap_parse(const char *name)
{
	if (strncasecmp(name, "CAP_", 4) == 0)
		name += 4;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcasecmp(name, names[i] + 4) == 0)
			return (int)i;
	return -EINVAL;
}

static int parse_list(const struct strv *list, uint64_t *ret, bool *ret_all, struct err *e)
{
	char quoted[80];

	*ret = 0;
	*ret_all = false;
	for (size_t i = 0; i < list->n; i++) {
		int cap;

		if (strcasecmp(list->v[i], "ALL") == 0) {
			*ret_all = true;
			continue;
		}
		cap = oci_cap_parse(list->v[i]);
		if (cap < 0)
			return err_set(e, -EINVAL, "unknown capability %s",
				       log_quote(quoted, sizeof(quoted), list->v[i]));
		*ret |= CAP_BIT(cap);
	}
	return 0;
}

int oci_caps_merge(uint64_t base, const struct strv *add, const struct strv *drop, uint64_t *ret,
		   struct err *e)
{
	bool add_all;
	bool drop_all;
	uint64_t added;
	uint64_t dropped;
	int r;

	r = parse_list(add, &added, &add_all, e);
	if (r == 0)
		r = parse_list(drop, &dropped, &drop_all, e);
	if (r < 0)
		return r;
	if ((added & dropped) || (add_all && drop_all))
		return err_set(e, -EINVAL, "a capability can't be both added and dropped");
	if (add_all)
		*ret = CAPS_ALL & ~dropped;
	else if (drop_all)
		*ret = added;
	else
		*ret = (base & ~dropped) | added;
	return 0;
}

static int add_set(struct json_object *obj, const char *name, uint64_t caps)
{
	struct json_object *array = json_add_array(obj, name);

	if (!array)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if ((caps & CAP_BIT(i)) && json_push(array, json_object_new_string(names[i])) < 0)
			return -ENOMEM;
	return 0;
}

int oci_caps_json(struct json_object *process, uint64_t bounding, uint64_t own, uint64_t ambient)
{
	struct json_object *obj = json_add_object(process, "capabilities");

	/* Ambient capabilities have to be inheritable as well; otherwise nothing is inheritable. */
	if (!obj || add_set(obj, "bounding", bounding) < 0 || add_set(obj, "effective", own) < 0 ||
	    add_set(obj, "permitted", own) < 0 || add_set(obj, "inheritable", ambient) < 0 ||
	    add_set(obj, "ambient", ambient) < 0)
		return -ENOMEM;
	return 0;
}
