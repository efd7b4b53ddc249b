/* SPDX-License-Identifier: Apache-2.0 */
/* The store of templates: what is in it, whether it's intact, and what has to go. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "oci/digest.h"
#include "oci/json.h"
#include "sandbox/template.h"
#include "sandbox/template_internal.h"
#include "storage/lock.h"

#define INFO_MAX      ((size_t)16 << 10)
#define TEMPLATES_MAX 1024
#define LOCK_WAIT_MS  600000
#define HASH_CHUNK    ((size_t)256 << 10)
#define HASH_PAGE     4096
#define KEY_DIGITS    (TEMPLATE_KEY_SIZE - 1)

/* ---- template.json ---- */

#define ROW(name, kind, member)                                                   \
	{                                                                         \
		name, kind, offsetof(struct template_info, member), JSON_REQUIRED \
	}

static const struct json_field info_fields[] = {
	ROW("memory", JSON_U64, memory),
	ROW("vcpus", JSON_U64, vcpus),
	ROW("machine", JSON_STRING, machine),
	ROW("accel", JSON_STRING, accel),
	ROW("network", JSON_STRING, network),
	ROW("image", JSON_STRING, image),
	ROW("created_ns", JSON_U64, created_ns),
	ROW("memory_sha256", JSON_STRING, memory_sha256),
	ROW("state_sha256", JSON_STRING, state_sha256),
};

void template_info_done(struct template_info *info)
{
	free(info->machine);
	free(info->accel);
	free(info->network);
	free(info->image);
	free(info->memory_sha256);
	free(info->state_sha256);
	*info = (struct template_info){ .memory = 0 };
}

void template_infos_done(struct template_infos *infos)
{
	for (size_t i = 0; i < infos->n; i++)
		template_info_done(&infos->v[i]);
	free(infos->v);
	*infos = (struct template_infos){ .v = NULL };
}

int template_info_parse(const char *text, size_t len, struct template_info *ret, struct err *e)
{
	_cleanup_(template_info_done) struct template_info info = { .memory = 0 };
	_cleanup_(json_putp) struct json_object *obj = NULL;
	int r = json_parse(text, len, "template.json", &obj, e);

	if (r == 0)
		r = json_dispatch(obj, info_fields, ARRAY_SIZE(info_fields), &info, "template.json",
				  e);
	if (r < 0)
		return r;
	*ret = info;
	info = (struct template_info){ .memory = 0 };
	return 0;
}

char *template_info_text(const struct template_info *info)
{
	_cleanup_(json_putp) struct json_object *obj = json_object_new_object();
	char *text = NULL;

	if (!obj || json_add_u64(obj, "memory", info->memory) < 0 ||
	    json_add_u64(obj, "vcpus", info->vcpus) < 0 ||
	    json_add_string(obj, "machine", info->machine) < 0 ||
	    json_add_string(obj, "accel", info->accel) < 0 ||
	    json_add_string(obj, "network", info->network) < 0 ||
	    json_add_string(obj, "image", info->image) < 0 ||
	    json_add_u64(obj, "created_ns", info->created_ns) < 0 ||
	    json_add_string(obj, "memory_sha256", info->memory_sha256) < 0 ||
	    json_add_string(obj, "state_sha256", info->state_sha256) < 0 ||
	    json_text(obj, "template.json", &text, NULL) < 0)
		return NULL;
	return text;
}

static int read_info(const char *store, const char *key, struct template_info *ret, struct err *e)
{
	_cleanup_(freep) char *path = template_path(store, key, "template.json");
	_cleanup_(freep) char *text = NULL;
	size_t len = 0;
	int r = path ? file_read(AT_FDCWD, path, INFO_MAX, &text, &len) : -ENOMEM;

	if (r < 0)
		return err_errno(e, r, "cannot read template.json of %s", key);
	r = template_info_parse(text, len, ret, e);
	snprintf(ret->key, sizeof(ret->key), "%s", key);
	return r;
}

/* ---- what there is ---- */

static bool is_key(const char *name)
{
	return strlen(name) == KEY_DIGITS && strspn(name, "0123456789abcdef") == KEY_DIGITS;
}

