/* SPDX-License-Identifier: Apache-2.0 */

/* config.json of a container: process, root, mounts, namespaces, resources, masked paths. */

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "oci/spec_internal.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define PIDS_LIMIT   2048
#define CPU_PERIOD   100000
#define FILES_LIMIT  1048576 /* also of processes: the cgroup is what limits those */
#define STOP_SIGNAL  "org.opencontainers.image.stopSignal"

static const char *const masked_paths[] = {
	"/proc/acpi",	     "/proc/kcore",   "/proc/keys",	  "/proc/latency_stats",
	"/proc/sched_debug", "/proc/scsi",    "/proc/timer_list", "/proc/timer_stats",
	"/sys/dev/block",    "/sys/firmware", "/sys/fs/selinux",
};

static const char *const readonly_paths[] = {
	"/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

static const char *const ns_names[OCI_NS_COUNT] = {
	[OCI_NS_PID] = "pid",
	[OCI_NS_IPC] = "ipc",
	[OCI_NS_UTS] = "uts",
	[OCI_NS_CGROUP] = "cgroup",
};

/* What goes into a spec. */
struct input {
	const struct oci_run_options *o;
	const struct oci_config *config;
	struct oci_user user;
	uint64_t caps;
};

static void input_done(struct input *in)
{
	oci_user_done(&in->user);
}

int oci_env_set(struct strv *env, const char *assignment)
{
	size_t n = strcspn(assignment, "=");
	_cleanup_(freep) char *text = str_printf("%s%s", assignment, assignment[n] ? "" : "=");

	if (!text)
		return -ENOMEM;
	for (size_t i = 0; i < env->n; i++)
		if (strncmp(env->v[i], text, n + 1) == 0)
			return str_set(&env->v[i], text);
	return strv_add(env, text);
}

const char *oci_env_get(const struct strv *env, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < env->n; i++)
		if (strncmp(env->v[i], name, n) == 0 && env->v[i][n] == '=')
			return env->v[i] + n + 1;
	return NULL;
}

static int set_all(struct strv *env, const struct strv *from)
{
	for (size_t i = 0; i < from->n; i++)
		if (*from->v[i] != '=' && *from->v[i] && oci_env_set(env, from->v[i]) < 0)
			return -ENOMEM;
	return 0;
}

static int set_unless_there(struct strv *env, const char *name, const char *value)
{
	return oci_env_get(env, name) ? 0 : strv_addf(env, "%s=%s", name, value);
}

/* Defaults, then the image's, then the user's, and what only the result tells is missing. */
static int add_env(struct json_object *process, const struct input *in)
{
	_cleanup_(strv_done) struct strv env = { 0 };

	if (strv_add(&env, DEFAULT_PATH) < 0 || (in->o->tty && strv_add(&env, "TERM=xterm") < 0) ||
	    set_all(&env, &in->config->env) < 0 || set_all(&env, &in->o->env) < 0 ||
	    (in->o->hostname && set_unless_there(&env, "HOSTNAME", in->o->hostname) < 0) ||
	    set_unless_there(&env, "HOME", in->user.home) < 0)
		return -ENOMEM;
	return json_add_strv(process, "env", &env);
}

static int add_strings(struct json_object *array, const struct strv *from)
{
	for (size_t i = 0; i < from->n; i++)
		if (json_push(array, json_object_new_string(from->v[i])) < 0)
			return -ENOMEM;
	return 0;
}

/* podman's rule: a cmd is replaced by arguments, and dropped by an entrypoint of the user. */
static int add_args(struct json_object *process, const struct input *in, struct err *e)
{
	static const struct strv none;
	const struct oci_run_options *o = in->o;
	const struct strv *entrypoint = o->has_entrypoint ? &o->entrypoint
							  : &in->config->entrypoint;
	const struct strv *cmd = o->has_entrypoint ? &none : &in->config->cmd;
	struct json_object *array = json_add_array(process, "args");

	if (o->args.n)
		cmd = &o->args;
	if (!array || add_strings(array, entrypoint) < 0 || add_strings(array, cmd) < 0)
		return -ENOMEM;
	if (json_object_array_length(array) > 0)
		return 0;
	err_set(e, -EINVAL, "there is no command: the image has neither entrypoint nor cmd");
	err_hint(e, "give the command after the image's name");
	return -EINVAL;
}

