/* SPDX-License-Identifier: Apache-2.0 */
/* podvm image: the cache of container images, and the guest image (image_guest.c). */
#include "cli/image.h"

#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/table.h"
#include "cli/target.h"
#include "oci/json.h"
#include "storage/snapshot.h"

int image_open_store(struct cli *cli, struct image_store **ret, struct err *e)
{
	_cleanup_(freep) char *dir = str_printf("%s/images", cli->config.cache);

	return dir ? image_store_open(dir, ret, e) : err_oom(e);
}

static void on_progress(void *data, const char *stage, uint64_t done, uint64_t total)
{
	cli_progress(stage, done, total);
}

struct image_options image_options(const struct cli *cli)
{
	const struct config *config = &cli->config;

	return (struct image_options){
		.pull = (enum image_pull)config->pull,
		.verity = config->verity,
		.rules = { .max_bytes = config->cache_size, .max_age = config->cache_age / 1000 },
		.progress = on_progress,
	};
}

/* Options and at least @min names; what every subcommand begins with. */
int image_parse(const char *usage, const struct cli_option *options, size_t n, int argc,
		char **argv, int min, int *ret_rest, struct err *e)
{
	int r = cli_parse(usage, options, n, argc, argv, ret_rest, e);

	if (r == 0 && argc - *ret_rest < min) {
		r = err_set(e, -EINVAL, "no image is named");
		err_hint(e, "usage: %s", usage);
	}
	return r;
}

/* ---- ls ---- */

static const char *stored_ago(char *buf, size_t size, int64_t seconds)
{
	return cli_ago(buf, size, (uint64_t)MAX(seconds, (int64_t)0) * 1000000000);
}

static int add_row(struct table *table, const struct image_info *info, const char *ref)
{
	char id[16];
	char size[32];
	char ago[64];

	snprintf(id, sizeof(id), "%.12s", info->digest + strlen("sha256:"));
	return table_row(table, ref, id, stored_ago(ago, sizeof(ago), info->stored),
			 cli_human_size(size, sizeof(size), info->size),
			 info->in_use ? "yes" : "no");
}

static int print_table(const struct image_infos *infos)
{
	_cleanup_(table_done) struct table table = { .columns = 5 };
	int r = table_row(&table, "NAME", "DIGEST", "STORED", "SIZE", "IN USE");

	for (size_t i = 0; i < infos->n && r == 0; i++) {
		const struct image_info *info = &infos->v[i];

		if (info->refs.n == 0)
			r = add_row(&table, info, "<none>");
		for (size_t j = 0; j < info->refs.n && r == 0; j++)
			r = add_row(&table, info, info->refs.v[j]);
	}
	if (r == 0)
		table_print(&table);
	return r;
}

static int print_json(const struct image_infos *infos)
{
	_cleanup_(json_putp) struct json_object *array = json_object_new_array();

	if (!array)
		return -ENOMEM;
	for (size_t i = 0; i < infos->n; i++) {
		const struct image_info *info = &infos->v[i];
		struct json_object *o = json_push_object(array);

		if (!o || json_add_string(o, "digest", info->digest) < 0 ||
		    json_add_string(o, "config_digest", info->config_digest) < 0 ||
		    json_add_strv(o, "names", &info->refs) < 0 ||
		    json_add_string(o, "created", info->created) < 0 ||
		    json_add_int(o, "stored", info->stored) < 0 ||
		    json_add_int(o, "used", info->used) < 0 ||
		    json_add_u64(o, "size", info->size) < 0 ||
		    json_add_bool(o, "in_use", info->in_use) < 0)
			return -ENOMEM;
	}
	return cli_print_json(array);
}

static int image_ls(struct cli *cli, int argc, char **argv)
{
	_cleanup_(image_store_freep) struct image_store *store = NULL;
	struct image_infos infos = { 0 };
	bool json = false;
	const struct cli_option options[] = {
		{ "json", 0, CLI_FLAG, &json, NULL, "As JSON" },
	};
	struct err e = { 0 };
	int rest = 0;
	int r = image_parse("podvm image ls [OPTIONS]", options, ARRAY_SIZE(options), argc, argv, 0,
			    &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0)
		r = image_open_store(cli, &store, &e);
	if (r == 0)
		r = image_store_list(store, &infos, &e);
	if (r < 0)
		return cli_fail(&e);
	r = json ? print_json(&infos) : print_table(&infos);
	image_infos_done(&infos);
	if (r < 0) {
		err_oom(&e);
		return cli_fail(&e);
	}
	return r;
}

/* ---- pull, rm, prune ---- */

static int image_pull(struct cli *cli, int argc, char **argv)
{
	_cleanup_(image_store_freep) struct image_store *store = NULL;
	struct image_options how = image_options(cli);
	const struct cli_option options[] = {
		{ "authfile", 0, CLI_STRING, &how.authfile, "FILE", "Credentials for registries" },
	};
	struct err e = { 0 };
	int code = 0;
	int rest = 0;
	int r = image_parse("podvm image pull [OPTIONS] IMAGE...", options, ARRAY_SIZE(options),
			    argc, argv, 1, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r < 0 || image_open_store(cli, &store, &e) < 0)
		return cli_fail(&e);
	how.pull = IMAGE_PULL_ALWAYS;
	for (; rest < argc; rest++) {
		_cleanup_(image_freep) struct image *image = NULL;

		r = image_store_get(store, argv[rest], &how, &image, &e);
		cli_progress(NULL, 0, 0);
		if (r < 0)
			code = cli_fail(&e);
		else
			puts(image->digest);
	}
	return code;
}