static uint64_t blocks_of(const char *store, const char *key, const char *name)
{
	_cleanup_(freep) char *path = template_path(store, key, name);
	struct stat st;

	return path && lstat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/* One that can't be read is listed by its key alone: it takes up room. */
static int add_info(const char *store, const char *key, struct template_infos *infos)
{
	_cleanup_(freep) char *dir = str_printf("%s/%s", store, key);
	struct template_info *v;
	struct template_info *info;
	struct stat st;

	if (!dir || stat(dir, &st) < 0)
		return 0;
	v = reallocarray(infos->v, infos->n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	infos->v = v;
	info = &infos->v[infos->n++];
	*info = (struct template_info){ .memory = 0 };
	(void)read_info(store, key, info, NULL);
	snprintf(info->key, sizeof(info->key), "%.*s", (int)sizeof(info->key) - 1, key);
	info->used = st.st_mtim.tv_sec;
	info->size = blocks_of(store, key, "memory") + blocks_of(store, key, "state");
	return 0;
}

static int by_use(const void *a, const void *b)
{
	const struct template_info *x = a;
	const struct template_info *y = b;

	if (x->used != y->used)
		return x->used < y->used ? 1 : -1;
	return strcmp(x->key, y->key);
}

int template_list(const char *store, struct template_infos *ret, struct err *e)
{
	_cleanup_(closedirp) DIR *dir = opendir(store);
	struct template_infos infos = { 0 };
	struct dirent *d;
	int r = 0;

	*ret = infos;
	if (!dir)
		return errno == ENOENT ? 0 : err_errno(e, -errno, "cannot read %s", store);
	while (r == 0 && infos.n < TEMPLATES_MAX && (d = readdir(dir)))
		if (is_key(d->d_name))
			r = add_info(store, d->d_name, &infos);
	if (r < 0) {
		template_infos_done(&infos);
		return err_oom(e);
	}
	if (infos.n > 0)
		qsort(infos.v, infos.n, sizeof(*infos.v), by_use);
	*ret = infos;
	return 0;
}

int template_find(const char *store, const char *text, char key[TEMPLATE_KEY_SIZE], struct err *e)
{
	_cleanup_(template_infos_done) struct template_infos infos = { 0 };
	size_t found = 0;
	int r = template_list(store, &infos, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < infos.n; i++) {
		if (!*text || !str_starts(infos.v[i].key, text))
			continue;
		memcpy(key, infos.v[i].key, TEMPLATE_KEY_SIZE);
		found++;
	}
	if (found > 1)
		return err_set(e, -ENOTUNIQ, "there are %zu templates that begin with %.64s", found,
			       text);
	if (found == 0) {
		err_set(e, -ENOENT, "there is no template %.64s", text);
		err_hint(e, "'podvm template list' lists them");
		return -ENOENT;
	}
	return 0;
}

/* ---- changing it ---- */

int template_lock(const char *store, bool wait, struct err *e)
{
	_cleanup_(freep) char *path = str_printf("%s/lock", store);
	_cleanup_(close_fdp) int fd = -EBADF;
	int r = path ? mkdir_p(store, 0700) : -ENOMEM;

	if (r < 0)
		return err_errno(e, r, "cannot make %s", store);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, -errno, "cannot open %s", path);
	r = lock_wait(fd, LOCK_EX, wait ? LOCK_WAIT_MS : 0);
	if (r == -EWOULDBLOCK || r == -ETIMEDOUT)
		return err_set(e, r, "another process makes a template");
	return r < 0 ? err_errno(e, r, "cannot lock %s", path) : TAKE_FD(fd);
}

int template_remove(const char *store, const char *state_dir, const char *key, struct err *e)
{
	_cleanup_(freep) char *dir = str_printf("%s/%s", store, key);
	_cleanup_(freep) char *checked = template_checked_path(state_dir, key);
	int r;

	if (!dir || !checked)
		return err_oom(e);
	(void)unlink(checked);
	r = rm_rf(AT_FDCWD, dir);
	return r < 0 ? err_errno(e, r, "cannot remove %s", dir) : 0;
}

void template_failed(const char *state_dir, const char *key, const struct err *e)
{
	_cleanup_(freep) char *path = template_failed_path(state_dir, key);
	_cleanup_(freep) char *text = str_printf("%s%s%s\n", e->stage, *e->stage ? ": " : "",
						 e->msg);

	if (path && text && mkdir_p(state_dir, 0755) == 0)
		(void)file_replace(AT_FDCWD, path, text, strlen(text), 0600);
}

/* The description names the boot; without one it's of no use either. */
static bool is_of_this_boot(const char *store, const char *key)
{
	_cleanup_(freep) char *path = template_path(store, key, "description");
	_cleanup_(freep) char *boot = NULL;
	_cleanup_(freep) char *line = NULL;
	_cleanup_(freep) char *text = NULL;

	if (!path || file_read(AT_FDCWD, path, (size_t)64 << 10, &text, NULL) < 0 ||
	    file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &boot, NULL) < 0)
		return false;
	line = str_printf("\nboot %s", boot);
	return line && strstr(text, line);
}

