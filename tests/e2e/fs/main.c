/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What programs may expect of the file system that a directory is in:
 *
 *	fs all DIRECTORY [FILES]	each check's name and what it says, a line each; how many
 *				files are many
 *	fs fill DIRECTORY	writes until there is no space: what was written is there, and when
 *				it's removed there is space again
 *	fs lock FILE		locks it in three ways, says so and waits
 *	fs locked FILE		is it locked, each way?
 *	fs map FILE TEXT	maps it, says so, waits until TEXT is in it and answers there
 *	fs tell FILE TEXT	maps it, puts TEXT there and waits for the answer
 */
#include "check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER "answered"

int large = 10000;

const char *wrong(const char *file, int line, const char *what, int error)
{
	static char text[512];
	const char *base = strrchr(file, '/');

	snprintf(text, sizeof(text), "WRONG %s:%d: %s: %s", base ? base + 1 : file, line, what,
		 error ? strerrorname_np(error) : "no");
	return text;
}

int make(const char *name, const char *content)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd >= 0 && write(fd, content, strlen(content)) != (ssize_t)strlen(content)) {
		close(fd);
		return -1;
	}
	return fd;
}

bool holds(int fd, const void *content, size_t len)
{
	char *buf = malloc(len + 1);
	bool same = buf && pread(fd, buf, len + 1, 0) == (ssize_t)len &&
		    memcmp(buf, content, len) == 0;

	free(buf);
	return same;
}

bool says(const char *name, const char *content)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	bool r = fd >= 0 && holds(fd, content, strlen(content));

	if (fd >= 0)
		close(fd);
	return r;
}

pid_t child(bool (*what)(void))
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(what() ? 0 : 1);
	return pid;
}

bool ended_well(pid_t pid)
{
	int status;

	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

bool as_user(bool (*what)(void))
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0 && what()
			      ? 0
			      : 1);
	return ended_well(pid);
}

/* ---- checks ---- */

static bool run(const char *dir, const struct check *c)
{
	const char *says;

	if (chdir(dir) < 0 || mkdir(c->name, 0755) < 0 || chdir(c->name) < 0) {
		perror(c->name);
		return false;
	}
	umask(022);
	says = c->run();
	printf("%s %s\n", c->name, says ? says : "ok");
	fflush(stdout);
	return true;
}

/* Each in a process of its own: descriptors and locks go with it. */
static bool run_apart(const char *dir, const struct check *c)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(run(dir, c) ? 0 : 1);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (WIFSIGNALED(status))
		printf("%s WRONG: signal %d\n", c->name, WTERMSIG(status));
	fflush(stdout);
	return status == 0;
}

static int run_checks(const char *dir)
{
	static const struct check *const all[] = { name_checks, data_checks, attribute_checks,
						   process_checks };
	bool fine = true;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		for (const struct check *c = all[i]; c->name; c++)
			fine = run_apart(dir, c) && fine;
	return fine ? 0 : 1;
}

/* ---- no space ---- */

#define PIECE ((size_t)1 << 20)

static void pattern(char *buf, off_t at)
{
	for (size_t i = 0; i < PIECE; i += sizeof(at)) {
		off_t value = at + (off_t)i;

		memcpy(buf + i, &value, sizeof(value));
	}
}

/* Return: How much could be written, < 0: there was another error than it should be */
static off_t write_all_space(int fd, char *buf)
{
	off_t at = 0;

	for (;;) {
		size_t in = (size_t)at % PIECE;
		ssize_t n;

		pattern(buf, at - (off_t)in);
		n = write(fd, buf + in, PIECE - in);
		if (n < 0)
			return errno == ENOSPC ? at : -1;
		at += n;
	}
}

static bool has_pattern(int fd, off_t len)
{
	char *buf = malloc(PIECE);
	char *want = malloc(PIECE);
	bool same = buf && want;

	for (off_t at = 0; same && at < len; at += (off_t)PIECE) {
		size_t n = len - at < (off_t)PIECE ? (size_t)(len - at) : PIECE;

		pattern(want, at);
		same = pread(fd, buf, n, at) == (ssize_t)n && memcmp(buf, want, n) == 0;
	}
	free(buf);
	free(want);
	return same;
}

