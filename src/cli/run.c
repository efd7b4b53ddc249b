/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/image.h"
#include "cli/run_options.h"
#include "cli/runner.h"
#include "storage/scratch.h"

#define SHORT_ID 12

/* Everything that a run takes, released in one place. */
struct run {
	struct cli *cli;
	struct run_options options;
	struct run_plan plan;
	struct guest_image guest;
	struct image *image;
	struct rundir rd;
	struct rundir_state state;
	char *spec;
	int scratch_fd;
	int ready_fd; /* of a detached run: tells the command that started it */
	bool began;   /* the container has run */
	uint64_t began_us;
};

static void run_done(struct run *run)
{
	free(run->spec);
	rundir_state_done(&run->state);
	rundir_close(&run->rd);
	image_free(run->image);
	guest_image_done(&run->guest);
	run_plan_done(&run->plan);
	run_options_done(&run->options);
	if (run->scratch_fd >= 0)
		close(run->scratch_fd);
	if (run->ready_fd >= 0)
		close(run->ready_fd);
}

/* ---- what is needed before the machine ---- */

static int open_guest_image(struct run *run, struct err *e)
{
	const char *dir = run->options.guest_image ? run->options.guest_image
						   : run->cli->config.image;
	int r;

	r = guest_image_open(dir, run->options.debug, &run->guest, e);
	if (r == 0 && run->options.kernel) {
		free(run->guest.kernel_path);
		run->guest.kernel_path = realpath(run->options.kernel, NULL);
		if (!run->guest.kernel_path || access(run->guest.kernel_path, R_OK) < 0)
			r = err_errno(e, -errno, "cannot read the kernel %s", run->options.kernel);
	}
	err_stage(e, "guest image");
	return r;
}

static int get_image(struct run *run, const char *ref, struct err *e)
{
	static const char *const policies[] = {
		[IMAGE_PULL_MISSING] = "missing",
		[IMAGE_PULL_ALWAYS] = "always",
		[IMAGE_PULL_NEVER] = "never",
	};
	_cleanup_(image_store_freep) struct image_store *store = NULL;
	struct image_options options = image_options(run->cli);
	const char *pull = run->options.pull;
	int r;

	for (size_t i = 0; pull && i < ARRAY_SIZE(policies); i++) {
		if (!str_eq(pull, policies[i]))
			continue;
		options.pull = (enum image_pull)i;
		pull = NULL;
	}
	if (pull)
		return err_set(e, -EINVAL, "--pull %s isn't missing, always or never", pull);
	r = image_open_store(run->cli, &store, e);
	if (r == 0)
		r = image_store_get(store, ref, &options, &run->image, e);
	cli_progress(NULL, 0, 0);
	err_stage(e, "image");
	return r;
}

struct name_check {
	const char *name;
	const char *own_id;
	bool taken;
};

static int check_name(void *data, struct rundir *rd, const struct rundir_state *st)
{
	struct name_check *c = data;

	c->taken = st->name && str_eq(st->name, c->name) && !str_eq(rd->id, c->own_id);
	return c->taken;
}

/* Has another container the name that was asked for? */
static int check_name_free(const struct run *run, struct err *e)
{
	struct name_check c = { .name = run->options.name, .own_id = run->rd.id };

	if (c.name)
		rundir_each(run->cli->config.state, check_name, &c);
	if (!c.taken)
		return 0;
	err_set(e, -EEXIST, "the name %s is in use", c.name);
	err_hint(e, "'podvm rm %s' removes the container that has it", c.name);
	return -EEXIST;
}

