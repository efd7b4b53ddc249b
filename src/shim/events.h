/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_EVENTS_H
#define PODVM_SHIM_EVENTS_H

/*
 * Theory of operation
 *
 * What happens to tasks is told to containerd by calls of its ttrpc socket (TTRPC_ADDRESS), one
 * after the other, so that the order stays. Nothing ever waits for them: events queue up, a lost
 * connection is made again, an event that can't be delivered is tried a few times and dropped, and
 * so is what exceeds the queue.
 */

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "loop/loop.h"

struct events;

/**
 * events_new() - A publisher; it connects when there is something to tell
 * @loop:	Loop
 * @address:	Path of containerd's ttrpc socket, NULL or empty: events go nowhere. Borrowed
 * @namespace:	Of containerd, borrowed
 * @ret:	To be released with events_free()
 *
 * Return: 0 or -ENOMEM
 */
int events_new(struct loop *loop, const char *address, const char *namespace, struct events **ret);

/**
 * events_publish() - Queue an event
 * @ev:		Publisher
 * @topic:	"/tasks/exit", constant
 * @msg:	A message of proto/events.proto, packed at once
 *
 * Failures are logged.
 */
void events_publish(struct events *ev, const char *topic, const ProtobufCMessage *msg);

/** events_idle() - Whether everything was delivered or dropped; the flag lives as long as @ev */
const bool *events_idle(const struct events *ev);

/** events_free() - What is queued is lost; NULL is fine */
void events_free(struct events *ev);

#endif
