/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_BASE_CLEANUP_H
#define PODVM_BASE_CLEANUP_H

/*
 * Cleanup attributes: a local that owns something says so where it is declared and is released
 * on every way out of the scope.
 *
 *	_cleanup_(close_fdp) int fd = -EBADF;
 *	_cleanup_(freep) char *name = NULL;
 *	...
 *	*ret_fd = TAKE_FD(fd);
 */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/param.h> /* MIN(), MAX() */
#include <unistd.h>

#define _cleanup_(fn) __attribute__((cleanup(fn)))

/* Hands the value over and leaves the source empty, so that its cleanup does nothing. */
#define TAKE_PTR(p)                               \
	({                                        \
		__typeof__(p) *take_p_ = &(p);    \
		__typeof__(p) take_v_ = *take_p_; \
		*take_p_ = NULL;                  \
		take_v_;                          \
	})

#define TAKE_FD(fd)                     \
	({                              \
		int *take_p_ = &(fd);   \
		int take_v_ = *take_p_; \
		*take_p_ = -EBADF;      \
		take_v_;                \
	})

/* Defines NAME: a cleanup function for variables of TYPE (a pointer) released by FN. */
#define DEFINE_CLEANUP(name, type, fn)   \
	static inline void name(type *p) \
	{                                \
		if (*p)                  \
			fn(*p);          \
	}

static inline void freep(void *p)
{
	free(*(void **)p);
}

static inline void close_fdp(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		close(*fd);
		errno = saved;
	}
}

DEFINE_CLEANUP(fclosep, FILE *, fclose)
DEFINE_CLEANUP(closedirp, DIR *, closedir)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr) - __builtin_offsetof(type, member)))

#endif
