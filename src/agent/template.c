/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Becoming a template: what every copy would have to read first is read once. The guest has no
 * identity at this point, and nothing asks for one: no host name, no address, no machine or boot
 * id. The kernel's random numbers are those of the template until ConfigureSandbox brings entropy,
 * which is before anything in a copy uses them.
 */
#include "agent/rehearsal.h"
#include "agent/service.h"

HANDLER(serve_prepare_template)
{
	const PB(PrepareTemplateRequest) *req = (const void *)msg;
	struct agent *a = data;

	if (a->configured || a->n_containers > 0) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "the guest has an identity");
	} else if (req->container) {
		rehearsal_run(a, call);
	} else {
		ttrpc_call_restart_ids(call);
		reply_empty(call);
	}
}
