/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/relay.h"
#include "cli/target.h"
#include "cli/terminal.h"
#include "oci/spec.h"
#include "sandbox/agent_client.h"
#include "sandbox/control.h"

#define SPEC_MAX    ((size_t)4 << 20)
#define USERS_MAX   (1U << 20)
#define EXEC_ID_LEN 32

struct exec_options {
	bool interactive;
	bool tty;
	bool detach;
	bool privileged;
	struct strv env;
	const char *workdir;
	const char *user;
};

struct exec {
	struct exec_options options;
	struct target target;
	char *process;
	char id[EXEC_ID_LEN + 1];
	struct loop *loop;
	struct ttrpc_client *client;
	struct relay *relay;
	struct ttrpc_pending *waiting;
	bool exited;
	bool ended;
	int code;
	struct err err;
};

static void exec_done(struct exec *x)
{
	relay_free(x->relay);
	if (x->waiting)
		ttrpc_cancel(x->waiting);
	ttrpc_client_free(x->client);
	loop_free(x->loop);
	free(x->process);
	target_done(&x->target);
	strv_done(&x->options.env);
}

static int parse(int argc, char **argv, struct exec_options *o, int *ret_rest, struct err *e)
{
	const struct cli_option table[] = {
		{ "interactive", 'i', CLI_FLAG, &o->interactive, NULL, "Pass stdin on" },
		{ "tty", 't', CLI_FLAG, &o->tty, NULL, "Give it a terminal" },
		{ "detach", 'd', CLI_FLAG, &o->detach, NULL, "Don't wait for its end" },
		{ "env", 'e', CLI_LIST, &o->env, "NAME=VALUE", "Set an environment variable" },
		{ "workdir", 'w', CLI_STRING, &o->workdir, "DIR", "Working directory" },
		{ "user", 'u', CLI_STRING, &o->user, "USER[:GROUP]", "User by name or number" },
		{ "privileged", 0, CLI_FLAG, &o->privileged, NULL, "All capabilities" },
	};

	return cli_parse("podvm exec [OPTIONS] CONTAINER COMMAND [ARGUMENT...]", table,
			 ARRAY_SIZE(table), argc, argv, ret_rest, e);
}

/* A file of the container; one that isn't there is empty. */
static int read_users(const struct exec *x, const char *path, char **ret, struct err *e)
{
	Podvm__Agent__V1__ReadFileRequest req = PODVM__AGENT__V1__READ_FILE_REQUEST__INIT;
	const Podvm__Agent__V1__ReadFileResponse *resp;
	ProtobufCMessage *msg;
	int r;

	req.container_id = x->target.st.id;
	req.path = (char *)path;
	req.max = USERS_MAX;
	r = target_call(&x->target, "ReadFile", &req.base, &msg, e);
	if (r == -ENOENT)
		return str_set(ret, "") < 0 ? err_oom(e) : 0;
	if (r < 0)
		return r;
	resp = (const void *)msg;
	*ret = strndup((const char *)resp->data.data, resp->data.len);
	protobuf_c_message_free_unpacked(msg, NULL);
	return *ret ? 0 : err_oom(e);
}

static int read_spec(const struct exec *x, char **ret, struct err *e)
{
	int r = file_read(target_dir(&x->target), "config.json", SPEC_MAX, ret, NULL);

	return r < 0 ? err_errno(e, r, "cannot read the spec of %s", x->target.what) : 0;
}

static int make_process(struct exec *x, char **args, struct err *e)
{
	_cleanup_(oci_exec_options_done) struct oci_exec_options o = { 0 };
	_cleanup_(freep) char *spec = NULL;
	_cleanup_(freep) char *passwd = NULL;
	_cleanup_(freep) char *group = NULL;
	int r = 0;

	for (; r == 0 && *args; args++)
		r = strv_add(&o.args, *args);
	for (size_t i = 0; r == 0 && i < x->options.env.n; i++)
		r = strv_add(&o.env, x->options.env.v[i]);
	r = r < 0 ? r : str_set(&o.user, x->options.user);
	r = r < 0 ? r : str_set(&o.workdir, x->options.workdir);
	if (r < 0)
		return err_oom(e);
	o.tty = x->options.tty;
	o.privileged = x->options.privileged;
	r = read_spec(x, &spec, e);
	if (r == 0 && x->options.user)
		r = read_users(x, "/etc/passwd", &passwd, e);
	if (r == 0 && x->options.user)
		r = read_users(x, "/etc/group", &group, e);
	return r < 0 ? r
		     : oci_exec_build(spec, &o, &(struct oci_users){ passwd, group }, &x->process,
				      e);
}

static void end(struct exec *x)
{
	x->ended = true;
}

static void fail(struct exec *x, const struct err *e)
{
	if (!x->err.code)
		x->err = *e;
	end(x);
}

