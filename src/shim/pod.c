/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/pod.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/host_cgroup.h"
#include "sandbox/machine_default.h"
#include "shim/address.h"
#include "shim/mounts.h"
#include "shim/record.h"

#define HOSTNAME_MAX 63

/* These are the size of the whole machine, whatever the containers' limits are. */
#define ANNOTATION_MEMORY CONFIG_ANNOTATION_PREFIX "memory"
#define ANNOTATION_VCPUS  CONFIG_ANNOTATION_PREFIX "vcpus"

void pod_init(struct pod *p, struct loop *loop, const char *namespace, const char *id,
	      sandbox_done started, sandbox_done ended, void *data)
{
	*p = (struct pod){
		.loop = loop,
		.namespace = namespace,
		.id = id,
		.rundir = RUNDIR_INIT,
		.host_mounts = -EBADF,
		.started = started,
		.log.fd = -EBADF,
		.ended = ended,
		.data = data,
	};
}

bool pod_running(const struct pod *p)
{
	return p->state == POD_RUNNING;
}

uint32_t pod_pid(const struct pod *p)
{
	return p->run_state.vmm_pid > 0 ? (uint32_t)p->run_state.vmm_pid : (uint32_t)getpid();
}

static void write_state(struct pod *p, enum rundir_status status)
{
	int r;

	p->run_state.status = status;
	r = rundir_write_state(&p->rundir, &p->run_state);
	if (r < 0)
		log_warn("cannot write state.json", "sandbox=%s error=%d", p->rundir.id, r);
}

/* ---- what it's made of ---- */

static int fill_state(struct pod *p)
{
	struct rundir_state *st = &p->run_state;
	int r;

	st->pod = true;
	st->owner_pid = getpid();
	st->vcpus = p->sandbox_config.vcpus;
	st->memory = p->sandbox_config.memory;
	/* A crash leaves nothing that somebody would look at: containerd has told it. */
	st->auto_remove = true;
	r = str_set(&st->id, p->rundir.id);
	r = r < 0 ? r : str_set(&st->hostname, p->hostname);
	r = r < 0 ? r : str_set(&st->network, p->netns ? "pod" : "none");
	r = r < 0 ? r : str_set(&st->vmm, p->config.driver);
	r = r < 0 ? r : str_set(&st->stop_signal, "15");
	return r;
}

/* Who says how large the machine is means it. */
static void set_maximum(struct pod *p, const struct spec_pod *spec)
{
	struct sandbox_config *c = &p->sandbox_config;

	machine_default_maximum(&p->config, c);
	if (oci_map_get(&spec->annotations, ANNOTATION_VCPUS))
		c->max_vcpus = c->vcpus;
	if (oci_map_get(&spec->annotations, ANNOTATION_MEMORY))
		c->max_memory = c->memory;
}

static int set_size(struct pod *p, const struct spec_pod *spec, struct err *e)
{
	struct sandbox_config *c = &p->sandbox_config;

	c->vcpus = p->config.vcpus;
	if (spec->cpus && !oci_map_get(&spec->annotations, ANNOTATION_VCPUS))
		c->vcpus = MIN(spec->cpus, machine_host_cpus());
	c->memory = p->config.memory;
	if (spec->memory && !oci_map_get(&spec->annotations, ANNOTATION_MEMORY) &&
	    __builtin_add_overflow(spec->memory, p->config.guest_overhead, &c->memory))
		return err_set(e, -ERANGE, "the memory limit is too large");
	/* Limits may promise more than the host has, and a machine of that size would not boot. */
	c->memory = MIN(c->memory, machine_host_memory());
	set_maximum(p, spec);
	return 0;
}

static int set_machine(struct pod *p, struct err *e)
{
	struct sandbox_config *c = &p->sandbox_config;
	int r = machine_default(&p->config, c, e);

	if (r < 0)
		return r;
	p->templates = str_printf("%s/templates", p->config.cache);
	if (!p->templates)
		return err_oom(e);
	if (p->config.template_enabled == CONFIG_YES)
		c->templates = p->templates;
	return 0;
}

