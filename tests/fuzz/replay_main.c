/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays a corpus through a fuzz target without libFuzzer: every file of the directory, then
 * every truncation of it and a set of single-byte changes, so that a regression needs no luck.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"

/* Longer inputs are only replayed as they are and cut at a few hundred places. */
#define MAX_STEPS 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of exactly this size, so that the sanitizer sees every read past the end. */
static void replay(const char *data, size_t size)
{
	uint8_t *exact = malloc(size ? size : 1);

	if (!exact)
		abort();
	memcpy(exact, data, size);
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
}

static void replay_mutations(char *data, size_t size)
{
	static const uint8_t flips[] = { 0x01, 0x80, 0xff };
	size_t step = size / MAX_STEPS + 1;

	replay(data, size);
	for (size_t i = 0; i < size; i += step) {
		replay(data, i);
		for (size_t f = 0; f < ARRAY_SIZE(flips); f++) {
			data[i] = (char)(data[i] ^ flips[f]);
			replay(data, size);
			data[i] = (char)(data[i] ^ flips[f]);
		}
	}
}

int main(int argc, char **argv)
{
	_cleanup_(closedirp) DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	struct dirent *d;
	size_t files = 0;

	if (!dir) {
		fprintf(stderr, "usage: %s CORPUS_DIRECTORY\n", argv[0]);
		return 2;
	}
	while ((d = readdir(dir))) {
		_cleanup_(freep) char *data = NULL;
		size_t size;

		if (d->d_name[0] == '.')
			continue;
		if (file_read(dirfd(dir), d->d_name, (size_t)8 << 20, &data, &size) < 0) {
			fprintf(stderr, "%s: cannot read %s\n", argv[0], d->d_name);
			return 1;
		}
		replay_mutations(data, size);
		files++;
	}
	printf("%zu corpus files replayed\n", files);
	return files > 0 ? 0 : 1;
}
