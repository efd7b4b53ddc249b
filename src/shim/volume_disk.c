/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/volume_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "loop/work.h"
#include "sandbox/disks.h"
#include "shim/volumes_internal.h"
#include "storage/direct_volume.h"
#include "storage/lock.h"
#include "storage/scratch.h"
#include "storage/snapshot.h"

#define WORK_MS ((uint64_t)120 * 1000)
/* A large image is copied, perhaps by another process that we wait for. */
#define IMAGE_WORK_MS ((uint64_t)3600 * 1000)
#define LOCK_MS	      10000

/* Disks of the machine that are left for the root file systems of more containers. */
#define RESERVED_DISKS 12

/**
 * struct volume_disk - A disk of the pod
 * @v:		The volume
 * @dir:	Of an emptyDir: on the host, NULL: it's something else
 * @templates, @size: ...and how a new one is made
 * @device:	Device or file
 * @name:	In statistics, NULL: it isn't in them
 * @readonly:	It's not written to
 * @layers:	Of an image: directories, top first
 * @cache:	...and where files of them are kept
 * @part:	...and how the guest checks it, in memory that is shared with the child
 * @direct:	What the CSI driver has said
 * @options:	Of an emptyDir's mount
 * @mode, @uid, @gid: Of the directory of an emptyDir
 * @work:	Opens it
 * @set:	It's plugged, or about to be
 */
struct volume_disk {
	struct pod_volume *v;
	char *dir;
	char *templates;
	uint64_t size;
	char *device;
	char *name;
	bool readonly;
	struct strv layers;
	struct snapshot_cache cache;
	struct disk_part *part;
	struct direct_volume direct;
	struct strv options;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct work *work;
	struct disk_set *set;
};

void volume_disk_free(struct volume_disk *d)
{
	if (!d)
		return;
	work_free(d->work);
	if (d->set && pod_running(&d->v->shim->pod))
		disk_set_unplug(d->set, NULL, NULL);
	else
		disk_set_free(d->set);
	direct_volume_done(&d->direct);
	strv_done(&d->options);
	strv_done(&d->layers);
	if (d->part)
		munmap(d->part, sizeof(*d->part));
	free(d->dir);
	free(d->templates);
	free(d->device);
	free(d->name);
	free(d);
}

const struct vmm_disk_addr *volume_disk_addr(const struct volume_disk *d)
{
	return disk_set_addr(d->set, 0);
}

/* ---- opening, in a child ---- */

static int refuse_busy(const char *device, struct err *e)
{
	err_set(e, -EBUSY, "%s is in use on this host", device);
	err_hint(e, "A device that a pod is to have can't be mounted on the host, nor belong to "
		    "another pod.");
	return -EBUSY;
}

static int open_device(const struct volume_disk *d, struct err *e)
{
	int flags = d->readonly ? O_RDONLY : O_RDWR | O_EXCL;
	_cleanup_(close_fdp) int fd = open(d->device, flags | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return errno == EBUSY ? refuse_busy(d->device, e)
				      : err_errno(e, -errno, "cannot open %s", d->device);
	if (fstat(fd, &st) < 0 || (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode)))
		return err_set(e, -EINVAL, "%s is neither a block device nor a file", d->device);
	if (S_ISREG(st.st_mode)) {
		r = lock_wait(fd, d->readonly ? LOCK_SH : LOCK_EX, LOCK_MS);
		if (r < 0)
			return r == -ETIMEDOUT ? refuse_busy(d->device, e)
					       : err_errno(e, r, "cannot lock %s", d->device);
	}
	return TAKE_FD(fd);
}

/* All layers in one file: nobody writes to it, so the guest needs no overlay. */
static int open_image(const struct volume_disk *d, struct err *e)
{
	_cleanup_(snapshot_file_done) struct snapshot_file file = SNAPSHOT_FILE_INIT;
	int r = snapshot_image(&d->cache, d->layers.v, d->layers.n, &file, e);

	if (r < 0) {
		err_hint(e, "With rootfs = virtiofs in podvm.conf it's shared instead.");
		return err_wrap(e, "an image that is a volume");
	}
	if (file.parts.n > 0)
		*d->part = file.parts.v[0];
	return TAKE_FD(file.fd);
}

