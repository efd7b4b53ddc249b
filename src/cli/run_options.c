/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/run_options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/container.h"
#include "sandbox/socket_list.h"
#include "storage/virtiofs.h"

#define NETNS	      "ns:" /* before a path in --net, as podman has it */
#define ENV_FILE_MAX  ((size_t)1 << 20)
#define CPU_PERIOD_US 100000
#define MAX_VCPUS     64

int run_options_parse(int argc, char **argv, struct run_options *o, int *ret_rest, struct err *e)
{
	const struct cli_option table[] = {
		{ "interactive", 'i', CLI_FLAG, &o->interactive, NULL, "Pass stdin on" },
		{ "tty", 't', CLI_FLAG, &o->tty, NULL, "Give it a terminal" },
		{ "detach", 'd', CLI_FLAG, &o->detach, NULL,
		  "Run in the background, print the id" },
		{ "rm", 0, CLI_FLAG, &o->rm, NULL, "Remove it when it has ended" },
		{ "name", 0, CLI_STRING, &o->name, "NAME", "Name of the container" },
		{ "env", 'e', CLI_LIST, &o->env, "NAME[=VALUE]", "Set an environment variable" },
		{ "env-file", 0, CLI_LIST, &o->env_file, "FILE", "Read environment variables" },
		{ "workdir", 'w', CLI_STRING, &o->workdir, "DIR", "Working directory" },
		{ "user", 'u', CLI_STRING, &o->user, "USER[:GROUP]", "User by name or number" },
		{ "group-add", 0, CLI_LIST, &o->group_add, "GROUP", "Further group" },
		{ "hostname", 'h', CLI_STRING, &o->hostname, "NAME", "Host name of the guest" },
		{ "entrypoint", 0, CLI_STRING, &o->entrypoint, "COMMAND", "Replace the image's" },
		{ "stop-signal", 0, CLI_STRING, &o->stop_signal, "SIGNAL", "Signal of podvm stop" },
		{ "stop-timeout", 0, CLI_UINT, &o->stop_timeout, "SECONDS",
		  "Time until podvm stop kills it (10)" },
		{ "memory", 'm', CLI_SIZE, &o->memory, "SIZE", "Memory limit, e.g. 512m" },
		{ "cpus", 0, CLI_STRING, &o->cpus, "NUMBER", "CPU limit, e.g. 1.5" },
		{ "pids-limit", 0, CLI_UINT, &o->pids_limit, "NUMBER", "Process limit (2048)" },
		{ "shm-size", 0, CLI_SIZE, &o->shm_size, "SIZE", "Size of /dev/shm (64m)" },
		{ "scratch-size", 0, CLI_SIZE, &o->scratch_size, "SIZE",
		  "Size of the writable layer (10g)" },
		{ "scratch-unsafe", 0, CLI_FLAG, &o->scratch_unsafe, NULL,
		  "fsync costs nothing in the writable layer" },
		{ "ulimit", 0, CLI_LIST, &o->ulimit, "NAME=SOFT[:HARD]", "Resource limit" },
		{ "volume", 'v', CLI_LIST, &o->volume, "HOST:GUEST[:ro]",
		  "Share a host directory or file" },
		{ "tmpfs", 0, CLI_LIST, &o->tmpfs, "DIR[:OPTIONS]", "Mount a tmpfs" },
		{ "read-only", 0, CLI_FLAG, &o->read_only, NULL, "Root file system is read-only" },
		{ "net", 0, CLI_STRING, &o->net, "none|user|ns:PATH", "Network" },
		{ "network", 0, CLI_STRING, &o->net, "none|user|ns:PATH", "The same" },
		{ "publish", 'p', CLI_LIST, &o->publish, "[IP:]HOST:GUEST[/udp]",
		  "Publish a port" },
		{ "dns", 0, CLI_LIST, &o->dns, "ADDRESS", "Name server" },
		{ "dns-search", 0, CLI_LIST, &o->dns_search, "DOMAIN", "Search domain" },
		{ "add-host", 0, CLI_LIST, &o->add_host, "NAME:IP", "Line of /etc/hosts" },
		{ "cap-add", 0, CLI_LIST, &o->cap_add, "CAP", "Add a capability" },
		{ "cap-drop", 0, CLI_LIST, &o->cap_drop, "CAP", "Drop a capability" },
		{ "privileged", 0, CLI_FLAG, &o->privileged, NULL,
		  "All capabilities and devices of the guest" },
		{ "security-opt", 0, CLI_LIST, &o->security_opt, "OPTION",
		  "seccomp=unconfined, seccomp=FILE, no-new-privileges" },
		{ "pull", 0, CLI_STRING, &o->pull, "POLICY", "missing, always or never" },
		{ "kernel", 0, CLI_STRING, &o->kernel, "FILE", "Another guest kernel" },
		{ "image", 0, CLI_STRING, &o->guest_image, "DIR", "Another guest image" },
		{ "vmm", 0, CLI_STRING, &o->vmm, "NAME", "Virtual machine monitor (qemu)" },
		{ "machine", 0, CLI_STRING, &o->machine, "TYPE", "microvm or q35" },
		{ "accel", 0, CLI_STRING, &o->accel, "auto|kvm|tcg", "KVM or emulation" },
		{ "no-template", 0, CLI_FLAG, &o->no_template, NULL,
		  "Boot, even if there is a template" },
		{ "debug", 0, CLI_FLAG, &o->debug, NULL,
		  "Guest image with a shell, all kernel messages" },
		{ "timings", 0, CLI_FLAG, &o->timings, NULL, "Print how long each stage took" },
	};

	*o = (struct run_options){ .stop_timeout = 10 };
	return cli_parse("podvm run [OPTIONS] IMAGE [COMMAND [ARGUMENT...]]", table,
			 ARRAY_SIZE(table), argc, argv, ret_rest, e);
}

