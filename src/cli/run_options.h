/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CLI_RUN_OPTIONS_H
#define PODVM_CLI_RUN_OPTIONS_H

/* The options of `podvm run`: as typed, and what they mean for each part of the work. */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "cli/cli.h"
#include "net/net.h"
#include "oci/spec.h"
#include "sandbox/sandbox.h"
#include "sandbox/volume.h"

#define RUN_MAX_PORTS	128
#define RUN_MAX_VOLUMES 32

/**
 * struct run_options - Values as typed; strings point into argv
 */
struct run_options {
	/* the container */
	bool interactive;
	bool tty;
	bool detach;
	bool rm;
	const char *name;
	struct strv env;
	struct strv env_file;
	const char *workdir;
	const char *user;
	struct strv group_add;
	const char *hostname;
	const char *entrypoint;
	struct strv tmpfs;
	bool read_only;
	struct strv cap_add;
	struct strv cap_drop;
	bool privileged;
	struct strv security_opt;
	struct strv ulimit;
	const char *stop_signal;
	unsigned int stop_timeout;
	/* resources */
	uint64_t memory;
	const char *cpus;
	unsigned int pids_limit;
	uint64_t shm_size;
	uint64_t scratch_size;
	bool scratch_unsafe;
	/* volumes and network */
	struct strv volume;
	const char *net;
	struct strv publish;
	struct strv dns;
	struct strv dns_search;
	struct strv add_host;
	/* image */
	const char *pull;
	/* the machine */
	const char *kernel;
	const char *guest_image;
	const char *vmm;
	const char *machine;
	const char *accel;
	bool debug;
	bool no_template;
	bool timings;
};

/* A volume as -v means it. */
struct run_volume {
	char *source;
	char *destination;
	char name[24];	/* of a share */
	char guest[64]; /* where it is in the guest, before it's mounted */
	bool readonly;
};

/**
 * struct run_plan - What the options mean
 */
struct run_plan {
	struct run_volume volumes[RUN_MAX_VOLUMES];
	struct sandbox_share shares[RUN_MAX_VOLUMES];
	size_t n_shares;
	struct volume_config sockets[RUN_MAX_VOLUMES]; /* of the host, and directories of them */
	size_t n_sockets;
	size_t n_volumes;
	struct net_port ports[RUN_MAX_PORTS];
	size_t n_ports;
	struct net_dns dns;
	bool network;	    /* user mode */
	const char *netns;  /* a network namespace, or NULL */
	struct strv env;    /* --env-file, then -e */
	uint64_t cpu_quota; /* microseconds in 100 ms, 0: no limit */
	unsigned int vcpus;
	uint64_t machine_memory;
};

/** run_options_parse() - Parse argv. Return: as cli_parse() */
int run_options_parse(int argc, char **argv, struct run_options *o, int *ret_rest, struct err *e);
void run_options_done(struct run_options *o);

/** run_plan_make() - Work out what the options mean. Return: 0 or a negative errno */
int run_plan_make(const struct run_options *o, const struct config *config, struct run_plan *p,
		  struct err *e);
void run_plan_done(struct run_plan *p);

/**
 * run_spec_make() - The runtime spec of the container
 * @o, @p:	Options
 * @id:		Its id
 * @hostname:	Of the guest
 * @args:	Command after the image's name, ended by NULL
 * @config, @users: Of the image
 * @ret:	JSON text, the caller frees it
 *
 * Return: 0 or a negative errno
 */
int run_spec_make(const struct run_options *o, const struct run_plan *p, const char *id,
		  const char *hostname, char **args, const struct oci_config *config,
		  const struct oci_users *users, char **ret, struct err *e);

#endif
