/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_REHEARSAL_H
#define PODVM_AGENT_REHEARSAL_H

/*
 * Theory of operation
 *
 * A guest that is going to be copied, or that waits for a pod, takes an identity and starts a
 * container for practice, so that what every pod has to bring into memory is there: programs and
 * their pages, the kernel's caches, and, where the processor is emulated, translated code. The host
 * says what the container is made of (sandbox/rehearsal.h on the host).
 *
 * The agent is its own client: it makes the calls that the host would make, on a connection to
 * itself, so that nothing but these calls has to be kept in step with how containers are started.
 *
 * Nothing may be left of it, since a copy passes everything on. The container is removed by the
 * call that removes containers; the events, the numbers of small files and the pod's cgroup, which
 * has counted what was used, begin anew; the directories that were made for mounts go. No line is
 * logged but that it didn't work. Nothing that is unique may come into being either: host name and
 * network are those of namespaces that go with the one process in them, and no file outlives it.
 * The addresses and random numbers of its processes come from the template's random numbers, and go
 * with the processes.
 */

#include "agent/service.h"

/**
 * rehearsal_run() - Practise, and answer
 * @a:		Agent that has neither an identity nor containers
 * @call:	PrepareTemplate; its request says with what. It's answered when nothing is left of it
 */
void rehearsal_run(struct agent *a, struct ttrpc_call *call);

#endif
