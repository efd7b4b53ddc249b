/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_TESTS_FAKE_QEMU_H
#define PODVM_TESTS_FAKE_QEMU_H

/*
 * A QEMU without a machine, for tests of the driver: the test program run with QEMU's arguments.
 * It talks QMP and writes to the console what it was asked for, one command a line. The file name
 * of its kernel says what it does otherwise:
 *
 *	ok		nothing else; the guest's agent opens its port
 *	dies		complains and exits
 *	hangs		never greets
 *	closes		closes its control connection, and lives on
 *	garbage		sends what isn't QMP, and lives on
 *	reset		the guest resets itself
 *	internal-error	the CPUs stop
 *	bad-device	device_add fails
 *	holds-disk	answers device_del, but never lets go of the disk
 *	mute		doesn't answer add-fd
 *	plugs-nothing	its guest has no driver for memory that comes later
 *	plugs-too-much	QEMU tells of more memory than there is
 *	flood		writes 1 MiB to the console
 *	report		tells its surroundings on the console
 */

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct fake_qemu {
	const char *mode;
	int qmp;
	int console;
};

/* The argument that begins with @prefix, behind that; NULL when there is none. */
static const char *fake_arg(char **argv, const char *prefix)
{
	for (; *argv; argv++)
		if (strncmp(*argv, prefix, strlen(prefix)) == 0)
			return *argv + strlen(prefix);
	return NULL;
}

static void fake_say(const struct fake_qemu *f, const char *text)
{
	(void)!write(f->qmp, text, strlen(text));
}

static void fake_print(const struct fake_qemu *f, const char *text)
{
	(void)!write(f->console, text, strlen(text));
}

/* How many times a kernel was started: bytes of the file beside it. */
static void fake_count(const char *kernel)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s.runs", kernel);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	(void)!write(fd, "x", 1);
	close(fd);
}

static void fake_report(const struct fake_qemu *f)
{
	char line[256];
	int fds = 0;
	DIR *dir = opendir("/proc/self/fd");

	while (dir && readdir(dir))
		fds++;
	if (dir)
		closedir(dir);
	if (!getcwd(line, sizeof(line) - 64))
		line[0] = '\0';
	/* . and .. and the directory itself are no descriptors of ours */
	snprintf(line + strlen(line), 64, " environment=%s descriptors=%d\n",
		 environ[0] ? environ[0] : "none", fds - 3);
	fake_print(f, line);
}

static void fake_flood(const struct fake_qemu *f)
{
	for (int i = 0; i < (1 << 20) / 16; i++)
		fake_print(f, "fifteen letters\n");
}

/* More than is read at once, so that the end of it is still unread when the process has ended. */
static void fake_last_words(const struct fake_qemu *f)
{
	static const char last[] = "\nKernel panic\n";
	static char text[100000];

	memset(text, 'x', sizeof(text));
	memcpy(text + sizeof(text) - sizeof(last), last, sizeof(last));
	fake_print(f, text);
}

static void fake_answer(const struct fake_qemu *f, const char *command, const char *id)
{
	char text[256];
	bool is_add = strcmp(command, "device_add") == 0;

	if (strcmp(f->mode, "mute") == 0 && strcmp(command, "add-fd") == 0)
		return;
	if (strcmp(f->mode, "bad-device") == 0 && is_add)
		snprintf(text, sizeof(text),
			 "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"},\"id\":%s}\n",
			 id);
	else
		snprintf(text, sizeof(text), "{\"return\":{},\"id\":%s}\n", id);
	fake_say(f, text);
}

/* The guest plugs the memory that it has been offered. */
static void fake_plug(const struct fake_qemu *f, const char *line)
{
	const char *value = strstr(line, "\"value\":");
	char text[160];

	snprintf(text, sizeof(text),
		 "{\"event\":\"MEMORY_DEVICE_SIZE_CHANGE\",\"data\":{\"size\":%s%.*s}}\n",
		 strcmp(f->mode, "plugs-too-much") == 0 ? "9999" : "",
		 value ? (int)strspn(value + 8, "0123456789") : 0, value ? value + 8 : "");
	fake_say(f, text);
}

