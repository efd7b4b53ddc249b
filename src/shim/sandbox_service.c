/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/sandbox_service.h"

#include <assert.h>
#include <errno.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "oci/json.h"
#include "proto/sandbox.pb-c.h"
#include "sandbox/agent_client.h"
#include "shim/sandbox_files.h"
#include "shim/service.h"
#include "shim/stats.h"
#include "shim/task.h"

#define S(name) Containerd__Runtime__Sandbox__V1__##name
#define HANDLER(name) \
	static void name(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)

#define CONFIG_TYPE "runtime.v1.PodSandboxConfig"

/* A guest that runs answers at once; one that is emulated on a busy host may take its time. */
#define PING_TIMEOUT_MS 10000

/* Answers the call when it's about another sandbox, or there is none. */
static struct task *find(struct shim *shim, struct ttrpc_call *call, const char *id)
{
	char quoted[128];

	if (shim->box && str_eq(shim->box->id, id))
		return shim->box;
	ttrpc_reply_error(call, TTRPC_NOT_FOUND, "there is no sandbox %s",
			  log_quote(quoted, sizeof(quoted), id));
	return NULL;
}

static bool runs(const struct task *box)
{
	return box->init.state == PROCESS_RUNNING && pod_running(&box->shim->pod);
}

/* As find(), and its machine runs. */
static struct task *find_running(struct shim *shim, struct ttrpc_call *call, const char *id)
{
	struct task *box = find(shim, call, id);

	if (!box || runs(box))
		return box;
	ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION, "the machine of the pod doesn't run");
	return NULL;
}

/* ---- create ---- */

static int prepare(struct shim *shim, const S(CreateSandboxRequest) * req,
		   const Runtime__V1__PodSandboxConfig *config, struct err *e)
{
	_cleanup_(spec_pod_done) struct spec_pod spec = { 0 };
	struct pod_request request = {
		.spec = &spec,
		.sandbox = true,
		.bundle = req->bundle_path,
		.config_file = shim->config_file,
	};
	int r;

	r = spec_pod_from_cri(config, req->sandbox_id, req->netns_path, &spec, e);
	if (r == 0)
		r = pod_prepare(&shim->pod, &request, e);
	return r < 0 ? r
		     : sandbox_files_write(req->bundle_path, shim->pod.hostname, config->dns_config,
					   e);
}

static int create(struct shim *shim, const S(CreateSandboxRequest) * req, struct err *e)
{
	Runtime__V1__PodSandboxConfig *config;
	struct task *box;
	int r;

	if (!str_eq(req->sandbox_id, shim->pod_id))
		return err_set(e, -EINVAL, "this shim was started for another sandbox");
	if (!req->options || !str_eq(req->options->type_url, CONFIG_TYPE))
		return err_set(e, -EINVAL, "the request has no " CONFIG_TYPE);
	config = runtime__v1__pod_sandbox_config__unpack(NULL, req->options->value.len,
							 req->options->value.data);
	if (!config)
		return err_set(e, -EBADMSG, "the " CONFIG_TYPE " is malformed");
	r = prepare(shim, req, config, e);
	runtime__v1__pod_sandbox_config__free_unpacked(config, NULL);
	if (r < 0)
		return r;
	box = task_new(shim, req->sandbox_id, req->bundle_path);
	if (!box)
		return err_oom(e);
	box->sandbox = true;
	shim->box = box;
	return 0;
}

HANDLER(serve_create)
{
	const S(CreateSandboxRequest) *req = (const void *)msg;
	struct shim *shim = data;
	struct err e = { 0 };

	if (shim->pod.state != POD_NONE)
		ttrpc_reply_error(call, TTRPC_ALREADY_EXISTS, "the sandbox exists");
	else if (create(shim, req, &e) < 0)
		service_reply_failure(call, "cannot create the sandbox", &e);
	else
		service_reply_empty(call);
}

/* ---- start ---- */

static void start_failed(struct task *box, const struct err *e)
{
	service_reply_failure(TAKE_PTR(box->call), "cannot start the sandbox", e);
	process_lost(&box->init);
}

