/* SPDX-License-Identifier: Apache-2.0 */
/* podvm-agent, PID 1 of the guest; agent.h says how it works. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/boot.h"
#include "agent/sandbox.h"
#include "agent/transport.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define CMDLINE_MAX 8192

static void host_gone(void *data)
{
	sandbox_host_gone(data);
}

static int connect_host(struct agent *a, struct err *e)
{
	_cleanup_(freep) char *cmdline = NULL;
	struct transport t;
	struct timespec ts;
	int fd;
	int r;

	r = file_read(AT_FDCWD, "/proc/cmdline", CMDLINE_MAX, &cmdline, NULL);
	if (r == 0)
		r = transport_parse(cmdline, &t);
	if (r < 0)
		return err_errno(e, r, "podvm.transport on the kernel's command line");
	fd = transport_open(&t, a->loop, e);
	if (fd < 0)
		return fd;
	clock_gettime(CLOCK_BOOTTIME, &ts);
	a->boot_us = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
	a->boot_tsc = __builtin_ia32_rdtsc();
	r = ttrpc_server_add(a->server, fd, host_gone, a);
	return r < 0 ? err_errno(e, r, "cannot serve the host") : 0;
}

static int run(struct agent *a, struct err *e)
{
	struct loop *loop = NULL;
	int r;

	r = boot_setup(e);
	if (r < 0)
		return r;
	r = loop_new(&loop);
	if (r == 0)
		r = agent_init(a, loop);
	if (r == 0)
		r = ttrpc_server_new(loop, agent_services(a), 1, &a->server);
	if (r < 0)
		return err_errno(e, r, "cannot start");
	r = connect_host(a, e);
	if (r < 0)
		return r;
	log_info("ready", "version=" PODVM_VERSION " boot_us=%llu", (unsigned long long)a->boot_us);
	loop_run(loop);
	return err_set(e, -EPROTO, "the loop has ended");
}

/* The program of a container that is started for practice (rehearsal.h). */
static int echo(void)
{
	char text[256];
	ssize_t n;

	while ((n = read(STDIN_FILENO, text, sizeof(text))) > 0)
		if (write(STDOUT_FILENO, text, (size_t)n) != n)
			return 1;
	return n < 0;
}

int main(int argc, char **argv)
{
	static struct agent agent;
	struct err e = { 0 };

	if (argc > 1 && str_eq(argv[1], "echo"))
		return echo();
	/* For the image builder and for people; PID 1 has other things to do. */
	if (getpid() != 1) {
		printf("podvm-agent " PODVM_VERSION ": runs as PID 1 of a podvm guest\n");
		return 1;
	}
	run(&agent, &e);
	boot_fatal(&e);
}
