/* SPDX-License-Identifier: Apache-2.0 */
/* The Sandbox service without a machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "proto/cri.pb-c.h"
#include "proto/sandbox.pb-c.h"
#include "shim_fixture.h"

/* Strings of messages are `char *` in protobuf-c, though nobody writes to them. */
#pragma GCC diagnostic ignored "-Wdiscarded-qualifiers"

#define DEADLINE_MS 60000
#define S(name)	    Containerd__Runtime__Sandbox__V1__##name
#define SERVICE	    (&containerd__runtime__sandbox__v1__sandbox__descriptor)

/* A sandbox in a state, as CreateSandbox and StartSandbox make it. */
static struct task *add_box(struct fixture *f, enum pod_state pod, enum process_state process)
{
	struct task *box = task_new(&f->shim, "pod", f->dir);

	assert_non_null(box);
	box->sandbox = true;
	box->init.state = process;
	f->shim.box = box;
	f->shim.pod.state = pod;
	return box;
}

/* Return: 0 or the errno of its status, with @e set */
static int call(struct fixture *f, const char *method, const ProtobufCMessage *req,
		ProtobufCMessage **ret, struct err *e)
{
	*e = (struct err){ 0 };
	return ttrpc_call_sync(f->shim.loop, f->client, SERVICE, method, req, DEADLINE_MS, ret, e);
}

static int call_id(struct fixture *f, const char *method, char *id, struct err *e)
{
	S(SandboxRequest) req = CONTAINERD__RUNTIME__SANDBOX__V1__SANDBOX_REQUEST__INIT;

	req.sandbox_id = id;
	return call(f, method, &req.base, NULL, e);
}

static int create(struct fixture *f, char *id, const Runtime__V1__PodSandboxConfig *config,
		  struct err *e)
{
	S(CreateSandboxRequest)
	req = CONTAINERD__RUNTIME__SANDBOX__V1__CREATE_SANDBOX_REQUEST__INIT;
	Containerd__Types__Any any = CONTAINERD__TYPES__ANY__INIT;
	uint8_t bytes[1024];

	req.sandbox_id = id;
	req.bundle_path = f->dir;
	if (config) {
		any.type_url = "runtime.v1.PodSandboxConfig";
		any.value.len = runtime__v1__pod_sandbox_config__pack(config, bytes);
		any.value.data = bytes;
		req.options = &any;
	}
	return call(f, "CreateSandbox", &req.base, NULL, e);
}

static void test_unknown_sandbox(void **state)
{
	static const char *const methods[] = { "StartSandbox", "Platform",    "StopSandbox",
					       "WaitSandbox",  "PingSandbox", "SandboxMetrics",
					       "SandboxStatus" };
	struct fixture *f = *state;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (call_id(f, methods[i], "pod", &e) != -ENOENT)
			fail_msg("%s: %d %s", methods[i], e.code, e.msg);
	add_box(f, POD_GONE, PROCESS_STOPPED);
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
		if (call_id(f, methods[i], "other", &e) != -ENOENT)
			fail_msg("%s: %d %s", methods[i], e.code, e.msg);
}

static void test_what_is_no_pod(void **state)
{
	Runtime__V1__PodSandboxConfig config = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	struct fixture *f = *state;
	struct err e;

	assert_true(create(f, "other", &config, &e) < 0);
	assert_non_null(strstr(e.msg, "another sandbox"));
	assert_true(create(f, "pod", NULL, &e) < 0);
	assert_non_null(strstr(e.msg, "runtime.v1.PodSandboxConfig"));
	assert_null(f->shim.box);
}

static void test_network_of_the_host_is_refused(void **state)
{
	Runtime__V1__PodSandboxConfig config = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__LinuxPodSandboxConfig l = RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__LinuxSandboxSecurityContext context =
		RUNTIME__V1__LINUX_SANDBOX_SECURITY_CONTEXT__INIT;
	Runtime__V1__NamespaceOption namespaces = RUNTIME__V1__NAMESPACE_OPTION__INIT;
	struct fixture *f = *state;
	struct err e;

	namespaces.network = RUNTIME__V1__NAMESPACE_MODE__NODE;
	context.namespace_options = &namespaces;
	l.security_context = &context;
	config.linux_config = &l;
	assert_true(create(f, "pod", &config, &e) < 0);
	assert_non_null(strstr(e.msg, "podvm: cannot create the sandbox: "));
	assert_non_null(strstr(e.msg, "hostNetwork"));
	assert_true(list_empty(&f->shim.tasks));
	/* And the shim isn't of use for anything else. */
	assert_int_equal(create(f, "pod", &config, &e), -EEXIST);
}

static void test_a_pod_that_never_started_can_be_stopped(void **state)
{
	struct fixture *f = *state;
	struct err e;

	add_box(f, POD_PREPARED, PROCESS_CREATED);
	assert_int_equal(call_id(f, "StopSandbox", "pod", &e), 0);
	assert_int_equal(call_id(f, "WaitSandbox", "pod", &e), 0);
	assert_true(call_id(f, "StartSandbox", "pod", &e) < 0);
	assert_non_null(strstr(e.msg, "isn't waiting to be started"));
}