/* The agent's own port, one that nobody knows, and then the new one. */
static void fake_close_ports(const struct fake_qemu *f)
{
	static const char *const ids[] = { "agent", "port-", "port-podvm.test" };

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		char text[160];

		snprintf(
			text, sizeof(text),
			"{\"event\":\"VSERPORT_CHANGE\",\"data\":{\"open\":true,\"id\":\"%s\"}}\n"
			"{\"event\":\"VSERPORT_CHANGE\",\"data\":{\"open\":false,\"id\":\"%s\"}}\n",
			ids[i], ids[i]);
		fake_say(f, text);
	}
}

static void fake_command(const struct fake_qemu *f, char *line)
{
	char command[64] = "";
	char id[24] = "";
	const char *disk = strstr(line, "\"id\":\"disk");

	if (sscanf(line, "{\"execute\":\"%63[^\"]\",\"id\":%23[0-9]", command, id) != 2)
		return;
	fake_print(f, command);
	fake_print(f, strstr(line, "\"no-flush\":true") ? " without flushes\n" : "\n");
	fake_answer(f, command, id);
	if (strcmp(command, "device_add") == 0 && strcmp(f->mode, "closes-port") == 0)
		fake_close_ports(f);
	if (strcmp(command, "qom-set") == 0 && strcmp(f->mode, "plugs-nothing") != 0)
		fake_plug(f, line);
	if (strcmp(command, "device_del") == 0 && disk && strcmp(f->mode, "holds-disk") != 0) {
		char text[128];

		snprintf(text, sizeof(text),
			 "{\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"disk%d\"}}\n",
			 atoi(disk + strlen("\"id\":\"disk")));
		fake_say(f, text);
	}
}

/* What a mode does once the monitor is connected. */
static void fake_act(const struct fake_qemu *f)
{
	if (strcmp(f->mode, "garbage") == 0)
		fake_say(f, "Segmentation fault\n");
	if (strcmp(f->mode, "internal-error") == 0)
		fake_say(f, "{\"event\":\"STOP\"}\n");
	if (strcmp(f->mode, "reset") == 0) {
		fake_say(f, "{\"event\":\"SHUTDOWN\",\"data\":{\"reason\":\"guest-reset\"}}\n");
		fake_last_words(f);
		_exit(0);
	}
	if (strcmp(f->mode, "report") == 0)
		fake_report(f);
	if (strcmp(f->mode, "flood") == 0)
		fake_flood(f);
	if (strcmp(f->mode, "ok") == 0)
		fake_say(f, "{\"event\":\"VSERPORT_CHANGE\",\"data\":{\"open\":true}}\n");
}

static int fake_qemu_main(char **argv)
{
	struct fake_qemu f = { .mode = "" };
	char kernel[256] = "";
	char line[4096];
	size_t len = 0;

	for (char **arg = argv; *arg; arg++)
		if (strcmp(*arg, "-kernel") == 0 && arg[1] &&
		    readlink(arg[1], kernel, sizeof(kernel) - 1) > 0)
			f.mode = kernel;
	fake_count(f.mode);
	f.mode = strrchr(f.mode, '/') ? strrchr(f.mode, '/') + 1 : f.mode;
	f.qmp = atoi(fake_arg(argv, "socket,id=qmp,fd="));
	f.console = atoi(fake_arg(argv, "socket,id=console,fd="));
	if (strcmp(f.mode, "dies") == 0) {
		fprintf(stderr, "a warning\nfake-qemu: cannot go on\n");
		return 1;
	}
	if (strcmp(f.mode, "hangs") == 0)
		pause();
	fake_say(&f, "{\"QMP\":{}}\n");
	while (read(f.qmp, line + len, 1) == 1) {
		bool negotiated;

		if (line[len] != '\n') {
			len = len + 2 < sizeof(line) ? len + 1 : len;
			continue;
		}
		line[len] = '\0';
		len = 0;
		negotiated = strstr(line, "query-status") != NULL;
		fake_command(&f, line);
		if (negotiated)
			fake_act(&f);
		if (strcmp(f.mode, "closes") == 0 && negotiated) {
			close(f.qmp);
			pause();
		}
	}
	return 0;
}

#endif