static int image_rm(struct cli *cli, int argc, char **argv)
{
	_cleanup_(image_store_freep) struct image_store *store = NULL;
	struct err e = { 0 };
	int code = 0;
	int rest = 0;
	int r = image_parse("podvm image rm IMAGE...", NULL, 0, argc, argv, 1, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r < 0 || image_open_store(cli, &store, &e) < 0)
		return cli_fail(&e);
	for (; rest < argc; rest++) {
		if (image_store_remove(store, argv[rest], &e) < 0)
			code = cli_fail(&e);
		else
			puts(argv[rest]);
	}
	return code;
}

/**
 * struct pruning - What goes
 * @kind:	Of what is told: "image" or "layer"
 * @list:	For --json, else NULL
 * @lines:	One line each
 * @failed:	There was no memory for the list
 */
struct pruning {
	const char *kind;
	struct json_object *list;
	bool lines;
	bool failed;
};

static void on_pruned(void *data, const char *name, uint64_t bytes)
{
	struct pruning *p = data;
	struct json_object *o = p->list ? json_push_object(p->list) : NULL;
	char size[32];

	if (p->lines)
		printf("%s %s %s\n", p->kind, name, cli_human_size(size, sizeof(size), bytes));
	if (p->list && (!o || json_add_string(o, "kind", p->kind) < 0 ||
			json_add_string(o, "name", name) < 0 || json_add_u64(o, "size", bytes) < 0))
		p->failed = true;
}

static void print_pruned(const struct prune_result *images, const struct prune_result *layers,
			 bool dry_run)
{
	char size[32];

	printf("%zu image%s", images->removed, images->removed == 1 ? "" : "s");
	if (layers->removed > 0)
		printf(" and %zu layer%s of containerd's", layers->removed,
		       layers->removed == 1 ? "" : "s");
	printf(dry_run ? " would be removed, %s freed\n" : " removed, %s freed\n",
	       cli_human_size(size, sizeof(size), images->freed + layers->freed));
}

static int prune(struct cli *cli, struct prune_rules *rules, struct pruning *p, struct err *e)
{
	_cleanup_(image_store_freep) struct image_store *store = NULL;
	struct prune_result images = { 0 };
	struct prune_result layers = { 0 };
	int r = image_open_store(cli, &store, e);

	rules->unneeded = true;
	rules->tell = on_pruned;
	rules->data = p;
	p->kind = "image";
	p->lines = rules->dry_run && !p->list;
	if (r == 0)
		r = image_store_prune(store, rules, &images, e);
	if (r < 0)
		return r;
	p->kind = "layer";
	r = snapshot_prune(cli->config.cache, rules, &layers);
	if (r < 0)
		return err_errno(e, r, "cannot look at the layers in %s", cli->config.cache);
	if (!p->list)
		print_pruned(&images, &layers, rules->dry_run);
	return p->failed ? err_oom(e) : 0;
}

static int image_prune(struct cli *cli, int argc, char **argv)
{
	_cleanup_(json_putp) struct json_object *list = NULL;
	struct prune_rules rules = image_options(cli).rules;
	struct pruning p = { 0 };
	bool json = false;
	const struct cli_option options[] = {
		{ "all", 'a', CLI_FLAG, &rules.all, NULL,
		  "All that aren't in use, not only the nameless" },
		{ "dry-run", 'n', CLI_FLAG, &rules.dry_run, NULL, "Only tell what would go" },
		{ "json", 0, CLI_FLAG, &json, NULL, "Tell what has gone, as JSON" },
	};
	struct err e = { 0 };
	int rest = 0;
	int r = image_parse("podvm image prune [OPTIONS]", options, ARRAY_SIZE(options), argc, argv,
			    0, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0 && json) {
		list = p.list = json_object_new_array();
		r = list ? 0 : err_oom(&e);
	}
	if (r == 0)
		r = prune(cli, &rules, &p, &e);
	if (r < 0)
		return cli_fail(&e);
	if (json && cli_print_json(list) < 0) {
		err_oom(&e);
		return cli_fail(&e);
	}
	return 0;
}

/* ---- subcommands ---- */

static const struct cli_verb commands[] = {
	{ "ls", image_ls, "List the images in the cache" },
	{ "pull", image_pull, "Fetch images and make them ready" },
	{ "rm", image_rm, "Remove images from the cache" },
	{ "prune", image_prune, "Remove images that nothing uses" },
	{ "info", image_guest_info, "Show what the guest image is made of" },
	{ "verify", image_verify,
	  "Check the guest image, or cached images, against their digests" },
};

int cli_image(struct cli *cli, int argc, char **argv)
{
	return cli_group(cli, "image", commands, ARRAY_SIZE(commands), argc, argv);
}