static void test_status(void **state)
{
	S(SandboxStatusRequest)
	req = CONTAINERD__RUNTIME__SANDBOX__V1__SANDBOX_STATUS_REQUEST__INIT;
	S(SandboxStatusResponse) *resp = NULL;
	struct fixture *f = *state;
	struct err e;

	add_box(f, POD_RUNNING, PROCESS_RUNNING);
	assert_int_equal(str_set(&f->shim.pod.hostname, "pod-one"), 0);
	req.sandbox_id = "pod";
	req.verbose = true;
	assert_int_equal(call(f, "SandboxStatus", &req.base, (ProtobufCMessage **)&resp, &e), 0);
	assert_string_equal(resp->state, "SANDBOX_READY");
	assert_int_equal(resp->pid, getpid());
	assert_null(resp->exited_at);
	assert_int_equal(resp->n_info, 1);
	assert_non_null(strstr(resp->info[0]->value, "\"hostname\":\"pod-one\""));
	protobuf_c_message_free_unpacked(&resp->base, NULL);

	/* The machine is lost. */
	f->shim.pod.state = POD_GONE;
	task_pod_ended(&f->shim, NULL);
	req.verbose = false;
	assert_int_equal(call(f, "SandboxStatus", &req.base, (ProtobufCMessage **)&resp, &e), 0);
	assert_string_equal(resp->state, "SANDBOX_NOTREADY");
	assert_int_equal(resp->pid, 0);
	assert_non_null(resp->exited_at);
	assert_int_equal(resp->n_info, 0);
	protobuf_c_message_free_unpacked(&resp->base, NULL);
	assert_int_equal(call_id(f, "PingSandbox", "pod", &e),
			 ttrpc_code_to_errno(TTRPC_FAILED_PRECONDITION));
}

static void test_platform(void **state)
{
	S(SandboxRequest) req = CONTAINERD__RUNTIME__SANDBOX__V1__SANDBOX_REQUEST__INIT;
	S(PlatformResponse) *resp = NULL;
	struct fixture *f = *state;
	struct err e;

	add_box(f, POD_RUNNING, PROCESS_RUNNING);
	req.sandbox_id = "pod";
	assert_int_equal(call(f, "Platform", &req.base, (ProtobufCMessage **)&resp, &e), 0);
	assert_string_equal(resp->platform->os, "linux");
	assert_non_null(strstr("amd64 arm64", resp->platform->architecture));
	protobuf_c_message_free_unpacked(&resp->base, NULL);
}

/* With containers and the machine in it, the machine's end is told last. */
struct order {
	int containers;
	int box;
};

static void on_container(void *data, const ProtobufCMessage *resp, const struct err *e)
{
	struct order *o = data;

	assert_null(e);
	assert_int_equal(o->box, 0);
	o->containers++;
}

static void on_box(void *data, const ProtobufCMessage *resp, const struct err *e)
{
	const Containerd__Task__V2__WaitResponse *wait = (const void *)resp;
	struct order *o = data;

	assert_null(e);
	assert_int_equal(wait->exit_status, SHIM_KILLED);
	o->box++;
}

static void test_containers_end_before_the_sandbox(void **state)
{
	S(SandboxRequest) box = CONTAINERD__RUNTIME__SANDBOX__V1__SANDBOX_REQUEST__INIT;
	Containerd__Task__V2__WaitRequest container = CONTAINERD__TASK__V2__WAIT_REQUEST__INIT;
	struct fixture *f = *state;
	struct order order = { 0 };
	bool never = false;
	struct err e;

	add_box(f, POD_RUNNING, PROCESS_RUNNING);
	task_new(&f->shim, "c", f->dir)->init.state = PROCESS_RUNNING;
	box.sandbox_id = "pod";
	container.id = "c";
	assert_int_equal(ttrpc_call(f->client, SERVICE, "WaitSandbox", &box.base, DEADLINE_MS,
				    on_box, &order, NULL),
			 0);
	assert_int_equal(ttrpc_call(f->client, &containerd__task__v2__task__descriptor, "Wait",
				    &container.base, DEADLINE_MS, on_container, &order, NULL),
			 0);
	/* Both have arrived when a later call is answered. */
	assert_int_equal(call_id(f, "Platform", "pod", &e), 0);
	f->shim.pod.state = POD_GONE;
	task_pod_ended(&f->shim, NULL);
	for (int i = 0; i < DEADLINE_MS / 10 && order.box == 0; i++)
		(void)loop_run_until(f->shim.loop, &never, 10);
	assert_int_equal(order.containers, 1);
	assert_int_equal(order.box, 1);
}

static void test_shutdown(void **state)
{
	struct fixture *f = *state;
	struct err e;

	add_box(f, POD_GONE, PROCESS_STOPPED);
	assert_int_equal(call_id(f, "ShutdownSandbox", "pod", &e), 0);
	assert_true(f->shim.done);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_unknown_sandbox),
		TEST(test_what_is_no_pod),
		TEST(test_network_of_the_host_is_refused),
		TEST(test_a_pod_that_never_started_can_be_stopped),
		TEST(test_status),
		TEST(test_platform),
		TEST(test_containers_end_before_the_sandbox),
		TEST(test_shutdown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
