/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_PATHS_H
#define PODVM_AGENT_PATHS_H

/*
 * Names that come from the host, and opening what they name. What the host mounts may hold
 * symbolic links made by a container, so no path below /run/podvm is ever opened through one.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

#define DIR_PODVM   "/run/podvm"	 /* files and mounts of the host: its own tmpfs */
#define DIR_FILES   "/run/podvm/files"	 /* one directory per container */
#define DIR_AGENT   "/run/agent"	 /* our own small files */
#define DIR_BUNDLES "/run/agent/bundles" /* one directory per container */
#define DIR_CRUN    "/run/crun"		 /* crun's state */
#define DIR_CGROUP  "/sys/fs/cgroup"
#define DIR_POD	    "/sys/fs/cgroup/pod" /* parent of the containers' cgroups */

#define ID_MAX	 128
#define PATH_LEN 4096

/** id_valid() - Whether this can name a container or a process */
bool id_valid(const char *id);

/**
 * path_below() - Check a path of the host
 * @path:	Absolute path without "//", "." and ".."
 * @dir:	Directory that it must be below
 *
 * Return: The part of @path below @dir, or NULL when it isn't a proper path or not below
 */
const char *path_below(const char *path, const char *dir);

/**
 * open_beneath() - Open a path below a directory, through no symbolic link
 * @dirfd:	Directory
 * @path:	Relative path
 * @flags:	As for openat(2); O_CLOEXEC is added
 * @mode:	As for openat(2)
 *
 * Return: Descriptor or a negative errno (-ELOOP: there is a link)
 */
int open_beneath(int dirfd, const char *path, int flags, mode_t mode);

/**
 * mkdir_beneath() - Make a directory and those above it, through no symbolic link
 * @dirfd:	Directory
 * @path:	Relative path; "" is @dirfd itself
 * @mode:	Of those that are made
 *
 * Return: O_PATH descriptor of the directory or a negative errno
 */
int mkdir_beneath(int dirfd, const char *path, mode_t mode);

/**
 * open_parent() - Open the directory above a path below DIR_PODVM, made if missing
 * @path:	Absolute path of the host
 * @name:	Gets the last part of @path
 * @e:		Says what is wrong with it
 *
 * Return: O_PATH descriptor of the directory or a negative errno
 */
int open_parent(const char *path, char name[NAME_MAX + 1], struct err *e);

#endif
