/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crun's memory. It parses a spec, starts a process and ends: what it frees it would hardly use
 * again, and looking after it was a tenth of an exec. So memory is handed out from the beginning to
 * the end and goes with the process; only the last piece can grow, shrink and go on its own, which
 * is what buffers do. Each piece is preceded by its size. Pages are made by the chunk, because a
 * fault for each takes longer. crun has one thread.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGNMENT      ((size_t)16)
#define CHUNK	       ((size_t)128 << 10)
#define SIZE_OF(piece) (((size_t *)(piece))[-1])

static char *next;
static char *end;

static void *no_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

static void *take(size_t alignment, size_t size)
{
	uintptr_t piece = ((uintptr_t)next + ALIGNMENT + alignment - 1) & ~(alignment - 1);
	size_t room;

	if (size > PTRDIFF_MAX / 2 || alignment > PTRDIFF_MAX / 4)
		return no_memory();
	size = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
	if (!next || piece > (uintptr_t)end || size > (uintptr_t)end - piece) {
		room = (size + alignment + ALIGNMENT + CHUNK - 1) & ~(CHUNK - 1);
		next = mmap(NULL, room, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (next == MAP_FAILED) {
			next = end = NULL;
			return no_memory();
		}
		end = next + room;
		piece = ((uintptr_t)next + ALIGNMENT + alignment - 1) & ~(alignment - 1);
	}
	next = (char *)piece + size;
	SIZE_OF(piece) = size;
	return (void *)piece;
}

void *malloc(size_t size)
{
	return take(ALIGNMENT, size);
}

void free(void *piece)
{
	if (piece && (char *)piece + SIZE_OF(piece) == next)
		next = piece;
}

void *calloc(size_t n, size_t size)
{
	size_t bytes;
	void *piece;

	if (__builtin_mul_overflow(n, size, &bytes))
		return no_memory();
	piece = take(ALIGNMENT, bytes);
	return piece ? memset(piece, 0, bytes) : NULL;
}

void *realloc(void *old, size_t size)
{
	size_t before = old ? SIZE_OF(old) : 0;
	void *piece;

	if (old && size <= before)
		return old;
	/* The last one is made longer where it is, if there is room. */
	if (old && (char *)old + before == next &&
	    size <= (size_t)(end - (char *)old) - ALIGNMENT) {
		next = old;
		SIZE_OF(old) = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
		next += SIZE_OF(old);
		return old;
	}
	piece = take(ALIGNMENT, size);
	return piece && old ? memcpy(piece, old, before) : piece;
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
	void *piece = take(alignment < ALIGNMENT ? ALIGNMENT : alignment, size);

	if (!piece)
		return ENOMEM;
	*ret = piece;
	return 0;
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return take(alignment < ALIGNMENT ? ALIGNMENT : alignment, size);
}

void *memalign(size_t alignment, size_t size)
{
	return aligned_alloc(alignment, size);
}

size_t malloc_usable_size(void *piece)
{
	return piece ? SIZE_OF(piece) : 0;
}
