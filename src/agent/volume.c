/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/service.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define CHANGES_MAX  8192
#define READ_MAX     ((uint32_t)1 << 20)
#define READ_DEFAULT ((uint32_t)64 << 10)
#define TMP_SUFFIX   "_tmp" /* what the kubelet appends */

/* What is opened with O_PATH can't be changed: once more, through the directory itself. */
static int set_directory(int fd, const PB(VolumeChange) * c)
{
	_cleanup_(close_fdp) int dir = open_beneath(fd, ".", O_RDONLY | O_DIRECTORY, 0);

	if (dir < 0)
		return dir;
	if (fchown(dir, c->uid, c->gid) < 0 || fchmod(dir, c->mode & 07777) < 0)
		return -errno;
	return 0;
}

static int make_directory(int parent, const char *name, const PB(VolumeChange) * c)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	int r = mkdirat(parent, name, 0700) < 0 ? -errno : 0;

	if (r == -EEXIST && c->keep)
		return 0;
	if (r < 0 && r != -EEXIST)
		return r;
	fd = open_beneath(parent, name, O_PATH | O_DIRECTORY, 0);
	if (fd == -ENOTDIR || fd == -ELOOP) {
		r = rm_rf(parent, name);
		if (r < 0 || mkdirat(parent, name, 0700) < 0)
			return r < 0 ? r : -errno;
		fd = open_beneath(parent, name, O_PATH | O_DIRECTORY, 0);
	}
	return fd < 0 ? fd : set_directory(fd, c);
}

/* Return: Descriptor of the regular file of this name, made if need be, or a negative errno */
static int open_file(int parent, const char *name)
{
	int flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	_cleanup_(close_fdp) int fd = open_beneath(parent, name, flags, 0600);
	struct stat st;
	int r;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return TAKE_FD(fd);
	if (fd == -ENOSPC || fd == -ENOENT)
		return fd;
	r = rm_rf(parent, name);
	return r < 0 ? r : open_beneath(parent, name, flags | O_EXCL, 0600);
}

/* In place: who has it open or mounted sees the change. */
static int make_file(int parent, const char *name, const PB(VolumeChange) * c)
{
	_cleanup_(close_fdp) int fd = open_file(parent, name);
	int r = fd < 0 ? fd : fd_write_all(fd, c->data.data, c->data.len);

	if (r < 0)
		return r;
	if (ftruncate(fd, (off_t)c->data.len) < 0 || fchown(fd, c->uid, c->gid) < 0 ||
	    fchmod(fd, c->mode & 07777) < 0)
		return -errno;
	return 0;
}