static void started(struct task *box)
{
	S(StartSandboxResponse)
	resp = CONTAINERD__RUNTIME__SANDBOX__V1__START_SANDBOX_RESPONSE__INIT;
	Containerd__Types__Timestamp at;

	service_timestamp(&at, box->shim->pod.run_state.created_ns);
	resp.pid = pod_pid(&box->shim->pod);
	resp.created_at = &at;
	ttrpc_reply(TAKE_PTR(box->call), &resp.base);
	process_started(&box->init);
}

void sandbox_service_started(struct shim *shim, const struct err *e)
{
	if (!shim->box)
		return;
	if (e)
		start_failed(shim->box, e);
	else
		started(shim->box);
}

HANDLER(serve_start)
{
	const S(SandboxRequest) *req = (const void *)msg;
	struct shim *shim = data;
	struct task *box = find(shim, call, req->sandbox_id);
	struct err e = { 0 };

	if (!box)
		return;
	if (shim->pod.state != POD_PREPARED || box->init.state != PROCESS_CREATED) {
		ttrpc_reply_error(call, TTRPC_FAILED_PRECONDITION,
				  "the sandbox isn't waiting to be started");
		return;
	}
	box->call = call;
	box->init.state = PROCESS_STARTING;
	if (pod_start(&shim->pod, &e) < 0)
		start_failed(box, &e);
}

/* ---- stop ---- */

HANDLER(serve_stop)
{
	const S(SandboxRequest) *req = (const void *)msg;
	struct shim *shim = data;
	struct task *box = find(shim, call, req->sandbox_id);

	if (!box)
		return;
	/* One that was never started has nothing that could end. */
	if (shim->pod.state == POD_PREPARED)
		process_lost(&box->init);
	process_wait(&box->init, call);
	pod_stop(&shim->pod, POD_STOP_MS);
}

HANDLER(serve_wait)
{
	const S(SandboxRequest) *req = (const void *)msg;
	struct task *box = find(data, call, req->sandbox_id);

	if (box)
		process_wait(&box->init, call);
}

/* Whatever still runs is ended with the shim. */
HANDLER(serve_shutdown)
{
	struct shim *shim = data;

	service_reply_empty(call);
	shim->done = true;
}

/* ---- what it is ---- */

/* Names of architectures as containerd has them from Go. */
static const char *architecture(const struct utsname *uts)
{
	if (str_eq(uts->machine, "x86_64"))
		return "amd64";
	return str_eq(uts->machine, "aarch64") ? "arm64" : uts->machine;
}

HANDLER(serve_platform)
{
	const S(SandboxRequest) *req = (const void *)msg;
	S(PlatformResponse) resp = CONTAINERD__RUNTIME__SANDBOX__V1__PLATFORM_RESPONSE__INIT;
	S(Platform) platform = CONTAINERD__RUNTIME__SANDBOX__V1__PLATFORM__INIT;
	struct utsname uts = { 0 };

	if (!find(data, call, req->sandbox_id))
		return;
	(void)uname(&uts);
	platform.os = (char *)"linux";
	platform.architecture = (char *)architecture(&uts);
	resp.platform = &platform;
	ttrpc_reply(call, &resp.base);
}

/* For a person: `crictl inspectp` shows it. Return: Text to be freed, or NULL */
static char *describe(const struct task *box)
{
	const struct pod *pod = &box->shim->pod;
	const struct rundir_state *st = &pod->run_state;
	_cleanup_(json_putp) struct json_object *o = json_object_new_object();
	char *text = NULL;

	if (!o || json_add_string(o, "podvm", PODVM_VERSION) < 0 ||
	    json_add_int(o, "shimPid", getpid()) < 0 ||
	    json_add_int(o, "monitorPid", st->vmm_pid) < 0 ||
	    json_add_string(o, "monitor", st->vmm ? st->vmm : "") < 0 ||
	    json_add_string(o, "acceleration", st->accel ? st->accel : "") < 0 ||
	    json_add_int(o, "vcpus", st->vcpus) < 0 ||
	    json_add_u64(o, "memoryBytes", st->memory) < 0 ||
	    json_add_string(o, "hostname", pod->hostname) < 0 ||
	    json_add_string(o, "networkNamespace", pod->netns ? pod->netns : "") < 0 ||
	    json_add_string(o, "runDirectory", pod->rundir.path ? pod->rundir.path : "") < 0)
		return NULL;
	(void)json_text(o, "podvm", &text, NULL);
	return text;
}

