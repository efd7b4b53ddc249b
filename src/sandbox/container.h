/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_CONTAINER_H
#define PODVM_SANDBOX_CONTAINER_H

/*
 * Theory of operation
 *
 * A container is created in stages: its disks are plugged into the machine (disks.h), its small
 * files are written into the guest, then the agent mounts everything and runs `crun create`. Below
 * /run/podvm of the guest:
 *
 *	images/LUN		a read-only disk of the root file system, shared by containers,
 *	images/LUN.PART		or a part of one
 *	scratch/ID		the writable disk (ext4) or tmpfs, with upper/ and work/
 *	containers/ID/rootfs	all of them as an overlay, or the one disk: root.path of the spec
 *	files/ID/		hosts, resolv.conf, hostname and the like
 *	shared/NAME		a directory or file of the host
 *
 * One that fails to be created is removed again in the guest, and then its disks are unplugged. Its
 * exit is reported once, whether the agent tells it or the sandbox dies.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "sandbox/sandbox.h"
#include "storage/parts.h"

#define CONTAINER_MAX_FILES 16
#define CONTAINER_MAX_DISKS 32
#define CONTAINER_ROOTFS    "/run/podvm/containers/%s/rootfs" /* of an id */
#define CONTAINER_FILE	    "/run/podvm/files/%s/%s"	      /* of an id and a name */
#define CONTAINER_SHARED    "/run/podvm/shared"
#define CONTAINER_LAYER	    "layer" /* what a container writes to, in statistics */

/* A small file written into the guest, at CONTAINER_FILE. */
struct container_file {
	const char *name;
	const char *text;
	unsigned int mode;
};

/**
 * struct container_disk - A disk with a part of the root file system
 * @fd:		EROFS image, or whatever file system the guest knows
 * @fstype:	Its type
 * @writable:	It's the whole root file system, and the only disk
 * @parts:	File systems on it, top layer first, and their hash trees
 * @n_parts:	How many, 0: it's one that isn't checked
 */
struct container_disk {
	int fd;
	const char *fstype;
	bool writable;
	const struct disk_part *parts;
	size_t n_parts;
};

/* Where a container writes to. */
enum container_scratch {
	CONTAINER_NO_SCRATCH,	  /* the root is read-only, or a writable disk */
	CONTAINER_SCRATCH_DISK,	  /* @scratch_fd */
	CONTAINER_SCRATCH_MEMORY, /* a small tmpfs: mount points of a read-only root are made there */
};

/**
 * struct container_mount - Something that is mounted for a container below the guest's /run/podvm
 * @driver, @source, @fstype, @mount_point: As in Storage of the agent protocol
 * @options:	Of the mount, or NULL
 * @name:	In statistics, or NULL
 * @part:	How the guest checks it, or NULL; its @data is 0 if it doesn't
 * @directory:	That is to be there in it, or NULL
 * @mode, @uid, @gid: Of that when it's made
 * @fs_group:	Group that gets the files, 0: none
 * @fs_group_on_mismatch: ...unless the root directory has it already
 *
 * What a container may have made, such as a directory of a volume, is mounted ("bind") where no
 * container can put a link into the path, and the spec names that place.
 */
struct container_mount {
	const char *driver;
	const char *source;
	const char *fstype;
	const char *mount_point;
	const struct strv *options;
	const char *name;
	const struct disk_part *part;
	const char *directory;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	gid_t fs_group;
	bool fs_group_on_mismatch;
};

/**
 * struct container_config - A container; borrowed until container_create() has called back
 * @id:		Its id
 * @spec:	config.json
 * @disks:	The root file system, top layer first
 * @n_disks:	How many, 0: the spec names a root file system that is there already
 * @scratch:	Where the container writes to, with @n_disks
 * @scratch_fd:	The formatted disk for that
 * @files:	Small files
 * @directories: Directories that are made in the root when missing; may be NULL
 * @shares:	Names of what it mounts of the host, at CONTAINER_SHARED/NAME
 * @n_shares:	How many
 * @scratch_unsafe: Nobody wants the files of @scratch_fd after a crash
 * @mounts:	Volumes and parts of them, for mounts of the spec, in their order
 * @n_mounts:	How many
 * @shm:	Where the pod's /dev/shm is mounted in the guest, NULL: it isn't needed
 * @shm_size:	Its size in bytes
 * @terminal, @input: It gets a terminal; there will be input
 * @columns, @rows: Size of the terminal, 0: unknown
 */
struct container_config {
	const char *id;
	const char *spec;
	struct container_disk disks[CONTAINER_MAX_DISKS];
	size_t n_disks;
	enum container_scratch scratch;
	int scratch_fd;
	struct container_file files[CONTAINER_MAX_FILES];
	size_t n_files;
	const struct strv *directories;
	const char *const *shares;
	size_t n_shares;
	bool scratch_unsafe;
	const struct container_mount *mounts;
	size_t n_mounts;
	const char *shm;
	uint64_t shm_size;
	bool terminal;
	bool input;
	unsigned int columns;
	unsigned int rows;
};

/* How a container ended. */
struct container_exit {
	unsigned int status;
	bool oom_killed;
};

struct container;

/**
 * container_create() - Create a container in a running sandbox
 * @sb:		Sandbox
 * @config:	What
 * @done:	Called with NULL or what failed, everything undone
 * @data:	For @done
 * @ret:	The container, valid until container_free()
 *
 * Return: 0 (@done will be called) or a negative errno (it will not)
 */
int container_create(struct sandbox *sb, const struct container_config *config, sandbox_done done,
		     void *data, struct container **ret);

/** container_start() - Run its first process. Return: 0 (@done will be called) or an errno */
int container_start(struct container *c, sandbox_done done, void *data);

/**
 * container_wait() - Be told of the end of the first process
 * @cb:		Called once, with how it ended, or with what was lost (@e) when nobody can know
 */
int container_wait(struct container *c,
		   void (*cb)(void *data, const struct container_exit *exit, const struct err *e),
		   void *data);

/**
 * container_remove() - Take it away in the guest, whatever is left of it, and unplug its disks
 * @done:	Called with NULL or what failed; the container is still to be freed
 *
 * Return: 0 (@done will be called) or a negative errno (it will not)
 */
int container_remove(struct container *c, sandbox_done done, void *data);

/** container_free() - Forget it; the guest is not told. NULL is fine */
void container_free(struct container *c);

#endif
