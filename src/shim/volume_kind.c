/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/volume_kind.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mountinfo.h"
#include "base/str.h"
#include "sandbox/volume_tree.h"
#include "shim/rootfs_plan.h"
#include "storage/scratch.h"

#define DEPTH_MAX    8
#define EMPTY_DIR    "pods/*/volumes/kubernetes.io~empty-dir/*"
#define IMAGE_VOLUME "image-volumes/*/*"
#define OWN_VOLUME   "io.containerd.grpc.v1.cri/containers/*/volumes/*"

void volume_source_done(struct volume_source *s)
{
	free(s->name);
	free(s->volume);
	strv_done(&s->layers);
	*s = (struct volume_source){ 0 };
}

/* ---- paths ---- */

/* Where the last component begins of the first @n bytes of a path. */
static size_t last_component(const char *path, size_t n)
{
	while (n > 0 && path[n - 1] != '/')
		n--;
	return n;
}

/**
 * path_ends() - Match the last components of a path
 * @path:	Absolute path
 * @want:	Components, "*" matches any
 *
 * Return: Where they begin, or NULL
 */
static const char *path_ends(const char *path, const char *want)
{
	size_t w = strlen(want);
	size_t p = strlen(path);

	for (;;) {
		size_t wn = last_component(want, w);
		size_t pn = last_component(path, p);
		bool any = w - wn == 1 && want[wn] == '*';

		if (pn == 0 || pn == p)
			return NULL;
		if (!any && (w - wn != p - pn || memcmp(want + wn, path + pn, w - wn) != 0))
			return NULL;
		if (wn == 0)
			return path + pn;
		w = wn - 1;
		p = pn - 1;
	}
}

static bool is_published(const char *path)
{
	static const char *const volumes[] = {
		"pods/*/volumes/kubernetes.io~configmap/*",
		"pods/*/volumes/kubernetes.io~secret/*",
		"pods/*/volumes/kubernetes.io~projected/*",
		"pods/*/volumes/kubernetes.io~downward-api/*",
	};
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(volumes); i++) {
		_cleanup_(freep) char *data = NULL;

		if (!path_ends(path, volumes[i]))
			continue;
		data = str_printf("%s/..data", path);
		return data && lstat(data, &st) == 0 && S_ISLNK(st.st_mode);
	}
	return false;
}

static bool is_pod_file(const char *path, const char *destination)
{
	static const char *const names[] = { "/etc/hosts", "/etc/hostname", "/etc/resolv.conf" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_eq(destination, names[i]))
			return true;
	return path_ends(path, "pods/*/etc-hosts");
}

/* ---- file systems in memory ---- */

/* Whether there is nothing but directories in it, and our disk. Takes @fd. */
static bool only_directories(int fd, unsigned int depth)
{
	_cleanup_(closedirp) DIR *dir = fdopendir(fd);
	struct dirent *d;

	if (!dir)
		close(fd);
	while (dir && (d = readdir(dir))) {
		int child;

		if (str_eq(d->d_name, ".") || str_eq(d->d_name, "..") ||
		    str_eq(d->d_name, SCRATCH_VOLUME))
			continue;
		child = openat(dirfd(dir), d->d_name,
			       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (child >= 0 && depth == 0)
			close(child);
		if (child < 0 || depth == 0 || !only_directories(child, depth - 1))
			return false;
	}
	return dir;
}

/* Files that were put there before anything else was: afterwards there is our disk. */
static int look_for_files(const char *path, unsigned int depth, bool *ret, struct err *e)
{
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (dir < 0)
		return err_errno(e, -errno, "cannot open %s", path);
	*ret = !only_directories(dir, depth);
	return 0;
}

/* One of medium Memory has a tmpfs of its own, which the kubelet mounts on its directory. */
static int look_at_empty_dir(const char *path, int fd, struct volume_source *ret, struct err *e)
{
	_cleanup_(freep) char *above = str_printf("%s/..", path);
	struct statfs fs;
	struct stat up;
	struct stat st;
	int r;

	if (!above)
		return err_oom(e);
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0 || stat(above, &up) < 0)
		return err_errno(e, -errno, "cannot look at %s", path);
	r = look_for_files(path, DEPTH_MAX, &ret->files, e);
	if (r < 0)
		return r;
	ret->dev = st.st_dev;
	ret->mode = st.st_mode & 07777;
	ret->uid = st.st_uid;
	ret->gid = st.st_gid;
	if (fs.f_type != TMPFS_MAGIC || st.st_dev == up.st_dev) {
		ret->kind = VOLUME_EMPTYDIR;
		ret->volume = strdup(path);
		return ret->volume ? 0 : err_oom(e);
	}
	if (ret->files)
		return 0;
	ret->kind = VOLUME_MEMORY;
	ret->size = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
	ret->inodes = fs.f_blocks ? (uint64_t)fs.f_files : 0;
	return 0;
}

