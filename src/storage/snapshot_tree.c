/* SPDX-License-Identifier: Apache-2.0 */

/* Layers as directories and files of the host: who they are, and what is in them. */

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <linux/stat.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/buf.h"
#include "base/log.h"
#include "storage/snapshot_internal.h"

static int refuse(struct err *e, const char *path, const char *why)
{
	char quoted[256];

	return err_set(e, -EOPNOTSUPP, "%s %s", log_quote(quoted, sizeof(quoted), path), why);
}

static int add_identity(struct buf *text, const char *path, mode_t type, struct err *e)
{
	struct statx st;
	char quoted[256];

	if (*path != '/' || strchr(path, '\n'))
		return refuse(e, path, "is no name of a layer");
	if (statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE | STATX_INO | STATX_BTIME, &st) <
	    0)
		return err_errno(e, -errno, "cannot look at the layer %s",
				 log_quote(quoted, sizeof(quoted), path));
	if ((st.stx_mode & S_IFMT) != type)
		return refuse(e, path, type == S_IFDIR ? "is no directory" : "is no file");
	/* Device numbers and inodes of what is mounted there come again. */
	if (st.stx_attributes & STATX_ATTR_MOUNT_ROOT)
		return refuse(e, path, "is a mount");
	if (!(st.stx_mask & STATX_BTIME) || st.stx_btime.tv_sec == 0)
		return refuse(e, path, "has no birth time");
	if (buf_printf(text, "%u:%u %llu %lld.%09u %zu %s\n", st.stx_dev_major, st.stx_dev_minor,
		       (unsigned long long)st.stx_ino, (long long)st.stx_btime.tv_sec,
		       st.stx_btime.tv_nsec, strlen(path), path) < 0)
		return err_oom(e);
	return 0;
}

int snapshot_key(const struct snapshot_recipe *recipe, char key[SNAPSHOT_KEY_SIZE], struct err *e)
{
	bool dirs = recipe->kind == SNAPSHOT_LAYER || recipe->kind == SNAPSHOT_VERITY;
	_cleanup_(buf_done) struct buf text = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < recipe->n; i++)
		r = add_identity(&text, recipe->paths[i], dirs ? S_IFDIR : S_IFREG, e);
	if (r < 0)
		return r;
	if (!buf_cstr(&text))
		return err_oom(e);
	str_hash(buf_cstr(&text), key);
	key[STR_HASH_SIZE - 1] = (char)recipe->kind;
	key[STR_HASH_SIZE] = '\0';
	return 0;
}

int snapshot_key_kind(const char *name)
{
	size_t digits = strspn(name, "0123456789abcdef");
	size_t n = strlen(name);

	/* The letter b is a digit as well. */
	if (n < STR_HASH_SIZE - 1 || n > STR_HASH_SIZE || digits < STR_HASH_SIZE - 1)
		return -EINVAL;
	switch (name[STR_HASH_SIZE - 1]) {
	case SNAPSHOT_LAYER:
	case SNAPSHOT_VERITY:
	case SNAPSHOT_BLOB_COPY:
	case SNAPSHOT_PACK:
		return name[STR_HASH_SIZE - 1];
	default:
		return -EINVAL;
	}
}

static int too_large(struct err *e, const char *what, unsigned long long limit)
{
	return err_set(e, -EFBIG, "the layer has more than %llu %s", limit, what);
}

static int check_limits(const struct snapshot_tree *tree, int level, struct err *e)
{
	const struct snapshot_limits *limits = &tree->limits;

	if (tree->entries > limits->entries)
		return too_large(e, "files", limits->entries);
	if (tree->apparent > limits->bytes)
		return too_large(e, "bytes", limits->bytes);
	if (level > limits->depth)
		return too_large(e, "directories in each other", (unsigned long long)limits->depth);
	return 0;
}

static int scan_entry(const FTSENT *ent, struct snapshot_tree *tree, struct err *e)
{
	const struct stat *st = ent->fts_statp;

	tree->entries += ent->fts_info != FTS_DP;
	switch (ent->fts_info) {
	case FTS_D:
		/* Its content is that of a directory of another name. */
		if (lgetxattr(ent->fts_accpath, "trusted.overlay.redirect", NULL, 0) >= 0)
			return refuse(e, ent->fts_path, "is a directory that was renamed");
		return 0;
	case FTS_F:
		/* Its content is that of a lower layer. */
		if (lgetxattr(ent->fts_accpath, "trusted.overlay.metacopy", NULL, 0) >= 0)
			return refuse(e, ent->fts_path, "has its content in another layer");
		tree->bytes += (uint64_t)st->st_blocks * 512;
		if (__builtin_add_overflow(tree->apparent, (uint64_t)st->st_size, &tree->apparent))
			return too_large(e, "bytes", tree->limits.bytes);
		tree->sparse |= (uint64_t)st->st_blocks * 512 < (uint64_t)st->st_size;
		return 0;
	case FTS_DNR:
	case FTS_ERR:
	case FTS_NS:
		return err_errno(e, -ent->fts_errno, "cannot read the layer");
	default:
		return 0;
	}
}

int snapshot_scan(const char *dir, struct snapshot_tree *tree, struct err *e)
{
	char *const paths[] = { (char *)dir, NULL };
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_XDEV, NULL);
	FTSENT *ent;
	int r = 0;

	if (!fts)
		return err_errno(e, -errno, "cannot read the layer");
	while (r == 0 && (errno = 0, ent = fts_read(fts))) {
		r = scan_entry(ent, tree, e);
		if (r == 0)
			r = check_limits(tree, ent->fts_level, e);
	}
	if (r == 0 && errno)
		r = err_errno(e, -errno, "cannot read the layer");
	fts_close(fts);
	return r;
}
