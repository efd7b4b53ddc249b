/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_EVENT_LOG_H
#define PODVM_SANDBOX_EVENT_LOG_H

/*
 * What happens to the sandboxes of a machine and their containers: STATE/.events, a line of JSON
 * each, appended by whoever did it or saw it. See log_file.h.
 *
 *	{ "time_ns": 1790000000000000000, "event": "exit", "pod": false, "id": "...",
 *	  "sandbox": "...", "name": "web", "namespace": "", "image": "...", "exit_code": 7 }
 */

#include "sandbox/rundir.h"

#define EVENT_LOG     ".events"
#define EVENT_LOG_MAX ((uint64_t)1 << 20)

/**
 * event_log_add() - Append an event
 * @rd:		Run directory of the sandbox
 * @event:	"create", "start", "exit", "oom", "delete"
 * @st:		Of the container, or of the pod; its times are those of the events
 *
 * Failures are logged: nothing depends on this.
 */
void event_log_add(const struct rundir *rd, const char *event, const struct rundir_state *st);

#endif
