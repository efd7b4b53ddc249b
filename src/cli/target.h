/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_TARGET_H
#define PODVM_CLI_TARGET_H

/*
 * The sandboxes that a verb works on: named on the command line, or all of them. A name that is
 * unknown is reported and doesn't keep the verb from doing the others.
 */

#include <json-c/json.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

#include "cli/cli.h"
#include "loop/loop.h"
#include "sandbox/rundir.h"
#include "ttrpc/ttrpc.h"

/**
 * struct target - A sandbox, or a container of a pod
 * @what:	As the user named it, or its id
 * @rd:		Run directory of the sandbox, open
 * @st:		Its state when it was looked up; the processes are always those of the sandbox
 * @dir:	Directory of the container, < 0: the sandbox is meant
 */
struct target {
	char *what;
	struct rundir rd;
	struct rundir_state st;
	int dir;
};

/* Which of all sandboxes. */
#define TARGETS_RUNNING 1U /* those that run */
#define TARGETS_OURS	2U /* not what containerd owns */

/* Released with targets_done(). */
struct targets {
	struct target *v;
	size_t n;
};

/**
 * targets_named() - Look up sandboxes by name
 * @cli:	Command
 * @names:	Ended by NULL
 * @ignore:	Unknown ones are no error
 * @ret:	Those that were found
 *
 * Every failure is printed. Return: 0 or CLI_FAILED
 */
int targets_named(struct cli *cli, char **names, bool ignore, struct targets *ret);

/**
 * targets_all() - Look up all sandboxes, the newest first
 * @cli:	Command
 * @which:	TARGETS_*
 * @ret:	Gets them
 *
 * Failures are printed. Return: 0 or CLI_FAILED
 */
int targets_all(struct cli *cli, unsigned int which, struct targets *ret);

/**
 * targets_get() - targets_all() with --all, else targets_named()
 * @usage:	Shown when there are neither names nor @all
 */
int targets_get(struct cli *cli, bool all, unsigned int which, char **names, const char *usage,
		struct targets *ret);

void targets_done(struct targets *ts);

/** target_open() - Look up one sandbox. Return: 0 or a negative errno with @e set */
int target_open(struct cli *cli, const char *what, struct target *ret, struct err *e);

void target_done(struct target *t);

/**
 * target_container() - Make sure that a container is meant: of a pod with only one it's that
 * @t:		Target
 * @e:		Names the containers of the pod
 *
 * Return: 0 or a negative errno
 */
int target_container(struct target *t, struct err *e);

/**
 * target_ours() - Refuse to change what containerd owns
 * @t:		Target
 * @what:	"stop"
 * @e:		Says who can
 *
 * A pod of which containerd has no directory any more has been forgotten by it, and may be ended.
 *
 * Return: 0 or -EPERM
 */
int target_ours(const struct target *t, const char *what, struct err *e);

/** target_dir() - Directory of its state.json and config.json */
int target_dir(const struct target *t);

/** target_running() - Whether it isn't at its end (it may still be starting) */
bool target_running(const struct target *t);

/**
 * target_owner() - A pidfd of the process that owns the sandbox
 *
 * Return: The pidfd, to be closed by the caller, or -ESRCH when the owner has gone
 */
int target_owner(const struct target *t);

/**
 * target_wait_owner() - Wait until the owner has ended
 * @pidfd:	From target_owner()
 * @timeout_ms:	Deadline
 *
 * Return: 0 or -ETIMEDOUT
 */
int target_wait_owner(int pidfd, int timeout_ms);

/**
 * target_destroy() - End a sandbox whose owner doesn't do it: SIGKILL, then clean up after it
 * @t:		Sandbox
 * @e:		What couldn't be undone
 *
 * Return: 0 or a negative errno
 */
int target_destroy(struct target *t, struct err *e);

/**
 * target_call() - One call of the agent protocol to a running sandbox
 * @t:		Sandbox
 * @method:	Method of podvm.agent.v1.Agent that is forwarded by the owner
 * @req:	Request
 * @ret:	Answer, released with protobuf_c_message_free_unpacked(); or NULL
 * @e:		Why not
 *
 * Return: 0 or a negative errno
 */
int target_call(const struct target *t, const char *method, const ProtobufCMessage *req,
		ProtobufCMessage **ret, struct err *e);

/** target_control() - As target_call(), of podvm.control.v1.Control */
int target_control(const struct target *t, const char *method, const ProtobufCMessage *req,
		   ProtobufCMessage **ret, struct err *e);

/** target_state_json() - state.json as it is, to be released with json_object_put() */
int target_state_json(const struct target *t, struct json_object **ret, struct err *e);

/** target_containers_json() - Add those of a pod to its object, as "containers" */
int target_containers_json(const struct target *t, struct json_object *obj, struct err *e);

/** cli_print_json() - Print JSON to stdout, for people and programs. Return: 0 or CLI_FAILED */
int cli_print_json(struct json_object *obj);

#endif
