/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_EVENTS_H
#define PODVM_AGENT_EVENTS_H

/*
 * What happened in the guest, for the host: a ring of the last 256 events with rising sequence
 * numbers. NextEvents calls that found nothing new wait here until the next event.
 */

#include <stdbool.h>
#include <stdint.h>

#include "agent/paths.h"
#include "proto/agent.pb-c.h"
#include "ttrpc/ttrpc.h"

#define EVENTS_KEEP    256
#define EVENTS_WAITERS 8

struct event {
	int type; /* Podvm__Agent__V1__Event__Type */
	char container_id[ID_MAX + 1];
	char exec_id[ID_MAX + 1];
	uint32_t exit_status;
	uint64_t time_ns;
};

struct events {
	uint64_t last;			/* sequence number of the newest, 0: none yet */
	struct event ring[EVENTS_KEEP]; /* number s is at s % EVENTS_KEEP */
	struct {
		struct ttrpc_call *call;
		uint64_t after;
	} waiters[EVENTS_WAITERS];
};

/**
 * events_add() - An event happened
 * @ev:		Ring
 * @type:	PODVM__AGENT__V1__EVENT__TYPE__*
 * @container_id: Container
 * @exec_id:	Process, "" for the container's first
 * @exit_status: Of an exit
 */
void events_add(struct events *ev, int type, const char *container_id, const char *exec_id,
		uint32_t exit_status);

/** events_next() - Serve NextEvents: now, or with the next event */
void events_next(struct events *ev, struct ttrpc_call *call, uint64_t after);

/** now_ns() - CLOCK_REALTIME in nanoseconds */
uint64_t now_ns(void);

#endif
