/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_VOLUME_KIND_H
#define PODVM_SHIM_VOLUME_KIND_H

/*
 * What becomes of the source of a bind mount. The kubelet's root directory can be anywhere, so its
 * volumes are known by the last components of their paths, ROOT/pods/UID/..., and by what is there:
 *
 *	volumes/kubernetes.io~{configmap,secret,projected,downward-api}/NAME, with ..data in it
 *				a directory that is copied and kept in step
 *	volumes/kubernetes.io~empty-dir/NAME, a tmpfs of its own with nothing but directories
 *				a file system in the guest's memory
 *	volumes/kubernetes.io~empty-dir/NAME, a directory of the host's disk
 *				a disk of the pod, if nobody has put files there (volume_disk.h)
 *	io.containerd.grpc.v1.cri/containers/ID/volumes/NAME, an empty directory
 *				a disk of the container: its image declares a volume
 *	image-volumes/SANDBOX/IMAGE, an overlay to whose upper directory nobody has written
 *				a disk with the image (containerd's, below its state directory)
 *	volume-subpaths/VOLUME/CONTAINER/N
 *				a directory or file of a volume, which is found by what is mounted
 *	containers/NAME/ID	a termination log
 *	etc-hosts, and files that are mounted on /etc/hosts, /etc/hostname, /etc/resolv.conf; files
 *	of at most 1 MiB that are mounted read-only
 *				a file that is copied and kept in step
 *	a character device	the guest's device of that name
 *	a socket
 *				if the configuration lists it, one of the guest that leads to it
 *
 * Everything else is shared, through virtiofs.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

/* VOLUME_SOCKETS, directories of sockets, are told by the configuration (socket_list.h). */
enum volume_kind {
	VOLUME_SHARE,
	VOLUME_DIRECTORY,
	VOLUME_MEMORY,
	VOLUME_MEMORY_PART,
	VOLUME_EMPTYDIR,
	VOLUME_IMAGE,
	VOLUME_FILE,
	VOLUME_TERMINATION,
	VOLUME_DEVICE,
	VOLUME_BLOCK,
	VOLUME_SOCKET,
	VOLUME_SOCKETS,
};

/**
 * struct volume_source - What the source of a mount is
 * @kind:	What becomes of it
 * @dev, @ino:	Of a termination log
 * @size, @inodes: Of the tmpfs, 0: no limit
 * @name:	Of a device, below /dev; of a part of a volume, its path in it; to be freed
 * @volume:	Of a part, of an emptyDir on the disk, and of an image: directory of the volume; to
 *		be freed
 * @layers:	Of an image: their directories, top first
 * @mode, @uid, @gid: Of a directory
 * @rdev:	Of a block device
 * @files:	Of an emptyDir on the disk: somebody has put files there
 * @own:	...it's the container's alone
 */
struct volume_source {
	enum volume_kind kind;
	dev_t dev;
	ino_t ino;
	uint64_t size;
	uint64_t inodes;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	dev_t rdev;
	bool files;
	bool own;
	char *name;
	char *volume;
	struct strv layers;
};

/**
 * volume_kind() - Look at a source
 * @source:	Absolute path on the host
 * @destination: Where it will be in the container
 * @readonly:	It's mounted read-only
 * @ret:	Result; to be released with volume_source_done(), also on failure
 * @e:		Says why there is no way to have it in a pod
 *
 * Return: 0 or a negative errno
 */
int volume_kind(const char *source, const char *destination, bool readonly,
		struct volume_source *ret, struct err *e);

void volume_source_done(struct volume_source *s);

/**
 * volume_device_name() - Name below /dev of a character device of the host
 * @rdev:	Its number
 * @path:	Where it was found; believed when the kernel doesn't know a name
 *
 * Return: A new string, or NULL when out of memory
 */
char *volume_device_name(dev_t rdev, const char *path);

#endif
