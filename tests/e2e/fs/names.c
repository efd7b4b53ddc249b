/* SPDX-License-Identifier: Apache-2.0 */
/* Names: directories, links, renaming and removing. */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

static ino_t inode(const char *name)
{
	struct stat st;

	return lstat(name, &st) < 0 ? 0 : st.st_ino;
}

static nlink_t links(const char *name)
{
	struct stat st;

	return lstat(name, &st) < 0 ? 0 : st.st_nlink;
}

static const char *hard_links(void)
{
	MUST(make("a", "one") >= 0 && mkdir("dir", 0755) == 0);
	CAN(link("a", "dir/b") == 0);
	MUST(links("a") == 2 && inode("a") == inode("dir/b"));
	MUST(make("dir/b", "two") >= 0 && says("a", "two"));
	MUST(FAILS(link("a", "dir/b"), EEXIST));
	MUST(FAILS(link("dir", "other"), EPERM));
	MUST(unlink("a") == 0 && links("dir/b") == 1 && says("dir/b", "two"));
	return NULL;
}

static const char *symbolic_links(void)
{
	char target[4096];
	char buf[4097];
	struct stat st;

	MUST(make("file", "x") >= 0 && symlink("file", "link") == 0 && says("link", "x"));
	MUST(lstat("link", &st) == 0 && S_ISLNK(st.st_mode) && st.st_size == 4);
	MUST(FAILS(open("link", O_RDONLY | O_NOFOLLOW), ELOOP));
	MUST(symlink("b", "a") == 0 && symlink("a", "b") == 0 && FAILS(open("a", O_RDONLY), ELOOP));
	MUST(symlink("nowhere", "dangling") == 0 && FAILS(access("dangling", F_OK), ENOENT));
	memset(target, 't', sizeof(target));
	target[4000] = '\0';
	MUST(symlink(target, "long") == 0 && readlink("long", buf, sizeof(buf)) == 4000);
	return NULL;
}

static const char *rename_replaces(void)
{
	int old;

	MUST((old = make("old", "old")) >= 0 && make("new", "new") >= 0);
	MUST(rename("new", "old") == 0 && says("old", "new") && FAILS(access("new", F_OK), ENOENT));
	MUST(holds(old, "old", 3)); /* who has it open keeps it */
	MUST(link("old", "same") == 0 && rename("old", "same") == 0 && links("same") == 2);
	return NULL;
}

static const char *rename_directories(void)
{
	MUST(mkdir("a", 0755) == 0 && mkdir("b", 0755) == 0 && mkdir("full", 0755) == 0);
	MUST(make("a/file", "x") >= 0 && make("full/file", "y") >= 0 && make("file", "z") >= 0);
	MUST(FAILS(rename("a", "full"), ENOTEMPTY) || errno == EEXIST);
	MUST(FAILS(rename("a", "a/inside"), EINVAL));
	MUST(FAILS(rename("file", "b"), EISDIR) && FAILS(rename("b", "file"), ENOTDIR));
	MUST(rename("a", "b") == 0 && says("b/file", "x"));
	MUST(rename("b", "full/b") == 0 && says("full/b/file", "x") && links("full") != 0);
	return NULL;
}

/* One that an image brought would fail with EXDEV where layers are overlaid; this one is new. */
static const char *rename_flags(void)
{
	MUST(make("a", "one") >= 0 && make("b", "two") >= 0);
	CAN(renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE) == 0);
	MUST(FAILS(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_NOREPLACE), EEXIST));
	CAN(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE) == 0);
	MUST(says("b", "one") && says("c", "two"));
	MUST(FAILS(renameat2(AT_FDCWD, "b", AT_FDCWD, "missing", RENAME_EXCHANGE), ENOENT));
	return NULL;
}

static const char *unlink_open(void)
{
	struct stat st;
	int fd;

	MUST((fd = make("file", "before")) >= 0 && unlink("file") == 0);
	MUST(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 6);
	MUST(pwrite(fd, "after!", 6, 0) == 6 && ftruncate(fd, 5) == 0 && holds(fd, "after", 5));
	MUST(make("file", "another") >= 0 && holds(fd, "after", 5));
	MUST(fchmod(fd, 0600) == 0 && fsync(fd) == 0);
	return NULL;
}

