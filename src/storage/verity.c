/* SPDX-License-Identifier: Apache-2.0 */

/* Hash trees, made by veritysetup (cryptsetup-bin). */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/spawn.h"
#include "base/str.h"
#include "storage/parts.h"

#define VERITYSETUP "veritysetup"
#define TIMEOUT_MS  (30 * 60 * 1000)
#define ROOT_HASH   "Root hash:"

/* The file's size, after it was made a multiple of a block. */
static int round_up(const char *path, uint64_t *ret, struct err *e)
{
	_cleanup_(close_fdp) int fd = open(path, O_WRONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot open %s", path);
	*ret = ((uint64_t)st.st_size + PART_BLOCK - 1) / PART_BLOCK * PART_BLOCK;
	if (*ret == 0)
		return err_set(e, -EBADMSG, "%s is empty", path);
	if (*ret != (uint64_t)st.st_size && ftruncate(fd, (off_t)*ret) < 0)
		return err_errno(e, -errno, "cannot write %s", path);
	return 0;
}

static int take_hash(const char *out, unsigned char hash[PART_HASH_SIZE])
{
	char digits[2 * PART_HASH_SIZE + 1];
	const char *p = strstr(out, ROOT_HASH);

	if (!p)
		return -EBADMSG;
	p += strlen(ROOT_HASH);
	p += strspn(p, " \t");
	snprintf(digits, sizeof(digits), "%s", p);
	return disk_hash_parse(digits, hash);
}

static int find_veritysetup(struct err *e)
{
	_cleanup_(freep) char *path = NULL;
	int r = find_program(VERITYSETUP, &path);

	if (r < 0) {
		err_errno(e, r, "cannot find %s, which image.verity needs", VERITYSETUP);
		err_hint(e, "Install it: apt-get install cryptsetup-bin");
	}
	return r;
}

int verity_append(const char *path, struct disk_part *part, struct err *e)
{
	static char *const env[] = { (char *)"LC_ALL=C", NULL };
	_cleanup_(strv_done) struct strv argv = { 0 };
	_cleanup_(freep) char *out = NULL;
	struct spawn s = SPAWN_INIT;
	uint64_t size = 0;
	int r;

	r = find_veritysetup(e);
	if (r == 0)
		r = round_up(path, &size, e);
	if (r < 0)
		return r;
	r = strv_add_all(&argv, VERITYSETUP, "format", "--no-superblock", "--hash=sha256",
			 "--salt=-", "--data-block-size=4096", "--hash-block-size=4096", NULL);
	if (r == 0)
		r = strv_addf(&argv, "--data-blocks=%llu", (unsigned long long)(size / PART_BLOCK));
	if (r == 0)
		r = strv_addf(&argv, "--hash-offset=%llu", (unsigned long long)size);
	if (r == 0)
		r = strv_add_all(&argv, path, path, NULL);
	if (r < 0)
		return err_oom(e);
	s.path = VERITYSETUP;
	s.argv = argv.v;
	s.envp = env;
	r = spawn_run(&s, TIMEOUT_MS, &out, e);
	if (r < 0)
		return err_wrap(e, "cannot make a hash tree");
	part->data = size;
	r = take_hash(out, part->root_hash);
	return r < 0 ? err_set(e, r, VERITYSETUP " didn't tell a root hash") : 0;
}
