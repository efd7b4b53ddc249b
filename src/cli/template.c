/* SPDX-License-Identifier: Apache-2.0 */
/* podvm template: machines that have booted already, for others to be copies of. */
#include "sandbox/template.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "cli/target.h"
#include "oci/json.h"
#include "sandbox/host_cgroup.h"

#define SHORT_KEY 12

/* linux/ioprio.h: the class of those who get what nobody else wants. */
#define IOPRIO_IDLE (3 << 13)

static char *store_of(const struct cli *cli)
{
	return str_printf("%s/templates", cli->config.cache);
}

static int parse(const char *usage, const struct cli_option *options, size_t n, int argc,
		 char **argv, int min, int *ret_rest, struct err *e)
{
	int r = cli_parse(usage, options, n, argc, argv, ret_rest, e);

	if (r == 0 && argc - *ret_rest < min) {
		r = err_set(e, -EINVAL, "no template is named");
		err_hint(e, "usage: %s", usage);
	}
	return r;
}

/* ---- create ---- */

/* What a machine is like, and who asks. */
struct create {
	const char *key;
	const char *net;
	const char *image;
	const char *kernel;
	const char *vmm;
	const char *machine;
	const char *accel;
	unsigned int vcpus;
	unsigned int max_vcpus;
	uint64_t memory;
	uint64_t max_memory;
	bool debug;
	bool background;
	struct guest_image guest;
	char *store;
};

static int parse_create(struct cli *cli, struct create *o, int argc, char **argv, struct err *e)
{
	const struct cli_option options[] = {
		{ "memory", 'm', CLI_SIZE, &o->memory, "SIZE", "Memory of the machine" },
		{ "vcpus", 0, CLI_UINT, &o->vcpus, "NUMBER", "CPUs of the machine" },
		{ "max-memory", 0, CLI_SIZE, &o->max_memory, "SIZE", "What it may grow to" },
		{ "max-vcpus", 0, CLI_UINT, &o->max_vcpus, "NUMBER", "What it may grow to" },
		{ "net", 0, CLI_STRING, &o->net, "none|user|pod", "Network (user)" },
		{ "image", 0, CLI_STRING, &o->image, "DIR", "Another guest image" },
		{ "kernel", 0, CLI_STRING, &o->kernel, "FILE", "Another guest kernel" },
		{ "vmm", 0, CLI_STRING, &o->vmm, "NAME", "Virtual machine monitor (qemu)" },
		{ "machine", 0, CLI_STRING, &o->machine, "TYPE", "microvm or q35" },
		{ "accel", 0, CLI_STRING, &o->accel, "auto|kvm|tcg", "KVM or emulation" },
		{ "debug", 0, CLI_FLAG, &o->debug, NULL, "Guest image with a shell" },
		{ "key", 0, CLI_STRING, &o->key, "KEY", "Only if it gets this key" },
		{ "background", 0, CLI_FLAG, &o->background, NULL,
		  "Return at once, make it when there is nothing else to do" },
	};
	int rest;

	*o = (struct create){
		.net = "user",
		.image = cli->config.image,
		.vmm = cli->config.driver,
		.machine = str_empty(cli->config.machine) ? NULL : cli->config.machine,
		.vcpus = cli->config.vcpus,
		.memory = cli->config.memory,
		.debug = cli->config.debug == CONFIG_YES,
	};
	return cli_parse("podvm template create [OPTIONS]", options, ARRAY_SIZE(options), argc,
			 argv, &rest, e);
}

static int choose(const char *what, const char *value, const char *const words[], size_t n,
		  struct err *e)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(words[i], value))
			return (int)i;
	return err_set(e, -EINVAL, "%s %.64s isn't known", what, value);
}

/* The sandbox that it's for. Return: Kind of its network device, or a negative errno */
static int fill_config(struct cli *cli, struct create *o, struct sandbox_config *c, struct err *e)
{
	static const char *const nets[] = { "none", "user", "pod" };
	static const char *const accels[] = { "auto", "kvm", "tcg" };
	int accel = (int)cli->config.accel;
	struct vmm_config machine;
	int r = guest_image_open(o->image, o->debug, &o->guest, e);

	if (r == 0 && o->kernel && str_set(&o->guest.kernel_path, o->kernel) < 0)
		r = err_oom(e);
	if (r == 0 && o->accel)
		r = accel = choose("--accel", o->accel, accels, ARRAY_SIZE(accels), e);
	if (r < 0)
		return r;
	*c = (struct sandbox_config){
		.image = &o->guest,
		.driver = vmm_driver_find(o->vmm),
		.machine = o->machine,
		.binary = str_empty(cli->config.binary) ? NULL : cli->config.binary,
		.accel = (enum vmm_accel)accel,
		.debug = o->debug,
		.vcpus = o->vcpus,
		.memory = o->memory,
		.max_vcpus = o->max_vcpus,
		.max_memory = o->max_memory,
		.state_dir = cli->config.state,
		.templates = o->store,
		.uid_base = cli->config.uid_base,
		.boot_timeout_ms = cli->config.boot_timeout,
	};
	if (!c->driver)
		return err_set(e, -EINVAL, "there is no monitor driver %s", o->vmm);
	if (o->vcpus == 0 || o->memory == 0)
		return err_set(e, -EINVAL, "a machine has CPUs and memory");
	template_machine(c, &machine);
	if (c->accel == VMM_ACCEL_AUTO)
		c->accel = vmm_accel_auto(c->driver, &machine, NULL);
	return choose("--net", o->net, nets, ARRAY_SIZE(nets), e);
}

