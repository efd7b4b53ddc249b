/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_WORKDIR_H
#define PODVM_STORAGE_WORKDIR_H

/*
 * Theory of operation
 *
 * Everything unfinished in the image store lives in <store>/tmp/<name>/, and who works there holds
 * an exclusive flock(2) lock on that directory. The directory is its own lock file: a second
 * process that wants to do the same work waits for the lock, and then finds either the finished
 * work elsewhere and the directory gone, or what a process left that died. Locks vanish with
 * their process, so a directory whose lock is free is a leftover, and anybody may remove it.
 */

#include <limits.h>

#include "base/cleanup.h"
#include "base/err.h"

/**
 * struct workdir - A directory to work in
 * @fd:		The directory, holds the lock
 * @tmp_fd:	The directory that it is in
 * @name:	Its name there
 * @path:	Its absolute path
 */
struct workdir {
	int fd;
	int tmp_fd;
	char name[128];
	char path[PATH_MAX];
};

/**
 * workdir_open() - Make a work directory, or wait for who has it
 * @store:	Path of the store
 * @name:	What the work is called
 * @timeout_ms:	Deadline; 0: don't wait
 * @ret:	The directory, empty and locked, to be released with workdir_remove()
 * @e:		Says what failed
 *
 * Return: 0, -ETIMEDOUT, -EWOULDBLOCK (@timeout_ms is 0 and another process works there; @e is not
 * touched), or another negative errno
 */
int workdir_open(const char *store, const char *name, int timeout_ms, struct workdir **ret,
		 struct err *e);

/** workdir_remove() - Remove it with all it holds; NULL is fine */
void workdir_remove(struct workdir *w);

/** workdir_sweep() - Remove what processes that died have left. Return: how many were removed */
int workdir_sweep(const char *store);

DEFINE_CLEANUP(workdir_removep, struct workdir *, workdir_remove)

#endif
