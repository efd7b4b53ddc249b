/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/target.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "oci/json.h"
#include "proto/control.pb-c.h"
#include "sandbox/agent_client.h"
#include "sandbox/control.h"

#define STATE_MAX	((size_t)1 << 20)
#define KILL_TIMEOUT_MS 5000

DEFINE_CLEANUP(loop_freep, struct loop *, loop_free)

/* Clean up after a crash, and read how it is then. */
static int read_sandbox(struct target *t, struct err *e)
{
	int r = rundir_recover(&t->rd, e);

	if (r > 0)
		/* It may have been removed with that. */
		r = faccessat(t->rd.fd, "state.json", F_OK, 0) < 0
			    ? err_set(e, -ENOENT, "the sandbox had crashed and is removed now")
			    : 0;
	return r < 0 ? r : rundir_read_state(&t->rd, &t->st, e);
}

/* From the sandbox to a container of it. */
static int enter(struct target *t, const char *id, struct err *e)
{
	struct rundir_state st = { 0 };
	int r;

	t->dir = rundir_open_container(&t->rd, id);
	r = t->dir < 0 ? t->dir : rundir_read_container(t->dir, &st);
	if (r < 0)
		return err_errno(e, r, "cannot read the state of container %.12s", id);
	st.owner_pid = t->st.owner_pid;
	st.vmm_pid = t->st.vmm_pid;
	rundir_state_done(&t->st);
	t->st = st;
	return 0;
}

int target_open(struct cli *cli, const char *what, struct target *ret, struct err *e)
{
	_cleanup_(freep) char *container = NULL;
	struct target t = { .rd = RUNDIR_INIT, .dir = -EBADF };
	int r = str_set(&t.what, what) < 0 ? err_oom(e) : 0;

	if (r == 0)
		r = rundir_find(cli->config.state, what, &t.rd, &container, e);
	if (r == 0)
		r = read_sandbox(&t, e);
	if (r == 0 && container)
		r = enter(&t, container, e);
	if (r < 0)
		target_done(&t);
	else
		*ret = t;
	return r;
}

void target_done(struct target *t)
{
	free(t->what);
	rundir_state_done(&t->st);
	if (t->dir >= 0)
		close(t->dir);
	rundir_close(&t->rd);
}

int target_dir(const struct target *t)
{
	return t->dir >= 0 ? t->dir : t->rd.fd;
}

/* The containers of a pod that run. */
struct choice {
	char id[RUNDIR_CONTAINER_LEN + 1];
	struct buf names;
	size_t n;
};

static int add_choice(void *data, int dirfd, const struct rundir_state *st)
{
	struct choice *c = data;

	if (st->status != RUNDIR_RUNNING)
		return 0;
	snprintf(c->id, sizeof(c->id), "%s", st->id);
	c->n++;
	return buf_printf(&c->names, "%s%s", c->n > 1 ? ", " : "", st->name);
}

int target_container(struct target *t, struct err *e)
{
	struct choice c = { 0 };
	int r;

	if (!t->st.pod || t->dir >= 0)
		return 0;
	r = rundir_each_container(&t->rd, add_choice, &c);
	if (r < 0) {
		err_errno(e, r, "cannot read the containers of pod %s", t->st.name);
	} else if (c.n == 0) {
		r = err_set(e, -ESRCH, "no container runs in pod %s", t->st.name);
	} else if (c.n > 1) {
		r = err_set(e, -ENOTUNIQ, "pod %s has %zu containers", t->st.name, c.n);
		err_hint(e, "name one as %s/CONTAINER: %s", t->what, buf_cstr(&c.names));
	} else {
		r = enter(t, c.id, e);
	}
	buf_done(&c.names);
	return r;
}

int target_ours(const struct target *t, const char *what, struct err *e)
{
	if (t->dir < 0 && (!t->st.pod || access(t->st.bundle, F_OK) < 0))
		return 0;
	err_set(e, -EPERM, "containerd owns %s, and would not know of it", t->what);
	err_hint(e, "use what it was made with to %s it: kubectl, crictl, ctr or nerdctl", what);
	return -EPERM;
}

void targets_done(struct targets *ts)
{
	for (size_t i = 0; i < ts->n; i++)
		target_done(&ts->v[i]);
	free(ts->v);
	*ts = (struct targets){ 0 };
}

static int add(struct targets *ts, const struct target *t)
{
	struct target *v = reallocarray(ts->v, ts->n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	ts->v = v;
	v[ts->n++] = *t;
	return 0;
}

int targets_named(struct cli *cli, char **names, bool ignore, struct targets *ret)
{
	int code = 0;

	for (; *names; names++) {
		struct err e = { 0 };
		struct target t;
		int r = target_open(cli, *names, &t, &e);

		if (r == -ENOENT && ignore)
			continue;
		if (r == 0 && add(ret, &t) < 0) {
			target_done(&t);
			r = err_oom(&e);
		}
		if (r < 0)
			code = cli_fail(&e);
	}
	return code;
}

static int note_id(void *data, struct rundir *rd, const struct rundir_state *st)
{
	return strv_add(data, rd->id);
}

static int by_age(const void *a, const void *b)
{
	const struct target *x = a;
	const struct target *y = b;

	return (x->st.created_ns < y->st.created_ns) - (x->st.created_ns > y->st.created_ns);
}

static bool is_wanted(const struct target *t, unsigned int which)
{
	return (!(which & TARGETS_RUNNING) || target_running(t)) &&
	       (!(which & TARGETS_OURS) || target_ours(t, "", NULL) == 0);
}

int targets_all(struct cli *cli, unsigned int which, struct targets *ret)
{
	_cleanup_(strv_done) struct strv ids = { 0 };
	struct err e = { 0 };
	int r;

	rundir_recover_all(cli->config.state);
	r = rundir_each(cli->config.state, note_id, &ids);
	if (r < 0) {
		err_errno(&e, r, "cannot read %s", cli->config.state);
		return cli_fail(&e);
	}
	for (size_t i = 0; i < ids.n; i++) {
		struct target t;

		/* One that was removed meanwhile, or has no state yet, isn't there for us. */
		if (target_open(cli, ids.v[i], &t, NULL) < 0)
			continue;
		if (!is_wanted(&t, which) || add(ret, &t) < 0)
			target_done(&t);
	}
	if (ret->n > 1)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_age);
	return 0;
}

