/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_SANDBOX_H
#define PODVM_SANDBOX_SANDBOX_H

/*
 * Theory of operation
 *
 * A sandbox is a machine with an agent in it, ready for containers. The process that calls
 * sandbox_new() owns it: everything that belongs to it (the monitor, the network's helper,
 * virtiofsd) is a child that dies with this process, and is written to the journal of the run
 * directory, so that even a crash in the wrong moment is cleaned up by the next command.
 *
 * It starts in stages (start.c), each with an undo; a failed start leaves nothing. Then it runs
 * until it's stopped or lost: the monitor dies, the agent's connection ends, or the agent doesn't
 * answer any more (alive.c). A loss is reported
 * once, with the reason and the last lines of the guest's console, after every pending call has
 * failed. Nothing is ever waited for without a deadline.
 *
 * State machine: NEW -> STARTING -> RUNNING -> STOPPING -> STOPPED, and from every state to STOPPED
 * when the sandbox is lost.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "loop/loop.h"
#include "net/net.h"
#include "net/pod.h"
#include "oci/oci.h"
#include "sandbox/guest_image.h"
#include "sandbox/rundir.h"
#include "sandbox/stages.h"
#include "ttrpc/ttrpc.h"
#include "vmm/vmm.h"

#define SANDBOX_MAX_TIMINGS 24

/* A host directory or file that the guest sees at CONTAINER_SHARED/NAME. */
struct sandbox_share {
	const char *source;
	const char *name;
	bool readonly;
};

/**
 * struct sandbox_config - A sandbox; everything is borrowed as long as the sandbox lives
 * @rundir:	Its run directory, owned by this process
 * @image:	Guest image
 * @driver:	Monitor
 * @machine, @binary, @accel, @debug: As in struct vmm_config
 * @vcpus:	Number of CPUs
 * @memory:	Bytes of the machine
 * @max_vcpus, @max_memory: How far it may grow, see struct vmm_config
 * @hostname:	Of the guest
 * @network:	User-mode network, or NULL: none
 * @pod_network: In its place, the network namespace that is given to the guest; or NULL
 * @shares:	What containers may mount of the host
 * @n_shares:	How many
 * @shared_dir:	Directory of such things that the owner fills itself, also later; or NULL
 * @host_sockets: Which sockets of the host it may have, see socket_list.h; NULL: none
 * @sysctl:	Kernel parameters to set in the guest, or NULL
 * @shared_pid:	The guest keeps a PID namespace for all containers
 * @state_dir:	Where what was found out about the machine is remembered
 * @templates:	Directory of the templates, see template.h; NULL: it boots
 * @maker:	The program podvm, which makes one; NULL: that in PATH
 * @config_file: Its configuration, NULL: that of the environment
 * @agent_timeout_ms: How long the agent may not answer before the guest is given up
 * @uid_base:	First of the users that monitors run as (monitor_uid.h), 0: as we do
 * @boot_timeout_ms: Deadline from the start of the monitor to the agent's first answer
 */
struct sandbox_config {
	struct rundir *rundir;
	const struct guest_image *image;
	const struct vmm_driver *driver;
	const char *machine;
	const char *binary;
	enum vmm_accel accel;
	bool debug;
	unsigned int vcpus;
	uint64_t memory;
	unsigned int max_vcpus;
	uint64_t max_memory;
	const char *hostname;
	const struct net_user_options *network;
	const struct net_pod_options *pod_network;
	const struct sandbox_share *shares;
	size_t n_shares;
	const char *shared_dir;
	const char *host_sockets;
	const struct oci_map *sysctl;
	bool shared_pid;
	const char *state_dir;
	const char *templates;
	const char *maker;
	const char *config_file;
	uint64_t agent_timeout_ms;
	uid_t uid_base;
	uint64_t boot_timeout_ms;
};

struct sandbox;
struct container;

typedef void (*sandbox_done)(void *data, const struct err *e);

/**
 * sandbox_new() - A sandbox that isn't started
 * @loop:	Loop
 * @config:	Configuration
 * @lost:	Called once when a running sandbox is lost
 * @data:	For @lost
 * @ret:	The sandbox
 *
 * Return: 0 or -ENOMEM
 */
int sandbox_new(struct loop *loop, const struct sandbox_config *config, sandbox_done lost,
		void *data, struct sandbox **ret);

/** sandbox_start() - Start it. Return: 0 (@done will be called) or a negative errno (not) */
int sandbox_start(struct sandbox *sb, sandbox_done done, void *data);

/**
 * sandbox_stop() - End all containers, let the guest write out its disks, end the machine
 *
 * The guest is asked only when it has something to write: a container may still run, or there is a
 * writable disk with a name or a directory of the host. All that a machine without these could
 * write to goes with it.
 *
 * @timeout_ms:	For the guest; then the machine is just ended
 * @done:	Called when nothing runs any more
 */
void sandbox_stop(struct sandbox *sb, unsigned int timeout_ms, void (*done)(void *data),
		  void *data);

/** sandbox_free() - End and free everything at once; NULL is fine */
void sandbox_free(struct sandbox *sb);

struct loop *sandbox_loop(struct sandbox *sb);
struct vmm *sandbox_vmm(struct sandbox *sb);
struct ttrpc_client *sandbox_agent(struct sandbox *sb);

/** sandbox_booted_ns() - Wall clock when the guest's kernel began, 0: it doesn't run yet */
uint64_t sandbox_booted_ns(const struct sandbox *sb);

/** sandbox_template() - Key of the template that it's a copy of, NULL: it has booted */
const char *sandbox_template(const struct sandbox *sb);

/** sandbox_from_pool() - Whether that copy has waited in the pool */
bool sandbox_from_pool(const struct sandbox *sb);

/** sandbox_network() - What the guest's network is, NULL: none */
const struct net_config *sandbox_network(const struct sandbox *sb);

/** sandbox_note_timings() - Keep the timings of stages that have run (for --timings and the log) */
void sandbox_note_timings(struct sandbox *sb, const struct stages *stages);

/** sandbox_timings() - Timings so far, in order. Return: How many */
size_t sandbox_timings(const struct sandbox *sb, const struct stage_timing **ret);

#endif