int template_evict(const char *store, const char *state_dir, uint64_t max, const char *keep,
		   struct err *e)
{
	_cleanup_(template_infos_done) struct template_infos infos = { 0 };
	uint64_t total = 0;
	int removed = 0;
	int r = template_list(store, &infos, e);

	/* Those that were used last come first. */
	for (size_t i = 0; r == 0 && i < infos.n; i++) {
		const struct template_info *info = &infos.v[i];
		bool kept = keep && str_eq(info->key, keep);

		if (kept || (is_of_this_boot(store, info->key) && total + info->size <= max)) {
			total += info->size;
			continue;
		}
		r = template_remove(store, state_dir, info->key, e);
		removed++;
	}
	return r < 0 ? r : removed;
}

/* ---- digests ---- */

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, HASH_PAGE - 1) == 0;
}

/* Each page that isn't all zeros, after its place: what the file system calls a hole may change. */
static int hash_extent(struct sha256_ctx *ctx, int fd, off_t from, off_t to, uint8_t *chunk)
{
	ssize_t n;

	for (; from < to; from += n) {
		n = pread(fd, chunk, MIN(HASH_CHUNK, (size_t)(to - from)), from);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		memset(chunk + n, 0, HASH_CHUNK - (size_t)n);
		for (off_t i = 0; i < n; i += HASH_PAGE) {
			uint64_t place = (uint64_t)(from + i);

			if (is_zero(chunk + i))
				continue;
			sha256_update(ctx, sizeof(place), (const uint8_t *)&place);
			sha256_update(ctx, HASH_PAGE, chunk + i);
		}
	}
	return 0;
}

int template_hash(int fd, char out[SHA256_HEX_SIZE])
{
	_cleanup_(freep) uint8_t *chunk = malloc(HASH_CHUNK);
	off_t end = lseek(fd, 0, SEEK_END);
	uint64_t size = (uint64_t)end;
	struct sha256_ctx ctx;
	off_t to = 0;
	int r = 0;

	if (!chunk)
		return -ENOMEM;
	sha256_init(&ctx);
	sha256_update(&ctx, sizeof(size), (const uint8_t *)&size);
	while (r == 0 && to < end) {
		off_t data = lseek(fd, to, SEEK_DATA);
		off_t hole = data < 0 ? end : lseek(fd, data, SEEK_HOLE);

		if (data < 0)
			break;
		if (hole < 0)
			return -errno;
		/* Extents begin and end where the file system likes, pages don't. */
		to = MIN(end, (hole + HASH_PAGE - 1) / HASH_PAGE * HASH_PAGE);
		r = hash_extent(&ctx, fd, data - data % HASH_PAGE, to, chunk);
	}
	if (r == 0)
		sha256_hex(&ctx, out);
	return r;
}

static int compare(const char *store, const char *key, const char *name, const char *sha256,
		   int *ret_fd, struct err *e)
{
	_cleanup_(freep) char *path = template_path(store, key, name);
	_cleanup_(close_fdp) int fd = path ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
	char found[SHA256_HEX_SIZE] = "";
	int r;

	if (fd < 0)
		return err_errno(e, path ? -errno : -ENOMEM, "cannot open %s of %s", name, key);
	r = template_hash(fd, found);
	if (r < 0)
		return err_errno(e, r, "cannot read %s", path);
	if (!str_eq(found, sha256))
		return err_set(e, -EBADMSG, "%s is damaged: its digest is %s instead of %.64s",
			       path, found, sha256);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int template_note_checked(const char *state_dir, const char *key, int memory_fd, int state_fd)
{
	_cleanup_(freep) char *path = template_checked_path(state_dir, key);
	char line[256];
	int r = path ? mkdir_p(state_dir, 0755) : -ENOMEM;

	if (r == 0)
		r = template_identity(memory_fd, state_fd, line, sizeof(line));
	return r < 0 ? r : file_replace(AT_FDCWD, path, line, strlen(line), 0600);
}

int template_verify(const char *store, const char *state_dir, const char *key, struct err *e)
{
	_cleanup_(template_info_done) struct template_info info = { .memory = 0 };
	_cleanup_(close_fdp) int memory = -EBADF;
	_cleanup_(close_fdp) int state = -EBADF;
	int r = read_info(store, key, &info, e);

	if (r == 0)
		r = compare(store, key, "memory", info.memory_sha256, &memory, e);
	if (r == 0)
		r = compare(store, key, "state", info.state_sha256, &state, e);
	if (r < 0)
		return r;
	r = template_note_checked(state_dir, key, memory, state);
	return r < 0 ? err_errno(e, r, "cannot write into %s", state_dir) : 0;
}
