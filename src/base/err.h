/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_BASE_ERR_H
#define PODVM_BASE_ERR_H

/*
 * Theory of operation
 *
 * Functions return 0 or more for success and a negative errno for failure. A function whose
 * failure a user may see takes a `struct err *` as its last argument and fills it in: the stage
 * that failed (set by whoever runs stages), what failed and why, and what the user can do. The
 * object is owned by the caller, has a fixed size and needs no memory, so that it can report
 * -ENOMEM as well. NULL is allowed everywhere and means that nobody wants to know.
 *
 * The deepest function sets the message, the ones above it prepend context with err_wrap(). It
 * is printed once, by the program, as
 *
 *	podvm: STAGE: what failed: why
 *	  hint
 */

struct err {
	int code;	/* negative errno, 0: no error recorded */
	char stage[32]; /* the part of the work, e.g. "image", "boot"; may be empty */
	char msg[1024]; /* "what failed: why" */
	char hint[512]; /* what to do, one sentence or several lines; may be empty */
};

/**
 * err_set() - Record an error whose message says what and why itself
 * @e:		Error object or NULL
 * @code:	Negative errno
 * @fmt:	Message, without a newline and without a stage
 *
 * Return: @code
 */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/**
 * err_errno() - Record an error whose reason is the text of its errno
 * @e:		Error object or NULL
 * @code:	Negative errno
 * @fmt:	What failed; ": " and the text of @code are appended
 *
 * Return: @code
 */
int err_errno(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/**
 * err_wrap() - Prepend context to a recorded error
 * @e:		Error object or NULL
 * @fmt:	Context; ": " is put between it and the message
 *
 * Return: The code recorded in @e (-EIO when @e is NULL or holds no error)
 */
int err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/**
 * err_hint() - Say what the user can do, unless a deeper function already did
 * @e:		Error object or NULL
 * @fmt:	Sentence(s); further lines are separated by newlines
 */
void err_hint(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/**
 * err_stage() - Name the stage that failed, unless a deeper function already did
 * @e:		Error object or NULL
 * @stage:	Short name
 */
void err_stage(struct err *e, const char *stage);

/**
 * err_oom() - Record that there is no memory
 * @e:		Error object or NULL
 *
 * Return: -ENOMEM
 */
int err_oom(struct err *e);

#endif
