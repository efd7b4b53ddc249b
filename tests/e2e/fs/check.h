/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_E2E_FS_CHECK_H
#define PODVM_E2E_FS_CHECK_H

/*
 * What programs may expect of a file system. A check works in the current directory, which is empty
 * and its own, and says "ok", the name of the error of what the file system says it can't do, or
 * what it did wrong.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>

struct check {
	const char *name;
	const char *(*run)(void);
};

/* Each ends with a check without a name. */
extern const struct check name_checks[];
extern const struct check data_checks[];
extern const struct check attribute_checks[];
extern const struct check process_checks[];

/* How many files are many */
extern int large;

/* A file system may say that it can't. */
#define CAN(what)                                      \
	do {                                           \
		if (!(what))                           \
			return strerrorname_np(errno); \
	} while (0)

/* Nothing else is right. */
#define MUST(what)                                                      \
	do {                                                            \
		errno = 0;                                              \
		if (!(what))                                            \
			return wrong(__FILE__, __LINE__, #what, errno); \
	} while (0)

#define FAILS(what, error) ((what) < 0 && errno == (error))

const char *wrong(const char *file, int line, const char *what, int error);

/** make() - A file with that content: its descriptor, for reading and writing */
int make(const char *name, const char *content);

/** holds() - Are these the bytes of a file, from its start to its end? */
bool holds(int fd, const void *content, size_t len);

/** says() - The same by name, for a text */
bool says(const char *name, const char *content);

/** as_user() - Is this true for a user without privileges? */
bool as_user(bool (*what)(void));

/** child() - Run it in a process of its own; to be waited for with ended_well() */
pid_t child(bool (*what)(void));
bool ended_well(pid_t pid);

/** record(), recover() - Until it's killed; what is left of it. Return: an exit code */
int record(const char *dir);
int recover(const char *dir, unsigned long synced);

#endif
