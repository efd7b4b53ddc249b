/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_SANDBOX_INTERNAL_H
#define PODVM_SANDBOX_SANDBOX_INTERNAL_H

/* What the files of src/sandbox share about a sandbox; others see sandbox.h. */

#include "base/list.h"
#include "sandbox/pool.h"
#include "sandbox/sandbox.h"
#include "sandbox/template.h"

enum sandbox_state {
	SANDBOX_NEW,
	SANDBOX_STARTING,
	SANDBOX_RUNNING,
	SANDBOX_STOPPING,
	SANDBOX_STOPPED,
};

struct sandbox {
	struct loop *loop;
	const struct sandbox_config *config;
	enum sandbox_state state;
	struct stages stages;
	sandbox_done started;
	void *started_data;
	sandbox_done lost;
	void *lost_data;
	void (*stopped)(void *data);
	void *stopped_data;

	struct net_user *net;		   /* NULL: no user-mode network */
	struct net_pod *pod;		   /* NULL: no pod's network */
	struct forward *forward;	   /* its port-forward */
	struct host_sockets *sockets;	   /* NULL: none was wanted yet */
	struct fuse_relay *relay;	   /* of the shares, NULL: there was none yet */
	struct loop_child *virtiofs_child; /* NULL: it doesn't run */
	int virtiofs_fd;		   /* its socket, until the relay has it */
	int share_fd;			   /* the guest's channel for shares */
	bool shares_begun;		   /* a container has asked for them */
	bool channel_ready;
	bool daemon_ready;
	struct list share_waits; /* struct share_wait */
	int uid_fd;		 /* keeps the monitor's user ours */
	struct vmm *vmm;

	struct template template; /* that it's a copy of, or would be */
	enum template_nic template_nic;
	enum vmm_accel accel;	    /* decided for the template */
	bool template_wanted;	    /* there is none that can be used */
	bool no_template;	    /* it didn't work */
	bool cloned;		    /* the machine is a copy */
	struct pool_take *take;	    /* asks for a machine of the pool */
	struct pool_machine pooled; /* one that was taken, until the monitor is ours */
	void (*taken)(struct sandbox *sb);
	bool from_pool;		  /* the copy is from there */
	bool no_pool;		  /* it didn't work */
	struct loop_child *maker; /* starts the process that makes one */

	uint64_t guest_memory; /* MemTotal at the boot */
	struct list growths;   /* struct growth */
	struct list disks;     /* of containers, see disks.h */
	unsigned int alive;    /* containers whose processes may run */
	struct ttrpc_client *agent;
	bool asked; /* whether it lives, see alive.c */
	struct ttrpc_pending *call;
	struct loop_timer *timer; /* end of the boot, of a stop, of a loss's grace */
	int console_fd;		  /* console.log */
	size_t console_left;	  /* what may still be written to it */
	struct err loss;
	uint64_t booted_ns; /* wall clock when the guest's kernel began */

	struct stage_timing timings[SANDBOX_MAX_TIMINGS];
	size_t n_timings;
};

extern const struct stage sandbox_start_stages[];
extern const size_t sandbox_n_start_stages;

/** sandbox_journal_process() - Record a process that dies with us, in case even that fails */
void sandbox_journal_process(struct sandbox *sb, const char *what, pid_t pid);

/** sandbox_lose() - Something that it can't live without has gone */
void sandbox_lose(struct sandbox *sb, const struct err *e);

/**
 * sandbox_lose_soon() - Something has gone that also goes when the monitor dies
 *
 * The monitor's exit, which comes at any moment then, says more: it's given a second.
 */
void sandbox_lose_soon(struct sandbox *sb, const struct err *e);

/** sandbox_watch_agent() - Notice when the agent, which has just been connected, doesn't answer */
void sandbox_watch_agent(struct sandbox *sb);

/** sandbox_add_console() - Append the guest's last console lines to a message, as its hint */
void sandbox_add_console(const struct sandbox *sb, struct err *e);

#endif
