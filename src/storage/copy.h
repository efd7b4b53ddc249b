/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_STORAGE_COPY_H
#define PODVM_STORAGE_COPY_H

#include <stdint.h>

/**
 * file_append() - Copy the start of a file to the position of another
 * @out:	Open for writing
 * @in:		Open for reading
 * @size:	Bytes
 *
 * File systems that can share blocks do so.
 *
 * Return: 0, -EBADMSG (@in is shorter) or another negative errno
 */
int file_append(int out, int in, uint64_t size);

#endif
