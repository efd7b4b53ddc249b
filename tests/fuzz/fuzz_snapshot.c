/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer of containerd as a directory: whatever is in it, it's refused with a reason or becomes an
 * EROFS file. Run as root to get past devices and trusted attributes.
 *
 * The input is a list of orders: a letter, a length, and a name of that length.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "storage/snapshot_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_file(int dir, const char *name, off_t size)
{
	_cleanup_(close_fdp) int fd = openat(dir, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
					     0644);

	if (fd >= 0 && write(fd, name, strlen(name)) > 0)
		(void)!ftruncate(fd, size);
}

static void set_attribute(int dir, const char *file, const char *name)
{
	_cleanup_(close_fdp) int fd = openat(dir, file,
					     O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		(void)!fsetxattr(fd, name, "/x", 2, 0);
}

/* Return: The directory of the next order */
static int follow(int dir, char order, const char *name, const char *last)
{
	int fd;

	switch (order) {
	case 'd':
		(void)!mkdirat(dir, name, 0755);
		break;
	case 'c': /* into it */
		fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			break;
		close(dir);
		return fd;
	case 'f':
		add_file(dir, name, (off_t)strlen(name) * 100);
		break;
	case 's': /* with holes */
		add_file(dir, name, (off_t)1 << MIN(strlen(name), 40));
		break;
	case 'l':
		(void)!symlinkat(name, dir, last);
		break;
	case 'h':
		(void)!linkat(dir, last, dir, name, 0);
		break;
	case 'p':
		(void)!mkfifoat(dir, name, 0644);
		break;
	case 'w':
		(void)!mknodat(dir, name, S_IFCHR, 0);
		break;
	case 'o':
		set_attribute(dir, name, "trusted.overlay.opaque");
		break;
	case 'r':
		set_attribute(dir, name, "trusted.overlay.redirect");
		break;
	case 'm':
		set_attribute(dir, name, "trusted.overlay.metacopy");
		break;
	case 'x':
		set_attribute(dir, last, name);
		break;
	default:
		break;
	}
	return dir;
}

/* Names without a slash: they stay in the directory. */
static bool is_name(const char *name)
{
	return *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static void build(const char *root, const uint8_t *data, size_t size)
{
	int dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char last[256] = "last";

	while (dir >= 0 && size >= 2) {
		char name[256] = "";
		size_t n = MIN((size_t)data[1], size - 2);

		/* mkfs.erofs 1.5 fails for names of 255 bytes. */
		memcpy(name, data + 2, MIN(n, 254));
		name[MIN(n, 254)] = '\0';
		if (is_name(name) || (data[0] == 'l' && *name)) {
			dir = follow(dir, (char)data[0], name, last);
			if (data[0] != 'x' && data[0] != 'l')
				memcpy(last, name, sizeof(last));
		}
		data += 2 + n;
		size -= 2 + n;
	}
	if (dir >= 0)
		close(dir);
}

/* What the scan lets through can be converted. */
static void convert(const char *path, const char *root, const struct snapshot_tree *tree)
{
	_cleanup_(freep) char *file = str_printf("%s/file", path);
	struct err e = { 0 };

	if (!file ||
	    erofs_make(root, file, &(struct erofs_options){ .sparse = tree->sparse }, &e) < 0)
		abort();
}

/* One of 256: it takes a process. */
static bool is_chosen(const uint8_t *data, size_t size)
{
	uint32_t hash = 2166136261;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ data[i]) * 16777619;
	return (hash >> 16) % 256 == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snapshot_tree tree = {
		.limits = { .bytes = 1 << 20, .entries = 50, .depth = 20 },
	};
	char path[] = "/dev/shm/podvm-fuzz-snapshot-XXXXXX";
	_cleanup_(freep) char *root = NULL;
	struct err e = { 0 };
	int r;

	if (!mkdtemp(path))
		abort();
	root = str_printf("%s/root", path);
	if (!root || mkdir(root, 0755) < 0)
		abort();
	build(root, data, size);
	r = snapshot_scan(root, &tree, &e);
	if ((r < 0) != (e.msg[0] != '\0'))
		abort();
	if (r == 0 && is_chosen(data, size))
		convert(path, root, &tree);
	if (rm_rf(AT_FDCWD, path) < 0)
		abort();
	return 0;
}