static const char *fill(void)
{
	char *buf = malloc(PIECE);
	int small = make("small", "before");
	int fd = make("big", "");
	off_t len;

	MUST(buf && small >= 0 && fd >= 0 && (len = write_all_space(fd, buf)) > 0);
	MUST(fsync(fd) == 0 && has_pattern(fd, len));
	MUST(says("small", "before") && pwrite(small, "after!", 6, 0) == 6 && fsync(small) == 0);
	MUST(unlink("big") == 0 && close(fd) == 0 && says("small", "after!"));
	MUST((fd = make("again", "")) >= 0 && write(fd, buf, PIECE) == (ssize_t)PIECE);
	MUST(fsync(fd) == 0);
	return NULL;
}

/* ---- between containers ---- */

static int lock(const char *name)
{
	struct flock a = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10 };
	struct flock b = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 20, .l_len = 10 };
	int fd = open(name, O_RDWR | O_CREAT, 0644);

	if (fd < 0 || fcntl(fd, F_SETLK, &a) < 0 || fcntl(fd, F_OFD_SETLK, &b) < 0 ||
	    flock(fd, LOCK_EX) < 0) {
		perror("lock");
		return 1;
	}
	printf("locked %s\n", name);
	fflush(stdout);
	pause();
	return 1;
}

static bool range_locked(int fd, off_t start)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = 1 };

	return FAILS(fcntl(fd, F_SETLK, &l), EAGAIN);
}

static int locked(const char *name)
{
	int fd = open(name, O_RDWR);

	if (fd < 0)
		return 1;
	printf("posix %s\n", range_locked(fd, 5) ? "locked" : "free");
	printf("ofd %s\n", range_locked(fd, 25) ? "locked" : "free");
	printf("between %s\n", range_locked(fd, 15) ? "locked" : "free");
	printf("flock %s\n", FAILS(flock(fd, LOCK_EX | LOCK_NB), EWOULDBLOCK) ? "locked" : "free");
	return 0;
}

static volatile char *map(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT, 0644);
	void *p;

	if (fd < 0 || ftruncate(fd, 8192) < 0)
		return NULL;
	p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

static void wait_for(const volatile char *p, const char *text)
{
	while (strcmp((const char *)p, text) != 0)
		usleep(10000);
}

static int map_and_answer(const char *name, const char *text)
{
	volatile char *p = map(name);

	if (!p)
		return 1;
	printf("mapped %s\n", name);
	fflush(stdout);
	wait_for(p, text);
	strcpy((char *)p + 4096, ANSWER);
	pause();
	return 1;
}

static int tell(const char *name, const char *text)
{
	volatile char *p = map(name);

	if (!p)
		return 1;
	strcpy((char *)p, text);
	wait_for(p + 4096, ANSWER);
	puts("answered");
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[1] : "";

	if (strcmp(mode, "all") == 0) {
		large = argc > 3 ? atoi(argv[3]) : large;
		return run_checks(argv[2]);
	}
	if (strcmp(mode, "fill") == 0)
		return run_apart(argv[2], &(const struct check){ "fill", fill }) ? 0 : 1;
	if (strcmp(mode, "record") == 0)
		return record(argv[2]);
	if (strcmp(mode, "recover") == 0 && argc == 4)
		return recover(argv[2], strtoul(argv[3], NULL, 10));
	if (strcmp(mode, "lock") == 0)
		return lock(argv[2]);
	if (strcmp(mode, "locked") == 0)
		return locked(argv[2]);
	if (strcmp(mode, "map") == 0 && argc == 4)
		return map_and_answer(argv[2], argv[3]);
	if (strcmp(mode, "tell") == 0 && argc == 4)
		return tell(argv[2], argv[3]);
	fputs("usage: see main.c\n", stderr);
	return 2;
}
