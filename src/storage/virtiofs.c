/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/virtiofs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "base/str.h"

#define SOCKET_NAME "virtiofs.sock"

static bool name_ok(const char *name)
{
	return *name && strlen(name) <= NAME_MAX && !strchr(name, '/') && !str_eq(name, ".") &&
	       !str_eq(name, "..");
}

/* What the source is mounted on: a directory or an empty file. */
static int make_target(int dirfd, const char *name, mode_t type)
{
	int fd;

	if (S_ISDIR(type))
		return mkdirat(dirfd, name, 0700) < 0 ? -errno : 0;
	fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

int virtiofs_clone_mounts(int source_fd, enum virtiofs_access access, bool alone)
{
	bool all_readonly = access == VIRTIOFS_READONLY_ALL;
	unsigned int recursive = alone ? 0 : AT_RECURSIVE;
	struct mount_attr top = { .attr_set = MOUNT_ATTR_RDONLY };
	struct mount_attr all = {
		.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
			    (all_readonly ? MOUNT_ATTR_RDONLY : 0),
		.propagation = MS_PRIVATE,
	};
	_cleanup_(close_fdp) int fd = open_tree(
		source_fd, "", AT_EMPTY_PATH | recursive | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH | recursive, &all, sizeof(all)) < 0)
		return -errno;
	if (access == VIRTIOFS_READONLY &&
	    mount_setattr(fd, "", AT_EMPTY_PATH, &top, sizeof(top)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int open_source(const char *source, mode_t *type, struct err *e)
{
	_cleanup_(close_fdp) int fd = open(source, O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot share %s", source);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) {
		err_set(e, -EINVAL, "cannot share %s: neither a directory nor a file", source);
		err_hint(e, "Sockets, pipes and devices of the host don't work in a guest.");
		return -EINVAL;
	}
	*type = st.st_mode;
	return TAKE_FD(fd);
}

/**
 * struct copy - How the mounts of a source are copied
 * @source:	The source
 * @type:	What it turned out to be
 * @fd:		A detached copy of its mounts, or a negative errno
 * @e:		What failed
 */
struct copy {
	const struct virtiofs_source *source;
	mode_t type;
	int fd;
	struct err *e;
};

static int copy_mounts(struct copy *c)
{
	_cleanup_(close_fdp) int source_fd = open_source(c->source->path, &c->type, c->e);
	int fd;

	if (source_fd < 0)
		return source_fd;
	fd = virtiofs_clone_mounts(source_fd, c->source->access, c->source->alone);
	return fd < 0 ? err_errno(c->e, fd, "cannot bind mount %s", c->source->path) : fd;
}

static int child_main(void *arg)
{
	struct copy *c = arg;

	if (setns(c->source->mount_ns, CLONE_NEWNS) < 0)
		c->fd = err_errno(c->e, -errno, "cannot enter the host's mount namespace");
	else
		c->fd = copy_mounts(c);
	return 0;
}

/*
 * Mounts can be copied from within their namespace only. Entering it is done by a child that has
 * our memory and our descriptors while we wait, so there's no way back that could fail.
 */
static int copy_mounts_there(struct copy *c)
{
	_Alignas(16) static char stack[64 << 10];
	pid_t pid = clone(child_main, stack + sizeof(stack),
			  CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, c);

	if (pid < 0)
		return err_errno(c->e, -errno, "cannot start a child");
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return c->fd;
}

int virtiofs_share_add(const char *dir, const char *source, enum virtiofs_access access,
		       const char *name, struct err *e)
{
	const struct virtiofs_source s = { .path = source, .access = access, .mount_ns = -EBADF };

	return virtiofs_share_add_from(&s, dir, name, e);
}

int virtiofs_share_add_from(const struct virtiofs_source *source, const char *dir, const char *name,
			    struct err *e)
{
	_cleanup_(close_fdp) int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(close_fdp) int mount_fd = -EBADF;
	struct copy c = { .source = source, .fd = -ECHILD, .e = e };
	int r;

	if (!name_ok(name))
		return err_set(e, -EINVAL, "not a name for a shared directory: %s", name);
	if (dirfd < 0)
		return err_errno(e, -errno, "cannot open %s", dir);
	mount_fd = source->mount_ns < 0 ? copy_mounts(&c) : copy_mounts_there(&c);
	if (mount_fd < 0)
		return mount_fd;
	r = make_target(dirfd, name, c.type);
	if (r == 0 && move_mount(mount_fd, "", dirfd, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		r = -errno;
	return r < 0 ? err_errno(e, r, "cannot bind mount %s on %s/%s", source->path, dir, name)
		     : 0;
}

int virtiofs_refuse_root(const char *source, struct err *e)
{
	struct stat root;
	struct stat st;

	if (stat("/", &root) < 0 || stat(source, &st) < 0 || st.st_dev != root.st_dev ||
	    st.st_ino != root.st_ino)
		return 0;
	err_set(e, -EPERM, "%s is the root directory of the host, which isn't shared", source);
	err_hint(e, "Name the directories that are needed, or set share_root = yes in [storage] of "
		    "podvm.conf.");
	return -EPERM;
}

/**
 * struct daemon - A virtiofsd
 * @path:	Where a package puts it
 * @args:	Its options but --fd and the directory
 * @source:	Option for the directory, which is appended
 */
struct daemon {
	const char *path;
	const char *args[8];
	const char *source;
};

/*
 * Extended attributes that are the files' own. Those that mean something to the host's kernel or to
 * its overlays (trusted.overlay.*, security.selinux, security.ima) aren't a guest's business.
 */
#define XATTR_RULE(name) ":ok:all:" name ":" name ":"
#define XATTRS                            \
	XATTR_RULE("user.")               \
	XATTR_RULE("security.capability") \
	XATTR_RULE("system.posix_acl_") ":unsupported:all:::"

static const struct daemon daemons[] = {
	/* Rust, package virtiofsd */
	{ "/usr/libexec/virtiofsd",
	  { "--sandbox=namespace", "--cache=auto", "--log-level=warn", "--syslog", "--posix-acl",
	    "--xattrmap=" XATTRS },
	  "--shared-dir=" },
	/* C, package qemu-system-common of Debian 12 */
	{ "/usr/lib/qemu/virtiofsd",
	  { "-f", "--syslog", "-o", "sandbox=namespace,cache=auto,log_level=warn,posix_acl", "-o",
	    "xattrmap=" XATTRS, "-o" },
	  "source=" },
};

static const struct daemon *find_daemon(struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(daemons); i++)
		if (access(daemons[i].path, X_OK) == 0)
			return &daemons[i];
	err_set(e, -ENOENT, "cannot find virtiofsd, which shares directories with the guest");
	err_hint(e, "Install it: apt-get install qemu-system-common (Debian 12) or virtiofsd "
		    "(Debian 13)");
	return NULL;
}

static int make_argv(const struct daemon *d, const char *dir, int fd, struct strv *argv)
{
	int r = strv_add(argv, d->path);

	if (r == 0)
		r = strv_addf(argv, "--fd=%d", fd);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(d->args) && d->args[i]; i++)
		r = strv_add(argv, d->args[i]);
	return r < 0 ? r : strv_addf(argv, "%s%s", d->source, dir);
}

/* A directory for the socket's name that others can't reach: the one above what is shared. */
static int open_above(const char *dir)
{
	_cleanup_(freep) char *above = str_printf("%s/..", dir);
	int fd;

	if (!above)
		return -ENOMEM;
	fd = open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* A listening socket, and the one connection to it that there will ever be. */
static int make_sockets(const char *dir, int *ret_listen, int *ret_client)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_(close_fdp) int above = open_above(dir);
	_cleanup_(close_fdp) int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_(close_fdp) int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = 0;

	if (above < 0)
		return above;
	if (listener < 0 || client < 0)
		return -errno;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/" SOCKET_NAME, above);
	(void)unlinkat(above, SOCKET_NAME, 0);
	if (bind(listener, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	if (listen(listener, 1) < 0 || connect(client, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		r = -errno;
	(void)unlinkat(above, SOCKET_NAME, 0);
	if (r < 0)
		return r;
	*ret_listen = TAKE_FD(listener);
	*ret_client = TAKE_FD(client);
	return 0;
}

int virtiofs_spawn(const char *dir, pid_t *ret_pid, int *ret_socket, struct err *e)
{
	const struct daemon *d = find_daemon(e);
	_cleanup_(strv_done) struct strv argv = { 0 };
	_cleanup_(close_fdp) int listener = -EBADF;
	_cleanup_(close_fdp) int client = -EBADF;
	struct spawn s = SPAWN_INIT;
	int pidfd;
	int r;

	if (!d)
		return -ENOENT;
	if (strchr(dir, ','))
		return err_set(e, -EINVAL, "cannot share %s: a comma in the name", dir);
	r = make_sockets(dir, &listener, &client);
	if (r < 0)
		return err_errno(e, r, "cannot make the socket of virtiofsd");
	if (make_argv(d, dir, spawn_fd(&s, listener), &argv) < 0)
		return err_oom(e);
	s.path = d->path;
	s.argv = argv.v;
	s.new_session = true; /* Ctrl-C on our terminal is for the container */
	pidfd = spawn_start(&s, ret_pid, e);
	if (pidfd >= 0)
		*ret_socket = TAKE_FD(client);
	return pidfd;
}
