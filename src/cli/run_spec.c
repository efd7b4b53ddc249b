/* SPDX-License-Identifier: Apache-2.0 */
/* From the options of `podvm run` to the runtime spec. */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/run_options.h"
#include "sandbox/container.h"

static int copy_list(struct strv *to, const struct strv *from)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < from->n; i++)
		r = strv_add(to, from->v[i]);
	return r;
}

static int security_options(const struct run_options *o, struct oci_run_options *s, struct err *e)
{
	char quoted[128];

	for (size_t i = 0; i < o->security_opt.n; i++) {
		const char *text = o->security_opt.v[i];

		if (str_starts(text, "seccomp=")) {
			if (str_set(&s->seccomp, text + strlen("seccomp=")) < 0)
				return err_oom(e);
		} else if (str_eq(text, "no-new-privileges") ||
			   str_eq(text, "no-new-privileges=true") ||
			   str_eq(text, "no-new-privileges:true")) {
			s->no_new_privileges = true;
		} else if (!str_starts(text, "label=") && !str_starts(text, "apparmor=")) {
			/* Labels are of the host's kernel, which the container doesn't see. */
			return err_set(e, -EINVAL, "unknown --security-opt %s",
				       log_quote(quoted, sizeof(quoted), text));
		}
	}
	return 0;
}

static int add_mounts(const struct run_options *o, const struct run_plan *p, const char *id,
		      struct oci_run_options *s, struct err *e)
{
	static const char *const files[] = { "hosts", "resolv.conf", "hostname" };
	char source[256];
	char destination[64];
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(files); i++) {
		snprintf(source, sizeof(source), CONTAINER_FILE, id, files[i]);
		snprintf(destination, sizeof(destination), "/etc/%s", files[i]);
		r = oci_run_add_mount(s, "bind", source, destination, "bind,rprivate", e);
	}
	for (size_t i = 0; r == 0 && i < o->tmpfs.n; i++)
		r = oci_run_add_tmpfs(s, o->tmpfs.v[i], e);
	for (size_t i = 0; r == 0 && i < p->n_volumes; i++) {
		r = oci_run_add_mount(
			s, "bind", p->volumes[i].guest, p->volumes[i].destination,
			p->volumes[i].readonly ? "rbind,ro,rprivate" : "rbind,rprivate", e);
	}
	for (size_t i = 0; r == 0 && i < o->ulimit.n; i++)
		r = oci_run_add_ulimit(s, o->ulimit.v[i], e);
	return r;
}

/* The lists and texts, all of which can only fail for want of memory. */
static int copy_texts(const struct run_options *o, const struct run_plan *p, const char *id,
		      const char *hostname, char **args, struct oci_run_options *s)
{
	int r = 0;

	for (; r == 0 && *args; args++)
		r = strv_add(&s->args, *args);
	r = r < 0 ? r : copy_list(&s->env, &p->env);
	r = r < 0 ? r : copy_list(&s->groups, &o->group_add);
	r = r < 0 ? r : copy_list(&s->cap_add, &o->cap_add);
	r = r < 0 ? r : copy_list(&s->cap_drop, &o->cap_drop);
	r = r < 0 ? r : str_set(&s->user, o->user);
	r = r < 0 ? r : str_set(&s->workdir, o->workdir);
	r = r < 0 ? r : str_set(&s->hostname, hostname);
	r = r < 0 ? r : str_set(&s->stop_signal, o->stop_signal);
	if (r < 0)
		return r;
	s->cgroup_path = str_printf("/pod/%s", id);
	s->rootfs = str_printf(CONTAINER_ROOTFS, id);
	return s->cgroup_path && s->rootfs ? 0 : -ENOMEM;
}

static int fill(const struct run_options *o, const struct run_plan *p, const char *id,
		const char *hostname, char **args, struct oci_run_options *s, struct err *e)
{
	int r = 0;

	if (o->entrypoint) {
		r = oci_entrypoint_parse(o->entrypoint, &s->entrypoint, e);
		s->has_entrypoint = true;
	}
	if (r == 0 && copy_texts(o, p, id, hostname, args, s) < 0)
		r = err_oom(e);
	if (r == 0)
		r = security_options(o, s, e);
	if (r == 0)
		r = add_mounts(o, p, id, s, e);
	s->tty = o->tty;
	s->readonly = o->read_only;
	s->privileged = o->privileged;
	s->shm_size = o->shm_size;
	s->memory = o->memory;
	s->cpu_quota = p->cpu_quota;
	s->pids_limit = o->pids_limit;
	return r;
}

int run_spec_make(const struct run_options *o, const struct run_plan *p, const char *id,
		  const char *hostname, char **args, const struct oci_config *config,
		  const struct oci_users *users, char **ret, struct err *e)
{
	_cleanup_(oci_run_options_done) struct oci_run_options s = { 0 };
	int r;

	r = fill(o, p, id, hostname, args, &s, e);
	return r < 0 ? r : oci_spec_build(&s, config, users, ret, e);
}
