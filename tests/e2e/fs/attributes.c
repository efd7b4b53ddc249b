/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes: owners, modes, times, extended ones, and what the file system says of itself. */
#include "check.h"

#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

static struct stat status(const char *name)
{
	struct stat st = { 0 };

	(void)lstat(name, &st);
	return st;
}

static mode_t mode(const char *name)
{
	return status(name).st_mode & 07777;
}

/* ---- extended attributes ---- */

static bool has_attribute(const char *file, const char *name, const char *value)
{
	char buf[64];
	ssize_t n = getxattr(file, name, buf, sizeof(buf));

	return n == (ssize_t)strlen(value) && memcmp(buf, value, (size_t)n) == 0;
}

static const char *user_attributes(void)
{
	char big[2000];
	char list[256];
	ssize_t n;

	MUST(make("file", "") >= 0);
	CAN(setxattr("file", "user.one", "1", 1, 0) == 0);
	MUST(has_attribute("file", "user.one", "1"));
	MUST(FAILS(setxattr("file", "user.one", "2", 1, XATTR_CREATE), EEXIST));
	MUST(FAILS(setxattr("file", "user.two", "2", 1, XATTR_REPLACE), ENODATA));
	MUST(setxattr("file", "user.one", "", 0, XATTR_REPLACE) == 0);
	MUST(has_attribute("file", "user.one", ""));
	memset(big, 'b', sizeof(big));
	MUST(setxattr("file", "user.big", big, sizeof(big), 0) == 0);
	MUST(getxattr("file", "user.big", NULL, 0) == sizeof(big));
	MUST(FAILS(getxattr("file", "user.big", big, 10), ERANGE));
	MUST((n = listxattr("file", list, sizeof(list))) > 0);
	MUST(memmem(list, (size_t)n, "user.one", 9) && memmem(list, (size_t)n, "user.big", 9));
	MUST(removexattr("file", "user.one") == 0);
	MUST(FAILS(getxattr("file", "user.one", NULL, 0), ENODATA));
	return NULL;
}

static const char *trusted_attributes(void)
{
	MUST(make("file", "") >= 0);
	CAN(setxattr("file", "trusted.one", "1", 1, 0) == 0);
	MUST(has_attribute("file", "trusted.one", "1"));
	return NULL;
}

/* cap_net_raw+ep, and cleared by who writes to the file. */
static const char *file_capabilities(void)
{
	static const uint32_t net_raw[5] = { 0x02000001, 1 << 13 };
	uint32_t got[5] = { 0 };
	int fd = make("file", "x");

	CAN(setxattr("file", "security.capability", net_raw, sizeof(net_raw), 0) == 0);
	MUST(getxattr("file", "security.capability", got, sizeof(got)) == sizeof(got));
	MUST(memcmp(got, net_raw, sizeof(got)) == 0);
	MUST(write(fd, "y", 1) == 1);
	MUST(FAILS(getxattr("file", "security.capability", got, sizeof(got)), ENODATA));
	return NULL;
}

static bool reads_file(void)
{
	return says("file", "x");
}

static bool is_denied(void)
{
	return FAILS(open("file", O_RDONLY), EACCES);
}

/* What acl(5) says: version 2; user::rw-, user:1000:r--, group::---, mask::r--, other::--- */
static const char *access_lists(void)
{
	static const struct {
		uint32_t version;
		struct {
			uint16_t tag, perm;
			uint32_t id;
		} entries[5];
	} acl = { 2, { { 1, 6, -1 }, { 2, 4, 1000 }, { 4, 0, -1 }, { 16, 4, -1 }, { 32, 0, -1 } } };

	MUST(make("file", "x") >= 0 && chmod("file", 0600) == 0 && as_user(is_denied));
	CAN(setxattr("file", "system.posix_acl_access", &acl, sizeof(acl), 0) == 0);
	MUST(as_user(reads_file) && mode("file") == 0640);
	MUST(chmod("file", 0600) == 0 && as_user(is_denied));
	return NULL;
}

/* ---- owners and modes ---- */

static const char *permissions(void)
{
	MUST(make("file", "x") >= 0 && as_user(reads_file));
	MUST(chmod("file", 0600) == 0 && as_user(is_denied));
	MUST(chown("file", 1000, 0) == 0 && as_user(reads_file));
	MUST(chown("file", 0, 1000) == 0 && chmod("file", 0640) == 0 && as_user(reads_file));
	MUST(chmod("file", 0644) == 0 && chmod(".", 0700) == 0 && as_user(is_denied));
	return NULL;
}

static const char *modes(void)
{
	umask(027);
	MUST(make("file", "") >= 0 && mode("file") == 0640 && mkdir("dir", 0777) == 0);
	MUST(mode("dir") == 0750);
	for (mode_t m = 0; m < 07777; m += 0123)
		MUST(chmod("file", m) == 0 && mode("file") == m);
	return NULL;
}

static const char *owners(void)
{
	MUST(make("file", "") >= 0 && chown("file", 123456, 654321) == 0);
	MUST(status("file").st_uid == 123456 && status("file").st_gid == 654321);
	MUST(chown("file", (uid_t)-1, 7) == 0 && status("file").st_uid == 123456);
	MUST(symlink("file", "link") == 0 && lchown("link", 5, 6) == 0);
	MUST(status("link").st_uid == 5 && status("file").st_gid == 7);
	return NULL;
}

