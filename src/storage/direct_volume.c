/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/direct_volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "oci/json.h"
#include "oci/oci.h"

#define FILE_NAME   "mountInfo.json"
#define OPTIONS_MAX 64

void direct_volume_done(struct direct_volume *v)
{
	free(v->device);
	free(v->fstype);
	strv_done(&v->options);
	*v = (struct direct_volume){ 0 };
}

/* ---- its text ---- */

struct mount_info {
	char *type;
	char *device;
	char *fstype;
	struct oci_map metadata;
	struct strv options;
};

static const struct json_field fields[] = {
	{ "volume-type", JSON_STRING, offsetof(struct mount_info, type), JSON_REQUIRED },
	{ "device", JSON_STRING, offsetof(struct mount_info, device), JSON_REQUIRED },
	{ "fstype", JSON_STRING, offsetof(struct mount_info, fstype), JSON_REQUIRED },
	{ "metadata", JSON_MAP, offsetof(struct mount_info, metadata), 0 },
	{ "options", JSON_STRV, offsetof(struct mount_info, options), 0 },
};

static void mount_info_done(struct mount_info *m)
{
	free(m->type);
	free(m->device);
	free(m->fstype);
	oci_map_done(&m->metadata);
	strv_done(&m->options);
}

static bool is_known(const char *fstype)
{
	static const char *const types[] = { "ext4", "ext3", "ext2", "erofs" };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (str_eq(fstype, types[i]))
			return true;
	return false;
}

static int take_group(const struct oci_map *metadata, struct direct_volume *v, struct err *e)
{
	const char *group = oci_map_get(metadata, "fsGroup");
	const char *policy = oci_map_get(metadata, "fsGroupChangePolicy");
	uint64_t gid;

	if (!group)
		return 0;
	if (parse_u64(group, INT32_MAX, &gid) < 0)
		return err_set(e, -EINVAL, "fsGroup is no group");
	if (policy && !str_eq(policy, "Always") && !str_eq(policy, "OnRootMismatch"))
		return err_set(e, -EINVAL,
			       "fsGroupChangePolicy is neither Always nor OnRootMismatch");
	v->fs_group = (gid_t)gid;
	v->fs_group_on_mismatch = policy && str_eq(policy, "OnRootMismatch");
	return 0;
}

static int take_options(struct mount_info *m, struct direct_volume *v, struct err *e)
{
	if (m->options.n > OPTIONS_MAX)
		return err_set(e, -E2BIG, "more than %d mount options", OPTIONS_MAX);
	for (size_t i = 0; i < m->options.n; i++) {
		v->readonly |= str_eq(m->options.v[i], "ro");
		if (str_empty(m->options.v[i]) || strlen(m->options.v[i]) > 255)
			return err_set(e, -EINVAL, "a mount option is empty or too long");
	}
	v->readonly |= str_eq(v->fstype, "erofs");
	v->options = m->options;
	m->options = (struct strv){ 0 };
	if (v->readonly && strv_add(&v->options, "ro") < 0)
		return err_oom(e);
	return 0;
}

static int take(struct mount_info *m, struct direct_volume *v, struct err *e)
{
	char quoted[64];
	int r;

	if (!str_eq(m->type, "block")) {
		err_set(e, -EOPNOTSUPP, "a volume of type %s can't be given to a machine",
			log_quote(quoted, sizeof(quoted), m->type));
		err_hint(e, "The type that is known is block.");
		return -EOPNOTSUPP;
	}
	if (!is_known(m->fstype)) {
		err_set(e, -EOPNOTSUPP, "the guest's kernel doesn't know the file system %s",
			log_quote(quoted, sizeof(quoted), m->fstype));
		err_hint(e, "It knows ext4, ext3, ext2 and erofs.");
		return -EOPNOTSUPP;
	}
	if (*m->device != '/' || strlen(m->device) >= PATH_MAX)
		return err_set(e, -EINVAL, "device is no absolute path");
	v->device = TAKE_PTR(m->device);
	v->fstype = TAKE_PTR(m->fstype);
	r = take_group(&m->metadata, v, e);
	return r < 0 ? r : take_options(m, v, e);
}

int direct_volume_parse(const char *text, size_t len, struct direct_volume *ret, struct err *e)
{
	_cleanup_(json_putp) struct json_object *obj = NULL;
	_cleanup_(mount_info_done) struct mount_info m = { 0 };
	int r;

	r = json_parse(text, len, FILE_NAME, &obj, e);
	if (r == 0)
		r = json_dispatch(obj, fields, ARRAY_SIZE(fields), &m, FILE_NAME, e);
	return r < 0 ? r : take(&m, ret, e);
}

/* ---- its place ---- */

