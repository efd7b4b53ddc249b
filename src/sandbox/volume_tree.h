/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_VOLUME_TREE_H
#define PODVM_SANDBOX_VOLUME_TREE_H

/*
 * What a small volume holds at a moment, and what has to be done to make an older state of it the
 * new one. Reading doesn't follow links, doesn't cross into other file systems and has limits: the
 * directory is the kubelet's, but what a volume may be is found out by its name only.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/err.h"
#include "proto/agent.pb-c.h"

#define VOLUME_MAX_FILE	   ((size_t)1 << 20) /* of an object of Kubernetes */
#define VOLUME_MAX_BYTES   ((size_t)16 << 20)
#define VOLUME_MAX_ENTRIES 8000
#define VOLUME_MAX_DEPTH   16

/**
 * struct volume_entry - A directory, file, link or socket
 * @path:	Below the volume, "" is its directory
 * @type:	S_IFDIR, S_IFREG, S_IFLNK or S_IFSOCK
 * @mode:	Permission bits
 * @hash:	Of a file's content
 * @size:	Of a file
 * @data:	Its content, or NULL when it has been dropped
 * @target:	Of a link
 * @socket:	Of a socket, its number
 * @messages:	It's of type SOCK_SEQPACKET
 * @unknown:	Nobody knows whether it is really so
 */
struct volume_entry {
	char *path;
	mode_t type;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t hash;
	size_t size;
	uint8_t *data;
	char *target;
	uint32_t socket;
	bool messages;
	bool unknown;
};

/**
 * struct volume_tree - A state of a volume
 * @v:		Sorted by path, so that directories come before what is in them
 * @bytes:	Of all files
 */
struct volume_tree {
	struct volume_entry *v;
	size_t n;
	size_t bytes;
};

/**
 * struct volume_sockets - Sockets in a directory are wanted as well
 * @offer:	Called for each that is in the directory itself; sets @n's socket and messages.
 *		Return: 1, 0 (it's left out) or a negative errno, with @e set
 */
struct volume_sockets {
	int (*offer)(void *data, struct volume_entry *n, struct err *e);
	void *data;
};

/**
 * volume_tree_read() - Read a directory with everything in it
 * @t:		Empty; gets the state, and is to be released also on failure
 * @source:	Directory
 * @sockets:	NULL: there must not be any
 * @e:		Says what is too much
 *
 * Return: 0, -EAGAIN when it changed meanwhile, -EFBIG above a limit, another negative errno
 */
int volume_tree_read(struct volume_tree *t, const char *source,
		     const struct volume_sockets *sockets, struct err *e);

/**
 * volume_tree_read_file() - As volume_tree_read(), a file alone
 * @name:	Its name in the volume
 * @dev, @ino:	The file that is meant; -ESTALE when another one has its name now
 */
int volume_tree_read_file(struct volume_tree *t, const char *source, const char *name, dev_t dev,
			  ino_t ino, struct err *e);

/** volume_tree_read_socket() - As volume_tree_read_file(), a socket that is offered in any case */
int volume_tree_read_socket(struct volume_tree *t, const char *source, const char *name,
			    const struct volume_sockets *sockets, struct err *e);

/** volume_tree_read_top() - As volume_tree_read(), only the directory itself */
int volume_tree_read_top(struct volume_tree *t, const char *source, struct err *e);

/** volume_tree_find() - What has a path, or NULL */
const struct volume_entry *volume_tree_find(const struct volume_tree *t, const char *path);

/** volume_tree_drop_data() - Free the contents of all files */
void volume_tree_drop_data(struct volume_tree *t);

/**
 * volume_tree_doubt() - Nobody knows how far a change has come: make @t hold both states, unknown
 * @t:		The state from before
 * @next:	The state that was wanted, empty afterwards
 *
 * Return: 0 or -ENOMEM, then @t forgets what has gone
 */
int volume_tree_doubt(struct volume_tree *t, struct volume_tree *next);

/** volume_tree_done() - Release it; it's empty then */
void volume_tree_done(struct volume_tree *t);

/**
 * volume_tree_diff() - What makes one state of the other
 * @from, @to:	States; their strings and data are borrowed
 * @ret:	Changes, to be freed
 *
 * They are in the order of the kubelet's atomic writer: new directories and files, links that
 * change (its ..data), new links, and then what goes, its old directory last. So what a container
 * sees is complete at any moment.
 *
 * Return: Their number or -ENOMEM
 */
ssize_t volume_tree_diff(const struct volume_tree *from, const struct volume_tree *to,
			 Podvm__Agent__V1__VolumeChange **ret);

#endif
