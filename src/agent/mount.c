/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/device.h"
#include "agent/dm.h"
#include "agent/paths.h"
#include "agent/share.h"
#include "agent/volume_root.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"

/* fsconfig() takes no longer value than this (a PAGE_SIZE limit is mount(2)'s). */
#define FS_VALUE_MAX 255
#define OPTIONS_MAX  512

/* The kernel has no more parts of a disk. */
#define PART_MAX 255

static const struct {
	const char *name;
	uint64_t set;
	uint64_t clear;
} attr_options[] = {
	{ "ro", MOUNT_ATTR_RDONLY, 0 },
	{ "rw", 0, MOUNT_ATTR_RDONLY },
	{ "nosuid", MOUNT_ATTR_NOSUID, 0 },
	{ "suid", 0, MOUNT_ATTR_NOSUID },
	{ "nodev", MOUNT_ATTR_NODEV, 0 },
	{ "dev", 0, MOUNT_ATTR_NODEV },
	{ "noexec", MOUNT_ATTR_NOEXEC, 0 },
	{ "exec", 0, MOUNT_ATTR_NOEXEC },
	{ "noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME },
	{ "relatime", 0, MOUNT_ATTR__ATIME },
	{ "strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME },
	{ "nodiratime", MOUNT_ATTR_NODIRATIME, 0 },
	{ "diratime", 0, MOUNT_ATTR_NODIRATIME },
	{ "nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0 },
	{ "bind", 0, 0 },
	{ "rbind", 0, 0 },
};

static const char *const drivers[] = { "scsi", "blk", "share", "tmpfs", "overlay", "bind" };

void mount_options_done(struct mount_options *o)
{
	strv_done(&o->fs);
}

static bool parse_attr(struct mount_options *o, const char *option)
{
	for (size_t i = 0; i < ARRAY_SIZE(attr_options); i++) {
		if (!str_eq(option, attr_options[i].name))
			continue;
		o->attr = (o->attr & ~attr_options[i].clear) | attr_options[i].set;
		o->ro = o->attr & MOUNT_ATTR_RDONLY;
		o->recursive |= str_eq(option, "rbind");
		return true;
	}
	return false;
}

int mount_options_parse(struct mount_options *o, char *const *options, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int r = 0;

		if (!*options[i] || *options[i] == '=')
			return -EINVAL;
		if (!parse_attr(o, options[i]))
			r = strv_add(&o->fs, options[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_size(uint64_t size)
{
	return size > 0 && size % DM_BLOCK == 0 && size <= INT64_MAX;
}

/* A part of a disk, and what checks it. */
static int check_part(const Podvm__Agent__V1__Storage *s, struct err *e)
{
	bool disk = str_eq(s->driver, "scsi") || str_eq(s->driver, "blk");
	const Podvm__Agent__V1__Verity *v = s->verity;

	if (!disk && (s->part || v))
		return err_set(e, -EINVAL, "%s has no parts and isn't checked", s->driver);
	if (s->part && (s->part > PART_MAX || s->offset % DM_BLOCK || s->offset > INT64_MAX ||
			!is_size(s->size)))
		return err_set(e, -EINVAL, "part %u of disk \"%.32s\" is malformed", s->part,
			       s->source);
	if (v && (!is_size(v->data_size) || v->root_hash.len != DM_HASH_SIZE))
		return err_set(e, -EINVAL, "verity of disk \"%.32s\" is malformed", s->source);
	return 0;
}

int storage_check(const Podvm__Agent__V1__Storage *s, struct err *e)
{
	bool known = false;

	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		known |= str_eq(s->driver, drivers[i]);
	if (!known)
		return err_set(e, -EINVAL, "unknown storage driver \"%.32s\"", s->driver);
	if (!path_below(s->mount_point, DIR_PODVM))
		return err_set(e, -EINVAL, "mount point \"%.256s\" is not below " DIR_PODVM,
			       s->mount_point);
	if (str_eq(s->driver, "bind") && !path_below(s->source, DIR_PODVM))
		return err_set(e, -EINVAL, "source \"%.256s\" is not below " DIR_PODVM, s->source);
	if (s->n_options > OPTIONS_MAX || s->n_directories > OPTIONS_MAX)
		return err_set(e, -EINVAL, "too many options for %.256s", s->mount_point);
	for (size_t i = 0; i < s->n_directories; i++)
		if (s->directories[i][0] != '/' || strlen(s->directories[i]) >= PATH_MAX)
			return err_set(e, -EINVAL, "directory \"%.256s\" is not absolute",
				       s->directories[i]);
	return check_part(s, e);
}

/* A disk may be mounted at several places: FNV-1a of the place tells their devices apart. */
bool storage_verity_name(const Podvm__Agent__V1__Storage *s, char name[DM_NAME_MAX])
{
	uint32_t hash = 2166136261;

	if (!s->verity)
		return false;
	for (const char *p = s->mount_point; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619;
	snprintf(name, DM_NAME_MAX, "podvm-%s-%.64s-%u-%08x", s->driver, s->source, s->part, hash);
	return true;
}

/* Append what the file system itself says to an error. */
static int fs_error(int fs, int code, const char *what, struct err *e)
{
	char line[256];
	char said[256] = "";
	ssize_t n;

	while ((n = read(fs, line, sizeof(line) - 1)) > 0) {
		line[n] = '\0';
		line[strcspn(line, "\n")] = '\0';
		if (str_starts(line, "e "))
			snprintf(said, sizeof(said), "%.*s", (int)sizeof(said) - 1, line + 2);
	}
	return *said ? err_errno(e, code, "%s: %s", what, said) : err_errno(e, code, "%s", what);
}

static int fs_set(int fs, const char *name, const char *value, struct err *e)
{
	char what[128];
	int r;

	if (value && strlen(value) > FS_VALUE_MAX)
		return err_set(e, -ENAMETOOLONG, "option %.64s is longer than %d bytes", name,
			       FS_VALUE_MAX);
	r = fsconfig(fs, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, name, value, 0);
	if (r == 0)
		return 0;
	snprintf(what, sizeof(what), "option %.64s", name);
	return fs_error(fs, -errno, what, e);
}

/* "lowerdir=a:b" is one option per layer here, topmost first. */
static int fs_set_layers(int fs, char *layers, struct err *e)
{
	char *save = NULL;

	for (char *dir = strtok_r(layers, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		int r = fs_set(fs, "lowerdir+", dir, e);

		if (r < 0)
			return r;
	}
	return 0;
}

static int fs_set_option(int fs, const char *option, struct err *e)
{
	_cleanup_(freep) char *name = strdup(option);
	char *value;

	if (!name)
		return err_oom(e);
	value = strchr(name, '=');
	if (value)
		*value++ = '\0';
	if (value && str_eq(name, "lowerdir"))
		return fs_set_layers(fs, value, e);
	return fs_set(fs, name, value, e);
}

/* Make a file system's mount, not attached anywhere yet. Return: Descriptor or negative errno */
static int make_fs(const char *fstype, const char *source, const struct mount_options *o,
		   struct err *e)
{
	_cleanup_(close_fdp) int fs = fsopen(fstype, FSOPEN_CLOEXEC);
	int fd;
	int r;

	if (fs < 0)
		return err_errno(e, -errno, "file system %.32s", fstype);
	r = source ? fs_set(fs, "source", source, e) : 0;
	if (r == 0 && o->ro)
		r = fs_set(fs, "ro", NULL, e);
	for (size_t i = 0; r == 0 && i < o->fs.n; i++)
		r = fs_set_option(fs, o->fs.v[i], e);
	if (r < 0)
		return r;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return fs_error(fs, -errno, "cannot mount it", e);
	fd = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned int)o->attr);
	return fd < 0 ? fs_error(fs, -errno, "cannot mount it", e) : fd;
}

/* A copy of a directory's or file's mount. Return: Descriptor or negative errno */
static int make_bind(const char *source, const struct mount_options *o, struct err *e)
{
	struct mount_attr attr = {
		.attr_set = o->attr,
		.attr_clr = o->attr & MOUNT_ATTR__ATIME ? MOUNT_ATTR__ATIME : 0,
	};
	unsigned int recursive = o->recursive ? AT_RECURSIVE : 0;
	_cleanup_(close_fdp) int root = open(DIR_PODVM, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(close_fdp) int src = -EBADF;
	_cleanup_(close_fdp) int fd = -EBADF;

	if (root < 0)
		return err_errno(e, -errno, "cannot open " DIR_PODVM);
	src = open_beneath(root, path_below(source, DIR_PODVM), O_PATH, 0);
	if (src < 0)
		return err_errno(e, src, "cannot open %s", source);
	fd = open_tree(src, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive);
	if (fd < 0)
		return err_errno(e, -errno, "cannot mount %s again", source);
	if (o->attr && mount_setattr(fd, "", AT_EMPTY_PATH | recursive, &attr, sizeof(attr)) < 0)
		return err_errno(e, -errno, "cannot set the options of %s", source);
	return TAKE_FD(fd);
}

/* The place to mount on, made if missing: a directory, or a file for a mount that is a file. */
static int open_target(const char *path, int mount_fd, struct err *e)
{
	_cleanup_(close_fdp) int root = open(DIR_PODVM, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *rel = path_below(path, DIR_PODVM);
	_cleanup_(close_fdp) int dir = -EBADF;
	_cleanup_(freep) char *parent = NULL;
	struct stat st;
	char *name;
	int fd;

	if (root < 0 || fstat(mount_fd, &st) < 0)
		return err_errno(e, -errno, "cannot open " DIR_PODVM);
	if (S_ISDIR(st.st_mode)) {
		fd = mkdir_beneath(root, rel, 0755);
		return fd < 0 ? err_errno(e, fd, "cannot make %s", path) : fd;
	}
	parent = strdup(rel);
	if (!parent)
		return err_oom(e);
	name = strrchr(parent, '/');
	if (name)
		*name++ = '\0';
	dir = mkdir_beneath(root, name ? parent : "", 0755);
	if (dir < 0)
		return err_errno(e, dir, "cannot make %s", path);
	if (mknodat(dir, name ? name : parent, S_IFREG | 0644, 0) < 0 && errno != EEXIST)
		return err_errno(e, -errno, "cannot make %s", path);
	fd = open_beneath(dir, name ? name : parent, O_PATH, 0);
	return fd < 0 ? err_errno(e, fd, "cannot open %s", path) : fd;
}

static int attach(int mount_fd, const char *path, struct err *e)
{
	_cleanup_(close_fdp) int target = open_target(path, mount_fd, e);

	if (target < 0)
		return target;
	if (move_mount(mount_fd, "", target, "",
		       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_errno(e, -errno, "cannot mount it there");
	return 0;
}

/* Overlay's writable directories lie on a disk that may be new. */
static int make_overlay_dirs(const struct mount_options *o, struct err *e)
{
	_cleanup_(close_fdp) int root = open(DIR_PODVM, O_PATH | O_DIRECTORY | O_CLOEXEC);

	for (size_t i = 0; i < o->fs.n; i++) {
		const char *path = o->fs.v[i];
		int fd;

		if (!str_starts(path, "upperdir=") && !str_starts(path, "workdir="))
			continue;
		path = path_below(strchr(path, '=') + 1, DIR_PODVM);
		if (!path)
			return err_set(e, -EINVAL, "%.256s is not below " DIR_PODVM, o->fs.v[i]);
		fd = root < 0 ? -errno : mkdir_beneath(root, path, 0755);
		if (fd < 0)
			return err_errno(e, fd, "cannot make %s", o->fs.v[i]);
		close(fd);
	}
	return 0;
}

static int make_disk(const Podvm__Agent__V1__Storage *s, const struct mount_options *o,
		     uint64_t deadline_ms, struct err *e)
{
	char node[DEVICE_PATH_MAX];
	char whole[DEVICE_PATH_MAX];
	char name[DM_NAME_MAX];
	_cleanup_(close_fdp) int part = -EBADF;
	uint64_t lun;
	int r;

	if (str_eq(s->driver, "blk"))
		r = device_blk(s->source, deadline_ms, node, e);
	else if (parse_u64(s->source, 16383, &lun) < 0)
		r = err_set(e, -EINVAL, "\"%.32s\" is no LUN", s->source);
	else
		r = device_scsi((unsigned int)lun, deadline_ms, node, e);
	if (r == 0 && s->part) {
		memcpy(whole, node, sizeof(whole));
		part = device_part(whole, s->part, s->offset, s->size, node, e);
		r = MIN(part, 0);
	}
	if (r == 0 && storage_verity_name(s, name)) {
		memcpy(whole, node, sizeof(whole));
		r = dm_verity_create(name, whole, s->verity, node, e);
	}
	return r < 0 ? r : make_fs(s->fstype, node, o, e);
}

/* The server begins when this returns: it must not be asked before. */
static int make_share(const Podvm__Agent__V1__Storage *s, struct mount_options *o,
		      uint64_t deadline_ms, struct err *e)
{
	_cleanup_(share_mount_done) struct share_mount m = SHARE_MOUNT_INIT;
	int r = share_mount_begin(s->source, deadline_ms, &m, e);

	if (r < 0)
		return r;
	if (strv_addf(&o->fs, "fd=%d", m.fuse) < 0 ||
	    strv_addf(&o->fs, "rootmode=%o", m.mode) < 0 ||
	    strv_add_all(&o->fs, "user_id=0", "group_id=0", "allow_other", "default_permissions",
			 NULL) < 0)
		return err_oom(e);
	return make_fs("fuse", s->source, o, e);
}

/* Return: Descriptor of the mount or a negative errno */
static int make_mount(const Podvm__Agent__V1__Storage *s, struct mount_options *o,
		      uint64_t deadline_ms, struct err *e)
{
	int r;

	if (str_eq(s->driver, "share"))
		return make_share(s, o, deadline_ms, e);
	if (str_eq(s->driver, "tmpfs"))
		return make_fs("tmpfs", "tmpfs", o, e);
	if (str_eq(s->driver, "bind"))
		return make_bind(s->source, o, e);
	if (!str_eq(s->driver, "overlay"))
		return make_disk(s, o, deadline_ms, e);
	r = make_overlay_dirs(o, e);
	return r < 0 ? r : make_fs("overlay", "overlay", o, e);
}

int mount_storage(const Podvm__Agent__V1__Storage *s, uint64_t deadline_ms, struct err *e)
{
	_cleanup_(mount_options_done) struct mount_options o = { 0 };
	_cleanup_(close_fdp) int fd = -EBADF;
	int r;

	r = mount_options_parse(&o, s->options, s->n_options);
	if (r < 0)
		return err_errno(e, r, "options of %s", s->mount_point);
	fd = make_mount(s, &o, deadline_ms, e);
	r = fd < 0 ? fd : volume_root_directories(s, fd, e);
	if (r == 0 && s->fs_group && !o.ro)
		r = volume_root_group(s->fs_group, fd, e);
	if (r == 0)
		r = attach(fd, s->mount_point, e);
	return r < 0 ? err_wrap(e, "%s on %s", s->driver, s->mount_point) : 0;
}

/*
 * Unmount by name in its directory, which is opened through no link: a container may have put one
 * into the path. (A descriptor of the mount itself would keep it busy.)
 */
static int unmount_at(const char *path, int flags)
{
	_cleanup_(close_fdp) int root = open(DIR_PODVM, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *rel = path_below(path, DIR_PODVM);
	_cleanup_(freep) char *dir = rel ? strdup(rel) : NULL;
	_cleanup_(close_fdp) int fd = -EBADF;
	char *name;
	int r;

	if (!dir)
		return rel ? -ENOMEM : -EINVAL;
	name = strrchr(dir, '/');
	if (name)
		*name++ = '\0';
	fd = open_beneath(root, name ? dir : ".", O_PATH | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	r = fchdir(fd) < 0 || umount2(name ? name : dir, UMOUNT_NOFOLLOW | flags) < 0 ? -errno : 0;
	/* Nor must this directory be kept busy. */
	return chdir("/") < 0 ? -errno : r;
}

int unmount_point(const char *path)
{
	int r = unmount_at(path, 0);

	if (r == 0 || r == -EINVAL || r == -ENOENT)
		return 0;
	if (r == -EBUSY) {
		log_warn("a mount is in use, detaching it", "path=%s", path);
		r = unmount_at(path, MNT_DETACH);
	}
	if (r < 0)
		log_warn("cannot unmount", "path=%s error=\"%s\"", path, strerror(-r));
	return r;
}