/* base64 of URLs (RFC 4648), which fits into a file name for paths of up to 189 bytes. */
static int encode(const char *path, char out[NAME_MAX + 1], struct err *e)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789-_";
	size_t len = strlen(path);
	char *to = out;

	if (len == 0 || (len + 2) / 3 * 4 > NAME_MAX)
		return err_set(e, -ENAMETOOLONG, "the path of a volume has 1 to 189 bytes");
	for (size_t i = 0; i < len; i += 3) {
		size_t n = MIN(len - i, (size_t)3);
		unsigned int bits = (unsigned int)(unsigned char)path[i] << 16;

		if (n > 1)
			bits |= (unsigned int)(unsigned char)path[i + 1] << 8;
		if (n > 2)
			bits |= (unsigned char)path[i + 2];
		for (size_t k = 0; k < 4; k++)
			*to++ = k <= n ? digits[bits >> (18 - 6 * k) & 63] : '=';
	}
	*to = '\0';
	return 0;
}

static int check_owner(int fd, const char *dir, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot look at %s", dir);
	if (st.st_uid != geteuid() || st.st_mode & 022)
		return err_set(e, -EPERM, "others than root can write to %s", dir);
	return 0;
}

/* Return: Directory of a volume, -ENOENT without an error, or another negative errno */
static int open_volume(const char *dir, const char *path, struct err *e)
{
	_cleanup_(close_fdp) int top = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(close_fdp) int fd = -EBADF;
	char name[NAME_MAX + 1];
	int r;

	if (top < 0)
		return errno == ENOENT ? -ENOENT : err_errno(e, -errno, "cannot open %s", dir);
	r = check_owner(top, dir, e);
	if (r == 0)
		r = encode(path, name, e);
	if (r < 0)
		return r;
	fd = openat(top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT
				       : err_errno(e, -errno, "cannot open %s/%s", dir, name);
	r = check_owner(fd, dir, e);
	return r < 0 ? r : TAKE_FD(fd);
}

int direct_volume_read(const char *dir, const char *path, struct direct_volume *ret, struct err *e)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	_cleanup_(freep) char *text = NULL;
	size_t len = 0;
	int r;

	/* Such a path can't have been added. */
	if (strlen(path) > 189)
		return -ENOENT;
	fd = open_volume(dir, path, e);
	if (fd < 0)
		return fd;
	r = file_read(fd, FILE_NAME, DIRECT_VOLUME_MAX, &text, &len);
	if (r == -ENOENT)
		return r;
	if (r < 0)
		return err_errno(e, r, "cannot read " FILE_NAME " of %s", path);
	r = direct_volume_parse(text, len, ret, e);
	return r < 0 ? err_wrap(e, "volume %s", path) : 0;
}

int direct_volume_add(const char *dir, const char *path, const char *text, struct err *e)
{
	_cleanup_(direct_volume_done) struct direct_volume v = { 0 };
	_cleanup_(freep) char *full = NULL;
	_cleanup_(close_fdp) int fd = -EBADF;
	char name[NAME_MAX + 1];
	int r;

	r = direct_volume_parse(text, strlen(text), &v, e);
	if (r == 0)
		r = encode(path, name, e);
	if (r < 0)
		return r;
	full = str_printf("%s/%s", dir, name);
	if (!full)
		return err_oom(e);
	r = mkdir_p(full, 0700);
	if (r < 0)
		return err_errno(e, r, "cannot make %s", full);
	fd = open_volume(dir, path, e);
	if (fd < 0)
		return fd == -ENOENT ? err_errno(e, fd, "cannot open %s", full) : fd;
	r = file_replace(fd, FILE_NAME, text, strlen(text), 0600);
	return r < 0 ? err_errno(e, r, "cannot write %s/" FILE_NAME, full) : 0;
}

int direct_volume_remove(const char *dir, const char *path, struct err *e)
{
	_cleanup_(freep) char *full = NULL;
	char name[NAME_MAX + 1];
	int r = encode(path, name, e);

	if (r < 0)
		return r;
	full = str_printf("%s/%s", dir, name);
	if (!full)
		return err_oom(e);
	r = rm_rf(AT_FDCWD, full);
	return r < 0 && r != -ENOENT ? err_errno(e, r, "cannot remove %s", full) : 0;
}

int direct_volume_note(const char *dir, const char *path, const char *sandbox, struct err *e)
{
	_cleanup_(close_fdp) int fd = open_volume(dir, path, e);
	int r = fd < 0 ? fd : file_replace(fd, sandbox, "", 0, 0600);

	return r < 0 ? err_errno(e, r, "cannot note who has the volume %s", path) : 0;
}

int direct_volume_users(const char *dir, const char *path, struct strv *ret, struct err *e)
{
	_cleanup_(closedirp) DIR *entries = NULL;
	int fd = open_volume(dir, path, e);
	struct dirent *d;
	int r = 0;

	if (fd < 0)
		return fd == -ENOENT ? err_set(e, -ENOENT, "%s is no volume that was added", path)
				     : fd;
	entries = fdopendir(fd);
	if (!entries)
		close(fd);
	while (r == 0 && entries && (d = readdir(entries)))
		if (d->d_name[0] != '.' && !str_eq(d->d_name, FILE_NAME))
			r = strv_add(ret, d->d_name);
	return r < 0 ? err_oom(e) : 0;
}