/* What the spec alone decides; what can't be done is refused here, before anything is touched. */
/* What people call it. */
static int set_names(struct pod *p, const struct pod_request *request)
{
	const struct spec_pod *spec = request->spec;
	struct rundir_state *st = &p->run_state;
	int r;

	r = str_set(&st->name, str_empty(spec->name) ? p->id : spec->name);
	r = r < 0 ? r : str_set(&st->bundle, request->bundle);
	return r < 0 ? r
		     : str_set(&st->namespace,
			       str_empty(spec->namespace) ? p->namespace : spec->namespace);
}

static int take_spec(struct pod *p, const struct pod_request *request, struct err *e)
{
	struct sandbox_config *c = &p->sandbox_config;
	struct spec_pod *spec = request->spec;

	if (spec->host_network)
		return err_set(e, -EOPNOTSUPP,
			       "the host's network isn't there in a machine of its "
			       "own (hostNetwork)");
	/* The name has to be the pod's own: whoever is in the cgroup at the end is killed. */
	if (request->sandbox && strstr(spec->cgroup, p->id)) {
		int r = host_cgroup_path(spec->cgroup, &p->cgroup, e);

		if (r < 0)
			return r;
	}
	p->hostname = strndup(str_empty(spec->hostname) ? p->id : spec->hostname, HOSTNAME_MAX);
	if (!p->hostname || str_set(&p->netns, spec->netns) < 0 || set_names(p, request) < 0)
		return err_oom(e);
	p->sysctl = spec->sysctl;
	spec->sysctl = (struct oci_map){ 0 };
	p->network.netns = p->netns;
	c->pod_network = p->netns ? &p->network : NULL;
	c->image = &p->image;
	c->rundir = &p->rundir;
	c->hostname = p->hostname;
	c->sysctl = &p->sysctl;
	c->shared_pid = request->sandbox;
	return 0;
}

static int load_config(struct pod *p, const char *file, const struct oci_map *annotations,
		       struct err *e)
{
	int r = file ? config_load_file(&p->config, file, e) : config_load(&p->config, e);

	for (size_t i = 0; r == 0 && i < annotations->n; i++)
		r = config_annotate(&p->config, annotations->v[i].key, annotations->v[i].value, e);
	err_stage(e, "configuration");
	if (r < 0)
		return r;
	r = guest_image_open(p->config.image, p->config.debug, &p->image, e);
	err_stage(e, "guest image");
	return r;
}

/* A directory of that name that a crash has left is cleaned up first. */
static int make_rundir(struct pod *p, struct err *e)
{
	_cleanup_(freep) char *id = shim_run_id(p->namespace, p->id);
	struct rundir old = RUNDIR_INIT;
	int r;

	if (!id)
		return err_oom(e);
	if (rundir_open(p->config.state, id, &old) == 0) {
		(void)rundir_recover(&old, NULL);
		if (!rundir_owner_alive(&old))
			(void)rundir_remove(&old, NULL);
		rundir_close(&old);
	}
	r = rundir_create_id(p->config.state, id, &p->rundir, e);
	if (r < 0)
		return r;
	record_pod_log(p);
	p->shared_dir = str_printf("%s/shared", p->rundir.path);
	if (!p->shared_dir)
		return err_oom(e);
	p->sandbox_config.shared_dir = p->shared_dir;
	p->sandbox_config.host_sockets = p->config.host_sockets;
	return mounts_prepare(p->shared_dir, e);
}

/*
 * Be accounted where the pod is. Without it the pod runs as well, only that the kubelet sees less:
 * that's logged. A lone container has no such cgroup, only a name that nobody reads.
 */
static int join_cgroup(struct pod *p, struct err *e)
{
	struct err err = { 0 };
	int r;

	if (!p->cgroup)
		return 0;
	r = rundir_journal_cgroup(&p->rundir, p->cgroup);
	if (r < 0)
		return err_errno(e, r, "cannot write the journal");
	if (host_cgroup_join(p->cgroup, &err) < 0)
		log_warn("the pod's cgroup is not used", "sandbox=%s error=\"%s\"", p->rundir.id,
			 err.msg);
	return 0;
}

/* ---- its life ---- */

static void on_lost(void *data, const struct err *e)
{
	struct pod *p = data;

	p->state = POD_GONE;
	record_pod_ended(p, e);
	p->ended(p->data, e);
}

