/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_BASE_FD_H
#define PODVM_BASE_FD_H

/* Descriptors and small files. Every descriptor is close-on-exec from birth. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/** fd_nonblock() - Set O_NONBLOCK. Return: 0 or a negative errno */
int fd_nonblock(int fd);

/** fd_write_all() - Write everything to a blocking descriptor. Return: 0 or a negative errno */
int fd_write_all(int fd, const void *data, size_t n);

/**
 * fd_read_full() - Read up to @n bytes of a blocking descriptor, fewer only at its end
 *
 * Return: Bytes read or a negative errno
 */
ssize_t fd_read_full(int fd, void *data, size_t n);

/**
 * file_read() - A whole small file as a string
 * @dirfd:	Directory that @path is relative to, or AT_FDCWD
 * @path:	Path
 * @limit:	The most bytes it may have
 * @ret:	The bytes and a NUL that is not counted; the caller frees it
 * @ret_len:	Number of bytes, or NULL
 *
 * Return: 0, -EFBIG above the limit, or another negative errno
 */
int file_read(int dirfd, const char *path, size_t limit, char **ret, size_t *ret_len);

/**
 * file_write() - Write into an existing file such as one of /proc or /sys, in one write(2)
 *
 * Return: 0 or a negative errno
 */
int file_write(int dirfd, const char *path, const char *text);

/**
 * file_replace() - Put a file in place as a whole or not at all (temporary file, rename)
 * @dirfd:	Directory that @path is relative to, or AT_FDCWD
 * @path:	Path
 * @data:	Content
 * @n:		Its length
 * @mode:	Permissions of the file
 *
 * Return: 0 or a negative errno
 */
int file_replace(int dirfd, const char *path, const void *data, size_t n, mode_t mode);

/** mkdir_p() - Make a directory and those above it. Return: 0 or a negative errno */
int mkdir_p(const char *path, mode_t mode);

/**
 * rm_rf() - Remove a file or a directory with everything below it
 *
 * Doesn't follow symbolic links and doesn't cross into other file systems: what is mounted below
 * stays as it is (and the removal fails with -EBUSY).
 *
 * Return: 0 (also when there was nothing) or the first error
 */
int rm_rf(int dirfd, const char *path);

/** rename_over() - renameat() in a directory, which removes what is at @to with all below it */
int rename_over(int dirfd, const char *from, const char *to);

/** rm_children() - As rm_rf(), but of everything in a directory, which stays */
int rm_children(int dirfd);

/**
 * open_in_root() - Open a path as if @rootfd were the root directory (openat2 RESOLVE_IN_ROOT)
 * @rootfd:	Directory that neither `..` nor an absolute link leaves
 * @path:	Path below it
 * @flags:	As for openat(2); O_CLOEXEC is added
 * @mode:	As for openat(2)
 *
 * Return: Descriptor or a negative errno
 */
int open_in_root(int rootfd, const char *path, int flags, mode_t mode);

/** clock_ms() - Milliseconds of the monotonic clock */
uint64_t clock_ms(void);

/** clock_us() - Microseconds of the monotonic clock */
uint64_t clock_us(void);

/** clock_real_ns() - Nanoseconds since the epoch */
uint64_t clock_real_ns(void);

/**
 * random_hex() - Random lower-case hexadecimal digits and a NUL
 * @out:	Room for @digits + 1 bytes
 * @digits:	How many
 *
 * Return: 0 or a negative errno
 */
int random_hex(char *out, size_t digits);

#endif
