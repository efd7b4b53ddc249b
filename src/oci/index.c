/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Image indexes (image-spec image-index.md, Docker's manifest list) and descriptors: which of the
 * manifests of a layout is meant, by tag and by platform.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "oci/internal.h"
#include "oci/json.h"

#define REF_NAME    "org.opencontainers.image.ref.name"
#define ENTRIES_MAX 1024
#define TAGS_SHOWN  20

struct raw_descriptor {
	char *media_type;
	char *digest;
	uint64_t size;
};

static const struct json_field descriptor_fields[] = {
	{ "mediaType", JSON_STRING, offsetof(struct raw_descriptor, media_type), JSON_REQUIRED },
	{ "digest", JSON_STRING, offsetof(struct raw_descriptor, digest), JSON_REQUIRED },
	{ "size", JSON_U64, offsetof(struct raw_descriptor, size), JSON_REQUIRED },
};

static void raw_descriptor_done(struct raw_descriptor *d)
{
	free(d->media_type);
	free(d->digest);
}

int oci_descriptor_parse(struct json_object *obj, const char *what, struct oci_descriptor *ret,
			 struct err *e)
{
	_cleanup_(raw_descriptor_done) struct raw_descriptor raw = { 0 };
	int r;

	if (!json_object_is_type(obj, json_type_object))
		return err_set(e, -EBADMSG, "%s: descriptor is not an object", what);
	r = json_dispatch(obj, descriptor_fields, ARRAY_SIZE(descriptor_fields), &raw, what, e);
	if (r < 0)
		return r;
	if (!oci_digest_ok(raw.digest))
		return err_set(e, -EBADMSG, "%s: digest is not sha256 and 64 hexadecimal digits",
			       what);
	*ret = (struct oci_descriptor){ .media_type = TAKE_PTR(raw.media_type), .size = raw.size };
	memcpy(ret->digest, raw.digest, sizeof(ret->digest));
	return 0;
}

void oci_descriptor_done(struct oci_descriptor *desc)
{
	free(desc->media_type);
	desc->media_type = NULL;
}

struct platform {
	char *architecture;
	char *os;
	char *variant;
};

static const struct json_field platform_fields[] = {
	{ "architecture", JSON_STRING, offsetof(struct platform, architecture), JSON_REQUIRED },
	{ "os", JSON_STRING, offsetof(struct platform, os), JSON_REQUIRED },
	{ "variant", JSON_STRING, offsetof(struct platform, variant), 0 },
};

static void platform_done(struct platform *p)
{
	free(p->architecture);
	free(p->os);
	free(p->variant);
}

/* How well an entry fits this machine. The base variant of an architecture runs everywhere. */
enum fit { FIT_NONE, FIT_UNKNOWN, FIT_VARIANT, FIT_EXACT };

static int platform_fit(struct json_object *entry, struct err *e)
{
	struct json_object *obj = json_get(entry, "platform", json_type_object);
	_cleanup_(platform_done) struct platform p = { 0 };
	int r;

	if (!obj)
		return FIT_UNKNOWN;
	r = json_dispatch(obj, platform_fields, ARRAY_SIZE(platform_fields), &p,
			  "image index: platform", e);
	if (r < 0)
		return r;
	if (!str_eq(p.os, "linux") || !str_eq(p.architecture, OCI_ARCH))
		return FIT_NONE;
	if (str_empty(p.variant) || str_eq(p.variant, "v1") || str_eq(p.variant, "v8"))
		return FIT_EXACT;
	return FIT_VARIANT;
}

static const char *string_member(struct json_object *obj, const char *name)
{
	struct json_object *v = obj ? json_get(obj, name, json_type_string) : NULL;

	return v ? json_object_get_string(v) : NULL;
}

static const char *entry_tag(struct json_object *entry)
{
	return string_member(json_get(entry, "annotations", json_type_object), REF_NAME);
}

static bool entry_wanted(struct json_object *entry, const char *tag)
{
	const char *s;

	if (!tag)
		return true;
	s = tag[0] == '@' ? string_member(entry, "digest") : entry_tag(entry);
	return s && str_eq(s, tag[0] == '@' ? tag + 1 : tag);
}

/**
 * struct choice - The best entry so far
 * @entry:	It, NULL: none
 * @fit:	How well it fits
 * @wanted:	How many entries have the tag, whatever their platform
 * @ambiguous:	Another one fits as well
 */
struct choice {
	struct json_object *entry;
	int fit;
	size_t wanted;
	bool ambiguous;
};

static bool same_digest(struct json_object *a, struct json_object *b)
{
	const char *x = string_member(a, "digest");
	const char *y = string_member(b, "digest");

	return x && y && str_eq(x, y);
}

static int consider(struct choice *c, struct json_object *entry, const char *tag, struct err *e)
{
	int fit;

	if (!json_object_is_type(entry, json_type_object))
		return err_set(e, -EBADMSG, "image index: an entry is not an object");
	if (!entry_wanted(entry, tag))
		return 0;
	c->wanted++;
	fit = platform_fit(entry, e);
	if (fit < 0)
		return fit;
	if (fit > c->fit) {
		c->entry = entry;
		c->fit = fit;
		c->ambiguous = false;
	} else if (fit == c->fit && fit != FIT_NONE) {
		c->ambiguous |= !same_digest(c->entry, entry);
	}
	return 0;
}

/* "which of them: tag "a", "b"": tags are foreign text, so they are quoted. */
static void hint_tags(struct json_object *entries, struct err *e)
{
	_cleanup_(buf_done) struct buf list = { 0 };
	size_t n = json_object_array_length(entries);
	size_t shown = 0;
	char quoted[80];

	for (size_t i = 0; i < n && shown < TAGS_SHOWN; i++) {
		const char *tag = entry_tag(json_object_array_get_idx(entries, i));

		if (tag && buf_printf(&list, "%s%s", shown ? ", " : "",
				      log_quote(quoted, sizeof(quoted), tag)) == 0)
			shown++;
	}
	if (shown)
		err_hint(e, "tags in it: %s%s", buf_cstr(&list),
			 shown == TAGS_SHOWN ? ", ..." : "");
}

static int no_choice(const struct choice *c, struct json_object *entries, const char *tag,
		     struct err *e)
{
	char quoted[160];

	if (c->wanted > 0)
		return err_set(e, -ENOENT, "image is not made for linux/%s", OCI_ARCH);
	if (!tag)
		return err_set(e, -ENOENT, "there is no image in it");
	err_set(e, -ENOENT, "there is no image %s in it", log_quote(quoted, sizeof(quoted), tag));
	hint_tags(entries, e);
	return -ENOENT;
}

static int choose(struct json_object *entries, const char *tag, bool top, struct choice *c,
		  struct err *e)
{
	size_t n = json_object_array_length(entries);
	int r = 0;

	if (n > ENTRIES_MAX)
		return err_set(e, -EBADMSG, "image index: more than %d entries", ENTRIES_MAX);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = consider(c, json_object_array_get_idx(entries, i), tag, e);
	if (r < 0)
		return r;
	if (!c->entry)
		return no_choice(c, entries, tag, e);
	if (top && !tag && c->ambiguous) {
		err_set(e, -ENOENT, "there are several images in it and no tag was given");
		hint_tags(entries, e);
		return -ENOENT;
	}
	return 0;
}

struct index {
	uint64_t version;
	struct json_object *entries;
};

static const struct json_field index_fields[] = {
	{ "schemaVersion", JSON_U64, offsetof(struct index, version), JSON_REQUIRED },
	{ "manifests", JSON_ARRAY, offsetof(struct index, entries), JSON_REQUIRED },
};

int oci_index_select(const char *json, size_t len, const char *tag, bool top,
		     struct oci_descriptor *ret, struct err *e)
{
	_cleanup_(json_putp) struct json_object *obj = NULL;
	struct index index = { 0 };
	struct choice c = { 0 };
	int r;

	r = json_parse(json, len, "image index", &obj, e);
	if (r == 0)
		r = json_dispatch(obj, index_fields, ARRAY_SIZE(index_fields), &index,
				  "image index", e);
	if (r < 0)
		return r;
	if (index.version != 2)
		return err_set(e, -EBADMSG, "image index: unknown schemaVersion");
	r = choose(index.entries, tag, top, &c, e);
	if (r < 0)
		return r;
	return oci_descriptor_parse(c.entry, "image index: manifest", ret, e);
}