static const char *removed_directory(void)
{
	MUST(mkdir("dir", 0755) == 0 && make("dir/file", "") >= 0);
	MUST(FAILS(rmdir("dir"), ENOTEMPTY) && FAILS(unlink("dir"), EISDIR));
	MUST(FAILS(rmdir("dir/file"), ENOTDIR) && unlink("dir/file") == 0);
	MUST(chdir("dir") == 0 && rmdir("../dir") == 0);
	MUST(FAILS(open("new", O_CREAT | O_RDWR, 0644), ENOENT));
	return NULL;
}

static const char *unnamed_files(void)
{
	char path[64];
	int fd;

	CAN((fd = open(".", O_TMPFILE | O_RDWR, 0640)) >= 0);
	MUST(write(fd, "content", 7) == 7);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CAN(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW) == 0);
	MUST(says("named", "content") && links("named") == 1);
	return NULL;
}

static const char *special_files(void)
{
	struct stat st;

	CAN(mkfifo("fifo", 0644) == 0);
	MUST(lstat("fifo", &st) == 0 && S_ISFIFO(st.st_mode));
	CAN(mknod("null", S_IFCHR | 0666, makedev(1, 3)) == 0);
	MUST(lstat("null", &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
	CAN(mknod("disk", S_IFBLK | 0600, makedev(7, 5)) == 0);
	MUST(lstat("disk", &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == makedev(7, 5));
	return NULL;
}

static const char *opened_devices(void)
{
	int fd;

	MUST(mknod("null", S_IFCHR | 0666, makedev(1, 3)) == 0);
	CAN((fd = open("null", O_RDWR)) >= 0);
	MUST(write(fd, "x", 1) == 1);
	return NULL;
}

static const char *opened_fifos(void)
{
	int r, w;
	char c;

	MUST(mkfifo("fifo", 0644) == 0);
	MUST((r = open("fifo", O_RDONLY | O_NONBLOCK)) >= 0 && (w = open("fifo", O_WRONLY)) >= 0);
	MUST(write(w, "x", 1) == 1 && read(r, &c, 1) == 1 && c == 'x');
	return NULL;
}

static const char *sockets(void)
{
	const struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "socket" };
	int server = socket(AF_UNIX, SOCK_STREAM, 0);
	int client = socket(AF_UNIX, SOCK_STREAM, 0);
	int conn;
	char c;

	CAN(bind(server, (const struct sockaddr *)&addr, sizeof(addr)) == 0);
	MUST(listen(server, 1) == 0);
	MUST(connect(client, (const struct sockaddr *)&addr, sizeof(addr)) == 0);
	MUST((conn = accept(server, NULL, NULL)) >= 0 && write(client, "x", 1) == 1);
	MUST(read(conn, &c, 1) == 1 && c == 'x');
	return NULL;
}

static const char *long_names(void)
{
	char name[257];
	int fd;

	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	MUST((fd = make(name, "x")) >= 0 && close(fd) == 0 && says(name, "x"));
	name[255] = 'n';
	name[256] = '\0';
	MUST(FAILS(open(name, O_RDONLY), ENAMETOOLONG));
	MUST(FAILS(mkdir(name, 0755), ENAMETOOLONG));
	MUST(make("a\nb\xff\xfe \\", "odd") >= 0 && says("a\nb\xff\xfe \\", "odd"));
	MUST(make("Case", "C") >= 0 && make("case", "c") >= 0 && says("Case", "C"));
	return NULL;
}

static const char *deep_directories(void)
{
	for (int i = 0; i < 200; i++)
		MUST(mkdir("a-directory-in-a-directory", 0755) == 0 &&
		     chdir("a-directory-in-a-directory") == 0);
	MUST(make("file", "deep") >= 0 && says("file", "deep"));
	for (int i = 0; i < 200; i++)
		MUST(chdir("..") == 0);
	MUST(access("a-directory-in-a-directory", F_OK) == 0);
	return NULL;
}

/* ---- reading directories ---- */

static bool make_many(int n)
{
	char name[32];

	for (int i = 0; i < n; i++) {
		int fd;

		snprintf(name, sizeof(name), "many/file-%d", i);
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
		if (fd < 0)
			return false;
		close(fd);
	}
	return true;
}

/* How many of them are there, each exactly once? -1: something isn't as it should be */
static int count_many(DIR *d, int n)
{
	char *seen = calloc(1, (size_t)n);
	struct dirent *e;
	int found = 0;
	int i;

	while (seen && (e = readdir(d)))
		if (sscanf(e->d_name, "file-%d", &i) == 1) {
			if (i < 0 || i >= n || seen[i]++) {
				found = -1;
				break;
			}
			found++;
		}
	free(seen);
	return found;
}

static const char *large_directory(void)
{
	const int many = large;
	char name[32];
	DIR *d;

	MUST(mkdir("many", 0755) == 0 && make_many(many) && (d = opendir("many")));
	MUST(count_many(d, many) == many);
	rewinddir(d);
	MUST(count_many(d, many) == many);
	for (int i = 0; i < many; i += 2) {
		snprintf(name, sizeof(name), "many/file-%d", i);
		MUST(unlink(name) == 0);
	}
	rewinddir(d);
	MUST(count_many(d, many) == many / 2);
	return NULL;
}

/* As rm does: what isn't removed is returned, whatever goes meanwhile. */
static const char *remove_while_reading(void)
{
	struct dirent *e;
	int removed = 0;
	DIR *d;

	MUST(mkdir("many", 0755) == 0 && make_many(1000) && (d = opendir("many")));
	while ((e = readdir(d)))
		if (e->d_name[0] == 'f') {
			MUST(unlinkat(dirfd(d), e->d_name, 0) == 0);
			removed++;
		}
	MUST(removed == 1000 && rmdir("many") == 0);
	return NULL;
}

static const char *directory_positions(void)
{
	char third[256];
	struct dirent *e;
	long at = 0;
	DIR *d;

	MUST(mkdir("many", 0755) == 0 && make_many(500) && (d = opendir("many")));
	for (int i = 0; i < 300; i++) {
		at = telldir(d);
		MUST((e = readdir(d)) != NULL);
	}
	snprintf(third, sizeof(third), "%s", e->d_name);
	while (readdir(d))
		;
	seekdir(d, at);
	MUST((e = readdir(d)) && strcmp(e->d_name, third) == 0);
	MUST(make("many/new", "") >= 0);
	rewinddir(d);
	while ((e = readdir(d)) && strcmp(e->d_name, "new") != 0)
		;
	MUST(e != NULL);
	return NULL;
}

static const char *inode_numbers(void)
{
	struct dirent *e;
	ino_t before;
	int found = 0;
	DIR *d;

	MUST(make("a", "x") >= 0 && mkdir("b", 0755) == 0 && symlink("a", "c") == 0);
	before = inode("a");
	MUST(rename("a", "d") == 0 && inode("d") == before && inode("d") != inode("b"));
	MUST((d = opendir(".")));
	while ((e = readdir(d)))
		if (e->d_name[0] != '.') {
			MUST(e->d_ino == inode(e->d_name));
			found++;
		}
	MUST(found == 3);
	return NULL;
}

const struct check name_checks[] = {
	{ "hard-links", hard_links },
	{ "symbolic-links", symbolic_links },
	{ "rename-replaces", rename_replaces },
	{ "rename-directories", rename_directories },
	{ "rename-flags", rename_flags },
	{ "unlink-open", unlink_open },
	{ "removed-directory", removed_directory },
	{ "unnamed-files", unnamed_files },
	{ "special-files", special_files },
	{ "opened-devices", opened_devices },
	{ "opened-fifos", opened_fifos },
	{ "sockets", sockets },
	{ "long-names", long_names },
	{ "deep-directories", deep_directories },
	{ "large-directory", large_directory },
	{ "remove-while-reading", remove_while_reading },
	{ "directory-positions", directory_positions },
	{ "inode-numbers", inode_numbers },
	{ NULL, NULL },
};
