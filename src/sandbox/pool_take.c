/* SPDX-License-Identifier: Apache-2.0 */
/* Taking a machine that waits: one after the other of those with the key is asked. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/fdpass.h"
#include "base/log.h"
#include "sandbox/host_cgroup.h"
#include "sandbox/pool.h"

/* Guards answer at once, unless the host is very busy. */
#define TAKE_TIMEOUT_MS 10000

#define MAX_FDS (VMM_HANDOVER_FDS + 2)

/**
 * struct pool_take - Somebody wants a machine
 * @entries:	All that wait, of any key
 * @next:	The next of them to be asked
 * @fd:		Connection to the one that is being asked
 */
struct pool_take {
	struct loop *loop;
	char key[TEMPLATE_KEY_SIZE];
	int dir_fd;
	struct pool_entry *entries;
	int n;
	int next;
	int fd;
	struct loop_io *io;
	struct loop_timer *timer;
	void (*done)(void *data, struct pool_machine *m);
	void *data;
};

void pool_machine_done(struct pool_machine *m)
{
	vmm_handover_done(&m->vmm);
	close_fdp(&m->guard_fd);
	close_fdp(&m->nic_fd);
	close_fdp(&m->uid_fd);
	*m = POOL_MACHINE_INIT;
}

static void hang_up(struct pool_take *t)
{
	loop_io_free(TAKE_PTR(t->io));
	close_fdp(&t->fd);
	t->fd = -EBADF;
}

void pool_take_free(struct pool_take *t)
{
	if (!t)
		return;
	hang_up(t);
	loop_timer_free(t->timer);
	close_fdp(&t->dir_fd);
	free(t->entries);
	free(t);
}

static void finish(struct pool_take *t, struct pool_machine *m)
{
	hang_up(t);
	loop_timer_free(TAKE_PTR(t->timer));
	t->done(t->data, m);
}

/* Return: 0 or a negative errno */
static int unpack(const struct pool_answer *a, int *fds, size_t n, struct pool_machine *m)
{
	size_t at = VMM_HANDOVER_FDS;

	if (n != at + a->nic + a->uid || a->vmm_pid <= 1)
		return -EPROTO;
	m->vmm.pid = a->vmm_pid;
	m->agent_next = a->agent_next;
	for (size_t i = 0; i < VMM_HANDOVER_FDS; i++)
		m->vmm.fds[i] = TAKE_FD(fds[i]);
	if (a->nic)
		m->nic_fd = TAKE_FD(fds[at++]);
	if (a->uid)
		m->uid_fd = TAKE_FD(fds[at]);
	return 0;
}

static int receive(struct pool_take *t, struct pool_machine *m)
{
	struct pool_answer answer;
	struct ucred guard;
	socklen_t len = sizeof(guard);
	int fds[MAX_FDS];
	size_t n;
	ssize_t got = fdpass_receive(t->fd, &answer, sizeof(answer), fds, MAX_FDS, &n);
	int r = got < 0 ? (int)got : -EPROTO;

	if (got == (ssize_t)sizeof(answer))
		r = unpack(&answer, fds, n, m);
	for (size_t i = 0; i < n; i++)
		close_fdp(&fds[i]);
	if (r == 0 && getsockopt(t->fd, SOL_SOCKET, SO_PEERCRED, &guard, &len) < 0)
		r = -errno;
	if (r < 0)
		return r;
	m->guard_pid = guard.pid;
	loop_io_free(TAKE_PTR(t->io));
	m->guard_fd = TAKE_FD(t->fd);
	return 0;
}

static void ask_next(struct pool_take *t);

static void on_answer(void *data, int events)
{
	struct pool_machine m = POOL_MACHINE_INIT;
	struct pool_take *t = data;
	int r = receive(t, &m);

	if (r == -EAGAIN)
		return;
	if (r == 0) {
		finish(t, &m);
	} else {
		hang_up(t);
		ask_next(t);
	}
	pool_machine_done(&m);
}

static int ask(struct pool_take *t, const struct pool_entry *entry)
{
	char name[sizeof(POOL_PREFIX) + TEMPLATE_KEY_SIZE + 16];
	const char request = POOL_TAKE;

	snprintf(name, sizeof(name), POOL_PREFIX "%s-%d", entry->key, entry->pid);
	t->fd = pool_connect(t->dir_fd, name);
	if (t->fd < 0)
		return t->fd;
	if (send(t->fd, &request, 1, MSG_NOSIGNAL) < 0)
		return -errno;
	return loop_io_new(t->loop, t->fd, LOOP_READ, on_answer, t, &t->io);
}

/* Others may be faster: then there is one less. */
static void ask_next(struct pool_take *t)
{
	while (t->next < t->n) {
		const struct pool_entry *entry = &t->entries[t->next++];

		if (!str_eq(entry->key, t->key))
			continue;
		if (ask(t, entry) == 0)
			return;
		hang_up(t);
	}
	finish(t, NULL);
}

static void on_timeout(void *data)
{
	log_warn("a waiting machine doesn't answer", "");
	finish(data, NULL);
}

/* The first one is asked from the loop, so that nothing is told before pool_take() returns. */
static void on_begin(void *data)
{
	struct pool_take *t = data;

	loop_timer_free(TAKE_PTR(t->timer));
	if (loop_timer_new(t->loop, TAKE_TIMEOUT_MS, on_timeout, t, &t->timer) < 0)
		finish(t, NULL);
	else
		ask_next(t);
}

int pool_take(struct loop *loop, const char *state_dir, const char *key,
	      void (*done)(void *data, struct pool_machine *m), void *data, struct pool_take **ret)
{
	struct pool_take *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->loop = loop;
	t->fd = -EBADF;
	t->done = done;
	t->data = data;
	snprintf(t->key, sizeof(t->key), "%s", key);
	t->dir_fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = t->dir_fd < 0 ? -errno : pool_list(state_dir, &t->entries);
	t->n = r;
	if (r >= 0)
		r = loop_timer_new(loop, 0, on_begin, t, &t->timer);
	if (r < 0) {
		pool_take_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

static void adopt_process(pid_t pid, const char *score)
{
	char path[48];
	int r = host_cgroup_bring(pid);

	if (r < 0)
		log_warn("a machine of the pool isn't accounted as the pod's", "pid=%d error=%d",
			 pid, r);
	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", pid);
	(void)file_write(AT_FDCWD, path, score);
}

void pool_adopt_processes(const struct pool_machine *m)
{
	_cleanup_(freep) char *score = NULL;

	if (file_read(AT_FDCWD, "/proc/self/oom_score_adj", 16, &score, NULL) < 0)
		return;
	adopt_process(m->guard_pid, score);
	adopt_process(m->vmm.pid, score);
}
