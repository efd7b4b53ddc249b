/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_RUNDIR_H
#define PODVM_SANDBOX_RUNDIR_H

/*
 * Theory of operation
 *
 * Every sandbox has a directory STATE/ID (0700), by default below /run/podvm:
 *
 *	lock		flock()ed by the process that owns the sandbox for as long as it lives
 *	journal		what was taken on the host, one line each, appended before or as it's taken
 *	state.json	what the sandbox is and how it's doing, replaced as a whole
 *	config.json	the container's runtime spec
 *	control.sock	see control.proto
 *	log, log.1	the container's output, see log_writer.h
 *	shim.log, shim.log.1	of a pod: what its shim logs
 *	console.log	the guest's console, its first 256 KiB
 *	containers/ID/	of a pod: state.json and config.json of its containers
 *	shared/		what virtiofs shows to the guest (mounts of a private namespace)
 *
 * The lock tells whether the owner lives. A directory whose lock is free and whose state isn't a
 * final one is what a crash left: rundir_recover() undoes its journal and marks it as exited, any
 * number of times, from any command. Processes are recorded with their start time, so a number
 * that was used again isn't mistaken for ours.
 *
 * The sandbox of `podvm run` is its one container. A pod, which containerd owns, is a sandbox whose
 * containers have directories of their own, with a state of the same form.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define RUNDIR_ID_LEN	     64 /* the most characters of an id; what we make are hexadecimal digits */
#define RUNDIR_CONTAINER_LEN 128 /* and of one of a container in a pod */

enum rundir_status { RUNDIR_CREATED, RUNDIR_RUNNING, RUNDIR_STOPPING, RUNDIR_EXITED };

/** rundir_status_name() - "created", "running", "stopping", "exited" */
const char *rundir_status_name(enum rundir_status status);

/**
 * struct rundir_state - What state.json holds; strings are owned
 */
struct rundir_state {
	char *id;
	char *name;
	char *image;   /* as the user named it */
	char *digest;  /* of the image, empty for dir: */
	char *command; /* what runs, for people */
	char *hostname;
	char *network;	   /* "user" or "none" */
	char **ports;	   /* as in -p, ended by NULL; may be NULL */
	char *vmm;	   /* "qemu" */
	char *template;	   /* key of what the machine is a copy of, empty: it has booted */
	char *accel;	   /* "kvm" or "tcg", empty until it runs */
	char *error;	   /* why it ended, if not because the container did; may be empty */
	char *stop_signal; /* number as text */
	char *namespace;   /* of a pod: of Kubernetes, or of containerd */
	char *bundle;	   /* of a pod: containerd's directory of it */
	uint64_t created_ns;
	uint64_t booted_ns; /* when its kernel began, 0 until it runs */
	uint64_t started_ns;
	uint64_t finished_ns;
	enum rundir_status status;
	pid_t owner_pid;
	pid_t vmm_pid;
	int exit_code;
	unsigned int vcpus;
	uint64_t memory;	   /* of the machine */
	unsigned int stop_timeout; /* seconds */
	bool pod;
	bool auto_remove;
	bool terminal;
	bool oom_killed;
};

void rundir_state_done(struct rundir_state *st);

/**
 * struct rundir - An open run directory
 */
struct rundir {
	char id[RUNDIR_ID_LEN + 1];
	char *path;
	int fd;	     /* the directory */
	int lock_fd; /* held by the owner, else -EBADF */
};

/* A directory that isn't open. */
#define RUNDIR_INIT ((struct rundir){ .fd = -EBADF, .lock_fd = -EBADF })

/**
 * rundir_create() - Make the directory of a new sandbox and become its owner
 * @state_dir:	Parent, made if missing
 * @ret:	Gets a new id
 *
 * Return: 0 or a negative errno
 */
int rundir_create(const char *state_dir, struct rundir *ret, struct err *e);

/**
 * rundir_create_id() - As rundir_create(), with an id that somebody else has chosen
 * @id:		1 to RUNDIR_ID_LEN of [A-Za-z0-9_.-], the first a letter or digit
 *
 * Return: 0, -EEXIST, -EINVAL or another negative errno
 */