static bool writes(void)
{
	int fd = open("file", O_WRONLY);

	return fd >= 0 && write(fd, "y", 1) == 1;
}

static const char *set_id_bits(void)
{
	MUST(make("file", "x") >= 0 && chmod("file", 06777) == 0 && mode("file") == 06777);
	MUST(as_user(writes) && mode("file") == 0777);
	MUST(chmod("file", 06777) == 0 && chown("file", 1000, 1000) == 0);
	MUST((mode("file") & 06000) == 0);
	return NULL;
}

static const char *inherited_group(void)
{
	MUST(mkdir("dir", 0755) == 0 && chown("dir", 0, 4321) == 0 && chmod("dir", 02775) == 0);
	MUST(make("dir/file", "") >= 0 && status("dir/file").st_gid == 4321);
	MUST(mkdir("dir/sub", 0755) == 0 && status("dir/sub").st_gid == 4321);
	MUST(mode("dir/sub") == 02755);
	return NULL;
}

static bool can_not_remove(void)
{
	return FAILS(unlink("dir/file"), EPERM) && FAILS(rename("dir/file", "dir/x"), EPERM);
}

static bool removes(void)
{
	return unlink("dir/file") == 0;
}

static const char *sticky_directories(void)
{
	MUST(mkdir("dir", 0755) == 0 && chmod("dir", 01777) == 0 && make("dir/file", "") >= 0);
	MUST(as_user(can_not_remove));
	MUST(chown("dir/file", 1000, 1000) == 0 && as_user(removes));
	return NULL;
}

/* ---- times ---- */

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool later(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static const char *times(void)
{
	const struct timespec set[2] = { { 1000000000, 123456789 }, { 4000000000, 987654321 } };
	const struct timespec omit[2] = { { 5, 6 }, { 0, UTIME_OMIT } };
	int fd = make("file", "");

	MUST(utimensat(AT_FDCWD, "file", set, 0) == 0);
	MUST(same_time(status("file").st_atim, set[0]) &&
	     same_time(status("file").st_mtim, set[1]));
	MUST(utimensat(AT_FDCWD, "file", omit, 0) == 0);
	MUST(same_time(status("file").st_atim, omit[0]) &&
	     same_time(status("file").st_mtim, set[1]));
	MUST(symlink("file", "link") == 0);
	MUST(utimensat(AT_FDCWD, "link", set, AT_SYMLINK_NOFOLLOW) == 0);
	MUST(same_time(status("link").st_mtim, set[1]));
	MUST(futimens(fd, NULL) == 0 && status("file").st_mtim.tv_sec < set[1].tv_sec);
	return NULL;
}

/* Until the kernel's coarse clock has gone on. */
static void pass_time(void)
{
	usleep(50000);
}

static const char *times_follow_changes(void)
{
	const struct timespec past[2] = { { 1000000000, 0 }, { 1000000000, 0 } };
	int fd = make("file", "x");
	struct stat before;

	MUST(futimens(fd, past) == 0 && write(fd, "y", 1) == 1 && fsync(fd) == 0);
	MUST(status("file").st_mtim.tv_sec > past[1].tv_sec);
	before = status("file");
	pass_time();
	MUST(chmod("file", 0600) == 0 && later(status("file").st_ctim, before.st_ctim));
	MUST(same_time(status("file").st_mtim, before.st_mtim));
	MUST(mkdir("dir", 0755) == 0 && utimensat(AT_FDCWD, "dir", past, 0) == 0);
	MUST(make("dir/file", "") >= 0 && status("dir").st_mtim.tv_sec > past[1].tv_sec);
	return NULL;
}

/* ---- of the file system ---- */

static const char *statistics(void)
{
	struct statvfs s;

	MUST(statvfs(".", &s) == 0 && s.f_namemax == 255 && s.f_bsize >= 512);
	MUST(s.f_blocks > 0 && s.f_bfree <= s.f_blocks && s.f_bavail <= s.f_bfree);
	MUST(s.f_files > 0 && s.f_ffree <= s.f_files);
	return NULL;
}

static const char *file_handles(void)
{
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u = { .h.handle_bytes = MAX_HANDLE_SZ };
	int id;

	MUST(make("file", "") >= 0);
	CAN(name_to_handle_at(AT_FDCWD, "file", &u.h, &id, 0) == 0);
	return NULL;
}

const struct check attribute_checks[] = {
	{ "user-attributes", user_attributes },
	{ "trusted-attributes", trusted_attributes },
	{ "file-capabilities", file_capabilities },
	{ "access-lists", access_lists },
	{ "permissions", permissions },
	{ "modes", modes },
	{ "owners", owners },
	{ "set-id-bits", set_id_bits },
	{ "inherited-group", inherited_group },
	{ "sticky-directories", sticky_directories },
	{ "times", times },
	{ "times-follow-changes", times_follow_changes },
	{ "statistics", statistics },
	{ "file-handles", file_handles },
	{ NULL, NULL },
};
