/* SPDX-License-Identifier: Apache-2.0 */

/* What the store writes down: image.json of an image, and the names under refs/. */

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "storage/image_store_internal.h"

#define META_MAX ((size_t)64 << 10)

static void json_put(json_object *o)
{
	json_object_put(o);
}

DEFINE_CLEANUP(json_freep, json_object *, json_put)

static int add(json_object *o, const char *key, json_object *value)
{
	if (!value)
		return -ENOMEM;
	if (json_object_object_add(o, key, value) < 0) {
		json_object_put(value);
		return -ENOMEM;
	}
	return 0;
}

static int add_text(json_object *o, const char *key, const char *text)
{
	return add(o, key, json_object_new_string(text));
}

static int write_json(int dirfd, const char *name, json_object *o)
{
	const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
								     JSON_C_TO_STRING_SPACED);

	return text ? file_replace(dirfd, name, text, strlen(text), 0600) : -ENOMEM;
}

static int read_json(int dirfd, const char *name, json_object **ret)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	r = file_read(dirfd, name, META_MAX, &text, &len);
	if (r < 0)
		return r;
	*ret = json_tokener_parse(text);
	if (json_object_is_type(*ret, json_type_object))
		return 0;
	json_object_put(TAKE_PTR(*ret));
	return -EBADMSG;
}

static const char *get_text(json_object *o, const char *key)
{
	json_object *value;

	if (!json_object_object_get_ex(o, key, &value) ||
	    !json_object_is_type(value, json_type_string))
		return NULL;
	return json_object_get_string(value);
}

static int64_t get_number(json_object *o, const char *key)
{
	json_object *value;

	if (!json_object_object_get_ex(o, key, &value) ||
	    !json_object_is_type(value, json_type_int))
		return -1;
	return json_object_get_int64(value);
}

static int copy_text(json_object *o, const char *key, char *out, size_t size)
{
	const char *text = get_text(o, key);

	if (!text || strlen(text) >= size)
		return -EBADMSG;
	memcpy(out, text, strlen(text) + 1);
	return 0;
}

static int copy_digest(json_object *o, const char *key, char out[OCI_DIGEST_LEN + 1])
{
	int r = copy_text(o, key, out, OCI_DIGEST_LEN + 1);

	if (r < 0 || strlen(out) != OCI_DIGEST_LEN || !str_starts(out, "sha256:") ||
	    strspn(digest_hex(out), "0123456789abcdef") != 64)
		return -EBADMSG;
	return 0;
}

/* Only of images with a hash tree. */
static int add_verity(json_object *o, const struct disk_part *part)
{
	json_object *v = json_object_new_object();
	char hash[2 * PART_HASH_SIZE + 1];

	if (add(o, "verity", v) < 0)
		return -ENOMEM;
	disk_hash_text(part->root_hash, hash);
	return add(v, "dataSize", json_object_new_int64((int64_t)part->data)) < 0
		       ? -ENOMEM
		       : add_text(v, "rootHash", hash);
}

static int get_verity(json_object *o, uint64_t size, struct disk_part *part)
{
	json_object *v;
	char hash[2 * PART_HASH_SIZE + 1];

	if (!json_object_object_get_ex(o, "verity", &v))
		return 0;
	if (!json_object_is_type(v, json_type_object) ||
	    copy_text(v, "rootHash", hash, sizeof(hash)) < 0)
		return -EBADMSG;
	part->data = (uint64_t)get_number(v, "dataSize");
	if (part->data == 0 || part->data > size || part->data % PART_BLOCK)
		return -EBADMSG;
	return disk_hash_parse(hash, part->root_hash);
}

int image_meta_write(int dirfd, const struct image_meta *meta)
{
	_cleanup_(json_freep) json_object *o = json_object_new_object();

	if (!o || add(o, "format", json_object_new_int(IMAGE_FORMAT)) < 0 ||
	    add_text(o, "digest", meta->digest) < 0 ||
	    add_text(o, "configDigest", meta->config_digest) < 0 ||
	    add_text(o, "created", meta->created) < 0 ||
	    add(o, "stored", json_object_new_int64(meta->stored)) < 0 ||
	    add(o, "erofsSize", json_object_new_int64((int64_t)meta->size)) < 0 ||
	    add_text(o, "erofsSha256", meta->sha256) < 0 ||
	    add_text(o, "podvmVersion", PODVM_VERSION) < 0 ||
	    (meta->part.data && add_verity(o, &meta->part) < 0))
		return -ENOMEM;
	return write_json(dirfd, "image.json", o);
}