void run_options_done(struct run_options *o)
{
	struct strv *lists[] = {
		&o->env,      &o->env_file,	&o->group_add, &o->tmpfs,  &o->cap_add,
		&o->cap_drop, &o->security_opt, &o->ulimit,    &o->volume, &o->publish,
		&o->dns,      &o->dns_search,	&o->add_host,
	};

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		strv_done(lists[i]);
}

/* ---- environment ---- */

/* "NAME=VALUE", or "NAME" for the value that we have ourselves. */
static int add_env(struct strv *env, const char *text, struct err *e)
{
	const char *value;
	char quoted[128];
	int r = 0;

	if (!*text || *text == '=')
		return err_set(e, -EINVAL, "%s is no environment variable",
			       log_quote(quoted, sizeof(quoted), text));
	if (strchr(text, '='))
		r = strv_add(env, text);
	else if ((value = getenv(text)))
		r = strv_addf(env, "%s=%s", text, value);
	return r < 0 ? err_oom(e) : 0;
}

static int read_env_file(struct strv *env, const char *path, struct err *e)
{
	_cleanup_(freep) char *text = NULL;
	char *save = NULL;
	int r;

	r = file_read(AT_FDCWD, path, ENV_FILE_MAX, &text, NULL);
	if (r < 0)
		return err_errno(e, r, "cannot read the environment file %s", path);
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		l += strspn(l, " \t");
		if (!*l || *l == '#')
			continue;
		r = add_env(env, l, e);
		if (r < 0) {
			err_wrap(e, "%s", path);
			return r;
		}
	}
	return 0;
}

static int plan_env(const struct run_options *o, struct run_plan *p, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->env_file.n; i++)
		r = read_env_file(&p->env, o->env_file.v[i], e);
	for (size_t i = 0; r == 0 && i < o->env.n; i++)
		r = add_env(&p->env, o->env.v[i], e);
	return r;
}

/* ---- volumes ---- */

static int volume_options(struct run_volume *v, char *text, struct err *e)
{
	char *save = NULL;
	char quoted[64];

	for (char *o = strtok_r(text, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
		if (str_eq(o, "ro"))
			v->readonly = true;
		else if (!str_eq(o, "rw"))
			return err_set(e, -EINVAL, "unknown volume option %s (ro and rw are known)",
				       log_quote(quoted, sizeof(quoted), o));
	}
	return 0;
}

static int parse_volume(const char *text, struct run_volume *v, mode_t *type, struct err *e)
{
	_cleanup_(freep) char *copy = strdup(text);
	char *destination;
	char *options;
	struct stat st;
	int r = 0;

	if (!copy)
		return err_oom(e);
	destination = strchr(copy, ':');
	if (!destination || destination[1] != '/')
		return err_set(e, -EINVAL, "-v %s is not HOST:GUEST with an absolute GUEST", text);
	*destination++ = '\0';
	options = strchr(destination, ':');
	if (options) {
		*options++ = '\0';
		r = volume_options(v, options, e);
	}
	if (r < 0)
		return r;
	if (copy[0] != '/' && copy[0] != '.') {
		err_set(e, -EINVAL, "-v %s: volumes have no names here", text);
		err_hint(e, "give the path of a host directory or file, for instance ./%s", copy);
		return -EINVAL;
	}
	v->source = realpath(copy, NULL);
	if (!v->source || stat(v->source, &st) < 0)
		return err_errno(e, -errno, "-v %s", copy);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode) && !S_ISSOCK(st.st_mode))
		return err_set(e, -EINVAL, "-v %s: only directories, files and sockets can be had",
			       copy);
	*type = st.st_mode & S_IFMT;
	return str_set(&v->destination, destination) < 0 ? err_oom(e) : 0;
}

static void plan_share(struct run_plan *p, struct run_volume *v, size_t number)
{
	snprintf(v->guest, sizeof(v->guest), CONTAINER_SHARED "/%zu", number);
	p->shares[p->n_shares++] = (struct sandbox_share){ v->source, v->name, v->readonly };
}

/* A directory of sockets is a copy: what is written there would be lost. */
static void plan_sockets(struct run_plan *p, struct run_volume *v, size_t number, bool single)
{
	struct volume_config *c = &p->sockets[p->n_sockets++];

	*c = (struct volume_config){ .source = v->source, .sockets = true };
	snprintf(v->guest, sizeof(v->guest), "/run/podvm/volumes/%zu", number);
	c->path = v->guest;
	v->readonly |= !single;
	if (!single)
		return;
	c->path = "/run/podvm/volumes";
	c->name = v->name;
}

