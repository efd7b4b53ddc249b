/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_OCI_SPEC_INTERNAL_H
#define PODVM_OCI_SPEC_INTERNAL_H

/*
 * The parts that spec.c and exec.c put together. Functions without a `struct err` fail with
 * -ENOMEM alone; the ones with it leave saying so to the outermost function.
 */

#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>

#include "oci/json.h"
#include "oci/spec.h"

#define CAP_BIT(cap) (UINT64_C(1) << (cap))
#define CAPS_ALL     (CAP_BIT(CAP_LAST_CAP + 1) - 1)

/* Capabilities of a container by default: podman's list (containers.conf(5)). */
extern const uint64_t oci_default_caps;

/** oci_cap_parse() - Number of a capability: "NET_ADMIN", "cap_net_admin"; or -EINVAL */
int oci_cap_parse(const char *name);

/**
 * oci_caps_merge() - Apply --cap-add and --cap-drop
 * @base:	Capabilities without them
 * @add:	Names or "ALL"
 * @drop:	Names or "ALL"
 * @ret:	Result, a bit for each
 * @e:		Says which name is unknown, or is in both lists
 *
 * Return: 0 or -EINVAL
 */
int oci_caps_merge(uint64_t base, const struct strv *add, const struct strv *drop, uint64_t *ret,
		   struct err *e);

/**
 * oci_caps_json() - Write process.capabilities
 * @process:	Process object
 * @bounding:	What it and its children can ever have
 * @own:	What it has
 * @ambient:	What a program that it executes without being root keeps
 */
int oci_caps_json(struct json_object *process, uint64_t bounding, uint64_t own, uint64_t ambient);

/** oci_mounts_json() - Write mounts, the default ones and those of the user, parents first */
int oci_mounts_json(struct json_object *spec, const struct oci_run_options *o,
		    const struct oci_config *config, struct err *e);

/** oci_user_json() - Write process.user */
int oci_user_json(struct json_object *process, const struct oci_user *user);

/**
 * oci_seccomp_json() - Write linux.seccomp
 * @linux_obj:	Object "linux" of the spec
 * @profile:	As oci_run_options.seccomp
 * @caps:	The container's capabilities: they allow what the profile makes depend on them
 * @e:		Says what is wrong with the profile
 *
 * Return: 0, -EINVAL or another negative errno
 */
int oci_seccomp_json(struct json_object *linux_obj, const char *profile, uint64_t caps,
		     struct err *e);

/** oci_spec_tree() - As oci_spec_build(), with a filter that isn't compiled; for tests */
int oci_spec_tree(const struct oci_run_options *o, const struct oci_config *config,
		  const struct oci_users *users, struct json_object **ret, struct err *e);

/** oci_seccomp_default() - Write the default filter into an object */
int oci_seccomp_default(struct json_object *seccomp, uint64_t caps);

/** oci_seccomp_arches() - Write the architecture of the guest's kernel */
int oci_seccomp_arches(struct json_object *seccomp);

/**
 * oci_seccomp_rule() - Append a rule for some system calls
 * @rules:	Array seccomp.syscalls
 * @names:	Separated by blanks
 * @errno_ret:	0: they are allowed, else what they fail with
 *
 * Return: The rule, for arguments to be added; NULL: no memory
 */
struct json_object *oci_seccomp_rule(struct json_object *rules, const char *names, int errno_ret);

/** oci_env_set() - Set a variable, "NAME=value"; one without '=' becomes empty */
int oci_env_set(struct strv *env, const char *assignment);

/** oci_env_get() - Value of a variable, or NULL */
const char *oci_env_get(const struct strv *env, const char *name);

#endif