int image_meta_read(int dirfd, struct image_meta *ret)
{
	_cleanup_(json_freep) json_object *o = NULL;
	int r;

	r = read_json(dirfd, "image.json", &o);
	if (r < 0)
		return r;
	*ret = (struct image_meta){ .stored = get_number(o, "stored"),
				    .size = (uint64_t)get_number(o, "erofsSize") };
	if (get_number(o, "format") != IMAGE_FORMAT || (int64_t)ret->size < 0 ||
	    copy_digest(o, "digest", ret->digest) < 0 ||
	    copy_digest(o, "configDigest", ret->config_digest) < 0 ||
	    copy_text(o, "created", ret->created, sizeof(ret->created)) < 0 ||
	    copy_text(o, "erofsSha256", ret->sha256, sizeof(ret->sha256)) < 0)
		return -EBADMSG;
	return get_verity(o, ret->size, &ret->part);
}

void image_ref_done(struct image_ref *ref)
{
	free(TAKE_PTR(ref->text));
	free(TAKE_PTR(ref->stamp));
}

static int open_refs(const struct image_store *store)
{
	int fd = openat(store->fd, "refs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int ref_read(int refs_fd, const char *file, struct image_ref *ret)
{
	_cleanup_(json_freep) json_object *o = NULL;
	int r;

	*ret = (struct image_ref){ 0 };
	r = read_json(refs_fd, file, &o);
	if (r < 0)
		return r;
	if (!get_text(o, "ref") || !get_text(o, "stamp") ||
	    copy_digest(o, "digest", ret->digest) < 0)
		return -EBADMSG;
	if (str_set(&ret->text, get_text(o, "ref")) < 0 ||
	    str_set(&ret->stamp, get_text(o, "stamp")) < 0) {
		image_ref_done(ret);
		return -ENOMEM;
	}
	return 0;
}

static void ref_file(const char *text, char *out, size_t size)
{
	char hash[SHA256_HEX_SIZE];

	sha256_text(text, hash);
	snprintf(out, size, "%s.json", hash);
}

int image_ref_get(const struct image_store *store, const char *text, struct image_ref *ret)
{
	_cleanup_(close_fdp) int fd = open_refs(store);
	char file[SHA256_HEX_SIZE + 8];

	if (fd < 0)
		return fd;
	ref_file(text, file, sizeof(file));
	return ref_read(fd, file, ret);
}

int image_ref_set(const struct image_store *store, const struct image_ref *ref)
{
	_cleanup_(json_freep) json_object *o = json_object_new_object();
	_cleanup_(close_fdp) int fd = -EBADF;
	char file[SHA256_HEX_SIZE + 8];

	if (mkdirat(store->fd, "refs", 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open_refs(store);
	if (fd < 0)
		return fd;
	if (!o || add_text(o, "ref", ref->text) < 0 || add_text(o, "digest", ref->digest) < 0 ||
	    add_text(o, "stamp", ref->stamp) < 0)
		return -ENOMEM;
	ref_file(ref->text, file, sizeof(file));
	return write_json(fd, file, o);
}

/* Calls @fn with every name and its file; what can't be read is left out. */
static int each_file(const struct image_store *store,
		     int (*fn)(void *data, int refs_fd, const char *file, struct image_ref *ref),
		     void *data)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	int fd = open_refs(store);
	struct dirent *d;
	int r = 0;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while (r >= 0 && (d = readdir(dir))) {
		_cleanup_(image_ref_done) struct image_ref ref = { 0 };

		if (d->d_name[0] != '.' && ref_read(fd, d->d_name, &ref) == 0)
			r = fn(data, fd, d->d_name, &ref);
	}
	return r < 0 ? r : 0;
}

struct each {
	int (*fn)(void *data, const struct image_ref *ref);
	void *data;
};

static int call_each(void *data, int refs_fd, const char *file, struct image_ref *ref)
{
	const struct each *each = data;

	return each->fn(each->data, ref);
}

int image_ref_each(const struct image_store *store,
		   int (*fn)(void *data, const struct image_ref *ref), void *data)
{
	struct each each = { .fn = fn, .data = data };

	return each_file(store, call_each, &each);
}

static int forget(void *data, int refs_fd, const char *file, struct image_ref *ref)
{
	const char *digest = data;

	if (!str_eq(ref->digest, digest) || unlinkat(refs_fd, file, 0) == 0 || errno == ENOENT)
		return 0;
	return -errno;
}

int image_ref_forget(const struct image_store *store, const char *digest)
{
	char copy[OCI_DIGEST_LEN + 1];

	snprintf(copy, sizeof(copy), "%s", digest);
	return each_file(store, forget, copy);
}