static int open_any(const struct volume_disk *d, struct err *e)
{
	if (d->layers.n > 0)
		return open_image(d, e);
	return d->dir ? scratch_open_volume(d->dir, d->templates, d->size, e) : open_device(d, e);
}

static int open_disk(void *arg, struct work_result *result, struct err *e)
{
	int fd = open_any(arg, e);

	if (fd < 0)
		return fd;
	result->fds[result->n_fds++] = fd;
	return 0;
}

/* ---- plugging ---- */

static void on_plugged(void *data, const struct err *e)
{
	struct volume_disk *d = data;

	volume_settled(d->v, e);
}

static void on_opened(void *data, struct work_result *result, const struct err *e)
{
	struct volume_disk *d = data;
	struct vmm_disk disk = {
		.fd = e ? -EBADF : result->fds[0],
		.readonly = d->readonly,
		.serial = d->dir ? "emptydir" : "volume",
		.discard = true,
	};
	struct err err = { 0 };
	int r;

	if (e) {
		volume_settled(d->v, e);
		return;
	}
	r = disk_set_plug(d->v->shim->pod.sandbox, &disk, 1, on_plugged, d, &d->set, &err);
	if (r != STAGE_PENDING)
		volume_settled(d->v, r < 0 ? &err : NULL);
}

static int begin(struct volume_disk *d, struct err *e)
{
	return work_new(d->v->shim->loop, "opening the disk of a volume", open_disk, d,
			d->layers.n > 0 ? IMAGE_WORK_MS : WORK_MS, on_opened, d, &d->work, e);
}

/* A volume that is a disk, of a task or the pod (@owner NULL); on failure it's forgotten. */
static int disk_new(struct shim *shim, struct task *owner, enum volume_kind kind,
		    const char *source, struct volume_disk **ret, struct err *e)
{
	struct volume_disk *d = calloc(1, sizeof(*d));
	struct pod_volume *v = d ? volume_new(shim, owner, kind, source) : NULL;

	if (!v) {
		free(d);
		return err_oom(e);
	}
	v->disk = d;
	d->v = v;
	*ret = d;
	return 0;
}

/* The kubelet's name of a volume: the directory's, or of CSI drivers that above it. */
static char *volume_name(const char *dir)
{
	size_t end = strlen(dir);
	size_t begin;

	if (end > strlen("/mount") && str_eq(dir + end - strlen("/mount"), "/mount"))
		end -= strlen("/mount");
	for (begin = end; begin > 0 && dir[begin - 1] != '/'; begin--)
		;
	return strndup(dir + begin, end - begin);
}

/* The answer is one that was just made; @filled < 0: out of memory for what is known of it. */
static int take(struct volume_disk *d, int filled, struct pod_volume **ret, struct err *e)
{
	int r;

	*ret = d->v;
	r = filled < 0 ? err_oom(e) : begin(d, e);
	if (r < 0)
		volume_drop(d->v);
	return r;
}

/* ---- emptyDir ---- */

static int fill_emptydir(struct volume_disk *d, const struct volume_source *s,
			 const char *destination)
{
	const struct config *config = &d->v->shim->pod.config;

	d->templates = str_printf("%s/scratch", config->cache);
	d->size = config->emptydir_size;
	d->mode = s->mode;
	d->uid = s->uid;
	d->gid = s->gid;
	d->name = s->own ? strdup(destination) : volume_name(s->volume);
	if (!d->templates || !d->name || str_set(&d->dir, s->volume) < 0)
		return -ENOMEM;
	return strv_add(&d->options, "discard");
}

static bool is_shared(const struct shim *shim, const struct volume_source *s)
{
	return s->files || shim->pod.config.emptydir == CONFIG_EMPTYDIR_SHARED ||
	       disks_room(shim->pod.sandbox) <= RESERVED_DISKS;
}

/* What all containers of the pod get of it has to be one thing: what was decided once stays. */
static int use_emptydir(struct task *t, const struct spec_bind *b, const struct volume_source *s,
			struct pod_volume **ret, struct err *e)
{
	struct task *owner = s->own ? t : NULL;
	struct shim *shim = t->shim;
	struct volume_disk *d;
	int r;

