/* SPDX-License-Identifier: Apache-2.0 */
/* The Task service without a machine: what containerd gets when there is nothing. */
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
#include "proto/task.pb-c.h"
#include "shim_fixture.h"

#define DEADLINE_MS 60000
#define T(name)	    Containerd__Task__V2__##name

/* Call a method. Return: 0 or the errno of its status, with @e set */
static int call(struct fixture *f, const char *method, const ProtobufCMessage *req, struct err *e)
{
	*e = (struct err){ 0 };
	return ttrpc_call_sync(f->shim.loop, f->client, &containerd__task__v2__task__descriptor,
			       method, req, DEADLINE_MS, NULL, e);
}

static void test_unknown_container(void **state)
{
	T(StateRequest) req = CONTAINERD__TASK__V2__STATE_REQUEST__INIT;
	static const char *const methods[] = { "State",	 "Start",  "Delete",  "Pids",	  "Pause",
					       "Resume", "Kill",   "Exec",    "CloseIO",  "Wait",
					       "Stats",	 "Update", "Connect", "ResizePty" };
	struct err e;

	/* All of these requests begin with the id, and have nothing that must not be missing. */
	req.id = (char *)"nobody";
	for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
		const ProtobufCServiceDescriptor *d = &containerd__task__v2__task__descriptor;
		const ProtobufCMethodDescriptor *m =
			protobuf_c_service_descriptor_get_method_by_name(d, methods[i]);
		uint8_t bytes[64];
		size_t n = protobuf_c_message_pack(&req.base, bytes);
		ProtobufCMessage *msg = protobuf_c_message_unpack(m->input, NULL, n, bytes);

		assert_non_null(msg);
		if (call(*state, methods[i], msg, &e) != -ENOENT)
			fail_msg("%s: %d %s", methods[i], e.code, e.msg);
		protobuf_c_message_free_unpacked(msg, NULL);
	}
}

static void test_create_without_a_spec(void **state)
{
	T(CreateTaskRequest) req = CONTAINERD__TASK__V2__CREATE_TASK_REQUEST__INIT;
	T(StateRequest) after = CONTAINERD__TASK__V2__STATE_REQUEST__INIT;
	struct fixture *f = *state;
	struct err e;

	req.id = after.id = (char *)"box";
	req.bundle = f->dir;
	/* Not NOT_FOUND, which would be about the task. */
	assert_int_equal(call(f, "Create", &req.base, &e), ttrpc_code_to_errno(TTRPC_UNKNOWN));
	assert_non_null(strstr(e.msg, "podvm: cannot create the container: "));
	assert_non_null(strstr(e.msg, "config.json"));
	assert_int_equal(call(f, "State", &after.base, &e), -ENOENT);
	assert_true(list_empty(&f->shim.tasks));
}

static void test_create_with_the_hosts_network(void **state)
{
	T(CreateTaskRequest) req = CONTAINERD__TASK__V2__CREATE_TASK_REQUEST__INIT;
	struct fixture *f = *state;
	_cleanup_(freep) char *path = str_printf("%s/config.json", f->dir);
	static const char spec[] = "{\"process\":{},\"linux\":{\"namespaces\":[]}}";
	struct err e;

	assert_int_equal(file_replace(AT_FDCWD, path, spec, strlen(spec), 0600), 0);
	req.id = (char *)"box";
	req.bundle = f->dir;
	assert_true(call(f, "Create", &req.base, &e) < 0);
	assert_non_null(strstr(e.msg, "hostNetwork"));
	assert_true(list_empty(&f->shim.tasks));
}

static void test_streams_that_are_not_supported(void **state)
{
	T(CreateTaskRequest) req = CONTAINERD__TASK__V2__CREATE_TASK_REQUEST__INIT;
	struct fixture *f = *state;
	_cleanup_(freep) char *path = str_printf("%s/config.json", f->dir);
	struct err e;

	assert_int_equal(file_replace(AT_FDCWD, path, "{}", 2, 0600), 0);
	req.id = (char *)"box";
	req.bundle = f->dir;
	req.stdout = (char *)"ttrpc+unix:///x?streaming_id=1";
	assert_true(call(f, "Create", &req.base, &e) < 0);
	assert_non_null(strstr(e.msg, "isn't supported for standard streams"));
}

static void test_no_checkpoints(void **state)
{
	T(CreateTaskRequest) create = CONTAINERD__TASK__V2__CREATE_TASK_REQUEST__INIT;
	T(CheckpointTaskRequest) req = CONTAINERD__TASK__V2__CHECKPOINT_TASK_REQUEST__INIT;
	struct err e;

	req.id = create.id = (char *)"box";
	create.checkpoint = (char *)"/somewhere";
	assert_int_equal(call(*state, "Checkpoint", &req.base, &e),
			 ttrpc_code_to_errno(TTRPC_UNIMPLEMENTED));
	assert_int_equal(call(*state, "Create", &create.base, &e),
			 ttrpc_code_to_errno(TTRPC_UNIMPLEMENTED));
}

static void test_shutdown_ends_an_empty_shim(void **state)
{
	T(ShutdownRequest) req = CONTAINERD__TASK__V2__SHUTDOWN_REQUEST__INIT;
	struct fixture *f = *state;
	struct err e;

	assert_false(f->shim.done);
	assert_int_equal(call(f, "Shutdown", &req.base, &e), 0);
	assert_true(f->shim.done);
}

static void test_both_names_are_served(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(f->shim.services[0].name, "containerd.task.v2.Task");
	assert_string_equal(f->shim.services[1].name, "containerd.task.v3.Task");
	assert_ptr_equal(f->shim.services[0].handlers, f->shim.services[1].handlers);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_unknown_container),
		TEST(test_create_without_a_spec),
		TEST(test_create_with_the_hosts_network),
		TEST(test_streams_that_are_not_supported),
		TEST(test_no_checkpoints),
		TEST(test_shutdown_ends_an_empty_shim),
		TEST(test_both_names_are_served),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