static void on_closed(void *data)
{
	struct exec *x = data;
	struct err e = { 0 };

	if (x->exited)
		return;
	err_set(&e, -ECONNRESET, "the sandbox has ended");
	fail(x, &e);
}

static void on_drained(void *data)
{
	end(data);
}

static void on_failed(void *data, const struct err *e)
{
	fail(data, e);
}

static void on_waited(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	const Podvm__Agent__V1__WaitResponse *resp = (const void *)msg;
	struct exec *x = data;

	x->waiting = NULL;
	if (e) {
		if (e->code != -ECONNRESET)
			fail(x, e);
		return;
	}
	x->exited = true;
	x->code = (int)resp->exit_status;
	relay_drain(x->relay);
}

static void on_broken(void *data)
{
	end(data);
}

static void on_signal(void *data, int signum)
{
	struct exec *x = data;

	relay_signal(x->relay, signum);
}

static int start(struct exec *x, struct err *e)
{
	Podvm__Agent__V1__ExecRequest req = PODVM__AGENT__V1__EXEC_REQUEST__INIT;
	int r;

	req.container_id = x->target.st.id;
	req.exec_id = x->id;
	req.process.data = (uint8_t *)x->process;
	req.process.len = strlen(x->process);
	req.terminal = x->options.tty;
	req.stdin = x->options.interactive;
	req.detached = x->options.detach;
	if (x->options.tty)
		terminal_size(&req.columns, &req.rows);
	r = ttrpc_call_sync(x->loop, x->client, &podvm__agent__v1__agent__descriptor, "Exec",
			    &req.base, AGENT_TIMEOUT_MS, NULL, e);
	err_stage(e, "exec");
	return r;
}

/* From the start of the process to its end. */
static int watch(struct exec *x, struct err *e)
{
	Podvm__Agent__V1__ProcessRequest req = PODVM__AGENT__V1__PROCESS_REQUEST__INIT;
	struct relay_config config = {
		.loop = x->loop,
		.terminal = x->options.tty,
		.input = x->options.interactive,
		.signal = on_signal,
		.broken = on_broken,
		.failed = on_failed,
		.drained = on_drained,
		.data = x,
	};
	int r = relay_new(&config, &x->relay);

	if (r == 0)
		r = relay_start(x->relay, x->client, x->target.st.id, x->id);
	req.container_id = x->target.st.id;
	req.exec_id = x->id;
	if (r == 0)
		r = agent_call(x->client, "Wait", &req.base, 0, on_waited, x, &x->waiting);
	if (r < 0)
		return err_errno(e, r, "cannot watch the process");
	loop_run_until(x->loop, &x->ended, -1);
	if (x->err.code) {
		*e = x->err;
		return e->code;
	}
	(void)ttrpc_call_sync(x->loop, x->client, &podvm__agent__v1__agent__descriptor,
			      "RemoveProcess", &req.base, AGENT_TIMEOUT_MS, NULL, NULL);
	return 0;
}

static int prepare(struct cli *cli, struct exec *x, const char *name, char **args, struct err *e)
{
	int r;

	r = target_open(cli, name, &x->target, e);
	if (r == 0)
		r = target_container(&x->target, e);
	if (r == 0)
		r = make_process(x, args, e);
	if (r == 0 && (r = random_hex(x->id, EXEC_ID_LEN)) < 0)
		err_errno(e, r, "cannot make an id");
	if (r == 0 && (r = loop_new(&x->loop)) < 0)
		err_errno(e, r, "cannot begin");
	if (r == 0)
		r = control_connect(x->loop, &x->target.rd, on_closed, x, &x->client, e);
	return r;
}

static int exit_code(const struct err *e)
{
	cli_fail(e);
	if (!str_eq(e->stage, "exec"))
		return CLI_FAILED;
	if (e->code == -ENOENT)
		return CLI_NOT_FOUND;
	return e->code == -EACCES || e->code == -EPERM ? CLI_CANNOT_RUN : CLI_FAILED;
}

int cli_exec(struct cli *cli, int argc, char **argv)
{
	_cleanup_(exec_done) struct exec x = { .target = { .rd = RUNDIR_INIT, .dir = -EBADF } };
	struct err e = { 0 };
	int rest;
	int r;

	r = parse(argc, argv, &x.options, &rest, &e);
	if (r == CLI_HELP_SHOWN)
		return 0;
	if (r == 0 && argc - rest < 2)
		r = err_set(&e, -EINVAL, "usage: podvm exec [OPTIONS] CONTAINER COMMAND...");
	if (r == 0)
		r = prepare(cli, &x, argv[rest], argv + rest + 1, &e);
	if (r == 0)
		r = start(&x, &e);
	if (r == 0 && !x.options.detach)
		r = watch(&x, &e);
	return r < 0 ? exit_code(&e) : x.code;
}
