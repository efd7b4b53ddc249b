/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WriteFile: small files of the host below /run/podvm. Pieces are collected in a temporary file
 * beside the final one, which replaces it as a whole with the last piece.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/service.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define FILE_MAX   ((uint64_t)16 << 20)
#define TMP_SUFFIX ".podvm-tmp"

/* Put a piece at its place. Return: Descriptor of the temporary file or a negative errno */
static int write_piece(int dir, const char *tmp, const PB(WriteFileRequest) * req, struct err *e)
{
	int flags = O_WRONLY | O_NOFOLLOW | (req->offset == 0 ? O_CREAT | O_TRUNC : 0);
	_cleanup_(close_fdp) int fd = open_beneath(dir, tmp, flags, 0600);
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, fd < 0 ? fd : -errno, "cannot open %s", req->path);
	if (req->offset > FILE_MAX || req->data.len > FILE_MAX - req->offset)
		return err_set(e, -EFBIG, "%s has more than %llu bytes", req->path,
			       (unsigned long long)FILE_MAX);
	if ((uint64_t)st.st_size != req->offset)
		return err_set(e, -EINVAL, "%s: piece at %llu, %lld bytes are there", req->path,
			       (unsigned long long)req->offset, (long long)st.st_size);
	n = pwrite(fd, req->data.data, req->data.len, (off_t)req->offset);
	if (n != (ssize_t)req->data.len)
		return err_errno(e, n < 0 ? -errno : -ENOSPC, "cannot write %s", req->path);
	return TAKE_FD(fd);
}

static int write_file(const PB(WriteFileRequest) * req, struct err *e)
{
	_cleanup_(close_fdp) int dir = -EBADF;
	_cleanup_(close_fdp) int fd = -EBADF;
	char name[NAME_MAX + 1];
	char tmp[NAME_MAX + sizeof(TMP_SUFFIX)];

	dir = open_parent(req->path, name, e);
	if (dir < 0)
		return dir;
	if (strlen(name) + sizeof(TMP_SUFFIX) > NAME_MAX)
		return err_set(e, -ENAMETOOLONG, "the name of %.256s is too long", req->path);
	snprintf(tmp, sizeof(tmp), "%s" TMP_SUFFIX, name);
	fd = write_piece(dir, tmp, req, e);
	if (fd < 0) {
		unlinkat(dir, tmp, 0);
		return fd;
	}
	if (!req->last)
		return 0;
	if (fchown(fd, req->uid, req->gid) < 0 || fchmod(fd, req->mode & 07777) < 0 ||
	    renameat(dir, tmp, dir, name) < 0)
		return err_errno(e, -errno, "cannot finish %s", req->path);
	return 0;
}

HANDLER(serve_write_file)
{
	const PB(WriteFileRequest) *req = (const void *)msg;
	struct err e = { 0 };

	if (write_file(req, &e) < 0)
		ttrpc_reply_err(call, &e);
	else
		reply_empty(call);
}