/* podman's rule for names, so that scripts can rely on either. */
static bool name_valid(const char *name)
{
	static const char first[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	size_t n = strlen(name);

	return n > 0 && n <= 128 && strchr(first, name[0]) &&
	       strspn(name + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				"0123456789_.-") == n - 1;
}

static int check_names(struct run *run, struct err *e)
{
	const char *name = run->options.name;
	int r;

	if (run->options.hostname && (r = net_hostname_check(run->options.hostname, e)) < 0)
		return r;
	if (name && !name_valid(name))
		return err_set(e, -EINVAL, "--name takes letters, digits, '_', '.' and '-' only");
	return check_name_free(run, e);
}

static int stop_signal(const struct run *run, struct err *e)
{
	const char *text = run->options.stop_signal ? run->options.stop_signal
						    : run->image->config.stop_signal;
	int sig;

	if (str_empty(text))
		return SIGTERM;
	sig = oci_signal_parse(text);
	return sig < 0 ? err_set(e, -EINVAL, "unknown stop signal %s", text) : sig;
}

static char *join(char **args)
{
	struct buf b = { .limit = 4096 };
	char *text;

	for (; *args && buf_printf(&b, "%s%s", buf_len(&b) ? " " : "", *args) == 0; args++)
		;
	text = buf_cstr(&b) ? strdup(buf_cstr(&b)) : NULL;
	buf_done(&b);
	return text;
}

static const char *network_name(const struct run *run)
{
	if (run->plan.netns)
		return run->options.net;
	return run->plan.network ? "user" : "none";
}

static int fill_state(struct run *run, const char *ref, char **args, int sig)
{
	const struct run_options *o = &run->options;
	struct rundir_state *st = &run->state;
	char sig_text[16];
	struct strv ports = { 0 };
	struct timespec now;
	int r;

	clock_gettime(CLOCK_REALTIME, &now);
	st->created_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	st->owner_pid = getpid();
	st->vcpus = run->plan.vcpus;
	st->memory = run->plan.machine_memory;
	st->stop_timeout = o->stop_timeout;
	st->auto_remove = o->rm;
	st->terminal = o->tty;
	st->command = join(args);
	snprintf(sig_text, sizeof(sig_text), "%d", sig);
	r = st->command ? str_set(&st->id, run->rd.id) : -ENOMEM;
	r = r < 0 ? r : str_set(&st->name, o->name);
	if (r == 0 && !st->name)
		r = (st->name = strndup(run->rd.id, SHORT_ID)) ? 0 : -ENOMEM;
	r = r < 0 ? r : str_set(&st->image, ref);
	r = r < 0 ? r : str_set(&st->digest, run->image->digest);
	r = r < 0 ? r : str_set(&st->network, network_name(run));
	r = r < 0 ? r : str_set(&st->stop_signal, sig_text);
	for (size_t i = 0; r == 0 && i < o->publish.n; i++)
		r = strv_add(&ports, o->publish.v[i]);
	st->ports = ports.v;
	if (r == 0 && o->hostname)
		r = str_set(&st->hostname, o->hostname);
	else if (r == 0)
		r = (st->hostname = strndup(run->rd.id, SHORT_ID)) ? 0 : -ENOMEM;
	return r;
}

/* Of two that want one name at the same moment at least one sees the other, and gives up. */
static int claim_name(struct run *run, struct err *e)
{
	int r = rundir_write_state(&run->rd, &run->state);

	return r < 0 ? err_errno(e, r, "cannot write into %s", run->rd.path)
		     : check_name_free(run, e);
}

static int write_spec(struct run *run, char **args, struct err *e)
{
	const struct oci_users users = { run->image->passwd, run->image->group };
	int r;

	r = run_spec_make(&run->options, &run->plan, run->rd.id, run->state.hostname, args,
			  &run->image->config, &users, &run->spec, e);
	if (r < 0)
		return r;
	r = file_replace(run->rd.fd, "config.json", run->spec, strlen(run->spec), 0600);
	return r < 0 ? err_errno(e, r, "cannot write into %s", run->rd.path) : 0;
}

/* Prepare everything that needs no machine. */
static int prepare(struct run *run, const char *ref, char **args, struct err *e)
{
	int sig;
	int r;

	r = check_names(run, e);
	if (r == 0)
		r = run_plan_make(&run->options, &run->cli->config, &run->plan, e);
	err_stage(e, "options");
	if (r == 0)
		r = open_guest_image(run, e);
	if (r == 0)
		r = get_image(run, ref, e);
	if (r < 0)
		return r;
	sig = stop_signal(run, e);
	if (sig < 0)
		return sig;
	r = rundir_create(run->cli->config.state, &run->rd, e);
	if (r == 0 && fill_state(run, ref, args, sig) < 0)
		r = err_oom(e);
	if (r == 0)
		r = claim_name(run, e);
	if (r == 0)
		r = write_spec(run, args, e);
	err_stage(e, "spec");
	return r;
}

static int make_scratch(struct run *run, struct err *e)
{
	_cleanup_(freep) char *dir = str_printf("%s/scratch", run->cli->config.cache);
	uint64_t size = run->options.scratch_size ? run->options.scratch_size
						  : run->cli->config.scratch_size;

	if (!dir)
		return err_oom(e);
	run->scratch_fd = scratch_create(dir, size, e);
	err_stage(e, "scratch");
	return run->scratch_fd < 0 ? run->scratch_fd : 0;
}

/* Mounts for virtiofs are made where only this process and its children see them. */
static int private_mounts(struct err *e)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_errno(e, -errno, "cannot get a mount namespace of our own");
	return 0;
}

