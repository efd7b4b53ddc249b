/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crun's memory. It parses a spec, starts a process and ends: small things that it frees it would
 * hardly use again, and looking after them was a tenth of an exec. So memory is handed out from the
 * beginning to the end and goes with the process; only the last piece can grow, shrink and go on
 * its own. Pages are made by the chunk, because a fault for each takes longer. A large piece is a
 * mapping of its own, which grows and goes: specs can be long. Before each piece are its size, and
 * that of its mapping if it has one. crun has one thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGNMENT      ((size_t)16)
#define CHUNK	       ((size_t)128 << 10)
#define LARGE	       ((size_t)8 << 10)
#define PAGE	       ((size_t)4096)
#define SIZE_OF(piece) (((size_t *)(piece))[-1])
#define MAPPED(piece)  (((size_t *)(piece))[-2])

static char *next;
static char *end;

static void *no_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) & ~(to - 1);
}

static void *large(char *mapping, size_t bytes)
{
	if (mapping == MAP_FAILED)
		return no_memory();
	mapping += ALIGNMENT;
	SIZE_OF(mapping) = bytes - ALIGNMENT;
	MAPPED(mapping) = bytes;
	return mapping;
}

static void *take_large(size_t size)
{
	size_t bytes = round_up(size + ALIGNMENT, PAGE);

	return large(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		     bytes);
}

static void *resize_large(char *old, size_t size)
{
	size_t bytes = round_up(size + ALIGNMENT, PAGE);

	return large(mremap(old - ALIGNMENT, MAPPED(old), bytes, MREMAP_MAYMOVE), bytes);
}

static void *take(size_t alignment, size_t size)
{
	uintptr_t piece = round_up((uintptr_t)next + ALIGNMENT, alignment);
	size_t room;

	if (size > PTRDIFF_MAX / 2 || alignment > PTRDIFF_MAX / 4)
		return no_memory();
	if (size >= LARGE && alignment == ALIGNMENT)
		return take_large(size);
	size = round_up(size, ALIGNMENT);
	if (!next || piece > (uintptr_t)end || size > (uintptr_t)end - piece) {
		room = round_up(size + alignment + ALIGNMENT, CHUNK);
		next = mmap(NULL, room, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (next == MAP_FAILED) {
			next = end = NULL;
			return no_memory();
		}
		end = next + room;
		piece = round_up((uintptr_t)next + ALIGNMENT, alignment);
	}
	next = (char *)piece + size;
	SIZE_OF(piece) = size;
	MAPPED(piece) = 0;
	return (void *)piece;
}

void *malloc(size_t size)
{
	return take(ALIGNMENT, size);
}

void free(void *piece)
{
	int code = errno;

	if (piece && MAPPED(piece))
		munmap((char *)piece - ALIGNMENT, MAPPED(piece));
	else if (piece && (char *)piece + SIZE_OF(piece) == next)
		next = piece;
	errno = code;
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

	if (size > PTRDIFF_MAX / 2)
		return no_memory();
	if (old && size <= before)
		return old;
	if (old && MAPPED(old))
		return resize_large(old, size);
	/* The last one is made longer where it is, if there is room. */
	if (old && size < LARGE && (char *)old + before == next &&
	    round_up(size, ALIGNMENT) <= (size_t)(end - (char *)old)) {
		SIZE_OF(old) = round_up(size, ALIGNMENT);
		next = (char *)old + SIZE_OF(old);
		return old;
	}
	piece = take(ALIGNMENT, size);
	if (!piece || !old)
		return piece;
	memcpy(piece, old, before);
	free(old);
	return piece;
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
