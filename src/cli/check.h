/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_CHECK_H
#define PODVM_CLI_CHECK_H

/* podvm check: the list of what was found out, and the parts that find out. */

#include <stdbool.h>
#include <stddef.h>

#include "cli/cli.h"

enum check_status {
	CHECK_OK,      /* as it should be */
	CHECK_LIMITED, /* containers run, but something doesn't work or is slow */
	CHECK_FAILED,  /* no container can run */
};

/**
 * struct check_item - One thing that was found out; strings are owned
 * @name:	Short and stable: "kvm", "guest-image", "passt"
 * @text:	What was found
 * @hint:	What to do about it, may be empty
 */
struct check_item {
	enum check_status status;
	char *name;
	char *text;
	char *hint;
};

struct check {
	struct check_item *v;
	size_t n;
	bool oom; /* something is missing in the list */
};

/** check_add() - Append an item; @hint may be NULL or empty */
void check_add(struct check *c, enum check_status status, const char *name, const char *hint,
	       const char *fmt, ...) __attribute__((format(printf, 5, 6)));

void check_done(struct check *c);

/** check_host() - Kernel, CPUs, memory, cgroups, directories */
void check_host(struct check *c, const struct config *config);

/** check_programs() - The programs that are run, and which packages have them */
void check_programs(struct check *c);

/** check_containerd() - Whether containerd is set up for pods; nothing of it keeps podvm from
 * running */
void check_containerd(struct check *c);

/** check_guests() - The guest image, and what every monitor can do with it, by running guests */
void check_guests(struct check *c, const struct config *config, const char *image_dir);

#endif
