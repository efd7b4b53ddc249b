/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proto/events.pb-c.h"
#include "proto/forward.pb-c.h"
#include "shim/events.h"
#include "ttrpc/ttrpc.h"

#define DEADLINE_MS 60000

/**
 * struct fixture - A containerd that takes events
 * @got:	"namespace topic type" of each, in order
 * @refuse:	It answers with an error
 * @enough:	@got has @want entries
 */
struct fixture {
	struct loop *loop;
	char dir[32];
	char path[64];
	struct ttrpc_service service;
	struct ttrpc_server *server;
	struct strv got;
	size_t want;
	bool enough;
	bool refuse;
};

static void on_forward(struct ttrpc_call *call, const ProtobufCMessage *msg, void *data)
{
	const Containerd__Services__Events__Ttrpc__V1__ForwardRequest *req = (const void *)msg;
	Containerd__Types__Empty resp = CONTAINERD__TYPES__EMPTY__INIT;
	struct fixture *f = data;

	assert_true(req->envelope->timestamp->seconds > 0);
	assert_int_equal(strv_addf(&f->got, "%s %s %s", req->envelope->namespace_,
				   req->envelope->topic, req->envelope->event->type_url),
			 0);
	f->enough = f->got.n >= f->want;
	if (f->refuse)
		ttrpc_reply_error(call, TTRPC_INVALID_ARGUMENT, "no");
	else
		ttrpc_reply(call, &resp.base);
}

static const ttrpc_handler handlers[] = { on_forward };

static void listen_again(struct fixture *f)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memcpy(addr.sun_path, f->path, sizeof(f->path));
	(void)unlink(f->path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(ttrpc_server_new(f->loop, &f->service, 1, &f->server), 0);
	assert_int_equal(ttrpc_server_listen(f->server, fd), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	log_init(-1, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
	if (!f || loop_new(&f->loop) < 0)
		return -1;
	snprintf(f->dir, sizeof(f->dir), "/tmp/shim-events.XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/ttrpc", f->dir);
	f->service = (struct ttrpc_service){
		.desc = &containerd__services__events__ttrpc__v1__events__descriptor,
		.handlers = handlers,
		.data = f,
	};
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ttrpc_server_free(f->server);
	loop_free(f->loop);
	strv_done(&f->got);
	rm_rf(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

static void publish(struct events *ev, const char *topic)
{
	Containerd__Events__TaskOOM oom = CONTAINERD__EVENTS__TASK_OOM__INIT;

	oom.container_id = (char *)"box";
	events_publish(ev, topic, &oom.base);
}

static void test_events_come_in_order(void **state)
{
	struct fixture *f = *state;
	struct events *ev;

	listen_again(f);
	assert_int_equal(events_new(f->loop, f->path, "ns", &ev), 0);
	assert_true(*events_idle(ev));
	publish(ev, "/tasks/a");
	publish(ev, "/tasks/b");
	publish(ev, "/tasks/c");
	assert_false(*events_idle(ev));
	assert_int_equal(loop_run_until(f->loop, events_idle(ev), DEADLINE_MS), 0);
	assert_int_equal(f->got.n, 3);
	assert_string_equal(f->got.v[0], "ns /tasks/a containerd.events.TaskOOM");
	assert_string_equal(f->got.v[1], "ns /tasks/b containerd.events.TaskOOM");
	assert_string_equal(f->got.v[2], "ns /tasks/c containerd.events.TaskOOM");
	events_free(ev);
}

static void test_containerd_comes_later(void **state)
{
	struct fixture *f = *state;
	struct events *ev;
	bool never = false;

	assert_int_equal(events_new(f->loop, f->path, "ns", &ev), 0);
	publish(ev, "/tasks/a");
	(void)loop_run_until(f->loop, &never, 50);
	listen_again(f);
	assert_int_equal(loop_run_until(f->loop, events_idle(ev), DEADLINE_MS), 0);
	assert_int_equal(f->got.n, 1);
	events_free(ev);
}

static void test_containerd_restarts(void **state)
{
	struct fixture *f = *state;
	struct events *ev;

	listen_again(f);
	assert_int_equal(events_new(f->loop, f->path, "ns", &ev), 0);
	publish(ev, "/tasks/a");
	assert_int_equal(loop_run_until(f->loop, events_idle(ev), DEADLINE_MS), 0);
	ttrpc_server_free(f->server);
	listen_again(f);
	publish(ev, "/tasks/b");
	assert_int_equal(loop_run_until(f->loop, events_idle(ev), DEADLINE_MS), 0);
	assert_int_equal(f->got.n, 2);
	events_free(ev);
}

static void test_refused_event_is_dropped(void **state)
{
	struct fixture *f = *state;
	struct events *ev;

	listen_again(f);
	f->refuse = true;
	assert_int_equal(events_new(f->loop, f->path, "ns", &ev), 0);
	publish(ev, "/tasks/a");
	publish(ev, "/tasks/b");
	assert_int_equal(loop_run_until(f->loop, events_idle(ev), DEADLINE_MS), 0);
	assert_int_equal(f->got.n, 2);
	events_free(ev);
}

static void test_nobody_takes_them(void **state)
{
	struct fixture *f = *state;
	struct events *ev;

	assert_int_equal(events_new(f->loop, "", "ns", &ev), 0);
	publish(ev, "/tasks/a");
	assert_true(*events_idle(ev));
	events_free(ev);
	/* Freed with a full queue and a retry under way. */
	assert_int_equal(events_new(f->loop, f->path, "ns", &ev), 0);
	for (int i = 0; i < 3000; i++)
		publish(ev, "/tasks/a");
	events_free(ev);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_events_come_in_order), TEST(test_containerd_comes_later),
		TEST(test_containerd_restarts),	 TEST(test_refused_event_is_dropped),
		TEST(test_nobody_takes_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
