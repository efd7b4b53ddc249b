/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_OCI_SECCOMP_INTERNAL_H
#define PODVM_OCI_SECCOMP_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

/* System calls with larger numbers than any that there is have no answers of their own. */
#define SECCOMP_CALLS 1024

struct sock_filter;

/**
 * seccomp_program_make() - Make a filter's program
 * @in:		Program of libseccomp's for the calls that have no answer in @fixed
 * @n:		Its instructions
 * @arch:	AUDIT_ARCH_* of the system calls it sees; all others get @in's answer
 * @fixed:	For each number: an instruction that returns the answer, or all zero
 * @out:	Gets the program
 * @max:	Room in @out, in instructions
 *
 * Return: Its instructions; -EOPNOTSUPP (@in does what libseccomp's don't) or -E2BIG
 */
int seccomp_program_make(const struct sock_filter *in, size_t n, uint32_t arch,
			 const struct sock_filter fixed[SECCOMP_CALLS], struct sock_filter *out,
			 size_t max);

#endif
