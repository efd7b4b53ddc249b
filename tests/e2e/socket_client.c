/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pod does with a socket of the host:
 *
 *	socket_client PATH stream|seqpacket COMMAND
 *
 *	say TEXT...	send each, then the end; print what comes, a line for each message
 *	many N		N connections at once: each gets back what it has sent
 *	fill N		send N bytes after a line "sink", then the end; print what comes
 *	fetch N FILE	ask for N bytes, read them when FILE is there; print how many came
 *	hold		send "echo", wait for its answer, and then for the end; print "end"
 *	descriptor	send a descriptor; print "end" when the connection ends
 *	large N		send a message of N bytes; print its answer, or "end"
 */
#include <err.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char *path;
static int type;
static char room[1 << 20];

static int open_connection(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		err(1, "connect");
	return fd;
}

static void send_all(int fd, const char *data, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(fd, data, n, 0);

		if (sent < 0)
			err(1, "send");
		data += sent;
		n -= (size_t)sent;
	}
}

/* Up to the end of a line or message. */
static size_t read_line(int fd)
{
	size_t n = 0;

	for (;;) {
		ssize_t r = recv(fd, room + n, sizeof(room) - n, 0);

		if (r <= 0)
			return 0;
		n += (size_t)r;
		if (type == SOCK_SEQPACKET || room[n - 1] == '\n')
			return n;
	}
}

static void read_to_end(int fd)
{
	const char *end = type == SOCK_SEQPACKET ? "\n" : "";
	size_t all = 0;
	ssize_t n;

	/* In which pieces a stream comes is nobody's business. */
	while ((n = recv(fd, room, sizeof(room), 0)) > 0) {
		printf("%.*s%s", (int)n, room, end);
		all += (size_t)n;
	}
	if (all > 0 && !*end)
		printf("\n");
	if (n < 0)
		printf("error\n");
}

static void say(char **texts)
{
	int fd = open_connection();

	for (; *texts; texts++)
		send_all(fd, *texts, strlen(*texts));
	shutdown(fd, SHUT_WR);
	read_to_end(fd);
}

static void many(int count)
{
	int *fds = calloc((size_t)count, sizeof(*fds));
	char line[64];

	for (int i = 0; i < count; i++) {
		fds[i] = open_connection();
		snprintf(line, sizeof(line), "echo\nI am number %d\n", i);
		send_all(fds[i], line, strlen(line));
	}
	for (int i = count; i-- > 0;) {
		int n = snprintf(line, sizeof(line), "I am number %d\n", i);

		if (read_line(fds[i]) != (size_t)n || memcmp(room, line, (size_t)n) != 0)
			errx(1, "connection %d: another answer", i);
	}
	printf("%d answers\n", count);
}

static void fill(size_t count)
{
	int fd = open_connection();

	send_all(fd, "sink\n", 5);
	for (size_t n; count > 0; count -= n) {
		n = count < sizeof(room) ? count : sizeof(room);
		send_all(fd, room, n);
	}
	shutdown(fd, SHUT_WR);
	read_to_end(fd);
}

/* Bytes are 0, 1, ... 255 and again. */
static void fetch(const char *count, const char *file)
{
	int fd = open_connection();
	size_t total = 0;
	char line[64];
	ssize_t n;

	snprintf(line, sizeof(line), "send %s\n", count);
	send_all(fd, line, strlen(line));
	while (access(file, F_OK) < 0)
		usleep(50000);
	while ((n = recv(fd, room, sizeof(room), 0)) > 0)
		for (ssize_t i = 0; i < n; i++)
			if ((unsigned char)room[i] != (unsigned char)total++)
				errx(1, "another byte at %zu", total - 1);
	printf("%zu bytes\n", total);
}

static void hold(void)
{
	int fd = open_connection();

	send_all(fd, "echo\nhello\n", type == SOCK_SEQPACKET ? 4 : 11);
	if (type == SOCK_STREAM && read_line(fd) == 0)
		errx(1, "no answer");
	printf("held\n");
	fflush(stdout);
	while (recv(fd, room, sizeof(room), 0) > 0)
		;
	printf("end\n");
}

static void pass_descriptor(void)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (char *)"echo\n", 5 };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	int fd = open_connection();
	int mine = 0;

	*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
						 .cmsg_level = SOL_SOCKET,
						 .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &mine, sizeof(mine));
	if (sendmsg(fd, &msg, 0) < 0)
		err(1, "sendmsg");
	while (recv(fd, room, sizeof(room), 0) > 0)
		;
	printf("end\n");
}

static void large(size_t n)
{
	int fd = open_connection();
	ssize_t got;

	send_all(fd, "echo", 4);
	if (send(fd, room, n, 0) < 0)
		err(1, "send");
	got = recv(fd, room, sizeof(room), 0);
	if (got > 0)
		printf("%zd bytes\n", got);
	else
		printf("end\n");
}

int main(int argc, char **argv)
{
	const char *command = argc > 3 ? argv[3] : "";

	if (argc < 4)
		errx(2, "usage");
	path = argv[1];
	type = strcmp(argv[2], "seqpacket") == 0 ? SOCK_SEQPACKET : SOCK_STREAM;
	signal(SIGPIPE, SIG_IGN);
	if (strcmp(command, "say") == 0)
		say(argv + 4);
	else if (strcmp(command, "many") == 0)
		many(atoi(argv[4]));
	else if (strcmp(command, "fill") == 0)
		fill(strtoul(argv[4], NULL, 10));
	else if (strcmp(command, "fetch") == 0)
		fetch(argv[4], argv[5]);
	else if (strcmp(command, "hold") == 0)
		hold();
	else if (strcmp(command, "descriptor") == 0)
		pass_descriptor();
	else if (strcmp(command, "large") == 0)
		large(strtoul(argv[4], NULL, 10));
	else
		errx(2, "%s: unknown", command);
	return 0;
}