	*ret = volume_find(shim->volumes, s->volume);
	if (*ret)
		return 0;
	if (is_shared(shim, s)) {
		*ret = volume_new(shim, owner, VOLUME_SHARE, s->volume);
		if (!*ret)
			return err_oom(e);
		(*ret)->ready = true;
		return 0;
	}
	r = disk_new(shim, owner, VOLUME_EMPTYDIR, s->volume, &d, e);
	return r < 0 ? r : take(d, fill_emptydir(d, s, b->destination), ret, e);
}

/* ---- direct ---- */

static int use_direct(struct task *t, const char *dir, struct pod_volume **ret, struct err *e)
{
	struct shim *shim = t->shim;
	_cleanup_(direct_volume_done) struct direct_volume direct = { 0 };
	struct volume_disk *d;
	int r;

	*ret = volume_find(shim->volumes, dir);
	if (*ret)
		return 0;
	r = direct_volume_read(shim->pod.config.direct_volumes, dir, &direct, e);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = direct_volume_note(shim->pod.config.direct_volumes, dir, shim->pod.rundir.id, e);
	if (r == 0)
		r = disk_new(shim, NULL, VOLUME_SHARE, dir, &d, e);
	if (r < 0)
		return r;
	d->direct = direct;
	direct = (struct direct_volume){ 0 };
	d->readonly = d->direct.readonly;
	d->name = volume_name(dir);
	r = d->name ? str_set(&d->device, d->direct.device) : -ENOMEM;
	return take(d, r, ret, e);
}

/* ---- images ---- */