/* Nobody waits for it, and nobody is to notice: not the pod that wants it, nor the others. */
static int go_into_background(struct err *e)
{
	const struct sched_param none = { 0 };
	pid_t pid = fork();
	int null_fd;

	if (pid < 0)
		return err_errno(e, -errno, "cannot go into the background");
	if (pid > 0)
		_exit(0);
	setsid();
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; null_fd >= 0 && fd < 3; fd++)
		(void)dup2(null_fd, fd);
	host_cgroup_top();
	(void)setpriority(PRIO_PROCESS, 0, 19);
	(void)sched_setscheduler(0, SCHED_IDLE, &none);
	(void)syscall(SYS_ioprio_set, 1, 0, IOPRIO_IDLE);
	(void)file_write(AT_FDCWD, "/proc/self/oom_score_adj", "1000");
	return 0;
}

static int expect_key(const struct create *o, const struct sandbox_config *c, enum template_nic nic,
		      struct err *e)
{
	_cleanup_(buf_done) struct buf text = { 0 };
	char key[TEMPLATE_KEY_SIZE];
	int r = template_describe(c, nic, &text, key, e);

	if (r == 0 && o->key && !str_eq(o->key, key))
		r = err_set(e, -ESTALE, "the template's key would be %s instead of %.64s", key,
			    o->key);
	return r;
}

/* One that is there already need only be checked. */
static int make(struct cli *cli, const struct create *o, const struct sandbox_config *c,
		enum template_nic nic, char key[TEMPLATE_KEY_SIZE], struct err *e)
{
	_cleanup_(close_fdp) int lock = template_lock(o->store, !o->background, e);
	int r = lock < 0 ? lock : expect_key(o, c, nic, e);

	if (r < 0)
		return r;
	if (o->key && template_verify(o->store, cli->config.state, o->key, NULL) == 0)
		return 0;
	r = template_make(c, nic, key, e);
	if (r == 0)
		r = template_evict(o->store, cli->config.state, cli->config.template_size, key, e);
	return MIN(r, 0);
}

static void create_done(struct create *o)
{
	guest_image_done(&o->guest);
	free(o->store);
}

static int template_create(struct cli *cli, int argc, char **argv)
{
	_cleanup_(create_done) struct create o = { 0 };
	char key[TEMPLATE_KEY_SIZE] = "";
	struct sandbox_config c;
	struct err e = { 0 };
	int nic = 0;
	int r = parse_create(cli, &o, argc, argv, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0 && geteuid() != 0)
		r = err_set(&e, -EPERM, "this needs root: try sudo podvm template create");
	o.store = store_of(cli);
	if (r == 0 && !o.store)
		r = err_oom(&e);
	if (r == 0 && o.background)
		r = go_into_background(&e);
	if (r == 0)
		r = nic = fill_config(cli, &o, &c, &e);
	if (r >= 0)
		r = make(cli, &o, &c, (enum template_nic)nic, key, &e);
	err_stage(&e, "template");
	if (r < 0 && r != -EWOULDBLOCK && o.key)
		template_failed(cli->config.state, o.key, &e);
	if (r < 0)
		return cli_fail(&e);
	puts(*key ? key : o.key);
	return 0;
}

/* ---- list ---- */

static int add_row(struct table *table, const struct template_info *info)
{
	char key[SHORT_KEY + 1];
	char memory[32];
	char vcpus[24];
	char used[64];
	char size[32];

	snprintf(key, sizeof(key), "%.*s", SHORT_KEY, info->key);
	snprintf(memory, sizeof(memory), "%lluMiB", (unsigned long long)(info->memory >> 20));
	snprintf(vcpus, sizeof(vcpus), "%llu", (unsigned long long)info->vcpus);
	return table_row(table, key, memory, vcpus, info->machine ? info->machine : "?",
			 info->network ? info->network : "?",
			 cli_human_size(size, sizeof(size), info->size),
			 cli_ago(used, sizeof(used), (uint64_t)info->used * 1000000000));
}

static int print_table(const struct template_infos *infos)
{
	_cleanup_(table_done) struct table table = { .columns = 7 };
	int r = table_row(&table, "KEY", "MEMORY", "CPUS", "MACHINE", "NETWORK", "SIZE", "USED");

	for (size_t i = 0; i < infos->n && r == 0; i++)
		r = add_row(&table, &infos->v[i]);
	if (r == 0)
		table_print(&table);
	return r;
}

