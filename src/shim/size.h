/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SHIM_SIZE_H
#define PODVM_SHIM_SIZE_H

/*
 * The size of a pod's machine follows its containers. It starts with what was announced (limits of
 * the pod, or the configuration's defaults), and grows when the limits of the containers that are
 * there, or a new limit of the pod, amount to more. That's a service, no promise: a machine that
 * can't grow (any more) is shared by whoever is in it. It never shrinks, only limits do.
 */

#include <stdint.h>

#include "oci/json.h"

struct shim;
struct size_fit;

/**
 * struct size_limits - What a container, or the pod, may take; 0: there is no limit
 * @memory:	Bytes
 * @cpu:	Thousandths of a CPU
 */
struct size_limits {
	uint64_t memory;
	uint64_t cpu;
};

/** size_limits_update() - Take over the limits that a linux.resources says something about */
void size_limits_update(struct size_limits *l, struct json_object *resources);

/**
 * size_fit() - Make the machine as large as the limits of all tasks want it
 * @shim:	Daemon whose machine runs
 * @done:	Called when it is, or isn't going to be (which is logged)
 * @data:	For @done
 * @ret:	What is under way
 *
 * Return: 0 when there's nothing to wait for, STAGE_PENDING when @done will be called
 */
int size_fit(struct shim *shim, void (*done)(void *data), void *data, struct size_fit **ret);

/** size_fit_cancel() - Don't call back; NULL is fine */
void size_fit_cancel(struct size_fit *f);

#endif