/* ---- running it ---- */

static void on_ready(void *data)
{
	struct run *run = data;
	char zero = 0;
	int null;

	run->began = true;
	if (run->ready_fd < 0)
		return;
	/* From here on nobody watches. */
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		(void)dup2(null, fd);
	if (null > 2)
		close(null);
	(void)!write(run->ready_fd, &zero, 1);
	close(TAKE_FD(run->ready_fd));
}

static int fill_machine(struct run *run, struct sandbox_config *c, struct err *e)
{
	static const char *const accels[] = { "auto", "kvm", "tcg" };
	const struct config *config = &run->cli->config;
	const char *vmm = run->options.vmm ? run->options.vmm : config->driver;
	const char *accel = run->options.accel;

	c->driver = vmm_driver_find(vmm);
	if (!c->driver)
		return err_set(e, -EINVAL, "there is no monitor driver %s", vmm);
	c->accel = (enum vmm_accel)config->accel;
	for (size_t i = 0; accel && i < ARRAY_SIZE(accels); i++) {
		if (!str_eq(accel, accels[i]))
			continue;
		c->accel = (enum vmm_accel)i;
		accel = NULL;
	}
	if (accel)
		return err_set(e, -EINVAL, "--accel %s isn't auto, kvm or tcg", accel);
	c->machine = run->options.machine ? run->options.machine : config->machine;
	if (str_empty(c->machine))
		c->machine = NULL;
	c->binary = str_empty(config->binary) ? NULL : config->binary;
	return str_set(&run->state.vmm, vmm) < 0 ? err_oom(e) : 0;
}

static int run_machine(struct run *run, int *code, struct err *e)
{
	const struct config *config = &run->cli->config;
	struct net_user_options network = {
		.subnet = config->subnet,
		.subnet6 = config->subnet6,
		.mtu = config->mtu,
		.ports = run->plan.ports,
		.n_ports = run->plan.n_ports,
		.dns = &run->plan.dns,
	};
	struct net_pod_options pod_network = {
		.netns = run->plan.netns,
		.dns = &run->plan.dns,
	};
	struct runner_config c = {
		.sandbox = {
			.rundir = &run->rd,
			.image = &run->guest,
			.debug = run->options.debug,
			.vcpus = run->plan.vcpus,
			.memory = run->plan.machine_memory,
			.hostname = run->state.hostname,
			.network = run->plan.network ? &network : NULL,
			.pod_network = run->plan.netns ? &pod_network : NULL,
			.shares = run->plan.shares,
			.n_shares = run->plan.n_shares,
			.host_sockets = config->host_sockets,
			.state_dir = config->state,
			.agent_timeout_ms = config->agent_timeout,
			.uid_base = config->uid_base,
			.boot_timeout_ms = config->boot_timeout,
		},
		.state = &run->state,
		.spec = run->spec,
		.image_fd = run->image->fd,
		.image_part = &run->image->part,
		.scratch_fd = run->scratch_fd,
		.scratch_unsafe = run->options.scratch_unsafe ||
				  config->scratch_cache == CONFIG_CACHE_UNSAFE,
		.directories = &run->image->config.volumes,
		.sockets = run->plan.sockets,
		.n_sockets = run->plan.n_sockets,
		.dns = &run->plan.dns,
		.add_hosts = run->options.add_host.v,
		.input = run->options.interactive,
		.terminal = run->options.tty,
		.detached = run->options.detach,
		.stop_signal = atoi(run->state.stop_signal),
		.stop_timeout_ms = run->options.stop_timeout * 1000,
		.ready = on_ready,
		.data = run,
		.timings = run->options.timings,
		.began_us = run->began_us,
	};
	_cleanup_(freep) char *templates = str_printf("%s/templates", config->cache);
	int r;

	if (!templates)
		return err_oom(e);
	if (config->template_enabled == CONFIG_YES && !run->options.no_template)
		c.sandbox.templates = templates;
	c.sandbox.maker = "/proc/self/exe";
	r = fill_machine(run, &c.sandbox, e);
	if (r == 0 && run->plan.n_shares > 0)
		r = private_mounts(e);
	return r < 0 ? r : runner_run(&c, code, e);
}

