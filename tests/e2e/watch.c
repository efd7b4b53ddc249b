/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what happens in a directory, one event a line: watch DIRECTORY */
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

static const struct {
	uint32_t mask;
	const char *name;
} events[] = {
	{ IN_CREATE, "create" },
	{ IN_MOVED_FROM, "moved-from" },
	{ IN_MOVED_TO, "moved-to" },
	{ IN_DELETE, "delete" },
};

static void print(const struct inotify_event *ev)
{
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		if (ev->mask & events[i].mask)
			printf("%s %s\n", events[i].name, ev->name);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	int fd = inotify_init1(IN_CLOEXEC);
	ssize_t n;

	if (argc != 2 ||
	    inotify_add_watch(fd, argv[1], IN_CREATE | IN_MOVE | IN_DELETE | IN_ONLYDIR) < 0)
		return 1;
	puts("watching");
	fflush(stdout);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *ev = (const void *)p;

			print(ev);
			p += sizeof(*ev) + ev->len;
		}
	return 1;
}
