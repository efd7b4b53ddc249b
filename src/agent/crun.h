/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_CRUN_H
#define PODVM_AGENT_CRUN_H

/*
 * The container runtime, Debian's crun, as a child process (1.8 to 1.21 and later). Only three of
 * its commands are used: create, exec and update. What costs another start of the program without
 * need is done here instead: `crun start` is one byte written to a FIFO, signals go to pids that we
 * know, freezing is a file of the cgroup, and deleting is killing the cgroup and removing files.
 */

#include <stddef.h>
#include <stdint.h>

#include "agent/container.h"
#include "agent/process.h"
#include "base/err.h"

/**
 * struct crun_job - How a process is to be started
 * @process:	Process in state STARTING, its streams opened
 * @bundle:	Directory of the bundle, for `create`; borrowed
 * @spec:	Process specification as JSON, for `exec`; borrowed
 * @spec_len:	Its length
 * @columns:	Size of its terminal, 0: unknown
 * @rows:	Size of its terminal
 * @timeout_ms:	Deadline
 * @done:	Called exactly once, later. On success the process is RUNNING or EXITED already. On
 *		failure @e's code is -ENOENT when the program to run doesn't exist, -EACCES when it
 *		can't be executed, else another one
 * @data:	For @done
 */
struct crun_job {
	struct process *process;
	const char *bundle;
	const void *spec;
	size_t spec_len;
	uint32_t columns;
	uint32_t rows;
	uint64_t timeout_ms;
	void (*done)(void *data, const struct err *e);
	void *data;
};

/**
 * crun_start() - Run `crun create` (with a bundle) or `crun exec` (with a spec)
 * @job:	Copied
 * @e:		Why it could not be started
 *
 * Return: 0, or a negative errno and @done will not be called
 */
int crun_start(const struct crun_job *job, struct err *e);

/**
 * crun_update() - Run `crun update`
 * @c:		Container
 * @resources:	JSON, borrowed until this returns
 * @len:	Its length
 * @timeout_ms:	Deadline
 * @done:	Called exactly once, later, unless this fails
 * @data:	For @done
 * @e:		Why it could not be started
 *
 * Return: 0 or a negative errno
 */
int crun_update(struct container *c, const void *resources, size_t len, uint64_t timeout_ms,
		void (*done)(void *data, const struct err *e), void *data, struct err *e);

/**
 * crun_release() - Let a created container run, as `crun start` does
 * @id:		Container
 *
 * Return: 0 or a negative errno (-ENXIO: its init is gone)
 */
int crun_release(const char *id);

/** crun_forget() - Remove crun's state of a container that is gone. Return: 0 or negative errno */
int crun_forget(const char *id);

/**
 * crun_error() - Turn crun's message into an error
 * @e:		Gets the message; the code says what kind it is (see struct crun_job)
 * @what:	Command of crun
 * @said:	What crun printed, may be empty; changed
 * @why:	How crun ended, for when it said nothing
 */
void crun_error(struct err *e, const char *what, char *said, const struct err *why);

#endif
