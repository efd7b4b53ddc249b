/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/uevent.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

#define PORT_NAME	"podvm.agent"
#define PARAMETER	"podvm.transport="
#define DEVICE_WAIT_MS	30000
#define CONNECT_WAIT_MS 10000

int transport_parse(const char *cmdline, struct transport *ret)
{
	const char *p = cmdline;
	char value[32];
	uint64_t port;
	size_t n;

	ret->port = 0;
	while ((p = strstr(p, PARAMETER)) && p != cmdline && p[-1] != ' ')
		p++;
	if (!p)
		return 0;
	p += strlen(PARAMETER);
	n = strcspn(p, " \n");
	if (n >= sizeof(value))
		return -EINVAL;
	memcpy(value, p, n);
	value[n] = '\0';
	if (str_eq(value, "serial"))
		return 0;
	if (!str_starts(value, "vsock:") || parse_u64(value + 6, UINT32_MAX - 1, &port) < 0 ||
	    port == 0)
		return -EINVAL;
	ret->port = (unsigned int)port;
	return 0;
}

/* ---- virtio-serial ---- */

/* Node of the port with our name, if the host has announced it yet. */
static int find_port(const char *wanted, char path[64])
{
	_cleanup_(closedirp) DIR *dir = opendir("/sys/class/virtio-ports");
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		_cleanup_(freep) char *name = NULL;
		char file[300];

		snprintf(file, sizeof(file), "%s/name", d->d_name);
		if (d->d_name[0] == '.' || file_read(dirfd(dir), file, 64, &name, NULL) < 0)
			continue;
		name[strcspn(name, "\n")] = '\0';
		if (!str_eq(name, wanted))
			continue;
		if (snprintf(path, 64, "/dev/%s", d->d_name) >= 64)
			return -ENAMETOOLONG;
		return access(path, F_OK) < 0 ? -errno : 0;
	}
	return -ENODEV;
}

static void stop_waiting(void *data, int signum)
{
	*(bool *)data = true;
}

static bool host_absent(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) > 0 && (p.revents & POLLHUP);
}

/*
 * A port without a host at its other end reads as closed, so wait until there is one: the driver
 * sends SIGIO when that changes.
 */
static int wait_for_host(int fd, struct loop *loop)
{
	struct loop_signal *sig = NULL;
	bool changed = false;
	int r;

	r = loop_signal_new(loop, SIGIO, stop_waiting, &changed, &sig);
	if (r < 0)
		return r;
	if (fcntl(fd, F_SETOWN, getpid()) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC) < 0)
		r = -errno;
	while (r == 0 && host_absent(fd)) {
		r = loop_run_until(loop, &changed, -1);
		changed = false;
	}
	(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	/* One that comes late would be fatal without a handler. */
	signal(SIGIO, SIG_IGN);
	loop_signal_free(sig);
	signal(SIGIO, SIG_IGN);
	return r;
}

int transport_open_port(const char *name, uint64_t deadline_ms, struct err *e)
{
	_cleanup_(close_fdp) int events = uevent_open();
	char path[64];
	int fd;

	if (events < 0)
		return err_errno(e, events, "cannot listen for devices");
	while (find_port(name, path) < 0) {
		int r = uevent_wait(events, "", deadline_ms);

		if (r < 0)
			return err_errno(e, r, "there is no virtio-serial port %s", name);
	}
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? err_errno(e, -errno, "cannot open %s", path) : fd;
}

static int open_serial(struct loop *loop, struct err *e)
{
	_cleanup_(close_fdp) int fd = transport_open_port(PORT_NAME, clock_ms() + DEVICE_WAIT_MS,
							  e);
	int r;

	if (fd < 0)
		return fd;
	r = fd_nonblock(fd);
	if (r == 0)
		r = host_absent(fd) ? wait_for_host(fd, loop) : 0;
	return r < 0 ? err_errno(e, r, "cannot wait for the host") : TAKE_FD(fd);
}

/* ---- vsock ---- */

static int open_vsock(unsigned int port, struct err *e)
{
	struct sockaddr_vm addr = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_HOST,
		.svm_port = port,
	};
	_cleanup_(close_fdp) int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
					     0);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t size = sizeof(int);
	int error = 0;

	if (fd < 0)
		return err_errno(e, -errno, "this guest has no vsock");
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		if (errno != EINPROGRESS)
			error = errno;
		else if (poll(&p, 1, CONNECT_WAIT_MS) <= 0)
			error = ETIMEDOUT;
		else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
			error = errno;
	}
	return error ? err_errno(e, -error, "cannot connect to the host's vsock port %u", port)
		     : TAKE_FD(fd);
}

int transport_open(const struct transport *t, struct loop *loop, struct err *e)
{
	return t->port ? open_vsock(t->port, e) : open_serial(loop, e);
}
