/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "sandbox/event_log.h"
#include "shim/record.h"

#define LOG_NAME "shim.log"
#define LOG_MAX	 ((uint64_t)256 << 10)

static void write_state(struct pod *p, enum rundir_status status)
{
	int r;

	p->run_state.status = status;
	r = rundir_write_state(&p->rundir, &p->run_state);
	if (r < 0)
		log_warn("cannot write state.json", "sandbox=%s error=\"%s\"", p->rundir.id,
			 strerror(-r));
}

static void on_log_line(void *data, const char *line, size_t n)
{
	log_file_add(data, line, n);
}

void record_pod_log(struct pod *p)
{
	int r = log_file_open(&p->log, p->rundir.fd, LOG_NAME, LOG_MAX);

	if (r < 0)
		log_warn("the log isn't kept", "sandbox=%s error=\"%s\"", p->rundir.id,
			 strerror(-r));
	else
		log_copy(on_log_line, &p->log);
}

void record_pod_created(struct pod *p)
{
	p->run_state.created_ns = clock_real_ns();
	write_state(p, RUNDIR_CREATED);
	event_log_add(&p->rundir, "create", &p->run_state);
}

void record_pod_started(struct pod *p)
{
	struct rundir_state *st = &p->run_state;
	struct err e = { 0 };

	st->started_ns = clock_real_ns();
	st->booted_ns = sandbox_booted_ns(p->sandbox);
	st->vmm_pid = vmm_pid(sandbox_vmm(p->sandbox));
	(void)str_set(&st->template, sandbox_template(p->sandbox));
	(void)str_set(&st->accel,
		      vmm_accel(sandbox_vmm(p->sandbox)) == VMM_ACCEL_KVM ? "kvm" : "tcg");
	if (control_new(p->sandbox, NULL, NULL, &p->control, &e) < 0)
		log_warn("podvm exec won't work", "sandbox=%s error=\"%s\"", p->rundir.id, e.msg);
	else
		control_volumes(p->control, p->find_volume, p->data);
	write_state(p, RUNDIR_RUNNING);
	event_log_add(&p->rundir, "start", st);
}

void record_pod_ended(struct pod *p, const struct err *e)
{
	struct rundir_state *st = &p->run_state;

	/* One that couldn't be prepared was never told of. */
	if (!p->rundir.path || !st->id || st->finished_ns)
		return;
	st->finished_ns = clock_real_ns();
	st->exit_code = e ? SHIM_KILLED : 0;
	(void)str_set(&st->error, e ? e->msg : "");
	write_state(p, RUNDIR_EXITED);
	event_log_add(&p->rundir, "exit", st);
}

void record_pod_done(struct pod *p)
{
	record_pod_ended(p, NULL);
	control_free(TAKE_PTR(p->control));
	log_copy(NULL, NULL);
	log_file_close(&p->log);
}
