/* SPDX-License-Identifier: Apache-2.0 */
/* Between processes: locks, leases, notifications, programs. */
#include "check.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

static int set_lock(int fd, int command, short type, off_t start, off_t len)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };

	return fcntl(fd, command, &l);
}

static bool tries(int command, off_t start)
{
	int fd = open("file", O_RDWR);

	return fd >= 0 && set_lock(fd, command, F_WRLCK, start, 5) == 0;
}

static bool gets_first(void)
{
	return tries(F_SETLK, 0);
}

static bool gets_second(void)
{
	return tries(F_SETLK, 10);
}

static bool waits_for_first(void)
{
	return tries(F_SETLKW, 0);
}

static bool sees_lock(void)
{
	struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 100 };
	int fd = open("file", O_RDWR);

	return fcntl(fd, F_GETLK, &l) == 0 && l.l_type == F_WRLCK && l.l_start == 0 &&
	       l.l_len == 5 && l.l_pid == getppid();
}

static const char *posix_locks(void)
{
	int fd = make("file", "0123456789");
	pid_t waits;

	CAN(set_lock(fd, F_SETLK, F_WRLCK, 0, 5) == 0);
	MUST(!ended_well(child(gets_first)) && ended_well(child(gets_second)));
	MUST(ended_well(child(sees_lock)));
	MUST((waits = child(waits_for_first)) > 0 && set_lock(fd, F_SETLK, F_UNLCK, 0, 5) == 0);
	MUST(ended_well(waits));
	MUST(set_lock(fd, F_SETLK, F_WRLCK, 0, 5) == 0 && close(dup(fd)) == 0);
	MUST(ended_well(child(gets_first))); /* any close gives it up */
	return NULL;
}

static const char *ofd_locks(void)
{
	int a = make("file", "0123456789");
	int b = open("file", O_RDWR);

	CAN(set_lock(a, F_OFD_SETLK, F_WRLCK, 0, 5) == 0);
	MUST(FAILS(set_lock(b, F_OFD_SETLK, F_WRLCK, 4, 5), EAGAIN));
	MUST(set_lock(b, F_OFD_SETLK, F_WRLCK, 5, 5) == 0 && !ended_well(child(gets_first)));
	MUST(close(a) == 0 && set_lock(b, F_OFD_SETLK, F_WRLCK, 0, 5) == 0);
	return NULL;
}

static bool flocks(void)
{
	return flock(open("file", O_RDWR), LOCK_EX | LOCK_NB) == 0;
}

static bool flocks_shared(void)
{
	return flock(open("file", O_RDONLY), LOCK_SH | LOCK_NB) == 0;
}

static const char *flock_locks(void)
{
	int fd = make("file", "");

	CAN(flock(fd, LOCK_EX) == 0);
	MUST(!ended_well(child(flocks)) && !ended_well(child(flocks_shared)));
	MUST(flock(fd, LOCK_SH) == 0 && ended_well(child(flocks_shared)));
	MUST(!ended_well(child(flocks)) && close(fd) == 0 && ended_well(child(flocks)));
	return NULL;
}

static bool changes_files(void)
{
	return make("new", "x") >= 0 && rename("new", "moved") == 0 && unlink("moved") == 0;
}

static const char *notifications(void)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	uint32_t seen = 0;
	ssize_t n;

	CAN(inotify_add_watch(fd, ".", IN_CREATE | IN_MODIFY | IN_MOVE | IN_DELETE) >= 0);
	MUST(ended_well(child(changes_files)));
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (char *p = buf; p < buf + n;
		     p += sizeof(struct inotify_event) +
			  ((const struct inotify_event *)(void *)p)->len)
			seen |= ((const struct inotify_event *)(void *)p)->mask;
	MUST(seen == (IN_CREATE | IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE));
	return NULL;
}

static const char *leases(void)
{
	int fd = make("file", "");

	CAN(fcntl(fd, F_SETLEASE, F_WRLCK) == 0);
	MUST(fcntl(fd, F_GETLEASE) == F_WRLCK);
	return NULL;
}

/* A copy of this program, which prints how it's to be used and ends with 2. */
static const char *programs(void)
{
	int self = open("/proc/self/exe", O_RDONLY);
	int fd = open("program", O_WRONLY | O_CREAT, 0755);
	struct stat st;
	int out[2];
	pid_t pid;
	char c;

	MUST(fstat(self, &st) == 0 && fd >= 0 && pipe(out) == 0);
	for (off_t at = 0; at < st.st_size;)
		MUST(sendfile(fd, self, &at, (size_t)(st.st_size - at)) > 0);
	MUST(FAILS(execl("./program", "program", NULL), ETXTBSY) && close(fd) == 0);
	pid = fork();
	if (pid == 0) {
		dup2(out[1], 2);
		execl("./program", "program", NULL);
		_exit(1);
	}
	close(out[1]);
	MUST(read(out[0], &c, 1) == 1 && c == 'u' && !ended_well(pid));
	return NULL;
}

/* Who has it open may read what was permitted when it was opened. */
static const char *reopened(void)
{
	char path[64];
	int fd = make("file", "x");
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	MUST((again = open(path, O_RDONLY)) >= 0 && holds(again, "x", 1));
	MUST(unlink("file") == 0);
	CAN((again = open(path, O_RDONLY)) >= 0);
	MUST(holds(again, "x", 1) && chmod(path, 0) == 0 && holds(fd, "x", 1));
	return NULL;
}

const struct check process_checks[] = {
	{ "posix-locks", posix_locks }, { "ofd-locks", ofd_locks },
	{ "flock-locks", flock_locks }, { "notifications", notifications },
	{ "leases", leases },		{ "programs", programs },
	{ "reopened", reopened },	{ NULL, NULL },
};
