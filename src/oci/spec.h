/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_OCI_SPEC_H
#define PODVM_OCI_SPEC_H

/*
 * Theory of operation
 *
 * What the user asked for (struct oci_run_options) and what the image says (struct oci_config)
 * become the runtime spec (config.json) that crun gets in the guest. The defaults are podman's:
 * the same command line, environment, user, capabilities, mounts, masked paths and seccomp
 * allow-list, so that an image that works there works here.
 *
 * What differs from a container on a shared kernel: there is no network namespace, because the
 * network is the machine's own, and paths of mounts are paths of the guest. cgroups are version 2.
 *
 * A spec is built on the host before the machine runs. Users by name are therefore looked up in
 * the text of the image's /etc/passwd and /etc/group (struct oci_users), which storage keeps.
 *
 * Processes that join a container later (exec) are made from the container's own spec by
 * oci_exec_build().
 *
 * Specification: OCI runtime-spec v1.0.2 (config.md, config-linux.md).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "oci/oci.h"

struct json_object;

/**
 * struct oci_mount - One mount of the container
 * @type:	"bind", "tmpfs", or any file system type
 * @source:	Path in the guest (bind), device, or NULL: @type
 * @destination: Absolute path in the container
 * @options:	Of mount(8); "size=BYTES" for a tmpfs. A bind without "bind" or "rbind" gets "rbind"
 */
struct oci_mount {
	char *type;
	char *source;
	char *destination;
	struct strv options;
};

/**
 * struct oci_ulimit - One resource limit
 * @name:	"nofile", "RLIMIT_NOFILE"
 * @soft:	UINT64_MAX: unlimited
 * @hard:	UINT64_MAX: unlimited
 */
struct oci_ulimit {
	char *name;
	uint64_t soft;
	uint64_t hard;
};

enum oci_ns { OCI_NS_PID, OCI_NS_IPC, OCI_NS_UTS, OCI_NS_CGROUP, OCI_NS_COUNT };

/**
 * struct oci_run_options - What differs from the defaults
 *
 * All zero means podman's defaults. Who fills it in owns what it points to and may release it
 * with oci_run_options_done() (when everything was allocated); building only reads.
 *
 * @args:	Arguments after the image's name; replace the image's cmd
 * @entrypoint:	Replaces the image's entrypoint (and drops its cmd) when @has_entrypoint
 * @has_entrypoint: An empty @entrypoint means none at all
 * @env:	"NAME=value", over the image's
 * @user:	"name", "uid", with ":group" or ":gid"; NULL: the image's
 * @groups:	Further groups, by name or number (--group-add)
 * @workdir:	Absolute path; NULL: the image's, or "/"
 * @hostname:	Name; NULL: that of the guest stays visible and HOSTNAME is not set
 * @tty:	A terminal: TERM=xterm, /dev/console
 * @readonly:	Read-only root; /run, /tmp, /var/tmp and the image's volumes become tmpfs
 * @privileged:	All capabilities, every device allowed, no seccomp, nothing masked or read-only
 * @no_new_privileges: Setuid programs don't raise privileges
 * @cap_add:	"NET_ADMIN", "CAP_NET_ADMIN", "ALL"; either case
 * @cap_drop:	The same
 * @seccomp:	NULL: default, "unconfined", or the path of a profile on the host (JSON, of Docker's
 *		format)
 * @mounts:	Further mounts, in their order; one on a default's destination replaces it
 * @n_mounts:	How many
 * @shm_size:	Bytes of /dev/shm; 0: 64 MiB
 * @memory:	Limit in bytes; 0: none
 * @memory_swap: Limit of memory and swap together in bytes; 0: not set (the guest has no swap)
 * @cpu_quota:	Microseconds of CPU time in each @cpu_period; 0: no limit
 * @cpu_period:	Microseconds; 0: 100000
 * @cpu_shares:	Weight as of cgroup v1 (1024: normal); 0: not set
 * @pids_limit:	Processes; 0: 2048, -1: unlimited
 * @oom_score_adj: -1000 to 1000, set when @has_oom_score_adj
 * @has_oom_score_adj: Whether @oom_score_adj is set
 * @ulimits:	Resource limits; nofile and nproc are 1048576 unless set
 * @n_ulimits:	How many
 * @cgroup_path: linux.cgroupsPath; NULL: crun's choice
 * @sysctl:	Kernel parameters of the container's namespaces; those of the network (net.*) are
 *		the machine's and refused
 * @annotations: Annotations of the spec
 * @ns_path:	For each namespace: NULL: a new one, "host": the guest's, or a path of the guest
 *		(/proc/PID/ns/pid) to join
 * @masked_paths: Used instead of the default ones when @has_masked_paths
 * @readonly_paths: Used instead of the default ones when @has_masked_paths
 * @has_masked_paths: Whether the two lists above count, also when empty
 * @rootfs:	root.path; NULL: "rootfs" (relative to the bundle)
 * @stop_signal: As oci_signal_parse() takes it, NULL: the image's
 */