int rundir_create_id(const char *state_dir, const char *id, struct rundir *ret, struct err *e);

/**
 * rundir_open() - Open the directory of a sandbox by its whole id
 *
 * Return: 0, -ENOENT or another negative errno
 */
int rundir_open(const char *state_dir, const char *id, struct rundir *ret);

/**
 * rundir_find() - Open the directory of a sandbox by what a user calls it, or a container of it
 * @what:	Id, unique start of an id, or name, of a sandbox or of a pod's container; or
 *		SANDBOX/CONTAINER
 * @ret:	The sandbox
 * @ret_container: Id of the container, NULL when the sandbox was meant; the caller frees it
 *
 * Return: 0, -ENOENT, -ENOTUNIQ or another negative errno
 */
int rundir_find(const char *state_dir, const char *what, struct rundir *ret, char **ret_container,
		struct err *e);

/**
 * rundir_each() - Call back for every sandbox
 * @state_dir:	Directory; that it's missing means there are none
 * @cb:		Gets an open directory (borrowed) and the state (@st->id is always set); a value
 *		other than 0 ends the walk
 *
 * Return: 0, what @cb returned, or a negative errno
 */
int rundir_each(const char *state_dir,
		int (*cb)(void *data, struct rundir *rd, const struct rundir_state *st),
		void *data);

/** rundir_owner_alive() - Whether the process that owns it lives */
bool rundir_owner_alive(const struct rundir *rd);

/** rundir_journal_process() - Record a process of ours that has just been started */
int rundir_journal_process(struct rundir *rd, const char *what, pid_t pid);

/** rundir_journal_cgroup() - Record a cgroup of the host, before host_cgroup_join() */
int rundir_journal_cgroup(struct rundir *rd, const char *path);

/** rundir_journal_netns() - Record a line of net_pod_journal(), before net_pod_connect() */
int rundir_journal_netns(struct rundir *rd, const char *line);

/**
 * rundir_recover() - If the owner has crashed, undo what its journal tells and mark it as exited
 *
 * A sandbox that was to be removed at its end (--rm) is removed.
 *
 * Return: 1 when there was something to recover, 0 when not, or a negative errno
 */
int rundir_recover(struct rundir *rd, struct err *e);

/** rundir_recover_all() - rundir_recover() for every sandbox; failures are logged */
void rundir_recover_all(const char *state_dir);

int rundir_write_state(struct rundir *rd, const struct rundir_state *st);
int rundir_read_state(const struct rundir *rd, struct rundir_state *st, struct err *e);

/**
 * rundir_add_container() - Note a new container of a pod
 * @spec:	Its config.json, as the guest gets it
 *
 * Return: 0 or a negative errno
 */
int rundir_add_container(struct rundir *rd, const struct rundir_state *st, const char *spec);

/** rundir_write_container() - Its state has changed */
int rundir_write_container(struct rundir *rd, const struct rundir_state *st);

/** rundir_remove_container() - It's gone; one that isn't there is fine */
int rundir_remove_container(struct rundir *rd, const char *id);

/** rundir_open_container() - Its directory. Return: Descriptor or a negative errno */
int rundir_open_container(const struct rundir *rd, const char *id);

/** rundir_read_container() - State in a container's directory. Return: 0 or a negative errno */
int rundir_read_container(int dirfd, struct rundir_state *st);

/**
 * rundir_each_container() - Call back for every container of a pod
 * @cb:		Gets its directory and state, both borrowed; a value other than 0 ends the walk
 *
 * Return: 0, what @cb returned, or a negative errno
 */
int rundir_each_container(const struct rundir *rd,
			  int (*cb)(void *data, int dirfd, const struct rundir_state *st),
			  void *data);

/** rundir_remove() - Remove the directory and everything in it */
int rundir_remove(struct rundir *rd, struct err *e);

/** rundir_close() - Give up the lock and close; the directory stays */
void rundir_close(struct rundir *rd);

#endif
