/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_SERVICE_H
#define PODVM_AGENT_SERVICE_H

/*
 * What the files that serve calls share: short names of the generated types, answers, look-ups
 * that answer by themselves when there is no such thing, and the handlers themselves, which
 * service.c puts into the table.
 */

#include "agent/agent.h"
#include "proto/agent.pb-c.h"
#include "ttrpc/ttrpc.h"

#define PB(name) Podvm__Agent__V1__##name

/* Calls without a deadline of their own get this one. */
#define CALL_TIMEOUT_MS ((uint64_t)30000)

struct container;
struct process;
struct streams;

/** reply_empty() - Success without a result */
void reply_empty(struct ttrpc_call *call);

/** reply_oom() - No memory for an answer */
void reply_oom(struct ttrpc_call *call);

/** call_timeout() - Milliseconds a call may take: its own deadline less a margin, or ours */
uint64_t call_timeout(const struct ttrpc_call *call);

/**
 * error_internal() - Make sure that an error isn't taken for one about the container's program
 *
 * NOT_FOUND and PERMISSION_DENIED of Create and Exec mean that the program can't be run (exit
 * codes 127 and 126); a disk that isn't there must not look like it.
 */
void error_internal(struct err *e);

/** find_container() - Container by id, or NULL and @call has been answered */
struct container *find_container(struct agent *a, struct ttrpc_call *call, const char *id);

/** find_process() - Started process by ids, or NULL and @call has been answered */
struct process *find_process(struct agent *a, struct ttrpc_call *call, const char *container_id,
			     const char *exec_id);

/** find_streams() - Those of a process or, without a container, of a connection; as find_process() */
struct streams *find_streams(struct agent *a, struct ttrpc_call *call, const char *container_id,
			     const char *exec_id);

#define HANDLER(name) void name(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)

HANDLER(serve_hello);
HANDLER(serve_configure_sandbox);
HANDLER(serve_write_file);
HANDLER(serve_next_events);
HANDLER(serve_get_log);
HANDLER(serve_get_metrics);
HANDLER(serve_shutdown);
HANDLER(serve_create_container);
HANDLER(serve_start_container);
HANDLER(serve_pause_container);
HANDLER(serve_resume_container);
HANDLER(serve_update_container);
HANDLER(serve_stats_container);
HANDLER(serve_list_processes);
HANDLER(serve_remove_container);
HANDLER(serve_read_file);
HANDLER(serve_exec);
HANDLER(serve_signal);
HANDLER(serve_wait);
HANDLER(serve_remove_process);
HANDLER(serve_read_output);
HANDLER(serve_write_input);
HANDLER(serve_close_input);
HANDLER(serve_resize_terminal);
HANDLER(serve_connect);
HANDLER(serve_update_volume);
HANDLER(serve_read_volume);
HANDLER(serve_lookup_devices);
HANDLER(serve_resize);
HANDLER(serve_prepare_template);
HANDLER(serve_stat_volume);
HANDLER(serve_grow_volume);
HANDLER(serve_accept);
HANDLER(serve_forget_files);

#endif
