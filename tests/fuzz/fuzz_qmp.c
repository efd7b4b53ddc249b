/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The QMP client against whatever a QEMU in foreign hands may send. Three commands are under way;
 * each of them must be answered exactly once.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vmm/qmp.h"

#define COMMANDS   3
#define PIECE	   1000
#define TIMEOUT_MS 60000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_event(void *user, const char *name, struct json_object *data)
{
	/* What a driver does with it: look at a member of any type as text. */
	if (data)
		json_object_object_get_ex(data, "device", NULL);
}

static void on_done(void *user, struct json_object *ret, const struct err *e)
{
	int *answers = user;

	if (++*answers > 1 || (e && ret))
		abort();
}

static void feed(struct loop *loop, struct qmp *qmp, int peer, const uint8_t *data, size_t size)
{
	bool never = false;

	(void)loop_run_until(loop, &never, 0);
	while (size > 0) {
		size_t part = MIN(size, (size_t)PIECE);

		if (send(peer, data, part, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)part)
			return;
		qmp_drain(qmp);
		(void)loop_run_until(loop, &never, 0);
		data += part;
		size -= part;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct qmp_handlers handlers = { .event = on_event };
	int answers[COMMANDS] = { 0 };
	struct loop *loop;
	struct qmp *qmp;
	int fds[2];

	if (loop_new(&loop) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0 ||
	    qmp_new(loop, fds[0], &handlers, NULL, &qmp) < 0)
		abort();
	for (int i = 0; i < COMMANDS; i++)
		if (qmp_call(qmp, "cmd", NULL, -1, TIMEOUT_MS, on_done, &answers[i]) < 0)
			abort();
	feed(loop, qmp, fds[1], data, size);
	qmp_free(qmp);
	for (int i = 0; i < COMMANDS; i++)
		if (answers[i] != 1)
			abort();
	loop_free(loop);
	close(fds[1]);
	return 0;
}
