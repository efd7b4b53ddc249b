/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/vhost_user_record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define NO_DESCRIPTOR (1U << 8) /* flag beside a ring's number */
#define REGIONS_FIRST 8		/* bytes before the regions of a memory table */
#define REGION	      32	/* bytes of one */

/* How the number of a ring is written. */
enum ring { RING_NONE, RING_STATE, RING_FD };

/**
 * struct rule - A message that is kept
 * @request:	Which
 * @ring:	Whether it's about a ring
 * @size:	Of its payload; 0: as many memory regions as it has descriptors
 * @slot:	Where it's kept; of ring n, n places further
 */
struct rule {
	enum vhost_user_request request;
	enum ring ring;
	size_t size;
	size_t slot;
};

#define RING_SLOT(n) (4 + (n)*VHOST_USER_RINGS)

/* Slots are in the order in which a daemon wants to hear of them. */
static const struct rule rules[] = {
	{ VHOST_USER_SET_PROTOCOL_FEATURES, RING_NONE, 8, 0 },
	{ VHOST_USER_SET_FEATURES, RING_NONE, 8, 2 },
	{ VHOST_USER_SET_MEM_TABLE, RING_NONE, 0, 3 },
	{ VHOST_USER_SET_VRING_NUM, RING_STATE, 8, RING_SLOT(0) },
	{ VHOST_USER_SET_VRING_BASE, RING_STATE, 8, RING_SLOT(1) },
	{ VHOST_USER_SET_VRING_ADDR, RING_STATE, 40, RING_SLOT(2) },
	{ VHOST_USER_SET_VRING_ERR, RING_FD, 8, RING_SLOT(3) },
	{ VHOST_USER_SET_VRING_CALL, RING_FD, 8, RING_SLOT(4) },
	{ VHOST_USER_SET_VRING_KICK, RING_FD, 8, RING_SLOT(5) },
	{ VHOST_USER_SET_VRING_ENABLE, RING_STATE, 8, RING_SLOT(6) },
};

#define SLOT_OWNER 1
#define SLOT_BASE  RING_SLOT(1)
#define SLOT_KICK  RING_SLOT(5)

static void drop(struct vhost_user_record *r, size_t slot)
{
	if (!r->kept[slot])
		return;
	vhost_user_done(r->kept[slot]);
	free(TAKE_PTR(r->kept[slot]));
}

/* In place of what was said before. */
static int keep(struct vhost_user_record *r, size_t slot, struct vhost_user_msg *m)
{
	struct vhost_user_msg *copy = malloc(sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	*copy = *m;
	copy->done = 0;
	/* Who asked for an acknowledgement gets it from us. */
	copy->flags = VHOST_USER_VERSION;
	m->n_fds = 0;
	drop(r, slot);
	r->kept[slot] = copy;
	return 0;
}

static const struct rule *find_rule(uint32_t request)
{
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		if (rules[i].request == request)
			return &rules[i];
	return NULL;
}

static uint32_t first_u32(const struct vhost_user_msg *m)
{
	return (uint32_t)vhost_user_u64(m);
}

/* Return: Number of the ring or -EPROTO */
static int ring_of(const struct vhost_user_msg *m, enum ring how)
{
	uint32_t ring = first_u32(m);

	if (how == RING_FD)
		ring &= ~NO_DESCRIPTOR;
	return ring < VHOST_USER_RINGS ? (int)ring : -EPROTO;
}

/* Whether a message of a rule has as many descriptors as it says, and is as long. */
static bool fits(const struct rule *rule, const struct vhost_user_msg *m)
{
	switch (rule->ring) {
	case RING_NONE:
		if (rule->size > 0)
			break;
		return m->n_fds > 0 && first_u32(m) == m->n_fds &&
		       m->size == REGIONS_FIRST + m->n_fds * REGION;
	case RING_STATE:
		break;
	case RING_FD:
		return m->size == rule->size && m->n_fds == (first_u32(m) & NO_DESCRIPTOR ? 0 : 1);
	}
	return m->size == rule->size && m->n_fds == 0;
}

static int keep_rule(struct vhost_user_record *r, const struct rule *rule, struct vhost_user_msg *m)
{
	int ring = 0;

	if (!fits(rule, m))
		return -EPROTO;
	if (rule->request == VHOST_USER_SET_FEATURES && (vhost_user_u64(m) & ~VHOST_USER_FEATURES))
		return -EPROTO;
	if (rule->request == VHOST_USER_SET_PROTOCOL_FEATURES &&
	    (vhost_user_u64(m) & ~VHOST_USER_PROTOCOL_FEATURES))
		return -EPROTO;
	if (rule->ring != RING_NONE)
		ring = ring_of(m, rule->ring);
	return ring < 0 ? ring : keep(r, rule->slot + (size_t)ring, m);
}

/* The ring stops. Nothing was taken from it: its base is what was set. */
static int stop_ring(struct vhost_user_record *r, const struct vhost_user_msg *m,
		     struct vhost_user_msg *answer)
{
	int ring = m->size == 8 ? ring_of(m, RING_STATE) : -EPROTO;
	uint32_t state[2] = { 0 };

	if (ring < 0)
		return ring;
	state[0] = (uint32_t)ring;
	if (r->kept[SLOT_BASE + (size_t)ring])
		memcpy(state, r->kept[SLOT_BASE + (size_t)ring]->payload, sizeof(state));
	drop(r, SLOT_KICK + (size_t)ring);
	vhost_user_answer(answer, m->request, state, sizeof(state));
	return 1;
}

static int take(struct vhost_user_record *r, struct vhost_user_msg *m,
		struct vhost_user_msg *answer)
{
	const struct rule *rule = find_rule(m->request);
	uint64_t value;

	if (rule)
		return keep_rule(r, rule, m);
	if (m->n_fds > 0)
		return -EPROTO;
	switch (m->request) {
	case VHOST_USER_GET_FEATURES:
		value = VHOST_USER_FEATURES;
		break;
	case VHOST_USER_GET_PROTOCOL_FEATURES:
		value = VHOST_USER_PROTOCOL_FEATURES;
		break;
	case VHOST_USER_GET_QUEUE_NUM:
		value = VHOST_USER_RINGS;
		break;
	case VHOST_USER_GET_VRING_BASE:
		return stop_ring(r, m, answer);
	case VHOST_USER_SET_OWNER:
		return m->size == 0 ? keep(r, SLOT_OWNER, m) : -EPROTO;
	case VHOST_USER_RESET_OWNER: /* "should be ignored" */
		return 0;
	default:
		return -EPROTO;
	}
	vhost_user_answer(answer, m->request, &value, sizeof(value));
	return 1;
}

int vhost_user_record_take(struct vhost_user_record *r, struct vhost_user_msg *m,
			   struct vhost_user_msg *answer)
{
	uint32_t request = m->request;
	bool acknowledge = m->flags & VHOST_USER_NEED_REPLY;
	uint64_t success = 0;
	int ret;

	ret = (m->flags & 3) == VHOST_USER_VERSION && !(m->flags & VHOST_USER_REPLY)
		      ? take(r, m, answer)
		      : -EPROTO;
	vhost_user_done(m);
	if (ret != 0 || !acknowledge)
		return ret;
	vhost_user_answer(answer, request, &success, sizeof(success));
	return 1;
}

void vhost_user_record_done(struct vhost_user_record *r)
{
	for (size_t i = 0; i < VHOST_USER_KEPT; i++)
		drop(r, i);
}
