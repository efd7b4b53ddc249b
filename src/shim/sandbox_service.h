/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_SANDBOX_SERVICE_H
#define PODVM_SHIM_SANDBOX_SERVICE_H

/*
 * containerd 2's Sandbox service, for runtimes with `sandboxer = "shim"`. CreateSandbox decides
 * what the machine will be, StartSandbox starts it, StopSandbox ends it with everything in it and
 * is answered, as WaitSandbox is, when that's done. The containers come through the Task service.
 */

#include "shim/shim.h"

/** sandbox_service_fill() - The service to be served, which lives as long as @shim does */
void sandbox_service_fill(struct shim *shim, struct ttrpc_service *ret);

/** sandbox_service_started() - The machine runs, or doesn't (@e): answer StartSandbox */
void sandbox_service_started(struct shim *shim, const struct err *e);

#endif
