/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_SPEC_INTERNAL_H
#define PODVM_SHIM_SPEC_INTERNAL_H

/* Reading runtime specs; see spec.h. */

#include "shim/spec.h"

/** spec_string() - A member that is a string, borrowed; "": there is none. @obj may be NULL */
const char *spec_string(struct json_object *obj, const char *name);

/** spec_namespace() - Entry of `linux.namespaces` of a type, NULL: there is none */
struct json_object *spec_namespace(struct json_object *linux_spec, const char *type);

/** spec_binds() - The spec's bind mounts; options that only the host understands are dropped */
int spec_binds(struct json_object *spec, struct spec_plan *plan, struct err *e);

/** spec_devices() - The spec's devices. Return: as spec_rewrite() */
int spec_devices(struct json_object *spec, struct spec_plan *plan, struct err *e);

#endif
