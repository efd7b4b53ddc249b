/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "cli/check.h"

#define VERSION_TIMEOUT_MS 10000
#define CACHE_MIN	   ((uint64_t)1 << 30) /* room that one image of medium size needs */

static void check_kernel(struct check *c)
{
	struct sysinfo si;
	struct utsname un;
	char memory[32];

	if (uname(&un) < 0 || sysinfo(&si) < 0)
		return;
	check_add(c, CHECK_OK, "host", NULL, "Linux %s on %s, %d CPUs, %s memory", un.release,
		  un.machine, get_nprocs(),
		  cli_human_size(memory, sizeof(memory), (uint64_t)si.totalram * si.mem_unit));
}

static void check_cgroup(struct check *c)
{
	struct statfs fs;

	if (statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
		check_add(c, CHECK_OK, "cgroup", NULL, "version 2");
	else
		check_add(c, CHECK_OK, "cgroup", NULL,
			  "version 1 or both; containers have version 2 in the guest");
}

static void check_user(struct check *c)
{
	if (geteuid() != 0)
		check_add(
			c, CHECK_LIMITED, "user",
			"become root, or name directories of your own in a file that PODVM_CONFIG "
			"names",
			"not root: -v needs mounts, and the directories below have to be writable");
}

static void check_dir(struct check *c, const char *name, const char *path, uint64_t min)
{
	struct statvfs fs;
	uint64_t room;
	char text[32];
	int r = mkdir_p(path, 0711);

	if (r == 0 && (access(path, W_OK) < 0 || statvfs(path, &fs) < 0))
		r = -errno;
	if (r < 0) {
		check_add(c, CHECK_FAILED, name, "become root, or change it in podvm.conf",
			  "%s: %s", path, strerror(-r));
		return;
	}
	room = (uint64_t)fs.f_bavail * fs.f_frsize;
	cli_human_size(text, sizeof(text), room);
	if (room < min)
		check_add(c, CHECK_LIMITED, name, "free some, or name another directory",
			  "%s: only %s are free", path, text);
	else
		check_add(c, CHECK_OK, name, NULL, "%s, %s free", path, text);
}

void check_host(struct check *c, const struct config *config)
{
	check_kernel(c);
	check_cgroup(c);
	check_user(c);
	check_dir(c, "state-dir", config->state, 0);
	check_dir(c, "cache-dir", config->cache, CACHE_MIN);
}

/**
 * struct program - A program that is run
 * @name:	As in messages
 * @paths:	Where it is looked for, the first one wins
 * @option:	Makes it print its version
 * @package:	Debian's
 * @status:	If it's missing
 * @use:	What it's needed for
 */
struct program {
	const char *name;
	const char *paths[3];
	const char *option;
	const char *package;
	enum check_status status;
	const char *use;
};

static const struct program programs[] = {
	{ "mkfs.erofs", { "mkfs.erofs" }, "-V", "erofs-utils", CHECK_FAILED, "images" },
	{ "mkfs.ext4", { "mkfs.ext4" }, "-V", "e2fsprogs", CHECK_FAILED, "writable layers" },
	{ "passt",
	  { "passt" },
	  "--version",
	  "passt",
	  CHECK_LIMITED,
	  "the network (else: --net none)" },
	{ "virtiofsd",
	  { "/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "virtiofsd" },
	  "--version",
	  "virtiofsd (Debian 12: qemu-system-common)",
	  CHECK_LIMITED,
	  "-v" },
	{ "skopeo",
	  { "skopeo" },
	  "--version",
	  "skopeo",
	  CHECK_LIMITED,
	  "images of registries and archives" },
};

static char *find(const struct program *p)
{
	char *path;

	for (size_t i = 0; i < ARRAY_SIZE(p->paths) && p->paths[i]; i++)
		if (find_program(p->paths[i], &path) == 0)
			return path;
	return NULL;
}

/* "mkfs.erofs 1.5": the number of such a line, wherever it stands, or NULL. */
static const char *named_version(char *text, const char *name)
{
	char *save = NULL;

	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		if (str_starts(l, name) && l[strlen(name)] == ' ' &&
		    isdigit((unsigned char)l[strlen(name) + 1]))
			return l + strlen(name) + 1;
	return NULL;
}

/* What it says of its version: such a line (mkfs.erofs 1.5 also says that it doesn't know the
   option), or the first one. */
static char *version(const struct program *p, const char *path)
{
	struct spawn s = SPAWN_INIT;
	char *argv[] = { (char *)path, (char *)p->option, NULL };
	_cleanup_(freep) char *out = NULL;
	_cleanup_(freep) char *first = NULL;
	const char *named;
	int r;

	s.path = path;
	s.argv = argv;
	r = spawn_run(&s, VERSION_TIMEOUT_MS, &out, NULL);
	if (!out)
		return NULL;
	first = strndup(out, strcspn(out, "\n"));
	named = named_version(out, p->name);
	if (named)
		return strdup(named);
	if (r < 0 || !first)
		return NULL;
	return strdup(str_starts(first, p->name) ? first + strlen(p->name) : first);
}

static void check_program(struct check *c, const struct program *p)
{
	_cleanup_(freep) char *path = find(p);
	_cleanup_(freep) char *hint = str_printf("apt-get install %s", p->package);
	_cleanup_(freep) char *v = NULL;

	if (!path) {
		check_add(c, p->status, p->name, hint, "missing; needed for %s", p->use);
		return;
	}
	v = version(p, path);
	check_add(c, CHECK_OK, p->name, NULL, "%s: %s", path,
		  v ? v + strspn(v, " ") : "unknown version");
}

void check_programs(struct check *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
		check_program(c, &programs[i]);
}
