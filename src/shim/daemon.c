/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "shim/address.h"
#include "shim/mounts.h"
#include "shim/oom.h"
#include "shim/sandbox_service.h"
#include "shim/service.h"
#include "shim/shim.h"
#include "shim/task.h"
#include "shim/volume_disk.h"
#include "shim/volumes.h"

/* For the last events when everything has ended. */
#define FLUSH_MS 2000

/* For the first request. */
#define ORPHAN_MS 60000

/*
 * containerd reads the fifo `log` of the first bundle. Opened for reading as well, it neither
 * waits for containerd nor breaks when that is restarted; lines that don't fit are dropped. As
 * standard error it's also that of children that do work for us.
 */
static void open_log(bool debug)
{
	int fd = open("log", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0 && dup2(fd, STDERR_FILENO) >= 0) {
		close(fd);
		fd = STDERR_FILENO;
	}
	log_init(fd, LOG_FORMAT_TEXT, debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
}

static void on_pod_started(void *data, const struct err *e)
{
	struct shim *shim = data;

	if (!e)
		oom_watch(shim);
	sandbox_service_started(shim, e);
	task_pod_started(shim, e);
}

static void on_pod_ended(void *data, const struct err *e)
{
	task_pod_ended(data, e);
}

/* Asked to go: everything ends, and is told. */
static void on_signal(void *data, int signum)
{
	struct shim *shim = data;

	log_info("the shim ends", "signal=%d", signum);
	shim->done = true;
}

/* containerd has died between `start` and its first request: nobody knows of us. */
static void on_orphaned(void *data)
{
	struct shim *shim = data;

	if (shim->pod.state == POD_NONE && list_empty(&shim->tasks))
		shim->done = true;
}

static int prepare(struct shim *shim, const struct shim_options *o, struct err *e)
{
	_cleanup_(close_fdp) int host = -EBADF;
	int r;

	shim->namespace = o->namespace;
	shim->pod_id = o->id;
	shim->crio = shim_is_crio(o);
	shim->config_file = o->config;
	list_init(&shim->tasks);
	list_init(&shim->shares);
	r = mounts_private(&host, e);
	if (r < 0)
		return r;
	r = loop_new(&shim->loop);
	if (r == 0)
		r = events_new(shim->loop, getenv("TTRPC_ADDRESS"), shim->namespace, &shim->events);
	if (r < 0)
		return err_errno(e, r, "cannot begin");
	pod_init(&shim->pod, shim->loop, shim->namespace, shim->pod_id, on_pod_started,
		 on_pod_ended, shim);
	shim->pod.host_mounts = TAKE_FD(host);
	shim->pod.find_volume = volume_disk_find;
	service_fill(shim);
	r = ttrpc_server_new(shim->loop, shim->services, ARRAY_SIZE(shim->services), &shim->server);
	if (r == 0)
		r = ttrpc_server_listen(shim->server, SHIM_LISTEN_FD);
	return r < 0 ? err_errno(e, r, "cannot serve") : 0;
}

/* What still runs has been ended with the machine. */
static void end(struct shim *shim)
{
	bool stopped = false;
	struct task *t;
	struct task *tmp;

	(void)loop_run_until(shim->loop, &stopped, 0);
	/* They look at the sandbox, which must outlive them. */
	volumes_pod_ended(shim);
	pod_done(&shim->pod);
	task_pod_ended(shim, NULL);
	(void)loop_run_until(shim->loop, events_idle(shim->events), FLUSH_MS);
	list_for_each_safe (t, tmp, &shim->tasks, node) {
		if (t->create)
			task_give_up(t);
		else
			task_free(t);
	}
}

static void done(struct shim *shim)
{
	ttrpc_server_free(shim->server);
	events_free(shim->events);
	loop_free(shim->loop);
}

int shim_serve(const struct shim_options *o)
{
	static const int signals[] = { SIGTERM, SIGINT };
	struct loop_signal *watched[ARRAY_SIZE(signals)] = { 0 };
	struct loop_timer *orphan = NULL;
	struct shim shim = { 0 };
	_cleanup_(freep) char *path = shim_socket_path(o->address, o->namespace, o->id);
	struct err e = { 0 };
	int r;

	open_log(o->debug);
	/* That was for us, not for our children. */
	(void)unsetenv(SHIM_MALLOC_NAME);
	/* It was run as /proc/self/exe. */
	(void)prctl(PR_SET_NAME, "podvm-shim");
	signal(SIGPIPE, SIG_IGN);
	(void)!chdir("/");
	r = prepare(&shim, o, &e);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(signals); i++)
		r = loop_signal_new(shim.loop, signals[i], on_signal, &shim, &watched[i]);
	if (r == 0)
		r = loop_timer_new(shim.loop, ORPHAN_MS, on_orphaned, &shim, &orphan);
	if (r < 0) {
		log_error("cannot start", "error=\"%s\"", e.msg);
	} else {
		log_info("the shim serves", "pod=%s socket=%s version=%s", o->id, path ?: "?",
			 PODVM_VERSION);
		(void)loop_run_until(shim.loop, &shim.done, -1);
		end(&shim);
	}
	if (path)
		(void)unlink(path);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		loop_signal_free(watched[i]);
	loop_timer_free(orphan);
	done(&shim);
	return r < 0;
}
