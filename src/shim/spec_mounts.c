/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "shim/spec.h"
#include "shim/spec_internal.h"

static bool is_bind(struct json_object *mount)
{
	struct json_object *options = json_get(mount, "options", json_type_array);

	if (str_eq(spec_string(mount, "type"), "bind"))
		return true;
	for (size_t i = 0; options && i < json_object_array_length(options); i++) {
		const char *o = json_object_get_string(json_object_array_get_idx(options, i));

		if (o && (str_eq(o, "bind") || str_eq(o, "rbind")))
			return true;
	}
	return false;
}

/* How mounts that are made later propagate isn't for the guest. */
static int take_propagation(const char *option, struct spec_bind *b, bool *taken, struct err *e)
{
	static const char *const others[] = { "private", "rprivate", "unbindable", "runbindable" };
	char quoted[256];

	*taken = true;
	if (str_eq(option, "shared") || str_eq(option, "rshared")) {
		err_set(e, -EOPNOTSUPP, "the mount on %s is to propagate mounts to the host",
			log_quote(quoted, sizeof(quoted), b->destination));
		err_hint(e, "What a pod mounts stays in its machine: mountPropagation can't be "
			    "Bidirectional.");
		return -EOPNOTSUPP;
	}
	if (str_eq(option, "slave") || str_eq(option, "rslave")) {
		b->slave = true;
		return 0;
	}
	*taken = false;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		*taken |= str_eq(option, others[i]);
	return 0;
}

static int take_options(struct spec_bind *b, struct err *e)
{
	struct json_object *from = json_get(b->mount, "options", json_type_array);
	struct json_object *to = json_object_new_array();
	int r = to ? 0 : err_oom(e);

	for (size_t i = 0; r == 0 && from && i < json_object_array_length(from); i++) {
		const char *o = json_object_get_string(json_object_array_get_idx(from, i));
		bool taken = !o;

		if (o)
			r = take_propagation(o, b, &taken, e);
		if (r < 0 || taken)
			continue;
		b->deep |= str_eq(o, "rro");
		b->readonly |= b->deep || str_eq(o, "ro");
		if (json_push(to, json_object_new_string(o)) < 0)
			r = err_oom(e);
	}
	if (r < 0) {
		json_object_put(to);
		return r;
	}
	json_object_object_del(b->mount, "options");
	return json_add(b->mount, "options", to) < 0 ? err_oom(e) : 0;
}

static const char *keep(struct spec_plan *plan, const char *text)
{
	return strv_add(&plan->owner, text) < 0 ? NULL : plan->owner.v[plan->owner.n - 1];
}

static int take_bind(struct json_object *mount, struct spec_plan *plan, struct err *e)
{
	struct spec_bind *b = &plan->binds[plan->n_binds];
	char quoted[256];
	int r;

	if (plan->n_binds == SPEC_MAX_BINDS)
		return err_set(e, -E2BIG, "a container has at most %d volumes", SPEC_MAX_BINDS);
	*b = (struct spec_bind){
		.mount = mount,
		.source = keep(plan, spec_string(mount, "source")),
		.destination = keep(plan, spec_string(mount, "destination")),
	};
	if (!b->source || !b->destination)
		return err_oom(e);
	if (*b->source != '/')
		return err_set(e, -EINVAL, "the source of the mount on %s is no absolute path",
			       log_quote(quoted, sizeof(quoted), b->destination));
	r = take_options(b, e);
	if (r == 0)
		plan->n_binds++;
	return r;
}

int spec_binds(struct json_object *spec, struct spec_plan *plan, struct err *e)
{
	struct json_object *mounts = json_get(spec, "mounts", json_type_array);
	int r = 0;

	for (size_t i = 0; r == 0 && mounts && i < json_object_array_length(mounts); i++) {
		struct json_object *m = json_object_array_get_idx(mounts, i);

		if (!json_object_is_type(m, json_type_object))
			return err_set(e, -EINVAL, "mount %zu of config.json is no object", i);
		if (is_bind(m))
			r = take_bind(m, plan, e);
	}
	return r;
}

int spec_bind_to(const struct spec_bind *b, const char *path)
{
	json_object_object_del(b->mount, "source");
	json_object_object_del(b->mount, "type");
	return json_add_string(b->mount, "type", "bind") < 0 ||
			       json_add_string(b->mount, "source", path) < 0
		       ? -ENOMEM
		       : 0;
}

int spec_bind_readonly(const struct spec_bind *b)
{
	struct json_object *options = json_get(b->mount, "options", json_type_array);

	if (b->readonly)
		return 0;
	return options ? json_push(options, json_object_new_string("ro")) : -ENOMEM;
}

void spec_bind_writable(const struct spec_bind *b)
{
	struct json_object *options = json_get(b->mount, "options", json_type_array);

	for (size_t i = options ? json_object_array_length(options) : 0; i-- > 0;)
		if (str_eq(json_object_get_string(json_object_array_get_idx(options, i)), "ro"))
			json_object_array_del_idx(options, i, 1);
}

/* ---- devices ---- */

static int64_t number(struct json_object *obj, const char *name)
{
	struct json_object *n = json_get(obj, name, json_type_int);

	return n ? json_object_get_int64(n) : -1;
}

static struct json_object *device_rules(struct json_object *spec)
{
	struct json_object *l = json_get(spec, "linux", json_type_object);
	struct json_object *res = l ? json_get(l, "resources", json_type_object) : NULL;

