/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_BASE_SPAWN_H
#define PODVM_BASE_SPAWN_H

/*
 * Starting a program: a child gets exactly the descriptors that it is given, at the numbers that
 * it expects, and nothing else of ours. By default it dies with us (PR_SET_PDEATHSIG), so a
 * helper of a sandbox never outlives the process that owns the sandbox. A child with a user of its
 * own has no capabilities and never gets any.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

#define SPAWN_MAX_FDS 64

struct spawn {
	const char *path;  /* program; searched in PATH when it has no slash */
	char *const *argv; /* with argv[0], ended by NULL */
	char *const *envp; /* NULL: our own environment */
	const char *cwd;   /* NULL: ours */
	int stdin_fd;	   /* borrowed; < 0: /dev/null */
	int stdout_fd;	   /* borrowed; < 0: /dev/null */
	int stderr_fd;	   /* borrowed; < 0: /dev/null */
	int netns_fd;	   /* borrowed; network namespace to live in, < 0: ours */
	int cgroup_fd;	   /* borrowed; cgroup.procs of the cgroup to begin in, < 0: ours */
	struct {
		int fd;	    /* borrowed */
		int target; /* number in the child, > 2 */
	} fds[SPAWN_MAX_FDS];
	size_t n_fds;
	/* Runs in the child before it gets its descriptors: 0 or a negative errno; NULL: nothing */
	int (*prepare)(void *data);
	void *prepare_data;
	uid_t uid;	  /* run as this user and the group of the same number, 0: as we do */
	gid_t group;	  /* with @uid: one more group, 0: none */
	bool survive;	  /* don't die with the parent */
	bool new_session; /* setsid() */
};

/* A spec with nothing open: set path and argv, then what else is wanted. */
#define SPAWN_INIT               \
	((struct spawn){         \
		.stdin_fd = -1,  \
		.stdout_fd = -1, \
		.stderr_fd = -1, \
		.netns_fd = -1,  \
		.cgroup_fd = -1, \
	})

/**
 * spawn_fd() - Give the child a descriptor
 * @s:		Spec
 * @fd:		Ours, borrowed until spawn_start() has returned
 *
 * Return: Its number in the child (3, 4, ...) or -ENOBUFS
 */
int spawn_fd(struct spawn *s, int fd);

/**
 * spawn_start() - Start the program
 * @s:		Spec
 * @ret_pid:	Process id, or NULL
 * @e:		Says which program could not be started and why
 *
 * An exec that fails is reported here, not by the child.
 *
 * Return: A pidfd that the caller owns, or a negative errno
 */
int spawn_start(const struct spawn *s, pid_t *ret_pid, struct err *e);

/**
 * spawn_wait() - Wait for a child
 * @pidfd:	From spawn_start(); stays open
 * @timeout_ms:	Deadline; then the child is killed
 *
 * Return: Exit code, 128 + signal when a signal ended it, or a negative errno (-ETIMEDOUT)
 */
int spawn_wait(int pidfd, int timeout_ms);

/**
 * spawn_run() - Run a program to its end and collect what it says
 * @s:		Spec; stdout_fd and stderr_fd are replaced
 * @timeout_ms:	Deadline
 * @out:	Gets stdout and stderr together, at most 64 KiB, and a NUL; may be NULL
 * @e:		Says which program failed and the last line it printed
 *
 * Return: 0 when it exited with 0, else a negative errno (-ECHILD: it failed)
 */
int spawn_run(struct spawn *s, int timeout_ms, char **out, struct err *e);

/** spawn_reset_signals() - In a child: no signal is handled, ignored or blocked any more */
void spawn_reset_signals(void);

/** find_program() - Path of a program in PATH (and the sbin directories), or -ENOENT */
int find_program(const char *name, char **ret_path);

#endif
