/* SPDX-License-Identifier: Apache-2.0 */

/* Making EROFS files with mkfs.erofs (erofs-utils 1.5 of Debian 12, 1.8 of Debian 13). */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/spawn.h"
#include "storage/image_store_internal.h"

#define MKFS		"mkfs.erofs"
#define MKFS_TIMEOUT_MS (30 * 60 * 1000)

/*
 * With this variable mkfs.erofs takes no time of the day; times of files above it would be clamped,
 * so it is as late as possible.
 */
#define MKFS_TIME "SOURCE_DATE_EPOCH=4294967295"

/* Small chunks for files with holes: equal ones, such as zeros, are stored once. */
#define MKFS_CHUNKS "--chunksize=65536"

static int add_uuid(struct strv *argv, const char *digest)
{
	const char *h = digest_hex(digest);

	return strv_addf(argv, "-U%.8s-%.4s-%.4s-%.4s-%.12s", h, h + 8, h + 12, h + 16, h + 20);
}

static int find_mkfs(struct err *e)
{
	_cleanup_(freep) char *path = NULL;
	int r = find_program(MKFS, &path);

	if (r < 0) {
		err_errno(e, r, "cannot find %s", MKFS);
		err_hint(e, "Install it: apt-get install erofs-utils");
	}
	return r;
}

/* It prints names of the image's files, which are not fit for a terminal as they are. */
static int run_mkfs(struct spawn *s, struct err *e)
{
	struct err inner = { 0 };
	char quoted[400];
	int r = spawn_run(s, MKFS_TIMEOUT_MS, NULL, &inner);

	if (r == 0)
		return 0;
	return err_set(e, r, "cannot make an EROFS file: %s",
		       log_quote(quoted, sizeof(quoted), inner.msg));
}

/*
 * For files with holes version 1.5 writes all data into a temporary file in /tmp first, which may
 * be in memory, and fails when that is another kind of file system than the target's. So it gets
 * the target's directory as its /tmp.
 */
static int add_own_tmp(struct strv *argv, const char *root, const char *dir)
{
	return strv_add_all(argv, "unshare", "--mount", "sh", "-c",
			    "mount --bind -- \"$1\" /mnt && mount --bind -- \"$2\" /tmp && "
			    "shift 2 && exec \"$@\"",
			    "sh", root, dir, NULL);
}

static int add_mkfs(struct strv *argv, const struct erofs_options *o)
{
	int r = strv_add_all(argv, MKFS, "--quiet", NULL);

	if (r == 0 && o->digest)
		r = add_uuid(argv, o->digest);
	if (r == 0 && o->sparse)
		r = strv_add(argv, MKFS_CHUNKS);
	if (r == 0 && o->exclude)
		r = strv_addf(argv, "--exclude-path=%s", o->exclude);
	return r;
}

int erofs_make(const char *root, const char *file, const struct erofs_options *o, struct err *e)
{
	static char *const env[] = { (char *)MKFS_TIME, (char *)"LC_ALL=C", NULL };
	const char *name = strrchr(file, '/');
	_cleanup_(freep) char *dir = name ? strndup(file, (size_t)(name - file)) : NULL;
	_cleanup_(strv_done) struct strv argv = { 0 };
	struct spawn s = SPAWN_INIT;
	int r;

	if (!dir)
		return name ? err_oom(e) : err_set(e, -EINVAL, "%s is no absolute path", file);
	r = find_mkfs(e);
	if (r < 0)
		return r;
	if (o->sparse)
		r = add_own_tmp(&argv, root, dir);
	if (r == 0)
		r = add_mkfs(&argv, o);
	if (r == 0)
		r = o->sparse ? strv_addf(&argv, "/tmp%s", name) : strv_add(&argv, file);
	if (r == 0)
		r = strv_add(&argv, o->sparse ? "/mnt" : root);
	if (r < 0)
		return err_oom(e);
	s.path = argv.v[0];
	s.argv = argv.v;
	s.envp = env;
	return run_mkfs(&s, e);
}