static int new_link(int parent, const char *name, const PB(VolumeChange) * c)
{
	if (symlinkat(c->target, parent, name) < 0)
		return -errno;
	return fchownat(parent, name, c->uid, c->gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int make_link(int parent, const char *name, const PB(VolumeChange) * c)
{
	char tmp[NAME_MAX + sizeof(TMP_SUFFIX)];
	int r = new_link(parent, name, c);

	if (r != -EEXIST)
		return r;
	snprintf(tmp, sizeof(tmp), "%s" TMP_SUFFIX, name);
	r = rm_rf(parent, tmp);
	if (r == 0)
		r = new_link(parent, tmp, c);
	return r < 0 ? r : rename_over(parent, tmp, name);
}

static int change_child(int parent, const char *name, struct sockets *sockets,
			const PB(VolumeChange) * c)
{
	switch (c->kind) {
	case PODVM__AGENT__V1__VOLUME_CHANGE__KIND__DIRECTORY:
		return make_directory(parent, name, c);
	case PODVM__AGENT__V1__VOLUME_CHANGE__KIND__FILE:
		return make_file(parent, name, c);
	case PODVM__AGENT__V1__VOLUME_CHANGE__KIND__LINK:
		return make_link(parent, name, c);
	case PODVM__AGENT__V1__VOLUME_CHANGE__KIND__REMOVE:
		return rm_rf(parent, name);
	case PODVM__AGENT__V1__VOLUME_CHANGE__KIND__SOCKET:
		return socket_put(sockets, parent, name, c);
	default:
		return -EINVAL;
	}
}

int volume_change(int volume, struct sockets *sockets, const PB(VolumeChange) * c, struct err *e)
{
	_cleanup_(freep) char *full = str_printf("/%s", c->path);
	_cleanup_(close_fdp) int parent = -EBADF;
	char *name;
	int r;

	if (!full)
		return err_oom(e);
	if (!*c->path) {
		r = c->kind == PODVM__AGENT__V1__VOLUME_CHANGE__KIND__DIRECTORY
			    ? set_directory(volume, c)
			    : -EINVAL;
		return r < 0 ? err_errno(e, r, "cannot change the volume's directory") : 0;
	}
	if (!path_below(full, ""))
		return err_set(e, -EINVAL, "\"%.256s\" is no path in a volume", c->path);
	name = strrchr(full, '/');
	*name++ = '\0';
	parent = open_beneath(volume, *full ? full + 1 : ".", O_PATH | O_DIRECTORY, 0);
	/* Nothing has to be removed where nothing is. */
	if (parent == -ENOENT && c->kind == PODVM__AGENT__V1__VOLUME_CHANGE__KIND__REMOVE)
		return 0;
	r = parent < 0 ? parent : change_child(parent, name, sockets, c);
	return r < 0 ? err_errno(e, r, "cannot change %.256s", c->path) : 0;
}

/* ---- calls ---- */

/* Mount it on the directory, unless that's the root of a file system already. */
static int mount_tmpfs(int parent, const char *name, const PB(VolumeTmpfs) * t, struct err *e)
{
	_cleanup_(close_fdp) int dir = open_beneath(parent, name, O_PATH | O_DIRECTORY, 0);
	struct stat above;
	struct stat st;
	char options[96];
	char path[64];

	if (dir < 0 || fstat(dir, &st) < 0 || fstat(parent, &above) < 0)
		return err_errno(e, dir < 0 ? dir : -errno, "cannot open the volume");
	if (st.st_dev != above.st_dev)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", dir);
	snprintf(options, sizeof(options), "mode=0755,nr_inodes=%llu",
		 (unsigned long long)t->inodes);
	if (t->size)
		snprintf(options + strlen(options), sizeof(options) - strlen(options), ",size=%llu",
			 (unsigned long long)t->size);
	if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0)
		return err_errno(e, -errno, "cannot mount the volume");
	return 0;
}

static bool is_removal(const PB(UpdateVolumeRequest) * req)
{
	return req->n_changes == 1 && !*req->changes[0]->path &&
	       req->changes[0]->kind == PODVM__AGENT__V1__VOLUME_CHANGE__KIND__REMOVE;
}

static int update(struct sockets *sockets, const PB(UpdateVolumeRequest) * req, struct err *e)
{
	_cleanup_(close_fdp) int parent = -EBADF;
	_cleanup_(close_fdp) int volume = -EBADF;
	char name[NAME_MAX + 1];
	int r = 0;

	if (req->n_changes > CHANGES_MAX)
		return err_set(e, -EINVAL, "more than %d changes", CHANGES_MAX);
	parent = open_parent(req->path, name, e);
	if (parent < 0)
		return parent;
	if (is_removal(req)) {
		r = rm_rf(parent, name);
		return r < 0 ? err_errno(e, r, "cannot remove %s", req->path) : 0;
	}
	if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
		return err_errno(e, -errno, "cannot make %s", req->path);
	if (req->tmpfs)
		r = mount_tmpfs(parent, name, req->tmpfs, e);
	if (r < 0)
		return r;
	volume = open_beneath(parent, name, O_PATH | O_DIRECTORY, 0);
	if (volume < 0)
		return err_errno(e, volume, "cannot open %s", req->path);
	for (size_t i = 0; r == 0 && i < req->n_changes; i++)
		r = volume_change(volume, sockets, req->changes[i], e);
	return r;
}

HANDLER(serve_update_volume)
{
	const PB(UpdateVolumeRequest) *req = (const void *)msg;
	struct agent *a = data;
	struct err e = { 0 };
	int r = update(&a->sockets, req, &e);

	sockets_sweep(&a->sockets);
	if (r < 0) {
		error_internal(&e);
		ttrpc_reply_err(call, &e);
	} else {
		reply_empty(call);
	}
}

static int read_end(const char *path, uint32_t max, ProtobufCBinaryData *ret, struct err *e)
{
	_cleanup_(close_fdp) int root = open(DIR_PODVM, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const char *rel = path_below(path, DIR_PODVM);
	_cleanup_(close_fdp) int fd = -EBADF;
	_cleanup_(freep) uint8_t *data = malloc(max);
	struct stat st;
	ssize_t n;

	if (!rel)
		return err_set(e, -EINVAL, "%.256s is not below " DIR_PODVM, path);
	if (!data)
		return err_oom(e);
	fd = root < 0 ? -errno : open_beneath(root, rel, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, fd < 0 ? fd : -errno, "cannot open %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s is no file", path);
	n = pread(fd, data, max, MAX(st.st_size - (off_t)max, 0));
	if (n < 0)
		return err_errno(e, -errno, "cannot read %s", path);
	ret->data = TAKE_PTR(data);
	ret->len = (size_t)n;
	return 0;
}

HANDLER(serve_read_volume)
{
	const PB(ReadVolumeRequest) *req = (const void *)msg;
	PB(ReadVolumeResponse) resp = PODVM__AGENT__V1__READ_VOLUME_RESPONSE__INIT;
	struct err e = { 0 };
	uint32_t max = MIN(req->max ? req->max : READ_DEFAULT, READ_MAX);

	if (read_end(req->path, max, &resp.data, &e) < 0) {
		ttrpc_reply_err(call, &e);
		return;
	}
	ttrpc_reply(call, &resp.base);
	free(resp.data.data);
}

void device_lookup(const char *name, PB(Device) * ret)
{
	char path[PATH_LEN];
	struct stat st;

	if (snprintf(path, sizeof(path), "/dev/%s", name) >= (int)sizeof(path) ||
	    !path_below(path, "/dev") || lstat(path, &st) < 0)
		return;
	if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
		return;
	ret->found = true;
	ret->block = S_ISBLK(st.st_mode);
	ret->major = major(st.st_rdev);
	ret->minor = minor(st.st_rdev);
}
