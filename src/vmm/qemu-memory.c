/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file with a template's memory, opened for QEMU.
 *
 * QEMU takes a path, and opens it for reading and writing even if it maps it privately (the option
 * that says otherwise came after version 7.2). It runs as a user of its own that must not be able
 * to write into a file that every copy of the template shares. So the path doesn't exist. A seccomp
 * filter hands the one open(2) that is made like this, with the flags O_RDWR and nothing else, to
 * us, and we answer with a descriptor of our own: read-only for a copy. A private mapping needs no
 * more. Then we stop listening: from then on such an open fails in the process, whoever asks.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fdpass.h"
#include "base/log.h"
#include "vmm/qemu.h"

struct memory_grant {
	struct loop *loop;
	struct loop_io *io;
	int memory_fd;
	int listener;
	int ours;   /* where the child sends the listener */
	int theirs; /* its end */
};

/* ---- in the child ---- */

static int install_filter(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, O_RDWR, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = ARRAY_SIZE(code), .filter = code };
	long fd;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
		     &program);
	return fd < 0 ? -errno : (int)fd;
}

static int prepare(void *data)
{
	const struct memory_grant *g = data;
	int fd = install_filter();
	int r = fd;

	if (fd >= 0) {
		r = fdpass_send(g->theirs, "", 1, &fd, 1);
		close(fd);
	}
	return r;
}

/* ---- in the parent ---- */

static int receive_listener(struct memory_grant *g)
{
	size_t n;
	char byte;

	if (fdpass_receive(g->ours, &byte, 1, &g->listener, 1, &n) != 1 || n != 1)
		return -EPROTO;
	return 0;
}

/* Nothing of a guest's has run in the process yet, so what it says is what it means. */
static bool asks_for_memory(const struct seccomp_notif *n)
{
	char path[sizeof(QEMU_MEMORY_PATH)] = "";
	struct iovec local = { .iov_base = path, .iov_len = sizeof(path) };
	struct iovec remote = { .iov_base = (void *)(uintptr_t)n->data.args[1],
				.iov_len = sizeof(path) };

	return process_vm_readv((pid_t)n->pid, &local, 1, &remote, 1, 0) == (ssize_t)sizeof(path) &&
	       memcmp(path, QEMU_MEMORY_PATH, sizeof(path)) == 0;
}

static int grant(const struct memory_grant *g, const struct seccomp_notif *n)
{
	struct seccomp_notif_addfd add = {
		.id = n->id,
		.flags = SECCOMP_ADDFD_FLAG_SEND,
		.srcfd = (unsigned int)g->memory_fd,
		.newfd_flags = O_CLOEXEC,
	};

	return ioctl(g->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0 ? -errno : 0;
}

static int let_go_on(const struct memory_grant *g, const struct seccomp_notif *n)
{
	struct seccomp_notif_resp resp = {
		.id = n->id,
		.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE,
	};

	return ioctl(g->listener, SECCOMP_IOCTL_NOTIF_SEND, &resp) < 0 ? -errno : 0;
}

static void stop(struct memory_grant *g)
{
	loop_io_free(TAKE_PTR(g->io));
	close_fdp(&g->listener);
	g->listener = -EBADF;
}

static void on_open(void *data, int events)
{
	struct memory_grant *g = data;
	struct seccomp_notif n = { 0 };
	int r;

	if (ioctl(g->listener, SECCOMP_IOCTL_NOTIF_RECV, &n) < 0) {
		/* Who asked was killed, or nobody is left who could ask. */
		if (errno != EINTR && errno != ENOENT)
			stop(g);
		return;
	}
	if (!asks_for_memory(&n)) {
		(void)let_go_on(g, &n);
		return;
	}
	r = grant(g, &n);
	/* A call that was interrupted is made again. */
	if (r == -ENOENT)
		return;
	if (r < 0)
		log_warn("QEMU doesn't get the template's memory", "error=%d", r);
	stop(g);
}

int memory_grant_new(struct loop *loop, int fd, struct spawn *s, struct memory_grant **ret)
{
	struct memory_grant *g = calloc(1, sizeof(*g));
	int fds[2];

	if (!g)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds) < 0) {
		free(g);
		return -errno;
	}
	*g = (struct memory_grant){
		.loop = loop,
		.memory_fd = fd,
		.listener = -EBADF,
		.ours = fds[0],
		.theirs = fds[1],
	};
	s->prepare = prepare;
	s->prepare_data = g;
	*ret = g;
	return 0;
}

int memory_grant_start(struct memory_grant *g)
{
	int r = receive_listener(g);

	return r < 0 ? r : loop_io_new(g->loop, g->listener, LOOP_READ, on_open, g, &g->io);
}

void memory_grant_free(struct memory_grant *g)
{
	if (!g)
		return;
	stop(g);
	close_fdp(&g->ours);
	close_fdp(&g->theirs);
	free(g);
}