static int add_cwd(struct json_object *process, const struct input *in, struct err *e)
{
	const char *cwd = in->o->workdir ? in->o->workdir : in->config->workdir;
	_cleanup_(freep) char *full = NULL;
	char quoted[160];

	if (in->o->workdir && cwd[0] != '/')
		return err_set(e, -EINVAL, "working directory %s is not an absolute path",
			       log_quote(quoted, sizeof(quoted), cwd));
	full = str_printf("%s%s", cwd && cwd[0] == '/' ? "" : "/", cwd ? cwd : "");
	return full ? json_add_string(process, "cwd", full) : -ENOMEM;
}

static int add_rlimit(struct json_object *array, const char *name, uint64_t soft, uint64_t hard)
{
	struct json_object *obj = json_push_object(array);
	char type[32] = "RLIMIT_";
	size_t n = strlen(type);

	for (; *name && n < sizeof(type) - 1; name++)
		type[n++] = (char)toupper((unsigned char)*name);
	if (!obj || json_add_string(obj, "type", type) < 0 || json_add_u64(obj, "soft", soft) < 0 ||
	    json_add_u64(obj, "hard", hard) < 0)
		return -ENOMEM;
	return 0;
}

static const struct oci_ulimit *find_ulimit(const struct oci_run_options *o, const char *name)
{
	const struct oci_ulimit *found = NULL;

	for (size_t i = 0; i < o->n_ulimits; i++)
		if (strcasecmp(o->ulimits[i].name, name) == 0)
			found = &o->ulimits[i];
	return found;
}

