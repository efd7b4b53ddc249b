/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_POOL_H
#define PODVM_SANDBOX_POOL_H

/*
 * Theory of operation
 *
 * Machines that wait for a sandbox: copies of a template whose agent has answered, which have
 * started a container for practice (rehearsal.h) and are paused, without an identity. Taking one
 * spares a sandbox the start of the monitor, and the first start of a container.
 *
 * There is no daemon that sandboxes need. Each waiting machine belongs to a process of its own, its
 * guard (pool_machine.c), and is a socket in the state directory, whose name says what the machine
 * is like:
 *
 *	<state>/.pool-KEY-PID		KEY: that of its template, PID: of the guard
 *
 * Who starts a sandbox looks for one with the key of the template that it would use, and connects
 * (pool_take.c). The guard answers the first who asks with all that the machine consists of
 * (vmm_hand_over()), and takes its socket away. From then on the machine is the sandbox's. The
 * guard stays, because it's the monitor's parent: it tells how the monitor ends, and when the
 * connection is closed, for whatever reason, it ends, and the monitor dies with it. So a machine
 * never outlives its owner, and a machine that was taken is never there for somebody else.
 *
 * A guard that waits is connected to the service, too (`podvm pool run`, pool_service.c), which
 * starts as many guards as the configuration wants, one after the other. When the service has gone,
 * whoever still waits ends. Sandboxes neither know the service nor need it: when there is no
 * socket, or nobody answers, they start a copy of the template, or boot.
 *
 * Machines that wait hold what their template held; they get entropy, clock and names as every copy
 * does, after they were taken (start.c). A waiting machine's network device is a tap device in a
 * network namespace of the guard, which is moved into that of the pod; or one end of a socket pair,
 * whose other end passt gets.
 *
 * Staleness: the key says all that a machine depends on, so one that has become useless is never
 * taken. That its place is free for a better one is the service's concern: when templates come and
 * go, the guards look whether they still are what would be started now.
 */

#include <stdbool.h>

#include "sandbox/sandbox.h"
#include "sandbox/template.h"
#include "vmm/vmm.h"

/* ---- for sandboxes (pool_take.c) ---- */

/**
 * struct pool_machine - A machine that was taken
 * @vmm:	For vmm_adopt()
 * @guard_fd:	Likewise
 * @guard_pid:	The guard
 * @nic_fd:	Its tap device, or the socket that its frames come out of; -EBADF: it has none
 * @uid_fd:	Keeps its monitor's user; -EBADF: that is ours
 * @agent_next:	For ttrpc_client_continue()
 */
struct pool_machine {
	struct vmm_handover vmm;
	int guard_fd;
	pid_t guard_pid;
	int nic_fd;
	int uid_fd;
	uint32_t agent_next;
};

#define POOL_MACHINE_INIT                 \
	((struct pool_machine){           \
		.vmm = VMM_HANDOVER_INIT, \
		.guard_fd = -EBADF,       \
		.nic_fd = -EBADF,         \
		.uid_fd = -EBADF,         \
	})

/** pool_machine_done() - End it, unless what it consists of was taken out of it */
void pool_machine_done(struct pool_machine *m);

struct pool_take;

/** pool_is_empty() - Whether it can be told at once that no machine waits */
bool pool_is_empty(const char *state_dir);

/**
 * pool_take() - Take a machine
 * @loop:	Loop
 * @state_dir:	Where they are
 * @key:	Key of the template that it has to be a copy of
 * @done:	Called once, with a machine that may be taken over (to be left empty then), or NULL:
 *		there is none
 * @data:	For @done
 * @ret:	What is under way, to be freed, also after @done; pool_take_free() before it cancels
 *
 * Return: 0 or a negative errno (@done will not be called)
 */
int pool_take(struct loop *loop, const char *state_dir, const char *key,
	      void (*done)(void *data, struct pool_machine *m), void *data, struct pool_take **ret);

/** pool_take_free() - NULL is fine */
void pool_take_free(struct pool_take *t);

/**
 * pool_adopt_processes() - Account guard and monitor where we are, and treat them as us when the
 * host is out of memory
 */
void pool_adopt_processes(const struct pool_machine *m);

/* ---- for `podvm pool` ---- */

/* What a guard tells the service: that it waits. */
struct pool_ready {
	char key[TEMPLATE_KEY_SIZE];
	pid_t vmm_pid;
};

/* What a guard is called in lists of processes. */
#define POOL_GUARD_NAME "podvm-guard"

/* The number that the connection to the service has in a guard. */
#define POOL_SERVICE_FD 3

/* What the service tells a guard. */
#define POOL_CHECK 'C' /* are you what would be started now? */

/**
 * pool_guard() - Start a machine, wait until somebody takes it, and be its guard
 * @c:		Sandbox that it's for: its run directory, network and shares are not used
 * @nic:	Its network device
 * @service:	Connection to the service
 * @e:		What failed, -EAGAIN: there is no template yet, it's being made
 *
 * Blocks with a loop of its own, and moves this process into a network namespace of its own.
 *
 * Return: 0 when the machine has ended, or isn't wanted any more, or a negative errno
 */
int pool_guard(const struct sandbox_config *c, enum template_nic nic, int service, struct err *e);

/**
 * struct pool_service_config - What the service keeps
 * @templates:	Directory of the templates
 * @wanted:	How many machines of each kind of network, by enum template_nic
 * @max_memory:	What they may take together of the host's memory, 0: no limit
 */
struct pool_service_config {
	const char *templates;
	unsigned int wanted[TEMPLATE_NICS];
	uint64_t max_memory;
};

/**
 * pool_service() - Keep machines waiting until SIGTERM or SIGINT
 * @c:		What to keep
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int pool_service(const struct pool_service_config *c, struct err *e);

/**
 * struct pool_entry - A machine that waits
 * @key:	Of its template
 * @pid:	Its guard
 */
struct pool_entry {
	char key[TEMPLATE_KEY_SIZE];
	pid_t pid;
};

/** pool_list() - All that wait. Return: How many (*@ret is to be freed) or a negative errno */
int pool_list(const char *state_dir, struct pool_entry **ret);

/** pool_drop() - End one that waits. Return: 0 or a negative errno (-ENOENT: it doesn't any more) */
int pool_drop(const char *state_dir, const struct pool_entry *entry);

/* ---- what the files of this module share (pool_socket.c) ---- */

#define POOL_PREFIX ".pool-"

/* Requests, a byte: take the machine; end it. */
#define POOL_TAKE 'T'
#define POOL_DROP 'D'

/* The answer to POOL_TAKE; its descriptors are those of struct vmm_handover, @nic, @uid. */
struct pool_answer {
	pid_t vmm_pid;
	uint32_t agent_next;
	bool nic;
	bool uid;
};

/** pool_listen() - Listen as NAME of a directory. Return: Descriptor or a negative errno */
int pool_listen(int dir_fd, const char *name);

/** pool_connect() - Connect to NAME of a directory. Return: Descriptor or a negative errno */
int pool_connect(int dir_fd, const char *name);

#endif