struct oci_run_options {
	struct strv args;
	struct strv entrypoint;
	bool has_entrypoint;
	struct strv env;
	char *user;
	struct strv groups;
	char *workdir;
	char *hostname;
	bool tty;
	bool readonly;
	bool privileged;
	bool no_new_privileges;
	struct strv cap_add;
	struct strv cap_drop;
	char *seccomp;
	struct oci_mount *mounts;
	size_t n_mounts;
	uint64_t shm_size;
	uint64_t memory;
	uint64_t memory_swap;
	uint64_t cpu_quota;
	uint64_t cpu_period;
	uint64_t cpu_shares;
	int64_t pids_limit;
	int oom_score_adj;
	bool has_oom_score_adj;
	struct oci_ulimit *ulimits;
	size_t n_ulimits;
	char *cgroup_path;
	struct oci_map sysctl;
	struct oci_map annotations;
	char *ns_path[OCI_NS_COUNT];
	struct strv masked_paths;
	struct strv readonly_paths;
	bool has_masked_paths;
	char *rootfs;
	char *stop_signal;
};

/**
 * oci_run_add_mount() - Append a mount
 * @o:		Options
 * @type:	Type, see struct oci_mount
 * @source:	Source, may be NULL
 * @destination: Absolute path in the container
 * @options:	Comma-separated, may be NULL
 * @e:		Says what is wrong with it
 *
 * Everything is copied.
 *
 * Return: 0, -EINVAL or -ENOMEM
 */
int oci_run_add_mount(struct oci_run_options *o, const char *type, const char *source,
		      const char *destination, const char *options, struct err *e);

/**
 * oci_run_add_tmpfs() - Append a tmpfs as `--tmpfs DIR[:OPTIONS]` means it
 * @o:		Options
 * @text:	"/run", "/run:size=64m,mode=1777,exec"
 * @e:		Says what is wrong with it
 *
 * Return: 0, -EINVAL or -ENOMEM
 */
int oci_run_add_tmpfs(struct oci_run_options *o, const char *text, struct err *e);

/**
 * oci_run_add_ulimit() - Append a limit as `--ulimit NAME=SOFT[:HARD]` means it
 * @o:		Options
 * @text:	"nofile=1024:2048"; -1 or "unlimited": no limit
 * @e:		Says what is wrong with it
 *
 * Return: 0, -EINVAL or -ENOMEM
 */
int oci_run_add_ulimit(struct oci_run_options *o, const char *text, struct err *e);

/** oci_run_options_done() - Free everything that it points to */
void oci_run_options_done(struct oci_run_options *o);

/**
 * oci_entrypoint_parse() - The value of --entrypoint: one word, or a JSON array of strings
 * @text:	Value; empty: no entrypoint at all
 * @ret:	The words, to be released with strv_done()
 * @e:		Says what is wrong with it
 *
 * Return: 0, -EINVAL or -ENOMEM
 */
int oci_entrypoint_parse(const char *text, struct strv *ret, struct err *e);

/**
 * struct oci_users - The image's user database
 * @passwd:	Text of /etc/passwd, NULL: there is none
 * @group:	Text of /etc/group, NULL: there is none
 */