static void on_started(void *data, const struct err *e)
{
	struct pod *p = data;

	if (e) {
		p->state = POD_GONE;
		record_pod_ended(p, e);
	} else {
		p->state = POD_RUNNING;
		record_pod_started(p);
	}
	p->started(p->data, e);
}

/* `delete` may have to clean up without us, and the state directory is ours to choose. */
int pod_note_bundle(const struct pod *p, const char *bundle, struct err *e)
{
	_cleanup_(freep) char *path = str_printf("%s/" SHIM_STATE_FILE, bundle);
	int r;

	if (!path)
		return err_oom(e);
	r = file_replace(AT_FDCWD, path, p->config.state, strlen(p->config.state), 0600);
	return r < 0 ? err_errno(e, r, "cannot write %s", path) : 0;
}

int pod_prepare(struct pod *p, const struct pod_request *request, struct err *e)
{
	int r;

	r = take_spec(p, request, e);
	if (r == 0)
		r = load_config(p, request->config_file, &request->spec->annotations, e);
	if (r == 0)
		r = set_size(p, request->spec, e);
	if (r == 0)
		r = set_machine(p, e);
	p->sandbox_config.config_file = request->config_file;
	if (r == 0)
		r = pod_note_bundle(p, request->bundle, e);
	p->state = r < 0 ? POD_GONE : POD_PREPARED;
	return r;
}

static int launch(struct pod *p, struct err *e)
{
	int r;

	if (fill_state(p) < 0)
		return err_oom(e);
	record_pod_created(p);
	r = sandbox_new(p->loop, &p->sandbox_config, on_lost, p, &p->sandbox);
	if (r == 0)
		r = sandbox_start(p->sandbox, on_started, p);
	return r < 0 ? err_errno(e, r, "cannot start the machine") : 0;
}

int pod_start(struct pod *p, struct err *e)
{
	int r;

	r = make_rundir(p, e);
	if (r == 0)
		r = join_cgroup(p, e);
	if (r == 0)
		r = launch(p, e);
	p->state = r < 0 ? POD_GONE : POD_STARTING;
	return r;
}

void pod_size(struct pod *p, unsigned int *vcpus, uint64_t *memory)
{
	struct vmm *vmm = sandbox_vmm(p->sandbox);

	if (!vmm)
		return;
	vmm_size(vmm, vcpus, memory);
	if (p->run_state.vcpus == *vcpus && p->run_state.memory == *memory)
		return;
	p->run_state.vcpus = *vcpus;
	p->run_state.memory = *memory;
	write_state(p, p->run_state.status);
}

static void on_stopped(void *data)
{
	struct pod *p = data;
	struct err e = { 0 };

	p->state = POD_GONE;
	record_pod_ended(p, NULL);
	if (p->run_state.started_ns) {
		p->ended(p->data, NULL);
		return;
	}
	err_set(&e, -ECANCELED, "the pod was stopped");
	p->started(p->data, &e);
}

void pod_stop(struct pod *p, unsigned int timeout_ms)
{
	if (p->state != POD_RUNNING && p->state != POD_STARTING)
		return;
	p->state = POD_STOPPING;
	write_state(p, RUNDIR_STOPPING);
	sandbox_stop(p->sandbox, timeout_ms, on_stopped, p);
}

void pod_done(struct pod *p)
{
	struct err e = { 0 };

	record_pod_done(p);
	sandbox_free(TAKE_PTR(p->sandbox));
	if (p->shared_dir)
		mounts_end(p->shared_dir);
	if (p->cgroup)
		host_cgroup_leave(p->cgroup);
	if (p->rundir.path && rundir_remove(&p->rundir, &e) < 0)
		log_warn("cannot remove the run directory", "sandbox=%s error=\"%s\"", p->rundir.id,
			 e.msg);
	rundir_close(&p->rundir);
	close_fdp(&p->host_mounts);
	rundir_state_done(&p->run_state);
	guest_image_done(&p->image);
	config_done(&p->config);
	oci_map_done(&p->sysctl);
	free(p->netns);
	free(p->cgroup);
	free(p->hostname);
	free(p->shared_dir);
	free(p->templates);
	p->state = POD_GONE;
}
