/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_BOOT_H
#define PODVM_AGENT_BOOT_H

/*
 * What PID 1 does before there is anybody to serve: descriptors 0-2, the kernel's file systems,
 * the log, kernel parameters, limits, cgroups, the loopback device. Every failure here is fatal;
 * main() prints it to the console and resets the machine.
 */

#include "base/err.h"

/**
 * boot_setup() - Everything up to the loop
 * @e:		What failed
 *
 * Return: 0 or a negative errno
 */
int boot_setup(struct err *e);

/** boot_fatal() - Say on the console why there will be no sandbox, and reset the machine */
__attribute__((noreturn)) void boot_fatal(const struct err *e);

#endif
