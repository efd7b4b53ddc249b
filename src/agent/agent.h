/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_AGENT_H
#define PODVM_AGENT_AGENT_H

/*
 * Theory of operation
 *
 * podvm-agent is PID 1 of the guest. It mounts the kernel's file systems, makes two cgroups (its
 * own and the pod's), opens the channel to the host and serves the agent protocol on it
 * (proto/podvm/agent/v1/agent.proto) until the machine ends. It's init, supervisor and plumbing;
 * containers are made by crun, from the config.json that comes ready from the host.
 *
 *	host ── ttrpc ── service.c ──┬── sandbox.c    identity: network.c, sysctl.c, clock, entropy
 *	                             ├── files.c      small files for containers
 *	                             ├── volume.c     volumes that the host keeps in step
 *	                             ├── container.c  create, start, remove: storage.c, crun.c
 *	                             ├── exec.c       further processes: crun.c
 *	                             ├── process.c    wait, exit;  streams.c: pipes and terminals
 *	                             ├── connection.c connections to the guest's localhost, and to
 *	                             │   socket.c     sockets that stand for some of the host
 *	                             ├── template.c   a container for practice: rehearsal.c
 *	                             ├── stats.c proclist.c metrics.c klog.c
 *	                             └── events.c     exits and OOM kills (oom.c)
 *
 * There is one thread and one loop, and nothing in it blocks. What may take long runs in a child
 * with a deadline (child.c): crun, mounting and unmounting, waiting for a cgroup to be empty. So
 * every call but Wait, ReadOutput, WriteInput, NextEvents and Accept is answered within its
 * deadline, whatever a container does; and every limit that a container could run into us with is
 * set before it starts (cgroup.c). All processes are reaped in one place (reaper.c).
 *
 * The agent has no state worth keeping: when the host is gone (the channel is closed), it kills
 * the containers, unmounts their disks and resets the machine. It never exits.
 *
 * Owners: struct agent has containers; a container has its first process, its execs and its
 * mounts; a process has its streams. Calls that wait are held by what they wait for.
 */

#include <stdbool.h>
#include <stdint.h>

#include "agent/events.h"
#include "agent/oom.h"
#include "agent/reaper.h"
#include "agent/storage.h"
#include "loop/loop.h"
#include "ttrpc/ttrpc.h"

#define CONTAINERS_MAX 256
#define EXECS_MAX      1024

/**
 * struct sockets - Sockets that stand for some of the host (socket.c)
 * @list:	struct listener
 * @n:		How many
 * @call:	Accept that waits, or NULL
 * @id:		What the next connection is to be called
 */
struct sockets {
	struct agent *agent;
	struct list list;
	size_t n;
	struct ttrpc_call *call;
	char id[32];
};

/**
 * struct agent - Everything
 * @containers:	struct container, in the order of creation
 * @n_execs:	Processes besides the containers' first ones
 * @resize:	A call of Resize that is under way, or NULL
 * @connections: struct connection (connection.c), see Connect and Accept
 * @sequence:	For unique names of small files
 * @boot_us:	CLOCK_BOOTTIME when we were ready
 * @boot_tsc:	Time stamp counter at that moment: the instructions of the boot, in an emulator that
 *		counts them
 * @pid_holder:	First process of the PID namespace that all containers share, or 0
 * @configured:	ConfigureSandbox has been called
 * @shutdown:	Shutdown is under way: no new containers
 */
struct agent {
	struct loop *loop;
	struct ttrpc_server *server;
	struct reaper reaper;
	struct events events;
	struct storage storage;
	struct oom oom;
	struct list containers;
	size_t n_containers;
	size_t n_execs;
	struct list connections;
	struct sockets sockets;
	struct resize *resize;
	size_t n_connections;
	uint64_t sequence;
	uint64_t boot_us;
	uint64_t boot_tsc;
	int pid_holder;
	bool configured;
	bool shutdown;
};

/** agent_init() - An agent that has a loop. Return: 0 or a negative errno */
int agent_init(struct agent *a, struct loop *loop);

/** agent_done() - Free everything but the loop */
void agent_done(struct agent *a);

/** agent_services() - The table of our service, to be served with @a as its user data */
const struct ttrpc_service *agent_services(struct agent *a);

#endif