static int print_json(const struct template_infos *infos)
{
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();

	if (!array)
		return -ENOMEM;
	for (size_t i = 0; i < infos->n; i++) {
		const struct template_info *info = &infos->v[i];
		struct json_object *o = json_push_object(array);

		if (!o || json_add_string(o, "key", info->key) < 0 ||
		    json_add_u64(o, "memory", info->memory) < 0 ||
		    json_add_u64(o, "vcpus", info->vcpus) < 0 ||
		    json_add_string(o, "machine", info->machine) < 0 ||
		    json_add_string(o, "accel", info->accel) < 0 ||
		    json_add_string(o, "network", info->network) < 0 ||
		    json_add_string(o, "image", info->image) < 0 ||
		    json_add_u64(o, "created_ns", info->created_ns) < 0 ||
		    json_add_int(o, "used", info->used) < 0 ||
		    json_add_u64(o, "size", info->size) < 0 ||
		    json_add_string(o, "memory_sha256", info->memory_sha256) < 0 ||
		    json_add_string(o, "state_sha256", info->state_sha256) < 0)
			return -ENOMEM;
	}
	return cli_print_json(array);
}

static int template_ls(struct cli *cli, int argc, char **argv)
{
	_cleanup_(template_infos_done) struct template_infos infos = { 0 };
	_cleanup_(freep) char *store = store_of(cli);
	bool json = false;
	const struct cli_option options[] = {
		{ "json", 0, CLI_FLAG, &json, NULL, "As JSON" },
	};
	struct err e = { 0 };
	int rest = 0;
	int r = parse("podvm template list [OPTIONS]", options, ARRAY_SIZE(options), argc, argv, 0,
		      &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0)
		r = store ? template_list(store, &infos, &e) : err_oom(&e);
	if (r == 0 && (json ? print_json(&infos) : print_table(&infos)) < 0)
		r = err_oom(&e);
	return r < 0 ? cli_fail(&e) : 0;
}

/* ---- rm, verify ---- */

/* Each of the templates that are named, or all. Return: Exit code */
static int for_each(struct cli *cli, char **names, bool all,
		    int (*fn)(struct cli *cli, const char *store, const char *key, struct err *e))
{
	_cleanup_(template_infos_done) struct template_infos infos = { 0 };
	_cleanup_(freep) char *store = store_of(cli);
	_cleanup_(close_fdp) int lock = -EBADF;
	char key[TEMPLATE_KEY_SIZE];
	struct err e = { 0 };
	int code = 0;
	int r = store ? 0 : err_oom(&e);

	if (r == 0)
		r = lock = template_lock(store, true, &e);
	if (r >= 0 && all)
		r = template_list(store, &infos, &e);
	if (r < 0)
		return cli_fail(&e);
	for (size_t i = 0; i < infos.n; i++)
		if (fn(cli, store, infos.v[i].key, &e) < 0)
			code = cli_fail(&e);
	for (; !all && *names; names++)
		if (template_find(store, *names, key, &e) < 0 || fn(cli, store, key, &e) < 0)
			code = cli_fail(&e);
	return code;
}

static int remove_one(struct cli *cli, const char *store, const char *key, struct err *e)
{
	int r = template_remove(store, cli->config.state, key, e);

	if (r == 0)
		puts(key);
	return r;
}

static int template_rm(struct cli *cli, int argc, char **argv)
{
	bool all = false;
	const struct cli_option options[] = {
		{ "all", 'a', CLI_FLAG, &all, NULL, "All of them" },
	};
	struct err e = { 0 };
	int rest = 0;
	int r = cli_parse("podvm template rm [OPTIONS] [KEY...]", options, ARRAY_SIZE(options),
			  argc, argv, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0 && !all && rest == argc)
		r = err_set(&e, -EINVAL, "no template is named");
	return r < 0 ? cli_fail(&e) : for_each(cli, argv + rest, all, remove_one);
}

static int verify_one(struct cli *cli, const char *store, const char *key, struct err *e)
{
	int r = template_verify(store, cli->config.state, key, e);

	if (r == 0)
		printf("%s is intact\n", key);
	return r;
}

static int template_check(struct cli *cli, int argc, char **argv)
{
	struct err e = { 0 };
	int rest = 0;
	int r = cli_parse("podvm template verify [KEY...]", NULL, 0, argc, argv, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	return r < 0 ? cli_fail(&e) : for_each(cli, argv + rest, rest == argc, verify_one);
}

/* ---- subcommands ---- */

static const struct cli_verb commands[] = {
	{ "create", template_create, "Boot a machine and keep it for others to be copies of" },
	{ "list", template_ls, "List the templates" },
	{ "rm", template_rm, "Remove templates" },
	{ "verify", template_check, "Check templates against their digests" },
};

int cli_template(struct cli *cli, int argc, char **argv)
{
	return cli_group(cli, "template", commands, ARRAY_SIZE(commands), argc, argv);
}
