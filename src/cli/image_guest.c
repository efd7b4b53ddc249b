/* SPDX-License-Identifier: Apache-2.0 */
/* podvm image info and podvm image verify. */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "cli/image.h"
#include "cli/target.h"
#include "oci/json.h"
#include "sandbox/guest_image.h"

static int add_file(struct json_object *obj, const char *name, const struct guest_file *file,
		    const char *path)
{
	struct json_object *o = json_add_object(obj, name);

	if (!o || json_add_string(o, "path", path) < 0 || json_add_u64(o, "size", file->size) < 0 ||
	    json_add_string(o, "sha256", file->sha256) < 0)
		return -ENOMEM;
	return 0;
}

static int print_json(const struct guest_image *image)
{
	_cleanup_(json_putp) struct json_object *obj = json_object_new_object();

	if (!obj || json_add_string(obj, "dir", image->dir) < 0 ||
	    json_add_string(obj, "version", image->version) < 0 ||
	    json_add_string(obj, "arch", image->arch) < 0 ||
	    json_add_string(obj, "agent_version", image->agent_version) < 0 ||
	    json_add_string(obj, "kernel_version", image->kernel_version) < 0 ||
	    add_file(obj, "kernel", &image->kernel, image->kernel_path) < 0 ||
	    add_file(obj, "rootfs", &image->rootfs, image->rootfs_path) < 0 ||
	    json_add_string(obj, "root_hash", image->root_hash) < 0 ||
	    json_add_string(obj, "cmdline", image->cmdline) < 0 ||
	    json_add_strv(obj, "packages", &image->packages) < 0)
		return -ENOMEM;
	return cli_print_json(obj);
}

static void print_file(const char *name, const struct guest_file *file)
{
	char size[32];

	printf("%-10s%s, %s, sha256 %s\n", name, file->file,
	       cli_human_size(size, sizeof(size), file->size), file->sha256);
}

static void print_text(const struct guest_image *image)
{
	printf("%-10s%s\n", "Directory", image->dir);
	printf("%-10s%s (%s)\n", "Version", image->version, image->arch);
	printf("%-10s%s\n", "Agent", image->agent_version);
	printf("%-10s%s\n", "Linux", image->kernel_version);
	print_file("Kernel", &image->kernel);
	print_file("Root", &image->rootfs);
	printf("%-10s%s\n", "Root hash", image->root_hash);
	printf("%-10s%s\n", "Command", image->cmdline);
	printf("Contains:\n");
	for (size_t i = 0; i < image->packages.n; i++)
		printf("  %s\n", image->packages.v[i]);
}

int image_guest_info(struct cli *cli, int argc, char **argv)
{
	_cleanup_(guest_image_done) struct guest_image image = { 0 };
	const char *dir = cli->config.image;
	bool debug = false;
	bool json = false;
	const struct cli_option options[] = {
		{ "image", 0, CLI_STRING, &dir, "DIR", "Guest image; default: the configured one" },
		{ "debug", 0, CLI_FLAG, &debug, NULL, "The flavour with a shell" },
		{ "json", 0, CLI_FLAG, &json, NULL, "As JSON" },
	};
	struct err e = { 0 };
	int rest = 0;
	int r = image_parse("podvm image info [OPTIONS]", options, ARRAY_SIZE(options), argc, argv,
			    0, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0)
		r = guest_image_open(dir, debug, &image, &e);
	if (r == 0 && json && print_json(&image) != 0)
		r = err_oom(&e);
	if (r < 0)
		return cli_fail(&e);
	if (!json)
		print_text(&image);
	return 0;
}

static int verify_guest(const char *dir, struct err *e)
{
	_cleanup_(guest_image_done) struct guest_image image = { 0 };
	int r = guest_image_open(dir, /* debug= */ false, &image, e);

	if (r == 0)
		r = guest_image_verify(&image, e);
	if (r == 0)
		printf("%s: version %s is intact\n", dir, image.version);
	err_stage(e, "guest image");
	return r;
}

static int verify_cached(struct cli *cli, char **names)
{
	_cleanup_(image_store_freep) struct image_store *store = NULL;
	struct err e = { 0 };
	int code = 0;

	if (image_open_store(cli, &store, &e) < 0)
		return cli_fail(&e);
	for (; *names; names++) {
		if (image_store_verify(store, *names, &e) < 0)
			code = cli_fail(&e);
		else
			printf("%s is intact\n", *names);
	}
	return code;
}

int image_verify(struct cli *cli, int argc, char **argv)
{
	const char *dir = cli->config.image;
	const struct cli_option options[] = {
		{ "image", 0, CLI_STRING, &dir, "DIR", "Guest image; default: the configured one" },
	};
	struct err e = { 0 };
	int rest = 0;
	int r = image_parse("podvm image verify [OPTIONS] [IMAGE...]", options, ARRAY_SIZE(options),
			    argc, argv, 0, &rest, &e);

	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r < 0)
		return cli_fail(&e);
	if (rest < argc)
		return verify_cached(cli, argv + rest);
	return verify_guest(dir, &e) < 0 ? cli_fail(&e) : 0;
}