	return res ? json_get(res, "devices", json_type_array) : NULL;
}

static bool is_about(struct json_object *rule, const struct spec_device *d)
{
	return json_object_is_type(rule, json_type_object) &&
	       str_eq(spec_string(rule, "type"), d->block ? "b" : "c") &&
	       number(rule, "major") == d->major && number(rule, "minor") == d->minor;
}

/* Its own rule, if it has one, says so. */
static bool is_readonly(struct json_object *spec, const struct spec_device *d)
{
	struct json_object *rules = device_rules(spec);

	for (size_t i = 0; rules && i < json_object_array_length(rules); i++) {
		struct json_object *rule = json_object_array_get_idx(rules, i);

		if (is_about(rule, d))
			return !strchr(spec_string(rule, "access"), 'w');
	}
	return false;
}

static bool take_device(struct json_object *spec, struct json_object *obj, struct spec_device *d)
{
	const char *type = spec_string(obj, "type");
	int64_t major = number(obj, "major");
	int64_t minor = number(obj, "minor");

	if (major < 0 || major > UINT32_MAX || minor < 0 || minor > UINT32_MAX)
		return false;
	if (!str_eq(type, "c") && !str_eq(type, "u") && !str_eq(type, "b"))
		return false;
	*d = (struct spec_device){
		.obj = obj,
		.path = spec_string(obj, "path"),
		.block = str_eq(type, "b"),
		.major = (uint32_t)major,
		.minor = (uint32_t)minor,
	};
	d->readonly = is_readonly(spec, d);
	return true;
}

/* Is there a rule that allows everything with every device? */
static bool allows_all(struct json_object *spec)
{
	struct json_object *rules = device_rules(spec);

	for (size_t i = 0; rules && i < json_object_array_length(rules); i++) {
		struct json_object *rule = json_object_array_get_idx(rules, i);
		const char *type;
		struct json_object *allow;

		if (!json_object_is_type(rule, json_type_object))
			continue;
		type = spec_string(rule, "type");
		allow = json_get(rule, "allow", json_type_boolean);
		if (allow && json_object_get_boolean(allow) && number(rule, "major") < 0 &&
		    number(rule, "minor") < 0 && (!*type || str_eq(type, "a")) &&
		    str_eq(spec_string(rule, "access"), "rwm"))
			return true;
	}
	return false;
}

int spec_devices(struct json_object *spec, struct spec_plan *plan, struct err *e)
{
	struct json_object *l = json_get(spec, "linux", json_type_object);
	struct json_object *all = l ? json_get(l, "devices", json_type_array) : NULL;

	plan->any_device = allows_all(spec);
	for (size_t i = 0; all && i < json_object_array_length(all); i++) {
		struct json_object *obj = json_object_array_get_idx(all, i);
		bool full = plan->n_devices == SPEC_MAX_DEVICES;

		if (!json_object_is_type(obj, json_type_object))
			return err_set(e, -EINVAL, "device %zu of config.json is no object", i);
		if (plan->any_device && (full || str_eq(spec_string(obj, "type"), "b"))) {
			json_object_array_del_idx(all, i--, 1);
			continue;
		}
		if (full)
			return err_set(e, -E2BIG, "a container has at most %d devices",
				       SPEC_MAX_DEVICES);
		plan->n_devices += take_device(spec, obj, &plan->devices[plan->n_devices]);
	}
	return 0;
}

static int renumber(struct json_object *obj, uint32_t major, uint32_t minor)
{
	json_object_object_del(obj, "major");
	json_object_object_del(obj, "minor");
	return json_add_int(obj, "major", major) < 0 || json_add_int(obj, "minor", minor) < 0
		       ? -ENOMEM
		       : 0;
}

static const struct spec_device *device_of_rule(const struct spec_plan *plan,
						struct json_object *rule)
{
	for (size_t i = 0; i < plan->n_devices; i++)
		if (is_about(rule, &plan->devices[i]))
			return &plan->devices[i];
	return NULL;
}

static bool is_absent(const struct spec_plan *plan, const struct json_object *obj)
{
	for (size_t i = 0; i < plan->n_devices; i++)
		if (plan->devices[i].obj == obj)
			return plan->devices[i].absent;
	return false;
}

static void drop_absent(struct json_object *spec, const struct spec_plan *plan)
{
	struct json_object *l = json_get(spec, "linux", json_type_object);
	struct json_object *all = l ? json_get(l, "devices", json_type_array) : NULL;

	for (size_t i = all ? json_object_array_length(all) : 0; i-- > 0;)
		if (is_absent(plan, json_object_array_get_idx(all, i)))
			json_object_array_del_idx(all, i, 1);
}

int spec_devices_done(struct json_object *spec, const struct spec_plan *plan)
{
	struct json_object *rules = device_rules(spec);
	int r = 0;

	for (size_t i = 0; r == 0 && rules && i < json_object_array_length(rules); i++) {
		struct json_object *rule = json_object_array_get_idx(rules, i);
		const struct spec_device *d = device_of_rule(plan, rule);

		if (d)
			r = renumber(rule, d->guest_major, d->guest_minor);
	}
	for (size_t i = 0; r == 0 && i < plan->n_devices; i++)
		if (!plan->devices[i].absent)
			r = renumber(plan->devices[i].obj, plan->devices[i].guest_major,
				     plan->devices[i].guest_minor);
	if (plan->any_device)
		drop_absent(spec, plan);
	return r;
}
