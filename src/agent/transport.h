/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_TRANSPORT_H
#define PODVM_AGENT_TRANSPORT_H

/*
 * The one connection to the host. The kernel's command line says which:
 *
 *	podvm.transport=serial		the virtio-serial port "podvm.agent" (also without the word)
 *	podvm.transport=vsock:PORT	a connection to the host's PORT
 *
 * Either way we open it when everything else is ready, so the host has nothing to poll: it waits
 * for the answer to its first call, or for our connection.
 */

#include "base/err.h"
#include "loop/loop.h"

/** struct transport - What the command line asks for; @port is 0 for virtio-serial */
struct transport {
	unsigned int port;
};

/** transport_parse() - Read it from a command line. Return: 0 or -EINVAL */
int transport_parse(const char *cmdline, struct transport *ret);

/**
 * transport_open() - Open the connection; blocks until the host is there
 * @t:		Which one
 * @loop:	Loop, pumped while waiting
 * @e:		What failed
 *
 * Return: Descriptor or a negative errno
 */
int transport_open(const struct transport *t, struct loop *loop, struct err *e);

/**
 * transport_open_port() - Open a virtio-serial port, once there is one of that name
 * @name:	Its name
 * @deadline_ms: Of clock_ms()
 * @e:		What failed
 *
 * Blocks. Return: Blocking descriptor, which writes when the host is there, or a negative errno
 */
int transport_open_port(const char *name, uint64_t deadline_ms, struct err *e);

#endif
