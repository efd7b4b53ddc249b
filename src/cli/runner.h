/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_RUNNER_H
#define PODVM_CLI_RUNNER_H

/*
 * The life of one container of `podvm run`, from the start of its machine to its end: the process
 * that is in here owns the sandbox. It relays the container's streams, passes signals on, serves
 * the control socket and keeps state.json true.
 */

#include <stdbool.h>
#include <stdint.h>

#include "net/net.h"
#include "oci/spec.h"
#include "sandbox/container.h"
#include "sandbox/sandbox.h"
#include "sandbox/volume.h"

/**
 * struct runner_config - Everything that was prepared
 * @sandbox:	Machine; @sandbox.rundir is ours
 * @state:	What state.json will say; kept up to date
 * @spec:	config.json
 * @image_fd, @scratch_fd: Disks
 * @scratch_unsafe: Nobody wants the latter after a crash
 * @image_part: What is on the first one
 * @directories: Volumes of the image, which are made when it hasn't got them
 * @sockets:	Sockets of the host and directories of them
 * @n_sockets:	How many
 * @dns:	The user's settings
 * @add_hosts:	Further lines of /etc/hosts, "NAME:IP", ended by NULL; or NULL
 * @input:	stdin is passed on (-i)
 * @terminal:	The container has a terminal (-t)
 * @detached:	Nobody watches: no streams, and SIGTERM stops the container
 * @stop_signal, @stop_timeout_ms: How `podvm stop` ends it
 * @ready:	Called when the container runs; may be NULL
 * @data:	For @ready
 * @timings:	Print how long each stage took
 * @began_us:	clock_us() when the command began, for the timings
 */
struct runner_config {
	struct sandbox_config sandbox;
	struct rundir_state *state;
	const char *spec;
	int image_fd;
	const struct disk_part *image_part;
	int scratch_fd;
	bool scratch_unsafe;
	const struct strv *directories;
	const struct volume_config *sockets;
	size_t n_sockets;
	const struct net_dns *dns;
	char *const *add_hosts;
	bool input;
	bool terminal;
	bool detached;
	int stop_signal;
	unsigned int stop_timeout_ms;
	void (*ready)(void *data);
	void *data;
	bool timings;
	uint64_t began_us;
};

/**
 * runner_run() - Start, watch and end it
 * @config:	Borrowed
 * @ret_code:	Exit code of the container
 * @e:		What went wrong, if not the container itself
 *
 * Return: 0 when the container ended by itself (or was stopped), else a negative errno; -ENOENT and
 * -EACCES in stage "start" or "create" are about the command itself
 */
int runner_run(const struct runner_config *config, int *ret_code, struct err *e);

#endif