/* An image declares a volume; what the image has there was copied, and is shared. */
static int look_at_own_volume(const char *path, const struct stat *st, struct volume_source *ret,
			      struct err *e)
{
	bool filled = false;
	int r = look_for_files(path, 0, &filled, e);

	if (r < 0 || filled)
		return r;
	ret->kind = VOLUME_EMPTYDIR;
	ret->own = true;
	ret->mode = st->st_mode & 07777;
	ret->uid = st->st_uid;
	ret->gid = st->st_gid;
	ret->volume = strdup(path);
	return ret->volume ? 0 : err_oom(e);
}

/* Directories of the volumes of a name: volumes/PLUGIN/NAME, or of CSI drivers NAME/mount. */
static int list_volumes(const char *volumes, const char *name, int len, struct strv *ret)
{
	_cleanup_(closedirp) DIR *dir = opendir(volumes);
	struct dirent *d;
	int r = 0;

	while (r == 0 && dir && (d = readdir(dir))) {
		bool csi = str_eq(d->d_name, "kubernetes.io~csi");

		if (d->d_name[0] != '.')
			r = strv_addf(ret, "%s/%s/%.*s%s", volumes, d->d_name, len, name,
				      csi ? "/mount" : "");
	}
	return r;
}

/* A subPath is a bind mount of something in a volume of the pod. */
static int find_volume(const char *path, int fd, struct volume_source *ret, struct err *e)
{
	const char *pods = path_ends(path, "volume-subpaths/*/*/*");
	_cleanup_(strv_done) struct strv dirs = { 0 };
	_cleanup_(freep) char *volumes = NULL;
	_cleanup_(freep) char *text = NULL;
	const char *name;
	int r;

	if (!pods)
		return 0;
	name = strchr(pods, '/') + 1;
	volumes = str_printf("%.*svolumes", (int)(pods - path), path);
	if (!volumes || list_volumes(volumes, name, (int)strcspn(name, "/"), &dirs) < 0)
		return err_oom(e);
	r = mountinfo_read(&text, e);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && !ret->name && i < dirs.n; i++) {
		r = mountinfo_inside(fd, dirs.v[i], text, &ret->name, e);
		if (r == 0 && ret->name && str_set(&ret->volume, dirs.v[i]) < 0)
			r = err_oom(e);
	}
	return r;
}