/* Exit codes as podman has them. */
static int exit_code(const struct err *e)
{
	bool command = str_eq(e->stage, "start") || str_eq(e->stage, "create");

	cli_fail(e);
	if (command && e->code == -ENOENT)
		return CLI_NOT_FOUND;
	if (command && (e->code == -EACCES || e->code == -EPERM))
		return CLI_CANNOT_RUN;
	return CLI_FAILED;
}

static void say_oom(const struct run *run)
{
	const char *whose = run->options.memory ? "the limit is" : "the machine has";
	uint64_t size = run->options.memory ? run->options.memory : run->plan.machine_memory;

	if (!run->state.oom_killed || run->options.detach)
		return;
	fprintf(stderr,
		"podvm: run: out of memory: the guest's kernel killed a process (%s %llu MiB)\n"
		"  --memory gives the container more\n",
		whose, (unsigned long long)(size >> 20));
}

static int run_it(struct run *run)
{
	struct err e = { 0 };
	bool interrupted;
	int code = 0;
	int r;

	run->state.owner_pid = getpid();
	r = make_scratch(run, &e);
	if (r == 0)
		r = run_machine(run, &code, &e);
	interrupted = r == -EINTR && code;
	if (r == 0)
		say_oom(run);
	else if (!interrupted)
		code = exit_code(&e);
	else if (run->options.detach)
		cli_fail(&e); /* who waits for it need not be who has interrupted it */
	/* What never ran leaves nothing, and neither does what is to be removed. */
	if (!run->began || run->options.rm)
		(void)rundir_remove(&run->rd, NULL);
	return code;
}

/* ---- in the background ---- */

static int wait_ready(int fd, const char *id)
{
	struct err e = { 0 };
	char code;

	/* What went wrong it has printed itself, unless it died: the pipe's end without a byte. */
	if (fd_read_full(fd, &code, 1) != 1) {
		err_set(&e, -ECONNRESET, "the process in the background was killed");
		err_stage(&e, "run");
		return cli_fail(&e);
	}
	if (code == 0)
		puts(id);
	return (unsigned char)code;
}

static int run_detached(struct run *run)
{
	_cleanup_(close_fdp) int r_fd = -EBADF;
	struct err e = { 0 };
	int fds[2];
	char code;
	pid_t pid;

	fflush(NULL);
	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		err_errno(&e, -errno, "cannot go into the background");
		(void)rundir_remove(&run->rd, NULL);
		return cli_fail(&e);
	}
	r_fd = fds[0];
	if (pid > 0) {
		close(fds[1]);
		return wait_ready(r_fd, run->rd.id);
	}
	run->ready_fd = fds[1];
	setsid();
	code = (char)run_it(run);
	if (run->ready_fd >= 0)
		(void)!write(run->ready_fd, &code, 1);
	return 0;
}

int cli_run(struct cli *cli, int argc, char **argv)
{
	_cleanup_(run_done) struct run run = {
		.cli = cli,
		.rd = RUNDIR_INIT,
		.scratch_fd = -EBADF,
		.ready_fd = -EBADF,
		.began_us = clock_us(),
	};
	struct err e = { 0 };
	int rest;
	int r;

	r = run_options_parse(argc, argv, &run.options, &rest, &e);
	if (r == CLI_HELP_SHOWN)
		return 0;
	run.options.debug |= cli->config.debug == CONFIG_YES;
	if (r == 0 && rest == argc)
		r = err_set(&e, -EINVAL,
			    "an image is missing: podvm run [OPTIONS] IMAGE [COMMAND]");
	if (r == 0 && geteuid() != 0)
		r = err_set(&e, -EPERM, "this needs root: try sudo podvm run");
	if (r < 0) {
		err_stage(&e, "options");
		return cli_fail(&e);
	}
	rundir_recover_all(cli->config.state);
	r = prepare(&run, argv[rest], argv + rest + 1, &e);
	if (r < 0) {
		if (run.rd.path)
			(void)rundir_remove(&run.rd, NULL);
		return cli_fail(&e);
	}
	return run.options.detach ? run_detached(&run) : run_it(&run);
}