int targets_get(struct cli *cli, bool all, unsigned int which, char **names, const char *usage,
		struct targets *ret)
{
	struct err e = { 0 };

	if (all && !*names)
		return targets_all(cli, which, ret);
	if (!all && *names)
		return targets_named(cli, names, /* ignore= */ false, ret);
	err_set(&e, -EINVAL, all ? "--all and names exclude each other" : "no container is named");
	err_hint(&e, "usage: %s", usage);
	return cli_fail(&e);
}

bool target_running(const struct target *t)
{
	return t->st.status != RUNDIR_EXITED;
}

int target_owner(const struct target *t)
{
	_cleanup_(close_fdp) int pidfd = -EBADF;

	if (t->st.owner_pid <= 0)
		return -ESRCH;
	pidfd = pidfd_open(t->st.owner_pid, 0);
	if (pidfd < 0)
		return -errno;
	/* As the lock is held, the number was the owner's when it was opened. */
	return rundir_owner_alive(&t->rd) ? TAKE_FD(pidfd) : -ESRCH;
}

int target_wait_owner(int pidfd, int timeout_ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	uint64_t end = clock_ms() + (uint64_t)timeout_ms;

	for (;;) {
		uint64_t now = clock_ms();
		int r = poll(&p, 1, now < end ? (int)(end - now) : 0);

		if (r > 0)
			return 0;
		if (r == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

int target_destroy(struct target *t, struct err *e)
{
	_cleanup_(close_fdp) int pidfd = target_owner(t);
	int r = 0;

	if (pidfd >= 0) {
		if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
			return err_errno(e, -errno, "cannot kill process %d", t->st.owner_pid);
		r = target_wait_owner(pidfd, KILL_TIMEOUT_MS);
	}
	if (r < 0)
		return err_errno(e, r, "process %d doesn't end", t->st.owner_pid);
	r = rundir_recover(&t->rd, e);
	return MIN(r, 0);
}

static int call(const struct target *t, const ProtobufCServiceDescriptor *service,
		const char *method, const ProtobufCMessage *req, ProtobufCMessage **ret,
		struct err *e)
{
	_cleanup_(loop_freep) struct loop *loop = NULL;
	struct ttrpc_client *client;
	int r = loop_new(&loop);

	if (r < 0)
		return err_errno(e, r, "cannot make an event loop");
	r = control_connect(loop, &t->rd, NULL, NULL, &client, e);
	if (r < 0)
		return r;
	r = ttrpc_call_sync(loop, client, service, method, req, AGENT_TIMEOUT_MS, ret, e);
	ttrpc_client_free(client);
	return r;
}

int target_call(const struct target *t, const char *method, const ProtobufCMessage *req,
		ProtobufCMessage **ret, struct err *e)
{
	return call(t, &podvm__agent__v1__agent__descriptor, method, req, ret, e);
}

int target_control(const struct target *t, const char *method, const ProtobufCMessage *req,
		   ProtobufCMessage **ret, struct err *e)
{
	return call(t, &podvm__control__v1__control__descriptor, method, req, ret, e);
}

int target_state_json(const struct target *t, struct json_object **ret, struct err *e)
{
	_cleanup_(freep) char *text = NULL;
	int r = file_read(target_dir(t), "state.json", STATE_MAX, &text, NULL);

	if (r < 0)
		return err_errno(e, r, "cannot read %s/state.json", t->rd.path);
	return json_parse(text, strlen(text), "state.json", ret, e);
}

static int push_container(void *data, int dirfd, const struct rundir_state *st)
{
	struct json_object *array = data;
	_cleanup_(freep) char *text = NULL;
	struct json_object *obj;

	/* It was just read; what has gone since isn't listed. */
	if (file_read(dirfd, "state.json", STATE_MAX, &text, NULL) < 0 ||
	    json_parse(text, strlen(text), "state.json", &obj, NULL) < 0)
		return 0;
	return json_push(array, obj);
}

int target_containers_json(const struct target *t, struct json_object *obj, struct err *e)
{
	struct json_object *array = json_add_array(obj, "containers");
	int r = array ? rundir_each_container(&t->rd, push_container, array) : -ENOMEM;

	return r < 0 ? err_errno(e, r, "cannot list the containers of pod %s", t->st.name) : 0;
}

int cli_print_json(struct json_object *obj)
{
	const char *text = json_object_to_json_string_ext(
		obj, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
	struct err e = { 0 };

	if (!text) {
		err_oom(&e);
		return cli_fail(&e);
	}
	puts(text);
	return 0;
}
