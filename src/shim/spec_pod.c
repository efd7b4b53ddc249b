/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/spec_pod.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "config/config.h"
#include "shim/spec.h"
#include "shim/spec_internal.h"

#define DEFAULT_CPU_PERIOD 100000
#define SLICE		   ".slice"

void spec_pod_done(struct spec_pod *p)
{
	free(p->name);
	free(p->namespace);
	free(p->hostname);
	free(p->netns);
	free(p->cgroup);
	oci_map_done(&p->sysctl);
	oci_map_done(&p->annotations);
	*p = (struct spec_pod){ 0 };
}

static int set_names(struct spec_pod *p, const char *hostname, const char *netns,
		     const char *cgroup, struct err *e)
{
	if (str_set(&p->hostname, hostname) < 0 || str_set(&p->cgroup, cgroup) < 0 ||
	    (*netns && str_set(&p->netns, netns) < 0))
		return err_oom(e);
	return 0;
}

static unsigned int whole_cpus(uint64_t quota, uint64_t period)
{
	if (period == 0)
		period = DEFAULT_CPU_PERIOD;
	return (unsigned int)MIN((quota / period) + (quota % period != 0), 1024);
}

/* A number that a limit of 0 or -1 means nothing by. */
static uint64_t limit(int64_t v)
{
	return v > 0 ? (uint64_t)v : 0;
}

static int add_annotation(struct spec_pod *p, const char *name, const char *value, struct err *e)
{
	if (!str_starts(name, CONFIG_ANNOTATION_PREFIX))
		return 0;
	return oci_map_add(&p->annotations, name, value) < 0 ? err_oom(e) : 0;
}

/* ---- from config.json ---- */

static int read_sysctl(struct json_object *linux_spec, struct oci_map *ret, struct err *e)
{
	struct json_object *all = linux_spec ? json_get(linux_spec, "sysctl", json_type_object)
					     : NULL;

	if (!all)
		return 0;
	json_object_object_foreach(all, name, value)
	{
		if (!json_object_is_type(value, json_type_string))
			return err_set(e, -EINVAL, "a sysctl of config.json is no string");
		if (oci_map_add(ret, name, json_object_get_string(value)) < 0)
			return err_oom(e);
	}
	return 0;
}

static int read_annotations(struct json_object *spec, struct spec_pod *p, struct err *e)
{
	struct json_object *all = json_get(spec, "annotations", json_type_object);
	int r = 0;

	if (!all)
		return 0;
	json_object_object_foreach(all, name, value)
	{
		if (r == 0 && json_object_is_type(value, json_type_string))
			r = add_annotation(p, name, json_object_get_string(value), e);
	}
	return r;
}

static uint64_t member_limit(struct json_object *obj, const char *name)
{
	struct json_object *n = obj ? json_get(obj, name, json_type_int) : NULL;

	return n ? limit(json_object_get_int64(n)) : 0;
}

static uint64_t annotation_limit(struct json_object *spec, const char *name)
{
	const char *text = spec_annotation(spec, name);
	uint64_t v;

	return text && parse_u64(text, INT64_MAX, &v) == 0 ? v : 0;
}

static void read_size(struct json_object *spec, struct json_object *linux_spec, bool sandbox,
		      struct spec_pod *p)
{
	struct json_object *resources;
	struct json_object *cpu;

	if (sandbox) {
		p->memory = annotation_limit(spec, SPEC_SANDBOX_MEMORY);
		p->cpus = whole_cpus(annotation_limit(spec, SPEC_SANDBOX_CPU_QUOTA),
				     annotation_limit(spec, SPEC_SANDBOX_CPU_PERIOD));
		return;
	}
	resources = linux_spec ? json_get(linux_spec, "resources", json_type_object) : NULL;
	if (!resources)
		return;
	cpu = json_get(resources, "cpu", json_type_object);
	p->memory = member_limit(json_get(resources, "memory", json_type_object), "limit");
	p->cpus = whole_cpus(member_limit(cpu, "quota"), member_limit(cpu, "period"));
}

int spec_pod_from_config(struct json_object *spec, bool sandbox, struct spec_pod *ret,
			 struct err *e)
{
	struct json_object *linux_spec = json_get(spec, "linux", json_type_object);
	struct json_object *net = spec_namespace(linux_spec, "network");
	int r;

	ret->host_network = !net;
	read_size(spec, linux_spec, sandbox, ret);
	r = set_names(ret, spec_string(spec, "hostname"), spec_string(net, "path"),
		      spec_string(linux_spec, "cgroupsPath"), e);
	if (r == 0 && (str_set(&ret->name, spec_annotation(spec, SPEC_SANDBOX_NAME)) < 0 ||
		       str_set(&ret->namespace, spec_annotation(spec, SPEC_SANDBOX_NAMESPACE)) < 0))
		r = err_oom(e);
	if (r == 0)
		r = read_annotations(spec, ret, e);
	return r < 0 ? r : read_sysctl(linux_spec, &ret->sysctl, e);
}

/* ---- from PodSandboxConfig ---- */

/* As CRI names the cgroup of a sandbox that has a config.json. */
static char *cri_cgroup(const char *parent, const char *id)
{
	const char *slash = strrchr(parent, '/');
	const char *base = slash ? slash + 1 : parent;
	size_t len = strlen(base);

	if (!*parent)
		return strdup("");
	if (len >= strlen(SLICE) && str_eq(base + len - strlen(SLICE), SLICE))
		return str_printf("%s:cri-containerd:%s", base, id);
	return str_printf("%s%s%s", parent, *base ? "/" : "", id);
}

static int copy_maps(const Runtime__V1__PodSandboxConfig *config, struct spec_pod *p, struct err *e)
{
	const Runtime__V1__LinuxPodSandboxConfig *l = config->linux_config;
	int r = 0;

	for (size_t i = 0; l && i < l->n_sysctls; i++)
		if (oci_map_add(&p->sysctl, l->sysctls[i]->key, l->sysctls[i]->value) < 0)
			return err_oom(e);
	for (size_t i = 0; r == 0 && i < config->n_annotations; i++)
		r = add_annotation(p, config->annotations[i]->key, config->annotations[i]->value,
				   e);
	return r;
}

int spec_pod_from_cri(const Runtime__V1__PodSandboxConfig *config, const char *id,
		      const char *netns, struct spec_pod *ret, struct err *e)
{
	const Runtime__V1__LinuxPodSandboxConfig *l = config->linux_config;
	const Runtime__V1__LinuxContainerResources *resources = l ? l->resources : NULL;
	const Runtime__V1__LinuxSandboxSecurityContext *context = l ? l->security_context : NULL;
	_cleanup_(freep) char *cgroup = cri_cgroup(l ? l->cgroup_parent : "", id);
	int r;

	if (!cgroup)
		return err_oom(e);
	ret->host_network = context && context->namespace_options &&
			    context->namespace_options->network ==
				    RUNTIME__V1__NAMESPACE_MODE__NODE;
	if (resources) {
		ret->memory = limit(resources->memory_limit_in_bytes);
		ret->cpus = whole_cpus(limit(resources->cpu_quota), limit(resources->cpu_period));
	}
	r = set_names(ret, config->hostname, netns, cgroup, e);
	if (r == 0 && config->metadata &&
	    (str_set(&ret->name, config->metadata->name) < 0 ||
	     str_set(&ret->namespace, config->metadata->namespace_) < 0))
		r = err_oom(e);
	return r < 0 ? r : copy_maps(config, ret, e);
}