struct oci_users {
	const char *passwd;
	const char *group;
};

/**
 * struct oci_user - Who a process runs as
 * @uid:	User
 * @gid:	Group
 * @groups:	Supplementary groups, without @gid
 * @n_groups:	How many
 * @home:	Home directory, never NULL ("/" when the database doesn't tell)
 */
struct oci_user {
	uint32_t uid;
	uint32_t gid;
	uint32_t *groups;
	size_t n_groups;
	char *home;
};

/**
 * oci_user_lookup() - Find out who a user is
 * @users:	Database of the image
 * @text:	"", "name", "uid", with ":group" or ":gid"; NULL: root
 * @further:	Names or numbers of further groups, may be NULL
 * @ret:	To be released with oci_user_done()
 * @e:		Says which user or group is unknown
 *
 * As podman: a number need not be in the database; without a group it gets the user's own group
 * and supplementary groups of the database, with a group only that one.
 *
 * Return: 0, -ENOENT (unknown name), -EINVAL or -ENOMEM
 */
int oci_user_lookup(const struct oci_users *users, const char *text, const struct strv *further,
		    struct oci_user *ret, struct err *e);

/** oci_user_done() - Free what it holds */
void oci_user_done(struct oci_user *user);

/**
 * oci_spec_build() - Make the runtime spec of a container
 * @o:		What the user wants
 * @config:	What the image says, NULL: nothing
 * @users:	The image's user database
 * @ret:	JSON text; the caller frees it
 * @e:		Says which option can't be honoured
 *
 * Return: 0, -EINVAL, -ENOENT (unknown user, missing profile) or -ENOMEM
 */
int oci_spec_build(const struct oci_run_options *o, const struct oci_config *config,
		   const struct oci_users *users, char **ret, struct err *e);

/**
 * oci_seccomp_compile() - Make a program of the rules of a container's system call filter
 * @spec:	Runtime spec. Of linux.seccomp, default action and flags stay; the rules and the
 *		architectures become an annotation, from which crun takes the program. Nothing
 *		happens to a spec without a filter, or with one that asks another process
 * @e:		Says what is wrong with the filter
 *
 * Return: 0, -EINVAL, -E2BIG or another negative errno
 */
int oci_seccomp_compile(struct json_object *spec, struct err *e);

/**
 * struct oci_exec_options - A further process of a container
 * @args:	Command line, not empty
 * @env:	"NAME=value", over the container's
 * @user:	NULL: the container's
 * @workdir:	NULL: the container's
 * @tty:	A terminal
 * @privileged:	All capabilities
 * @cap_add:	Further capabilities
 * @no_new_privileges: In addition to what the container has
 */
struct oci_exec_options {
	struct strv args;
	struct strv env;
	char *user;
	char *workdir;
	bool tty;
	bool privileged;
	struct strv cap_add;
	bool no_new_privileges;
};

/** oci_exec_options_done() - Free everything that it points to */
void oci_exec_options_done(struct oci_exec_options *o);

/**
 * oci_exec_build() - Make the process object of an exec
 * @spec:	Runtime spec of the container, from oci_spec_build()
 * @o:		What the user wants
 * @users:	The image's user database
 * @ret:	JSON text of the process, as `crun exec --process` takes it; the caller frees it
 * @e:		Says which option can't be honoured
 *
 * Return: 0, -EINVAL, -ENOENT (unknown user), -EBADMSG (@spec is none) or -ENOMEM
 */
int oci_exec_build(const char *spec, const struct oci_exec_options *o,
		   const struct oci_users *users, char **ret, struct err *e);

/**
 * oci_signal_parse() - Linux number of a signal
 * @text:	"SIGTERM", "TERM", "15", "SIGRTMIN+3", "RTMAX-1"; either case
 *
 * Return: 1 to 64, or -EINVAL
 */
int oci_signal_parse(const char *text);

/** oci_signal_name() - "SIGTERM" for 15; NULL: it has no name of its own (real-time, unknown) */
const char *oci_signal_name(int signum);

#endif