static int look_at_subpath(const char *path, int fd, struct volume_source *ret, struct err *e)
{
	_cleanup_(volume_source_done) struct volume_source whole = { 0 };
	_cleanup_(close_fdp) int volume = -EBADF;
	int r = find_volume(path, fd, ret, e);

	if (r < 0 || !ret->name || !path_ends(ret->volume, EMPTY_DIR))
		return r;
	volume = open(ret->volume, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (volume < 0)
		return err_errno(e, -errno, "cannot open %s", ret->volume);
	r = look_at_empty_dir(ret->volume, volume, &whole, e);
	if (r < 0)
		return r;
	if (whole.kind == VOLUME_MEMORY)
		ret->kind = VOLUME_MEMORY_PART;
	else if (whole.kind == VOLUME_EMPTYDIR)
		ret->kind = VOLUME_EMPTYDIR;
	ret->size = whole.size;
	ret->inodes = whole.inodes;
	ret->files = whole.files;
	ret->mode = whole.mode;
	ret->uid = whole.uid;
	ret->gid = whole.gid;
	return 0;
}

/* ---- images ---- */

static bool is_empty(const char *path)
{
	_cleanup_(closedirp) DIR *dir = opendir(path);
	struct dirent *d;

	while (dir && (d = readdir(dir)))
		if (!str_eq(d->d_name, ".") && !str_eq(d->d_name, ".."))
			return false;
	return dir;
}

/* The layers of an overlay, from its options; none if there is anything else to it. */
static int overlay_layers(const char *options, struct strv *ret)
{
	_cleanup_(rootfs_plan_done) struct rootfs_plan plan = { 0 };
	Containerd__Types__Mount overlay = CONTAINERD__TYPES__MOUNT__INIT;
	Containerd__Types__Mount *mounts[] = { &overlay };
	_cleanup_(strv_done) struct strv list = { 0 };
	_cleanup_(freep) char *copy = strdup(options);
	char *rest = copy;
	char *option;
	int r = copy ? 0 : -ENOMEM;

	while (r == 0 && (option = strsep(&rest, ",")))
		r = strv_add(&list, option);
	if (r < 0)
		return r;
	overlay.type = (char *)"overlay";
	overlay.options = list.v;
	overlay.n_options = list.n;
	r = rootfs_plan(mounts, 1, &plan);
	if (r < 0 || plan.kind != ROOTFS_LAYERS || (plan.upper && !is_empty(plan.upper)))
		return r;
	*ret = plan.layers;
	plan.layers = (struct strv){ 0 };
	return 0;
}

/* containerd mounts an image as a snapshot that nobody writes to, and makes a bind mount of that. */
static int look_at_image(int fd, struct volume_source *ret, struct err *e)
{
	_cleanup_(mountinfo_done) struct mountinfo m = { 0 };
	_cleanup_(freep) char *text = NULL;
	char path[PATH_MAX];
	uint64_t id;
	int r = mountinfo_read(&text, e);

	if (r == 0)
		r = mountinfo_locate(fd, path, &id, e);
	if (r < 0)
		return r;
	r = mountinfo_find(text, id, &m);
	if (r == 0 && path_ends(m.point, IMAGE_VOLUME) && str_eq(m.fstype, "overlay"))
		r = overlay_layers(m.options, &ret->layers);
	if (r < 0 || ret->layers.n == 0)
		return r == -ENOMEM ? err_oom(e) : 0;
	ret->kind = VOLUME_IMAGE;
	ret->name = strdup(path + MIN(strlen(m.point) + 1, strlen(path)));
	ret->volume = TAKE_PTR(m.point);
	return ret->name ? 0 : err_oom(e);
}

/* ---- kinds ---- */

char *volume_device_name(dev_t rdev, const char *path)
{
	_cleanup_(freep) char *file = str_printf("/sys/dev/char/%u:%u/uevent", major(rdev),
						 minor(rdev));
	_cleanup_(freep) char *text = NULL;
	char *save = NULL;

	if (!file)
		return NULL;
	if (file_read(AT_FDCWD, file, 4096, &text, NULL) == 0)
		for (char *line = strtok_r(text, "\n", &save); line;
		     line = strtok_r(NULL, "\n", &save))
			if (str_starts(line, "DEVNAME="))
				return strdup(strchr(line, '=') + 1);
	return strdup(str_starts(path, "/dev/") ? path + strlen("/dev/") : path);
}

static int refuse(const char *path, struct err *e)
{
	return err_set(e, -EOPNOTSUPP, "%s: pipes of the host are not available in the pod", path);
}

/* What the kernel makes up when it's read can't be copied. */
static bool is_stored(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type != PROC_SUPER_MAGIC && fs.f_type != SYSFS_MAGIC &&
	       fs.f_type != CGROUP_SUPER_MAGIC && fs.f_type != CGROUP2_SUPER_MAGIC &&
	       fs.f_type != DEBUGFS_MAGIC && fs.f_type != TRACEFS_MAGIC;
}

static int look_at_file(const char *path, const char *destination, bool readonly, int fd,
			const struct stat *st, struct volume_source *ret, struct err *e)
{
	if (!readonly && path_ends(path, "pods/*/containers/*/*")) {
		ret->kind = VOLUME_TERMINATION;
		ret->dev = st->st_dev;
		ret->ino = st->st_ino;
		return 0;
	}
	if ((uint64_t)st->st_size <= VOLUME_MAX_FILE && is_stored(fd) &&
	    (readonly || is_pod_file(path, destination))) {
		ret->kind = VOLUME_FILE;
		return 0;
	}
	return look_at_subpath(path, fd, ret, e);
}

static int refuse_hugepages(const char *path, struct err *e)
{
	err_set(e, -EOPNOTSUPP, "%s is in the host's huge pages, which a machine hasn't got", path);
	err_hint(e, "Use an emptyDir of medium Memory.");
	return -EOPNOTSUPP;
}

static int look_at_directory(const char *path, int fd, const struct stat *st,
			     struct volume_source *ret, struct err *e)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC)
		return refuse_hugepages(path, e);
	if (is_published(path)) {
		ret->kind = VOLUME_DIRECTORY;
		return 0;
	}
	if (path_ends(path, EMPTY_DIR))
		return look_at_empty_dir(path, fd, ret, e);
	if (path_ends(path, OWN_VOLUME))
		return look_at_own_volume(path, st, ret, e);
	if (strstr(path, "/image-volumes/"))
		return look_at_image(fd, ret, e);
	return look_at_subpath(path, fd, ret, e);
}

int volume_kind(const char *source, const char *destination, bool readonly,
		struct volume_source *ret, struct err *e)
{
	_cleanup_(close_fdp) int fd = open(source, O_PATH | O_CLOEXEC);
	struct stat st;

	*ret = (struct volume_source){ .kind = VOLUME_SHARE };
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot mount %s", source);
	if (S_ISDIR(st.st_mode))
		return look_at_directory(source, fd, &st, ret, e);
	if (S_ISREG(st.st_mode))
		return look_at_file(source, destination, readonly, fd, &st, ret, e);
	if (S_ISBLK(st.st_mode)) {
		ret->kind = VOLUME_BLOCK;
		ret->rdev = st.st_rdev;
		return 0;
	}
	if (S_ISSOCK(st.st_mode)) {
		ret->kind = VOLUME_SOCKET;
		return 0;
	}
	if (!S_ISCHR(st.st_mode))
		return refuse(source, e);
	ret->kind = VOLUME_DEVICE;
	ret->name = volume_device_name(st.st_rdev, source);
	return ret->name ? 0 : err_oom(e);
}
