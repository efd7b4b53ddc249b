/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Most rules of a filter are a system call and its answer. libseccomp compares the number with each
 * of them; as neighbours mostly share their fate, ranges of numbers are few, and a search among
 * them takes a fourth of the instructions, and of the time that the kernel needs to check,
 * translate and try them.
 *
 * Calls whose answer depends on their arguments have a program of libseccomp's. Nothing is known
 * here of what its rules were: it's run with the first number of each range until it has an answer
 * or looks at an argument; what it does from there on is copied.
 */

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "oci/seccomp_internal.h"

#define RANGES_MAX 1024
#define EDGES_MAX  (2 * BPF_MAXINSNS + SECCOMP_CALLS + 2)

/* Jumps of conditions are 8 bits wide. */
#define JUMP_MAX 255

enum { LOAD = BPF_LD | BPF_W | BPF_ABS };

/* System calls from @first on, up to the next range. */
struct range {
	uint32_t first;
	const struct sock_filter *at; /* where they get: an answer, or a look at arguments */
};

struct maker {
	const struct sock_filter *in;
	size_t n;
	uint32_t arch;
	const struct sock_filter *fixed;
	struct range ranges[RANGES_MAX];
	size_t n_ranges;
	struct sock_filter *out;
	size_t len;
	size_t max;
};

static bool is_load(const struct sock_filter *i, size_t offset)
{
	return i->code == LOAD && i->k == offset;
}

/* Comparisons that are constant between the numbers they name. */
static bool compares(const struct sock_filter *i)
{
	return i->code == (BPF_JMP | BPF_JEQ | BPF_K) || i->code == (BPF_JMP | BPF_JGE | BPF_K) ||
	       i->code == (BPF_JMP | BPF_JGT | BPF_K);
}

static bool holds(const struct sock_filter *i, uint32_t value)
{
	switch (BPF_OP(i->code)) {
	case BPF_JEQ:
		return value == i->k;
	case BPF_JGE:
		return value >= i->k;
	default:
		return value > i->k;
	}
}

/* Where a system call of that number gets, or NULL when it's another kind of program. */
static const struct sock_filter *follow(const struct maker *s, uint32_t number)
{
	uint32_t a = 0;

	if (s->fixed && number < SECCOMP_CALLS && s->fixed[number].code)
		return &s->fixed[number];
	for (const struct sock_filter *i = s->in; i < s->in + s->n; i++) {
		if (is_load(i, offsetof(struct seccomp_data, nr)))
			a = number;
		else if (is_load(i, offsetof(struct seccomp_data, arch)))
			a = s->arch;
		else if (i->code == LOAD || i->code == (BPF_RET | BPF_K))
			return i;
		else if (i->code == (BPF_JMP | BPF_JA))
			i += i->k;
		else if (compares(i))
			i += holds(i, a) ? i->jt : i->jf;
		else
			return NULL;
	}
	return NULL;
}

