/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_FAULT_H
#define PODVM_SANDBOX_FAULT_H

/*
 * Theory of operation
 *
 * Tests make any stage fail: a program that was built with -Dfault_injection=true reads the file
 * that PODVM_FAULT names before and after every stage. It has one line, STAGE:HOW:
 *
 *	fail	the stage fails before it has done anything
 *	late	it fails after it has done everything
 *	hang	it does everything and never says so
 *
 * In every other program these are nothing.
 */

#include "base/err.h"

#ifdef PODVM_FAULT_INJECTION

/** fault_before() - Called before a stage begins. Return: 0 or a negative errno */
int fault_before(const char *stage, struct err *e);

/** fault_after() - Called when it has done its work. Return: 0, STAGE_PENDING, or an errno */
int fault_after(const char *stage, struct err *e);

#else

static inline int fault_before(const char *stage, struct err *e)
{
	return 0;
}

static inline int fault_after(const char *stage, struct err *e)
{
	return 0;
}

#endif

#endif
