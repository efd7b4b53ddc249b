/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Becoming a template: what every copy would have to read first is read once. The guest has no
 * identity at this point, and nothing asks for one: no host name, no address, no machine or boot
 * id. The kernel's random numbers are those of the template until ConfigureSandbox brings entropy,
 * which is before anything in a copy uses them.
 */
#include <errno.h>

#include "agent/child.h"
#include "agent/service.h"
#include "base/cleanup.h"
#include "base/log.h"

#define CRUN		"/usr/bin/crun"
#define WARM_UP_TIMEOUT ((uint64_t)60000)

static void on_warm(void *data, const struct err *e)
{
	struct ttrpc_call *call = data;

	if (e)
		log_warn("crun is not warm", "error=\"%s\"", e->msg);
	ttrpc_call_restart_ids(call);
	reply_empty(call);
}

HANDLER(serve_prepare_template)
{
	char *argv[] = { (char *)CRUN, (char *)"--version", NULL };
	struct spawn s = SPAWN_INIT;
	struct agent *a = data;
	struct err e = { 0 };

	if (a->configured || a->n_containers > 0) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "the guest has an identity");
		return;
	}
	s.path = CRUN;
	s.argv = argv;
	if (child_run(&a->reaper, &s, WARM_UP_TIMEOUT, on_warm, call, &e) < 0)
		on_warm(call, &e);
}
