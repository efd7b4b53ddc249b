/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_OCI_SECCOMP_INTERNAL_H
#define PODVM_OCI_SECCOMP_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

struct sock_filter;

/**
 * seccomp_program_shrink() - Make a program that does the same with few instructions
 * @in:		Program of libseccomp's
 * @n:		Its instructions
 * @arch:	AUDIT_ARCH_* of the system calls it sees; all others get one answer
 * @out:	Gets the shorter program
 * @max:	Room in @out, in instructions
 *
 * Return: Its instructions; -EOPNOTSUPP (it does what libseccomp's don't) or -E2BIG
 */
int seccomp_program_shrink(const struct sock_filter *in, size_t n, uint32_t arch,
			   struct sock_filter *out, size_t max);

#endif
