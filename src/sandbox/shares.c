/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/shares.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "sandbox/container.h"
#include "sandbox/sandbox-internal.h"
#include "storage/vhost_user_relay.h"
#include "storage/virtiofs.h"

/* From the start of the daemon until it serves the monitor. */
#define JOIN_TIMEOUT_MS 60000

static void on_daemon_exit(void *data, int code)
{
	struct sandbox *sb = data;
	struct err e = { 0 };

	/* The relay notices as well, and tells who waits. */
	if (sb->relay && !sb->shares_joined)
		return;
	err_set(&e, -EIO, "virtiofsd, which serves the shared directories, ended with code %d",
		code);
	sandbox_lose_soon(sb, &e);
}

static int spawn_daemon(struct sandbox *sb, const char *dir, int *ret_socket, struct err *e)
{
	pid_t pid;
	int pidfd = virtiofs_spawn(dir, &pid, ret_socket, e);
	int r;

	if (pidfd < 0)
		return pidfd;
	sandbox_journal_process(sb, "virtiofsd", pid);
	r = loop_child_new(sb->loop, pidfd, on_daemon_exit, sb, &sb->virtiofs_child);
	return r < 0 ? err_errno(e, r, "cannot watch virtiofsd") : 0;
}

/* ---- known from the beginning ---- */

static int start_daemon(struct sandbox *sb, struct err *e)
{
	_cleanup_(freep) char *dir = str_printf("%s/shared", sb->config->rundir->path);
	int r;

	if (!dir)
		return err_oom(e);
	r = mkdir_p(dir, 0700);
	if (r < 0)
		return err_errno(e, r, "cannot make %s", dir);
	for (size_t i = 0; i < sb->config->n_shares; i++) {
		const struct sandbox_share *s = &sb->config->shares[i];

		r = virtiofs_share_add(dir, s->source,
				       s->readonly ? VIRTIOFS_READONLY_ALL : VIRTIOFS_WRITABLE,
				       s->name, e);
		if (r < 0)
			return r;
	}
	return spawn_daemon(sb, dir, &sb->share_fd, e);
}

/* ---- when a container asks for it ---- */

static void on_broken(void *data, const struct err *e)
{
	sandbox_lose_soon(data, e);
}

static int start_stand_in(struct sandbox *sb, struct err *e)
{
	int fds[2];
	int r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(e, -errno, "cannot make the socket of the shared directories");
	sb->share_fd = fds[0];
	r = vhost_relay_new(sb->loop, fds[1], on_broken, sb, &sb->relay);
	return r < 0 ? err_errno(e, r, "cannot stand in for virtiofsd") : 0;
}

/* Everybody who waited is told; one of them may take out others. */
static void tell_waiting(struct sandbox *sb, const struct err *e)
{
	while (!list_empty(&sb->share_waits)) {
		struct share_wait *wait = list_entry(sb->share_waits.next, struct share_wait, node);

		list_remove(&wait->node);
		wait->done(wait->data, e);
	}
}

static void on_joined(void *data, const struct err *e)
{
	struct sandbox *sb = data;

	sb->shares_joined = !e;
	if (e)
		loop_child_free(TAKE_PTR(sb->virtiofs_child));
	tell_waiting(sb, e);
}

static int begin_join(struct sandbox *sb, struct err *e)
{
	int socket = -EBADF;
	int r = spawn_daemon(sb, sb->config->shared_dir, &socket, e);

	if (r == 0) {
		r = vhost_relay_join(sb->relay, TAKE_FD(socket), JOIN_TIMEOUT_MS, on_joined, sb);
		if (r < 0)
			err_errno(e, r, "cannot talk to virtiofsd");
	}
	close_fdp(&socket);
	if (r < 0)
		loop_child_free(TAKE_PTR(sb->virtiofs_child));
	return r;
}

int sandbox_need_share(struct sandbox *sb, struct share_wait *wait, struct err *e)
{
	int r;

	if (sb->config->n_shares > 0 || sb->shares_joined)
		return 0;
	if (!sb->relay)
		return err_set(e, -ENOTCONN, "the machine has no shared directory");
	if (!sb->virtiofs_child) {
		r = begin_join(sb, e);
		if (r < 0)
			return r;
	}
	list_append(&sb->share_waits, &wait->node);
	return STAGE_PENDING;
}

/* ---- the sandbox's stage ---- */

int sandbox_start_shares(void *obj, struct err *e)
{
	struct sandbox *sb = obj;

	if (sb->config->n_shares > 0)
		return start_daemon(sb, e);
	return sb->config->shared_dir ? start_stand_in(sb, e) : 0;
}

void sandbox_add_shares(struct sandbox *sb, struct vmm_config *config)
{
	if (sb->share_fd < 0)
		return;
	config->shares[0].fd = sb->share_fd;
	snprintf(config->shares[0].tag, sizeof(config->shares[0].tag), CONTAINER_SHARED_TAG);
	config->n_shares = 1;
}

void sandbox_shares_given(struct sandbox *sb)
{
	if (sb->share_fd >= 0)
		close(TAKE_FD(sb->share_fd));
}

/* What start_daemon() has mounted; else the run directory could not be removed. */
static void unmount_shares(const struct sandbox *sb)
{
	for (size_t i = 0; i < sb->config->n_shares; i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/shared/%s", sb->config->rundir->path,
			 sb->config->shares[i].name);
		(void)umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
	}
}

void sandbox_stop_shares(void *obj)
{
	struct sandbox *sb = obj;
	struct err e = { 0 };

	vhost_relay_free(TAKE_PTR(sb->relay));
	loop_child_free(TAKE_PTR(sb->virtiofs_child));
	sandbox_shares_given(sb);
	unmount_shares(sb);
	sb->shares_joined = false;
	err_set(&e, -ECONNRESET, "the machine has ended");
	tell_waiting(sb, &e);
}
