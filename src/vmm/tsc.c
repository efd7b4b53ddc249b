/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rate of the host's time stamp counter. QEMU's emulation hands the host's counter through to
 * the guest, which cannot calibrate it reliably against an emulated timer and has to be told.
 *
 * /proc/cpuinfo shows the current clock of a core, which is another thing on most machines. So the
 * counter is compared with CLOCK_MONOTONIC_RAW, which no time server bends, over a few
 * milliseconds; each end is the tightest of several readings.
 */
#include <time.h>
#include <x86intrin.h>

#include "vmm/qemu.h"

#define SPAN_NS	 5000000
#define READINGS 32

struct sample {
	uint64_t tsc;
	uint64_t ns;
};

static uint64_t raw_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* The clock as it was in the middle of the two counter readings that were closest together. */
static struct sample take_sample(void)
{
	struct sample best = { 0 };
	uint64_t tightest = UINT64_MAX;

	for (int i = 0; i < READINGS; i++) {
		uint64_t before = __rdtsc();
		uint64_t ns = raw_ns();
		uint64_t after = __rdtsc();

		if (after - before < tightest) {
			tightest = after - before;
			best = (struct sample){ before + tightest / 2, ns };
		}
	}
	return best;
}

unsigned int tsc_khz(void)
{
	const struct timespec span = { .tv_nsec = SPAN_NS };
	struct sample a;
	struct sample b;

	a = take_sample();
	nanosleep(&span, NULL);
	b = take_sample();
	return (unsigned int)(((b.tsc - a.tsc) * 1000000 + (b.ns - a.ns) / 2) / (b.ns - a.ns));
}