static bool same(const struct sock_filter *a, const struct sock_filter *b)
{
	return a == b || (a->code == (BPF_RET | BPF_K) && memcmp(a, b, sizeof(*a)) == 0);
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Every number from which on the answer may be another one. */
static size_t find_edges(const struct maker *s, uint32_t edges[EDGES_MAX])
{
	size_t n = 0;

	edges[n++] = 0;
	for (uint32_t i = 1; i < SECCOMP_CALLS; i++)
		if (memcmp(&s->fixed[i], &s->fixed[i - 1], sizeof(*s->fixed)) != 0)
			edges[n++] = i;
	edges[n++] = SECCOMP_CALLS;
	for (size_t i = 0; i < s->n; i++) {
		if (!compares(&s->in[i]))
			continue;
		edges[n++] = s->in[i].k;
		edges[n++] = s->in[i].k + 1;
	}
	qsort(edges, n, sizeof(*edges), by_value);
	return n;
}

static int find_ranges(struct maker *s)
{
	uint32_t edges[EDGES_MAX];
	size_t n = find_edges(s, edges);

	for (size_t i = 0; i < n; i++) {
		const struct sock_filter *at;

		if (i > 0 && edges[i] == edges[i - 1])
			continue;
		at = follow(s, edges[i]);
		if (!at)
			return -EOPNOTSUPP;
		if (s->n_ranges > 0 && same(at, s->ranges[s->n_ranges - 1].at))
			continue;
		if (s->n_ranges == RANGES_MAX)
			return -E2BIG;
		s->ranges[s->n_ranges++] = (struct range){ edges[i], at };
	}
	return 0;
}

static int emit(struct maker *s, struct sock_filter i)
{
	if (s->len == s->max)
		return -E2BIG;
	s->out[s->len++] = i;
	return 0;
}

/* ---- what looks at arguments ---- */

/* Mark what can be reached from @from; jumps only lead forward. */
static int reach(const struct maker *s, size_t from, bool *reached)
{
	reached[from] = true;
	for (size_t i = from; i < s->n; i++) {
		const struct sock_filter *insn = &s->in[i];
		size_t jt = i + 1;
		size_t jf = i + 1;

		if (!reached[i] || insn->code == (BPF_RET | BPF_K))
			continue;
		if (insn->code == (BPF_JMP | BPF_JA)) {
			jt = jf = jt + insn->k;
		} else if (BPF_CLASS(insn->code) == BPF_JMP && BPF_SRC(insn->code) == BPF_K) {
			jt += insn->jt;
			jf += insn->jf;
		} else if (insn->code != LOAD && insn->code != (BPF_ALU | BPF_AND | BPF_K)) {
			return -EOPNOTSUPP;
		}
		if (jt >= s->n || jf >= s->n)
			return -EOPNOTSUPP;
		reached[jt] = reached[jf] = true;
	}
	return 0;
}

/* Copy them in their order, with jumps over what isn't copied made shorter. */
static int copy_from(struct maker *s, size_t from)
{
	bool reached[BPF_MAXINSNS] = { false };
	uint16_t place[BPF_MAXINSNS + 1];
	uint16_t n = 0;
	int r = reach(s, from, reached);

	for (size_t i = from; i < s->n; i++) {
		place[i] = n;
		n += reached[i];
	}
	for (size_t i = from; r == 0 && i < s->n; i++) {
		struct sock_filter insn = s->in[i];

		if (!reached[i])
			continue;
		if (insn.code == (BPF_JMP | BPF_JA)) {
			insn.k = place[i + 1 + insn.k] - place[i] - 1U;
		} else if (BPF_CLASS(insn.code) == BPF_JMP) {
			insn.jt = (uint8_t)(place[i + 1 + insn.jt] - place[i] - 1);
			insn.jf = (uint8_t)(place[i + 1 + insn.jf] - place[i] - 1);
		}
		r = emit(s, insn);
	}
	return r;
}

/* ---- the search ---- */

/* The ranges from @lo to before @hi. */
static int search(struct maker *s, size_t lo, size_t hi)
{
	size_t mid = lo + (hi - lo) / 2;
	size_t at = s->len;
	size_t lower;
	int r;

	if (hi - lo == 1)
		return s->ranges[lo].at->code == (BPF_RET | BPF_K)
			       ? emit(s, *s->ranges[lo].at)
			       : copy_from(s, (size_t)(s->ranges[lo].at - s->in));
	r = emit(s, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, s->ranges[mid].first, 0,
						 1));
	if (r == 0)
		r = emit(s, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
	if (r == 0)
		r = search(s, lo, mid);
	if (r < 0)
		return r;
	lower = s->len - at - 2;
	if (lower <= JUMP_MAX) {
		/* No need for the long jump: close the gap, all jumps behind it are relative. */
		memmove(&s->out[at + 1], &s->out[at + 2], lower * sizeof(*s->out));
		s->len--;
		s->out[at].jt = (uint8_t)lower;
		s->out[at].jf = 0;
	} else {
		s->out[at + 1].k = (uint32_t)lower;
	}
	return search(s, mid, hi);
}

/* What comes before the search: calls of another architecture have one answer. */
static int begin(struct maker *s)
{
	struct maker foreign = { .in = s->in, .n = s->n, .arch = ~s->arch };
	const struct sock_filter *answer = follow(&foreign, 0);
	int r;

	if (!answer || answer->code != (BPF_RET | BPF_K))
		return -EOPNOTSUPP;
	r = emit(s, (struct sock_filter)BPF_STMT(LOAD, offsetof(struct seccomp_data, arch)));
	if (r == 0)
		r = emit(s, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, s->arch, 1, 0));
	if (r == 0)
		r = emit(s, *answer);
	return r < 0 ? r
		     : emit(s,
			    (struct sock_filter)BPF_STMT(LOAD, offsetof(struct seccomp_data, nr)));
}

int seccomp_program_make(const struct sock_filter *in, size_t n, uint32_t arch,
			 const struct sock_filter fixed[SECCOMP_CALLS], struct sock_filter *out,
			 size_t max)
{
	struct maker s = { .in = in, .n = n, .arch = arch, .fixed = fixed, .out = out, .max = max };
	int r = n > BPF_MAXINSNS ? -E2BIG : find_ranges(&s);

	if (r == 0)
		r = begin(&s);
	if (r == 0)
		r = search(&s, 0, s.n_ranges);
	return r < 0 ? r : (int)s.len;
}
