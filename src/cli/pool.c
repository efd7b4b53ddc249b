/* SPDX-License-Identifier: Apache-2.0 */
/* podvm pool: machines that wait for pods. */
#include "sandbox/pool.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "cli/target.h"
#include "oci/json.h"
#include "sandbox/machine_default.h"
#include "sandbox/process_memory.h"

#define SHORT_KEY 12

static int need_root(struct err *e)
{
	return geteuid() == 0 ? 0 : err_set(e, -EPERM, "this needs root");
}

/* ---- run ---- */

static int serve(const struct config *config, const char *templates, struct err *e)
{
	const struct pool_service_config c = {
		.templates = templates,
		.wanted = {
			[TEMPLATE_NIC_NONE] = config->pool_none,
			[TEMPLATE_NIC_USER] = config->pool_user,
			[TEMPLATE_NIC_TAP] = config->pool_pod,
		},
		.max_memory = config->pool_memory,
	};

	if (config->pool_none + config->pool_user + config->pool_pod == 0) {
		err_set(e, -EINVAL, "no machine is to wait");
		err_hint(e, "set size, size_none or size_user of [pool] in podvm.conf");
		return -EINVAL;
	}
	if (config->template_enabled != CONFIG_YES) {
		err_set(e, -EINVAL, "machines that wait are copies of templates");
		err_hint(e, "set enabled = yes of [template] in podvm.conf");
		return -EINVAL;
	}
	return pool_service(&c, e);
}

static int pool_run(struct cli *cli, int argc, char **argv)
{
	_cleanup_(freep) char *templates = str_printf("%s/templates", cli->config.cache);
	struct err e = { 0 };
	int rest;
	int r = cli_parse("podvm pool run", NULL, 0, argc, argv, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0)
		r = templates ? need_root(&e) : err_oom(&e);
	if (r == 0)
		r = serve(&cli->config, templates, &e);
	err_stage(&e, "pool");
	return r < 0 ? cli_fail(&e) : 0;
}

/* ---- guard ---- */

/* As a sandbox of the same network is, when nobody says what it should be like. */
static int fill_config(const struct config *config, enum template_nic nic, const char *templates,
		       struct guest_image *image, struct sandbox_config *c, struct err *e)
{
	struct vmm_config machine;
	int r = guest_image_open(config->image, config->debug, image, e);

	*c = (struct sandbox_config){
		.image = image,
		.vcpus = config->vcpus,
		.memory = config->memory,
		.templates = templates,
		.maker = "/proc/self/exe",
	};
	if (r == 0)
		r = machine_default(config, c, e);
	if (r < 0)
		return r;
	if (nic != TEMPLATE_NIC_USER) {
		c->memory = MIN(c->memory, machine_host_memory());
		machine_default_maximum(config, c);
	}
	template_machine(c, &machine);
	if (c->accel == VMM_ACCEL_AUTO)
		c->accel = vmm_accel_auto(c->driver, &machine, NULL);
	return 0;
}

static int parse_net(const char *net, enum template_nic *ret, struct err *e)
{
	static const char *const nets[TEMPLATE_NICS] = { "none", "user", "pod" };

	for (int i = 0; i < TEMPLATE_NICS; i++)
		if (str_eq(nets[i], net)) {
			*ret = (enum template_nic)i;
			return 0;
		}
	return err_set(e, -EINVAL, "--net %.64s isn't known", net);
}

static int guard(const struct config *config, const char *net, struct err *e)
{
	_cleanup_(freep) char *templates = str_printf("%s/templates", config->cache);
	_cleanup_(guest_image_done) struct guest_image image = { 0 };
	enum template_nic nic = TEMPLATE_NIC_NONE;
	struct sandbox_config c;
	int r = parse_net(net, &nic, e);

	if (r == 0 && !templates)
		r = err_oom(e);
	if (r == 0)
		r = fill_config(config, nic, templates, &image, &c, e);
	return r < 0 ? r : pool_guard(&c, nic, POOL_SERVICE_FD, e);
}

