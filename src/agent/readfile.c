/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ReadFile: a small file of a container's root file system, looked up from the root directory of
 * its first process and never outside of it. What is mounted below isn't entered: a file system
 * that a container serves (FUSE) could make us wait for ever.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/container.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/fd.h"

#define READ_DEFAULT ((size_t)64 << 10)
#define READ_MAX     ((size_t)1 << 20)

static int open_root(struct container *c)
{
	const struct process *p = container_init_process(c);
	char path[48];
	int fd;

	if (c->state == CONTAINER_STOPPED || !p || p->state != PROCESS_RUNNING)
		return -ESRCH;
	snprintf(path, sizeof(path), "/proc/%d/root", p->entry.pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_file(int root, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};
	long fd = syscall(SYS_openat2, root, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* One byte more is asked for than may be there: that it comes tells that the file is larger. */
static int read_file(struct container *c, const char *path, size_t max, char **ret, size_t *ret_len,
		     struct err *e)
{
	_cleanup_(close_fdp) int root = open_root(c);
	_cleanup_(close_fdp) int fd = -EBADF;
	_cleanup_(freep) char *data = malloc(max + 1);
	struct stat st;
	ssize_t n;

	if (root < 0)
		return err_set(e, -EINVAL, "the container doesn't run");
	if (!data)
		return err_oom(e);
	fd = open_file(root, path);
	if (fd < 0)
		return err_errno(e, fd, "cannot open %.256s", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%.256s is no regular file", path);
	n = fd_read_full(fd, data, max + 1);
	if (n < 0)
		return err_errno(e, (int)n, "cannot read %.256s", path);
	if ((size_t)n > max)
		return err_set(e, -EFBIG, "%.256s has more than %zu bytes", path, max);
	*ret = TAKE_PTR(data);
	*ret_len = (size_t)n;
	return 0;
}

HANDLER(serve_read_file)
{
	const PB(ReadFileRequest) *req = (const void *)msg;
	struct container *c = find_container(data, call, req->container_id);
	PB(ReadFileResponse) resp = PODVM__AGENT__V1__READ_FILE_RESPONSE__INIT;
	_cleanup_(freep) char *text = NULL;
	struct err e = { 0 };
	size_t max;

	if (!c)
		return;
	max = req->max ? MIN((size_t)req->max, READ_MAX) : READ_DEFAULT;
	if (read_file(c, req->path, max, &text, &resp.data.len, &e) < 0) {
		ttrpc_reply_err(call, &e);
		return;
	}
	resp.data.data = (uint8_t *)text;
	ttrpc_reply(call, &resp.base);
}
