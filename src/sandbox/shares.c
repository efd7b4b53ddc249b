/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/shares.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "sandbox/sandbox-internal.h"
#include "storage/fuse_relay.h"
#include "storage/virtiofs.h"

/* From the start of the daemon until it serves. */
#define READY_TIMEOUT_MS 60000

#define CHANNEL "podvm.fs"

static void on_daemon_exit(void *data, int code)
{
	struct sandbox *sb = data;
	struct err e = { 0 };

	/* The relay notices as well, and tells who waits. */
	if (sb->shares_begun && !sb->daemon_ready)
		return;
	err_set(&e, -EIO, "virtiofsd, which serves the shared directories, ended with code %d",
		code);
	sandbox_lose_soon(sb, &e);
}

static void end_daemon(struct sandbox *sb)
{
	loop_child_free(TAKE_PTR(sb->virtiofs_child));
	close_fdp(&sb->virtiofs_fd);
	sb->virtiofs_fd = -EBADF;
}

static int start_daemon(struct sandbox *sb, const char *dir, struct err *e)
{
	pid_t pid;
	int pidfd = virtiofs_spawn(dir, &pid, &sb->virtiofs_fd, e);
	int r;

	if (pidfd < 0)
		return pidfd;
	sandbox_journal_process(sb, "virtiofsd", pid);
	r = loop_child_new(sb->loop, pidfd, on_daemon_exit, sb, &sb->virtiofs_child);
	return r < 0 ? err_errno(e, r, "cannot watch virtiofsd") : 0;
}

/* ---- when a container asks for it ---- */

/* Everybody who waited is told; one of them may take out others. */
static void tell_waiting(struct sandbox *sb, const struct err *e)
{
	while (!list_empty(&sb->share_waits)) {
		struct share_wait *wait = list_entry(sb->share_waits.next, struct share_wait, node);

		list_remove(&wait->node);
		wait->done(wait->data, e);
	}
}

/* The next container may try again. */
static void fail(struct sandbox *sb, const struct err *e)
{
	sb->shares_begun = false;
	end_daemon(sb);
	tell_waiting(sb, e);
}

static void on_channel(void *data, const struct err *e)
{
	struct sandbox *sb = data;

	sb->channel_ready = !e;
	if (e) {
		close_fdp(&sb->share_fd);
		sb->share_fd = -EBADF;
		fail(sb, e);
	} else if (sb->daemon_ready) {
		tell_waiting(sb, NULL);
	}
}

static void on_ready(void *data)
{
	struct sandbox *sb = data;

	sb->daemon_ready = true;
	if (sb->channel_ready)
		tell_waiting(sb, NULL);
}

static void on_broken(void *data, const struct err *e)
{
	struct sandbox *sb = data;

	if (sb->daemon_ready)
		sandbox_lose_soon(sb, e);
	else
		fail(sb, e);
}

/* The agent doesn't start another one: what is mounted fails from now on. */
static void on_guest_closed(void *data, const char *name)
{
	struct err e = { 0 };

	if (!str_eq(name, CHANNEL))
		return;
	err_set(&e, -EIO, "the guest's server of shared directories (podvm-fs) has ended");
	sandbox_lose_soon(data, &e);
}

/* Nothing is said on the channel before the daemon serves, so it does for the next one as well. */
static int begin(struct sandbox *sb, struct err *e)
{
	static const struct fuse_relay_handlers handlers = { on_ready, on_broken };
	int r = 0;

	fuse_relay_free(TAKE_PTR(sb->relay));
	if (!sb->virtiofs_child && !sb->config->shared_dir)
		return err_set(e, -ENOTCONN, "the machine has no shared directory");
	if (!sb->virtiofs_child)
		r = start_daemon(sb, sb->config->shared_dir, e);
	if (r == 0 && sb->share_fd < 0)
		r = vmm_add_channel(sb->vmm, CHANNEL, &sb->share_fd, on_channel, sb, e);
	vmm_on_channel_closed(sb->vmm, on_guest_closed, sb);
	if (r < 0)
		return r;
	r = fuse_relay_new(sb->loop, sb->share_fd, TAKE_FD(sb->virtiofs_fd), READY_TIMEOUT_MS,
			   &handlers, sb, &sb->relay);
	return r < 0 ? err_errno(e, r, "cannot talk to virtiofsd") : 0;
}

int sandbox_need_share(struct sandbox *sb, struct share_wait *wait, struct err *e)
{
	int r;

	if (sb->channel_ready && sb->daemon_ready)
		return 0;
	if (!sb->shares_begun) {
		r = begin(sb, e);
		if (r < 0) {
			end_daemon(sb);
			return r;
		}
		sb->shares_begun = true;
	}
	list_append(&sb->share_waits, &wait->node);
	return STAGE_PENDING;
}

/* ---- the sandbox's stage ---- */

/* What is known from the beginning: the daemon starts while the machine does. */
int sandbox_start_shares(void *obj, struct err *e)
{
	struct sandbox *sb = obj;
	_cleanup_(freep) char *dir = str_printf("%s/shared", sb->config->rundir->path);
	int r;

	if (sb->config->n_shares == 0)
		return 0;
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
	return start_daemon(sb, dir, e);
}

/* What sandbox_start_shares() has mounted; else the run directory could not be removed. */
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

	fuse_relay_free(TAKE_PTR(sb->relay));
	end_daemon(sb);
	close_fdp(&sb->share_fd);
	sb->share_fd = -EBADF;
	unmount_shares(sb);
	sb->channel_ready = sb->daemon_ready = sb->shares_begun = false;
	err_set(&e, -ECONNRESET, "the machine has ended");
	tell_waiting(sb, &e);
}
