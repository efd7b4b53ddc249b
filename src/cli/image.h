/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_IMAGE_H
#define PODVM_CLI_IMAGE_H

/* What the subcommands of `podvm image` share. */

#include "cli/cli.h"
#include "storage/image_store.h"

/** image_open_store() - Open the cache of images. Return: 0 or a negative errno */
int image_open_store(struct cli *cli, struct image_store **ret, struct err *e);

/** image_options() - How the configuration wants images, with progress on the terminal */
struct image_options image_options(const struct cli *cli);

/** image_parse() - cli_parse(), and there have to be at least @min arguments */
int image_parse(const char *usage, const struct cli_option *options, size_t n, int argc,
		char **argv, int min, int *ret_rest, struct err *e);

/* In image_guest.c. */
int image_guest_info(struct cli *cli, int argc, char **argv);
int image_verify(struct cli *cli, int argc, char **argv);

#endif
