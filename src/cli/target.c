/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/target.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "oci/json.h"
#include "sandbox/agent_client.h"
#include "sandbox/control.h"

#define STATE_MAX	((size_t)1 << 20)
#define KILL_TIMEOUT_MS 5000

DEFINE_CLEANUP(loop_freep, struct loop *, loop_free)

int target_open(struct cli *cli, const char *what, struct target *ret, struct err *e)
{
	struct target t = { .rd = RUNDIR_INIT };
	int r;

	if (str_set(&t.what, what) < 0)
		return err_oom(e);
	r = cli_find(cli, what, &t.rd, &t.st, e);
	if (r < 0) {
		free(t.what);
		return r;
	}
	*ret = t;
	return 0;
}

void target_done(struct target *t)
{
	free(t->what);
	rundir_state_done(&t->st);
	rundir_close(&t->rd);
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

int targets_all(struct cli *cli, bool running, struct targets *ret)
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
		if ((running && !target_running(&t)) || add(ret, &t) < 0)
			target_done(&t);
	}
	if (ret->n > 1)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_age);
	return 0;
}

int targets_get(struct cli *cli, bool all, bool running, char **names, const char *usage,
		struct targets *ret)
{
	struct err e = { 0 };

	if (all && !*names)
		return targets_all(cli, running, ret);
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

int target_call(const struct target *t, const char *method, const ProtobufCMessage *req,
		ProtobufCMessage **ret, struct err *e)
{
	_cleanup_(loop_freep) struct loop *loop = NULL;
	struct ttrpc_client *client;
	int r = loop_new(&loop);

	if (r < 0)
		return err_errno(e, r, "cannot make an event loop");
	r = control_connect(loop, &t->rd, NULL, NULL, &client, e);
	if (r < 0)
		return r;
	r = ttrpc_call_sync(loop, client, &podvm__agent__v1__agent__descriptor, method, req,
			    AGENT_TIMEOUT_MS, ret, e);
	ttrpc_client_free(client);
	return r;
}

int target_state_json(const struct target *t, struct json_object **ret, struct err *e)
{
	_cleanup_(freep) char *text = NULL;
	int r = file_read(t->rd.fd, "state.json", STATE_MAX, &text, NULL);

	if (r < 0)
		return err_errno(e, r, "cannot read %s/state.json", t->rd.path);
	return json_parse(text, strlen(text), "state.json", ret, e);
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