HANDLER(serve_status)
{
	const S(SandboxStatusRequest) *req = (const void *)msg;
	struct task *box = find(data, call, req->sandbox_id);
	S(SandboxStatusResponse)
	resp = CONTAINERD__RUNTIME__SANDBOX__V1__SANDBOX_STATUS_RESPONSE__INIT;
	S(SandboxStatusResponse__InfoEntry)
	info = CONTAINERD__RUNTIME__SANDBOX__V1__SANDBOX_STATUS_RESPONSE__INFO_ENTRY__INIT;
	S(SandboxStatusResponse__InfoEntry) * list[] = { &info };
	_cleanup_(freep) char *text = NULL;
	Containerd__Types__Timestamp created;
	Containerd__Types__Timestamp exited;

	if (!box)
		return;
	resp.sandbox_id = box->id;
	resp.pid = runs(box) ? pod_pid(&box->shim->pod) : 0;
	resp.state = (char *)(runs(box) ? "SANDBOX_READY" : "SANDBOX_NOTREADY");
	service_timestamp(&created, box->shim->pod.run_state.created_ns);
	service_timestamp(&exited, box->init.exited_ns);
	resp.created_at = &created;
	if (box->init.state == PROCESS_STOPPED)
		resp.exited_at = &exited;
	text = req->verbose ? describe(box) : NULL;
	if (text) {
		/* Of "info" containerd keeps but what it knows itself. */
		info.key = (char *)"podvm";
		info.value = text;
		resp.info = list;
		resp.n_info = ARRAY_SIZE(list);
	}
	ttrpc_reply(call, &resp.base);
}

/* ---- what the agent answers ---- */

static void on_pong(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct ttrpc_call *call = data;

	if (e)
		ttrpc_reply_error(call, TTRPC_UNAVAILABLE, "the guest doesn't answer: %s", e->msg);
	else
		service_reply_empty(call);
}

HANDLER(serve_ping)
{
	const S(SandboxRequest) *req = (const void *)msg;
	struct task *box = find_running(data, call, req->sandbox_id);
	Podvm__Agent__V1__HelloRequest hello = PODVM__AGENT__V1__HELLO_REQUEST__INIT;
	int r;

	if (!box)
		return;
	hello.version = (char *)PODVM_VERSION;
	r = agent_call(sandbox_agent(box->shim->pod.sandbox), "Hello", &hello.base, PING_TIMEOUT_MS,
		       on_pong, call, NULL);
	if (r < 0)
		ttrpc_reply_error(call, ttrpc_code_from_errno(r), "cannot call the guest");
}

static void on_metrics(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct ttrpc_call *call = data;

	if (e)
		ttrpc_reply_err(call, e);
	else
		stats_reply_guest(call, (const void *)msg);
}

HANDLER(serve_metrics)
{
	const S(SandboxRequest) *req = (const void *)msg;
	struct task *box = find_running(data, call, req->sandbox_id);
	Podvm__Agent__V1__GetMetricsRequest metrics = PODVM__AGENT__V1__GET_METRICS_REQUEST__INIT;
	int r;

	if (!box)
		return;
	r = agent_call(sandbox_agent(box->shim->pod.sandbox), "GetMetrics", &metrics.base,
		       AGENT_TIMEOUT_MS, on_metrics, call, NULL);
	if (r < 0)
		ttrpc_reply_error(call, ttrpc_code_from_errno(r), "cannot call the guest");
}

/* In the order of the methods in sandbox.proto. */
static const ttrpc_handler handlers[] = {
	serve_create, serve_start, serve_platform, serve_stop,	  serve_wait,
	serve_status, serve_ping,  serve_shutdown, serve_metrics,
};

static_assert(ARRAY_SIZE(handlers) == 9, "one handler per method");

void sandbox_service_fill(struct shim *shim, struct ttrpc_service *ret)
{
	*ret = (struct ttrpc_service){
		.desc = &containerd__runtime__sandbox__v1__sandbox__descriptor,
		.handlers = handlers,
		.data = shim,
	};
}
