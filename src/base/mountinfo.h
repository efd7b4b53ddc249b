/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_BASE_MOUNTINFO_H
#define PODVM_BASE_MOUNTINFO_H

/* What the kernel says of mounts: /proc/self/mountinfo. */

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

/**
 * struct mountinfo - A mount
 * @point:	Where it's mounted
 * @fstype:	Its file system
 * @options:	...and the options of that, with commas in between
 */
struct mountinfo {
	char *point;
	char *fstype;
	char *options;
};

/** mountinfo_read() - The text for this process' namespace; to be freed. Return: 0 or an errno */
int mountinfo_read(char **ret, struct err *e);

/**
 * mountinfo_find() - What is mounted
 * @mountinfo:	The text
 * @id:		Id of the mount
 * @ret:	Result; to be released with mountinfo_done() in any case
 *
 * Return: 0, -ENOENT or -ENOMEM
 */
int mountinfo_find(const char *mountinfo, uint64_t id, struct mountinfo *ret);

void mountinfo_done(struct mountinfo *m);

/**
 * mountinfo_fs_path() - Path of a file in its file system, from mountinfo
 * @mountinfo:	Text of /proc/self/mountinfo
 * @id:		Id of the mount that it's in
 * @path:	Its path, without symbolic links
 *
 * Return: A new string, empty for the root, or NULL when there is none or out of memory
 */
char *mountinfo_fs_path(const char *mountinfo, uint64_t id, const char *path);

/**
 * mountinfo_locate() - The path of an open file, and the mount that it's in
 * @fd:		The file, also one that was opened with O_PATH
 * @path:	Gets the path
 * @id:		Gets the id of the mount
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int mountinfo_locate(int fd, char path[PATH_MAX], uint64_t *id, struct err *e);

/**
 * mountinfo_inside() - Whether a file is in a directory, however either is mounted, and where
 * @fd:		The file, also one that was opened with O_PATH
 * @dir:	Path of the directory; a file is only in itself
 * @mountinfo:	Text of /proc/self/mountinfo
 * @ret:	Gets the path from there, empty for the directory itself, NULL: it isn't in it
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int mountinfo_inside(int fd, const char *dir, const char *mountinfo, char **ret, struct err *e);

/**
 * mountinfo_paths() - Where the mounts of a file system show a file
 * @mountinfo:	Text of /proc/self/mountinfo
 * @id:		Id of one of these mounts
 * @fs_path:	Path of the file in its file system
 * @max:	The most that are wanted
 * @ret:	Paths are appended; something else may be mounted there
 *
 * Return: 0 or -ENOMEM
 */
int mountinfo_paths(const char *mountinfo, uint64_t id, const char *fs_path, size_t max,
		    struct strv *ret);

/**
 * mountinfo_below() - Is something mounted below a directory?
 * @mountinfo:	Text of /proc/self/mountinfo
 * @path:	The directory, without symbolic links
 *
 * Return: 1, 0 or -ENOMEM
 */
int mountinfo_below(const char *mountinfo, const char *path);

/**
 * struct mountinfo_line - One mount
 * @id:		Its number, which another one may get when it has gone
 * @point:	Where it's mounted
 * @text:	What it is and where: ids, device, directory of that, place; @len bytes
 */
struct mountinfo_line {
	uint64_t id;
	const char *point;
	const char *text;
	size_t len;
};

/**
 * mountinfo_each_below() - What is mounted below a directory, in the kernel's order
 * @mountinfo:	Text of /proc/self/mountinfo
 * @path:	The directory, without symbolic links
 * @cb:		Called with each mount; what isn't 0 is the end
 * @data:	For @cb
 *
 * Return: What @cb returned last, 0 or -ENOMEM
 */
int mountinfo_each_below(const char *mountinfo, const char *path,
			 int (*cb)(void *data, const struct mountinfo_line *mount), void *data);

/**
 * mountinfo_has_below() - Is something mounted below the source of a mount on this host?
 * @source:	The source
 * @ret:	Result
 * @e:		Says why that can't be found out
 *
 * Return: 0 or a negative errno
 */
int mountinfo_has_below(const char *source, bool *ret, struct err *e);

#endif