/* Started by `podvm pool run` only. */
static int pool_machine(struct cli *cli, int argc, char **argv)
{
	const char *net = "pod";
	const struct cli_option options[] = {
		{ "net", 0, CLI_STRING, &net, "none|user|pod", "Network" },
	};
	struct err e = { 0 };
	int rest;
	int r = cli_parse("podvm pool guard [OPTIONS]", options, ARRAY_SIZE(options), argc, argv,
			  &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0)
		r = guard(&cli->config, net, &e);
	err_stage(&e, "pool");
	if (r == -EAGAIN)
		log_info("a machine of the pool waits for its template", "network=%s", net);
	else if (r < 0)
		return cli_fail(&e);
	return 0;
}

/* ---- status, drain ---- */

static int add_row(struct table *table, const struct pool_entry *entry)
{
	char key[SHORT_KEY + 1];
	char pid[16];

	snprintf(key, sizeof(key), "%.*s", SHORT_KEY, entry->key);
	snprintf(pid, sizeof(pid), "%d", entry->pid);
	return table_row(table, key, pid);
}

static int print_table(const struct pool_entry *v, size_t n)
{
	_cleanup_(table_done) struct table table = { .columns = 2 };
	int r = table_row(&table, "TEMPLATE", "PID");

	for (size_t i = 0; i < n && r == 0; i++)
		r = add_row(&table, &v[i]);
	if (r == 0)
		table_print(&table);
	return r;
}

static int print_json(const struct pool_entry *v, size_t n)
{
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();

	if (!array)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_push_object(array);

		if (!o || json_add_string(o, "template", v[i].key) < 0 ||
		    json_add_int(o, "pid", v[i].pid) < 0)
			return -ENOMEM;
	}
	return cli_print_json(array);
}

static int pool_status(struct cli *cli, int argc, char **argv)
{
	_cleanup_(freep) struct pool_entry *v = NULL;
	bool json = false;
	const struct cli_option options[] = {
		{ "json", 0, CLI_FLAG, &json, NULL, "As JSON" },
	};
	struct err e = { 0 };
	int rest;
	int n = 0;
	int r = cli_parse("podvm pool status [OPTIONS]", options, ARRAY_SIZE(options), argc, argv,
			  &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0)
		r = n = pool_list(cli->config.state, &v);
	if (r >= 0)
		r = json ? print_json(v, (size_t)n) : print_table(v, (size_t)n);
	if (r < 0 && !e.code)
		err_errno(&e, r, "cannot read %s", cli->config.state);
	return r < 0 ? cli_fail(&e) : 0;
}

static int pool_drain(struct cli *cli, int argc, char **argv)
{
	_cleanup_(freep) struct pool_entry *v = NULL;
	struct err e = { 0 };
	int rest;
	int n = 0;
	int r = cli_parse("podvm pool drain", NULL, 0, argc, argv, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0)
		r = need_root(&e);
	if (r == 0)
		r = n = pool_list(cli->config.state, &v);
	for (int i = 0; i < n && r >= 0; i++) {
		r = pool_drop(cli->config.state, &v[i]);
		if (r == 0)
			printf("%d\n", v[i].pid);
		else if (r == -ENOENT)
			r = 0;
	}
	if (r < 0 && !e.code)
		err_errno(&e, r, "cannot end what waits in %s", cli->config.state);
	return r < 0 ? cli_fail(&e) : 0;
}

/* ---- subcommands ---- */

static const struct cli_verb commands[] = {
	{ "run", pool_run, "Keep machines waiting, as a service" },
	{ "status", pool_status, "List the machines that wait" },
	{ "drain", pool_drain, "End those that wait; the service starts others" },
};

static void print_help(FILE *to)
{
	fputs("Usage: podvm pool COMMAND [OPTIONS]\n\nCommands:\n", to);
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(to, "  %-10s%s\n", commands[i].name, commands[i].summary);
}

int cli_pool(struct cli *cli, int argc, char **argv)
{
	struct err e = { 0 };
	char quoted[64];

	if (argc < 2) {
		print_help(stderr);
		return CLI_FAILED;
	}
	if (str_eq(argv[1], "--help") || str_eq(argv[1], "-h")) {
		print_help(stdout);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (str_eq(argv[1], commands[i].name))
			return commands[i].main(cli, argc - 1, argv + 1);
	if (str_eq(argv[1], "guard"))
		return pool_machine(cli, argc - 1, argv + 1);
	err_set(&e, -EINVAL, "unknown command %s", log_quote(quoted, sizeof(quoted), argv[1]));
	err_hint(&e, "'podvm pool --help' lists the commands");
	return cli_fail(&e);
}
