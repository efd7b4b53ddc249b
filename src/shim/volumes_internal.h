/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_VOLUMES_INTERNAL_H
#define PODVM_SHIM_VOLUMES_INTERNAL_H

/* What volumes.c and volume_disk.c share; others see volumes.h. */

#include "base/list.h"
#include "shim/create.h"
#include "shim/task.h"
#include "shim/volume_kind.h"

/**
 * struct volumes - What is in the guest
 * @list:	struct pod_volume
 * @n:		How many there have been, for their names
 */
struct volumes {
	struct volume_set *set;
	struct list list;
	unsigned int n;
};

/**
 * struct pod_volume - Something that was copied or made there
 * @task:	Its owner, NULL: the pod
 * @path:	Directory of the guest
 * @name:	Of a file in it, NULL: it's the directory
 * @source:	On the host
 * @dev, @ino:	Of a termination log
 * @disk:	It's a disk, NULL: it isn't
 * @ready:	It's there
 * @fetch:	Call for a termination log
 */
struct pod_volume {
	struct list node;
	struct shim *shim;
	struct task *task;
	enum volume_kind kind;
	char *path;
	char *name;
	char *source;
	dev_t dev;
	ino_t ino;
	struct volume *copy;
	struct volume_disk *disk;
	bool ready;
	struct ttrpc_pending *fetch;
};

/**
 * volume_new() - Remember a volume
 * @owner:	Task that it's for, NULL: it's the pod's
 *
 * Return: The volume, or NULL when out of memory
 */
struct pod_volume *volume_new(struct shim *shim, struct task *owner, enum volume_kind kind,
			      const char *source);

/** volume_find() - The pod's volume of a source, NULL: there is none yet */
struct pod_volume *volume_find(const struct volumes *vs, const char *source);

/** volume_drop() - Forget one */
void volume_drop(struct pod_volume *v);

/** volume_settled() - One is there, or can't be (@e), and is forgotten: tell the tasks that wait */
void volume_settled(struct pod_volume *v, const struct err *e);

/** volume_use() - A task's container needs a volume */
void volume_use(struct task *t, struct pod_volume *v);

/** volume_mount() - Append a mount for a task's container; @m's strings live as long as its Create */
void volume_mount(struct task *t, const struct container_mount *m, struct pod_volume *disk);

/**
 * volume_mount_part() - Mount something of a volume where no container can put a link into the path
 * @t:		Task
 * @source:	The volume, or a part of it; in the guest
 * @m:		Directory that is to be there, with its attributes, or all zero
 *
 * Return: Where it is, borrowed from the Create, or NULL when out of memory
 */
const char *volume_mount_part(struct task *t, const char *source, const struct container_mount *m);

#endif