static int fill_image(struct volume_disk *d, const struct volume_source *s)
{
	const struct config *config = &d->v->shim->pod.config;

	d->readonly = true;
	d->cache = (struct snapshot_cache){
		.dir = config->cache,
		.verity = config->verity,
		.rules = { .max_bytes = config->cache_size, .max_age = config->cache_age / 1000 },
	};
	d->part = mmap(NULL, sizeof(*d->part), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	if (d->part == MAP_FAILED) {
		d->part = NULL;
		return -ENOMEM;
	}
	for (size_t i = 0; i < s->layers.n; i++)
		if (strv_add(&d->layers, s->layers.v[i]) < 0)
			return -ENOMEM;
	return strv_add(&d->options, "ro");
}

/* What isn't to be a disk is shared, read-only like every image. */
static int use_image(struct task *t, const struct volume_source *s, struct pod_volume **ret,
		     struct err *e)
{
	struct shim *shim = t->shim;
	struct volume_disk *d;
	int r;

	*ret = volume_find(shim->volumes, s->volume);
	if (*ret || shim->pod.config.rootfs == CONFIG_ROOTFS_VIRTIOFS ||
	    disks_room(shim->pod.sandbox) <= RESERVED_DISKS)
		return 0;
	r = disk_new(shim, NULL, VOLUME_IMAGE, s->volume, &d, e);
	if (r < 0)
		return r;
	return take(d, fill_image(d, s), ret, e);
}

/* ---- mounts ---- */

static bool is_mounted(const struct task *t, const struct pod_volume *v)
{
	for (size_t i = 0; i < t->create->config.n_mounts; i++)
		if (t->create->disks[i] == v)
			return true;
	return false;
}

static const char *disk_fstype(const struct volume_disk *d)
{
	if (d->layers.n > 0)
		return "erofs";
	return d->dir ? "ext4" : d->direct.fstype;
}

/* The disk itself: its address is filled in when it's known. */
static void mount_disk(struct task *t, struct pod_volume *v)
{
	const struct volume_disk *d = v->disk;
	struct container_mount m = {
		.fstype = disk_fstype(d),
		.mount_point = v->path,
		.options = d->options.n > 0 ? &d->options : &d->direct.options,
		.name = d->name,
		.part = d->part,
		.fs_group = d->direct.fs_group,
		.fs_group_on_mismatch = d->direct.fs_group_on_mismatch,
	};

	if (d->dir) {
		m.directory = "/data";
		m.mode = d->mode;
		m.uid = d->uid;
		m.gid = d->gid;
	}
	if (!is_mounted(t, v))
		volume_mount(t, &m, v);
	volume_use(t, v);
}

/* Return: Where a part of a mounted disk is, NULL: out of memory */
static const char *mount_part(struct task *t, const struct pod_volume *v, const char *top,
			      const char *part)
{
	const struct volume_disk *d = v->disk;
	struct strv *paths = &t->create->paths;
	struct container_mount whole = {
		.mode = d->dir ? d->mode : 0755,
		.uid = d->uid,
		.gid = d->gid,
	};
	const struct container_mount none = { 0 };
	const char *path;

	/* Nobody can make a link in an image, nor has a part of it to be made. */
	if (d->layers.n > 0)
		return strv_addf(paths, "%s/%s", top, part) < 0
			       ? NULL
			       : volume_mount_part(t, paths->v[paths->n - 1], &none);
	if (strv_addf(paths, "/%s", part) < 0)
		return NULL;
	whole.directory = paths->v[paths->n - 1];
	path = volume_mount_part(t, top, &whole);
	if (!path || strv_addf(paths, "%s/%s", path, part) < 0)
		return NULL;
	return volume_mount_part(t, paths->v[paths->n - 1], &none);
}

static int bind_disk(struct task *t, const struct spec_bind *b, struct pod_volume *v,
		     const char *part, struct err *e)
{
	struct strv *paths = &t->create->paths;
	const char *path;

	mount_disk(t, v);
	if (strv_addf(paths, "%s%s", v->path, v->disk->dir ? "/data" : "") < 0)
		return err_oom(e);
	path = paths->v[paths->n - 1];
	if (!str_empty(part))
		path = mount_part(t, v, path, part);
	return !path || spec_bind_to(b, path) < 0 ? err_oom(e) : 1;
}

int volume_disk_bind(struct task *t, const struct spec_bind *b, const struct volume_source *s,
		     struct err *e)
{
	struct pod_volume *v = NULL;
	int r;

	if (s->kind == VOLUME_EMPTYDIR)
		r = use_emptydir(t, b, s, &v, e);
	else if (s->kind == VOLUME_IMAGE)
		r = use_image(t, s, &v, e);
	else
		r = use_direct(t, s->volume ?: b->source, &v, e);
	if (r < 0 || !v || !v->disk)
		return r;
	return bind_disk(t, b, v, s->name, e);
}

/* ---- devices ---- */

/* The kernel's name for it: what a container or a volume calls it may have changed. */
static char *device_path(dev_t rdev)
{
	_cleanup_(freep) char *file = str_printf("/sys/dev/block/%u:%u/uevent", major(rdev),
						 minor(rdev));
	_cleanup_(freep) char *text = NULL;
	char *save = NULL;

	if (!file || file_read(AT_FDCWD, file, 4096, &text, NULL) < 0)
		return NULL;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (str_starts(line, "DEVNAME="))
			return str_printf("/dev/%s", strchr(line, '=') + 1);
	return NULL;
}

int volume_disk_device(struct task *t, dev_t rdev, bool readonly, struct pod_volume **ret,
		       struct err *e)
{
	_cleanup_(freep) char *source = str_printf("block:%u:%u", major(rdev), minor(rdev));
	_cleanup_(freep) char *device = device_path(rdev);
	struct pod_volume *v = source ? volume_find(t->shim->volumes, source) : NULL;
	struct volume_disk *d;
	int r = 0;

	if (!source)
		return err_oom(e);
	if (!device)
		return err_set(e, -ENODEV, "there is no block device %u:%u on this host",
			       major(rdev), minor(rdev));
	if (v && v->disk->readonly && !readonly)
		return err_set(e, -EBUSY, "another container of the pod has %s read-only", device);
	if (!v) {
		r = disk_new(t->shim, NULL, VOLUME_BLOCK, source, &d, e);
		if (r < 0)
			return r;
		v = d->v;
		d->device = TAKE_PTR(device);
		d->readonly = readonly;
		r = begin(d, e);
	}
	if (r < 0) {
		volume_drop(v);
		return r;
	}
	volume_use(t, v);
	*ret = v;
	return 0;
}

const struct vmm_disk_addr *volume_disk_find(void *data, const char *source, const char **path)
{
	const struct shim *shim = data;
	const struct pod_volume *v = shim->volumes ? volume_find(shim->volumes, source) : NULL;

	if (!v || !v->disk || !v->ready)
		return NULL;
	*path = v->path;
	return volume_disk_addr(v->disk);
}