static int add_rlimits(struct json_object *process, const struct oci_run_options *o)
{
	static const char *const defaults[] = { "nofile", "nproc" };
	struct json_object *array = json_add_array(process, "rlimits");

	if (!array)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++)
		if (!find_ulimit(o, defaults[i]) &&
		    add_rlimit(array, defaults[i], FILES_LIMIT, FILES_LIMIT) < 0)
			return -ENOMEM;
	for (size_t i = 0; i < o->n_ulimits; i++) {
		const struct oci_ulimit *u = &o->ulimits[i];

		/* Of a limit that is there twice the last one counts. */
		if (find_ulimit(o, u->name) == u &&
		    add_rlimit(array, u->name, u->soft, u->hard) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Who isn't root has only what the user added by name, as ambient capabilities. */
static int add_caps(struct json_object *process, const struct input *in, struct err *e)
{
	static const struct strv none;
	uint64_t added;
	int r;

	if (in->user.uid == 0)
		return oci_caps_json(process, in->caps, in->caps, 0);
	r = oci_caps_merge(0, &in->o->cap_add, &none, &added, e);
	if (r < 0)
		return r;
	added &= in->caps;
	return oci_caps_json(process, in->caps, added, added);
}

static int add_process(struct json_object *spec, const struct input *in, struct err *e)
{
	const struct oci_run_options *o = in->o;
	struct json_object *process = json_add_object(spec, "process");
	int r;

	if (!process || json_add_bool(process, "terminal", o->tty) < 0)
		return -ENOMEM;
	r = oci_user_json(process, &in->user);
	if (r == 0)
		r = add_args(process, in, e);
	if (r == 0)
		r = add_env(process, in);
	if (r == 0)
		r = add_cwd(process, in, e);
	if (r == 0)
		r = add_caps(process, in, e);
	if (r == 0)
		r = add_rlimits(process, o);
	if (r == 0)
		r = json_add_bool(process, "noNewPrivileges", o->no_new_privileges);
	if (r == 0 && o->has_oom_score_adj)
		r = json_add_int(process, "oomScoreAdj", o->oom_score_adj);
	return r;
}

static int add_root(struct json_object *spec, const struct oci_run_options *o)
{
	struct json_object *root = json_add_object(spec, "root");

	if (!root || json_add_string(root, "path", o->rootfs ? o->rootfs : "rootfs") < 0)
		return -ENOMEM;
	return json_add_bool(root, "readonly", o->readonly);
}

static int add_namespace(struct json_object *array, const char *type, const char *path)
{
	struct json_object *obj = json_push_object(array);

	if (!obj || json_add_string(obj, "type", type) < 0)
		return -ENOMEM;
	return path ? json_add_string(obj, "path", path) : 0;
}

/* The mount namespace is always the container's own, the network is always the machine's. */
static int add_namespaces(struct json_object *linux_obj, const struct oci_run_options *o)
{
	struct json_object *array = json_add_array(linux_obj, "namespaces");
	int r;

	if (!array)
		return -ENOMEM;
	r = add_namespace(array, "mount", NULL);
	for (int i = 0; r == 0 && i < OCI_NS_COUNT; i++)
		if (!o->ns_path[i] || !str_eq(o->ns_path[i], "host"))
			r = add_namespace(array, ns_names[i], o->ns_path[i]);
	return r;
}

static int add_device_rule(struct json_object *resources, bool allow)
{
	struct json_object *array = json_add_array(resources, "devices");
	struct json_object *rule = array ? json_push_object(array) : NULL;

	/* crun itself allows the devices that every container has. */
	if (!rule || json_add_bool(rule, "allow", allow) < 0)
		return -ENOMEM;
	return json_add_string(rule, "access", "rwm");
}

static int add_memory(struct json_object *resources, const struct oci_run_options *o)
{
	struct json_object *memory;

	if (!o->memory && !o->memory_swap)
		return 0;
	memory = json_add_object(resources, "memory");
	if (!memory || (o->memory && json_add_u64(memory, "limit", o->memory) < 0) ||
	    (o->memory_swap && json_add_u64(memory, "swap", o->memory_swap) < 0))
		return -ENOMEM;
	return 0;
}

static int add_cpu(struct json_object *resources, const struct oci_run_options *o)
{
	struct json_object *cpu;

	if (!o->cpu_quota && !o->cpu_shares)
		return 0;
	cpu = json_add_object(resources, "cpu");
	if (!cpu || (o->cpu_shares && json_add_u64(cpu, "shares", o->cpu_shares) < 0))
		return -ENOMEM;
	if (!o->cpu_quota)
		return 0;
	if (json_add_u64(cpu, "quota", o->cpu_quota) < 0)
		return -ENOMEM;
	return json_add_u64(cpu, "period", o->cpu_period ? o->cpu_period : CPU_PERIOD);
}

static int add_pids(struct json_object *resources, const struct oci_run_options *o)
{
	struct json_object *pids;

	if (o->pids_limit < 0)
		return 0;
	pids = json_add_object(resources, "pids");
	if (!pids)
		return -ENOMEM;
	return json_add_int(pids, "limit", o->pids_limit ? o->pids_limit : PIDS_LIMIT);
}

static int add_resources(struct json_object *linux_obj, const struct oci_run_options *o)
{
	struct json_object *resources = json_add_object(linux_obj, "resources");
	int r;

	if (!resources)
		return -ENOMEM;
	r = add_device_rule(resources, o->privileged);
	if (r == 0)
		r = add_memory(resources, o);
	if (r == 0)
		r = add_cpu(resources, o);
	return r < 0 ? r : add_pids(resources, o);
}

static int add_paths(struct json_object *obj, const char *name, const char *const *paths, size_t n)
{
	struct json_object *array = json_add_array(obj, name);

	if (!array)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (json_push(array, json_object_new_string(paths[i])) < 0)
			return -ENOMEM;
	return 0;
}

static int add_hidden_paths(struct json_object *linux_obj, const struct oci_run_options *o)
{
	int r;

	if (o->privileged)
		return 0;
	if (o->has_masked_paths) {
		r = json_add_strv(linux_obj, "maskedPaths", &o->masked_paths);
		return r < 0 ? r : json_add_strv(linux_obj, "readonlyPaths", &o->readonly_paths);
	}
	r = add_paths(linux_obj, "maskedPaths", masked_paths, ARRAY_SIZE(masked_paths));
	return r < 0 ? r
		     : add_paths(linux_obj, "readonlyPaths", readonly_paths,
				 ARRAY_SIZE(readonly_paths));
}

static int add_map(struct json_object *obj, const char *name, const struct oci_map *map)
{
	struct json_object *v;

	if (map->n == 0)
		return 0;
	v = json_add_object(obj, name);
	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < map->n; i++)
		if (json_add_string(v, map->v[i].key, map->v[i].value) < 0)
			return -ENOMEM;
	return 0;
}

static int add_sysctl(struct json_object *linux_obj, const struct oci_run_options *o, struct err *e)
{
	char quoted[160];

	for (size_t i = 0; i < o->sysctl.n; i++)
		if (str_starts(o->sysctl.v[i].key, "net."))
			return err_set(e, -EINVAL,
				       "kernel parameter %s is of the machine's network, not of a "
				       "container",
				       log_quote(quoted, sizeof(quoted), o->sysctl.v[i].key));
	return add_map(linux_obj, "sysctl", &o->sysctl);
}

static int add_linux(struct json_object *spec, const struct input *in, struct err *e)
{
	const struct oci_run_options *o = in->o;
	struct json_object *linux_obj = json_add_object(spec, "linux");
	const char *seccomp = o->seccomp;
	int r;

	if (!linux_obj)
		return -ENOMEM;
	/* A privileged container has a filter only if the user asks for that one. */
	if (!seccomp && o->privileged)
		seccomp = "unconfined";
	r = add_namespaces(linux_obj, o);
	if (r == 0)
		r = add_resources(linux_obj, o);
	if (r == 0 && o->cgroup_path)
		r = json_add_string(linux_obj, "cgroupsPath", o->cgroup_path);
	if (r == 0)
		r = add_hidden_paths(linux_obj, o);
	if (r == 0)
		r = add_sysctl(linux_obj, o, e);
	return r < 0 ? r : oci_seccomp_json(linux_obj, seccomp, in->caps, e);
}

static int add_annotations(struct json_object *spec, const struct input *in, struct err *e)
{
	const char *signal = in->o->stop_signal ? in->o->stop_signal : in->config->stop_signal;
	struct json_object *annotations;
	char number[16];
	char quoted[80];
	int signum;

	if (add_map(spec, "annotations", &in->o->annotations) < 0)
		return -ENOMEM;
	if (!signal)
		return 0;
	signum = oci_signal_parse(signal);
	if (signum < 0)
		return err_set(e, -EINVAL, "unknown stop signal %s",
			       log_quote(quoted, sizeof(quoted), signal));
	annotations = json_get(spec, "annotations", json_type_object);
	if (!annotations)
		annotations = json_add_object(spec, "annotations");
	snprintf(number, sizeof(number), "%d", signum);
	return annotations ? json_add_string(annotations, STOP_SIGNAL, number) : -ENOMEM;
}

static int add_all(struct json_object *spec, const struct input *in, struct err *e)
{
	const struct oci_run_options *o = in->o;
	int r;

	r = json_add_string(spec, "ociVersion", "1.0.2");
	if (r == 0)
		r = add_process(spec, in, e);
	if (r == 0)
		r = add_root(spec, o);
	/* A UTS namespace that others made has its name. */
	if (r == 0 && o->hostname && !o->ns_path[OCI_NS_UTS])
		r = json_add_string(spec, "hostname", o->hostname);
	if (r == 0)
		r = oci_mounts_json(spec, o, in->config, e);
	if (r == 0)
		r = add_linux(spec, in, e);
	return r < 0 ? r : add_annotations(spec, in, e);
}

int oci_spec_tree(const struct oci_run_options *o, const struct oci_config *config,
		  const struct oci_users *users, struct json_object **ret, struct err *e)
{
	static const struct oci_config nothing;
	static const struct oci_users nobody;
	_cleanup_(input_done) struct input in = { .o = o, .config = config ? config : &nothing };
	_cleanup_(json_putp) struct json_object *spec = json_object_new_object();
	int r;

	if (!spec)
		return err_oom(e);
	r = oci_user_lookup(users ? users : &nobody, o->user ? o->user : in.config->user,
			    &o->groups, &in.user, e);
	if (r == 0)
		r = oci_caps_merge(o->privileged ? CAPS_ALL : oci_default_caps, &o->cap_add,
				   &o->cap_drop, &in.caps, e);
	if (r == 0)
		r = add_all(spec, &in, e);
	if (r == -ENOMEM)
		return err_oom(e);
	if (r == 0)
		*ret = TAKE_PTR(spec);
	return r;
}

int oci_spec_build(const struct oci_run_options *o, const struct oci_config *config,
		   const struct oci_users *users, char **ret, struct err *e)
{
	_cleanup_(json_putp) struct json_object *spec = NULL;
	int r = oci_spec_tree(o, config, users, &spec, e);

	if (r == 0)
		r = oci_seccomp_compile(spec, e);
	return r < 0 ? r : json_text(spec, "container", ret, e);
}
