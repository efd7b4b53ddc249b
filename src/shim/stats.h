/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_STATS_H
#define PODVM_SHIM_STATS_H

/*
 * The guest's numbers as containerd takes them: io.containerd.cgroups.v2.Metrics, also on a host
 * with cgroups v1, because the guest's are v2.
 */

#include "proto/agent.pb-c.h"
#include "ttrpc/ttrpc.h"

/** stats_reply() - Answer Stats with a container's numbers */
void stats_reply(struct ttrpc_call *call, const Podvm__Agent__V1__StatsContainerResponse *from);

/** stats_reply_guest() - Answer Stats of the sandbox, or SandboxMetrics, with the whole guest's */
void stats_reply_guest(struct ttrpc_call *call, const Podvm__Agent__V1__GetMetricsResponse *from);

#endif