static int plan_volumes(const struct run_options *o, const struct config *config,
			struct run_plan *p, struct err *e)
{
	mode_t type = 0;
	int r = 0;

	if (o->volume.n > RUN_MAX_VOLUMES)
		return err_set(e, -E2BIG, "more than %d volumes", RUN_MAX_VOLUMES);
	for (size_t i = 0; r == 0 && i < o->volume.n; i++) {
		struct run_volume *v = &p->volumes[p->n_volumes++];

		snprintf(v->name, sizeof(v->name), "%zu", i);
		r = parse_volume(o->volume.v[i], v, &type, e);
		if (r == 0 && config->share_root == CONFIG_NO)
			r = virtiofs_refuse_root(v->source, e);
		if (r == 0)
			r = socket_list_source(config->host_sockets, v->source, e);
		if (r > 0)
			plan_sockets(p, v, i, S_ISSOCK(type));
		else if (r == 0)
			plan_share(p, v, i);
		r = MIN(r, 0);
	}
	return r;
}

/* ---- network ---- */

static int plan_network(const struct run_options *o, const struct config *config,
			struct run_plan *p, struct err *e)
{
	int r = 0;

	p->network = o->net ? str_eq(o->net, "user") : config->net == CONFIG_NET_USER;
	if (o->net && str_starts(o->net, NETNS))
		p->netns = o->net + strlen(NETNS);
	if (o->net && str_eq(o->net, "host")) {
		err_set(e, -EINVAL,
			"--net host isn't possible: the container has a kernel of its own");
		err_hint(e, "-p publishes ports of the container on the host");
		return -EINVAL;
	}
	if (o->net && !p->network && !p->netns && !str_eq(o->net, "none"))
		return err_set(e, -EINVAL, "--net %s isn't known (none, user and ns:PATH are)",
			       o->net);
	if (o->publish.n > RUN_MAX_PORTS)
		return err_set(e, -E2BIG, "more than %d -p", RUN_MAX_PORTS);
	if (o->publish.n > 0 && !p->network)
		return err_set(e, -EINVAL, "-p needs --net user, but --net is %s",
			       p->netns ? o->net : "none");
	for (size_t i = 0; r == 0 && i < o->publish.n; i++)
		r = net_port_parse(o->publish.v[i], &p->ports[p->n_ports++], e);
	if (r == 0)
		r = net_ports_check(p->ports, p->n_ports, e);
	for (size_t i = 0; r == 0 && i < o->dns.n; i++)
		r = net_dns_add_server(&p->dns, o->dns.v[i], e);
	for (size_t i = 0; r == 0 && i < o->dns_search.n; i++)
		r = net_dns_add_search(&p->dns, o->dns_search.v[i], e);
	for (size_t i = 0; r == 0 && i < o->add_host.n; i++)
		r = net_host_entry_check(o->add_host.v[i], e);
	return r;
}

/* ---- resources ---- */

/* "1.5" CPUs as microseconds in a period. */
static int parse_cpus(const char *text, uint64_t *ret_quota, struct err *e)
{
	char *end;
	double v;

	errno = 0;
	v = strtod(text, &end);
	if (errno || end == text || *end || !(v >= 0.01) || v > MAX_VCPUS)
		return err_set(e, -EINVAL, "--cpus %s is not a number from 0.01 to %d", text,
			       MAX_VCPUS);
	*ret_quota = (uint64_t)(v * CPU_PERIOD_US + 0.5);
	return 0;
}

/* The machine gets what the container may use and what its kernel and agent need. */
static int plan_resources(const struct run_options *o, const struct config *config,
			  struct run_plan *p, struct err *e)
{
	int r;

	p->machine_memory = o->memory ? o->memory + config->guest_overhead : config->memory;
	if (p->machine_memory < o->memory)
		return err_set(e, -ERANGE, "--memory is too large");
	p->vcpus = config->vcpus;
	if (o->cpus) {
		r = parse_cpus(o->cpus, &p->cpu_quota, e);
		if (r < 0)
			return r;
		p->vcpus = (unsigned int)((p->cpu_quota + CPU_PERIOD_US - 1) / CPU_PERIOD_US);
	}
	return 0;
}

int run_plan_make(const struct run_options *o, const struct config *config, struct run_plan *p,
		  struct err *e)
{
	int r;

	*p = (struct run_plan){ 0 };
	r = plan_env(o, p, e);
	if (r == 0)
		r = plan_volumes(o, config, p, e);
	if (r == 0)
		r = plan_network(o, config, p, e);
	if (r == 0)
		r = plan_resources(o, config, p, e);
	if (r < 0)
		run_plan_done(p);
	return r;
}

void run_plan_done(struct run_plan *p)
{
	for (size_t i = 0; i < p->n_volumes; i++) {
		free(p->volumes[i].source);
		free(p->volumes[i].destination);
	}
	net_dns_done(&p->dns);
	strv_done(&p->env);
	*p = (struct run_plan){ 0 };
}
