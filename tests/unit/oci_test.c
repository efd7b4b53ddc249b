/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "oci/internal.h"
#include "oci/oci.h"

#define MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define INDEX	 "application/vnd.oci.image.index.v1+json"
#define CONFIG	 "application/vnd.oci.image.config.v1+json"
#define LAYER	 "application/vnd.oci.image.layer.v1.tar+gzip"

/* A layout in a temporary directory, and what is read from it. */
struct fixture {
	char dir[32];
	struct oci_layout *layout;
	struct oci_image *image;
	struct err e;
};

static void put_file(struct fixture *f, const char *name, const void *data, size_t n)
{
	_cleanup_(freep) char *path = str_printf("%s/%s", f->dir, name);

	assert_int_equal(file_replace(AT_FDCWD, path, data, n, 0644), 0);
}

static void put_text(struct fixture *f, const char *name, const char *text)
{
	put_file(f, name, text, strlen(text));
}

/* Write a blob; its descriptor as JSON text, with more members if @more is given. */
static char *put_blob(struct fixture *f, const char *type, const char *text, const char *more)
{
	unsigned char sum[SHA256_DIGEST_LENGTH];
	char hex[2 * SHA256_DIGEST_LENGTH + 1];
	_cleanup_(freep) char *path = NULL;

	SHA256((const unsigned char *)text, strlen(text), sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		snprintf(hex + 2 * i, 3, "%02x", sum[i]);
	path = str_printf("blobs/sha256/%s", hex);
	put_text(f, path, text);
	return str_printf("{\"mediaType\":\"%s\",\"digest\":\"sha256:%s\",\"size\":%zu%s}", type,
			  hex, strlen(text), more);
}

/* An image whose only layer and whose label hold @what; its descriptor with @more. */
static char *put_image(struct fixture *f, const char *what, const char *more)
{
	_cleanup_(freep) char *config_text = str_printf(
		"{\"architecture\":\"" OCI_ARCH
		"\",\"os\":\"linux\",\"created\":\"2026-01-02T03:04:05Z\","
		"\"config\":{\"Env\":[\"A=1\",\"B=2\"],\"Entrypoint\":null,\"Cmd\":[\"sh\"],"
		"\"User\":\"web\",\"WorkingDir\":\"/srv\",\"Volumes\":{\"/data\":{}},"
		"\"ExposedPorts\":{\"80/tcp\":{}},\"Labels\":{\"what\":\"%s\"},"
		"\"StopSignal\":\"SIGQUIT\",\"Healthcheck\":{\"Test\":[\"NONE\"]}},"
		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:%064d\"]}}",
		what, 7);
	_cleanup_(freep) char *layer = put_blob(f, LAYER, what, "");
	_cleanup_(freep) char *config = put_blob(f, CONFIG, config_text, "");
	_cleanup_(freep) char *manifest =
		str_printf("{\"schemaVersion\":2,\"mediaType\":\"" MANIFEST "\",\"config\":%s,"
			   "\"layers\":[%s]}",
			   config, layer);

	return put_blob(f, MANIFEST, manifest, more);
}

/* index.json of descriptors, which are freed; the last one is followed by NULL. */
static void put_index(struct fixture *f, ...)
{
	_cleanup_(freep) char *text = strdup("{\"schemaVersion\":2,\"manifests\":[");
	const char *comma = "";
	va_list ap;
	char *entry;

	va_start(ap, f);
	while ((entry = va_arg(ap, char *))) {
		char *longer = str_printf("%s%s%s", text, comma, entry);

		free(text);
		free(entry);
		text = longer;
		comma = ",";
	}
	va_end(ap);
	entry = str_printf("%s]}", text);
	put_text(f, "index.json", entry);
	free(entry);
}

static int load(struct fixture *f, const char *tag)
{
	oci_image_free(f->image);
	f->image = NULL;
	memset(&f->e, 0, sizeof(f->e));
	return oci_image_load(f->layout, tag, &f->image, &f->e);
}

static const char *label(struct fixture *f)
{
	return oci_map_get(&f->image->config.labels, "what");
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	_cleanup_(freep) char *blobs = NULL;

	strcpy(f->dir, "/tmp/podvm-oci-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	blobs = str_printf("%s/blobs/sha256", f->dir);
	assert_int_equal(mkdir_p(blobs, 0755), 0);
	put_text(f, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}\n");
	assert_int_equal(oci_layout_open(f->dir, &f->layout, &f->e), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	oci_image_free(f->image);
	oci_layout_free(f->layout);
	assert_int_equal(rm_rf(AT_FDCWD, f->dir), 0);
	free(f);
	return 0;
}

static void test_ref(void **state)
{
	static const struct {
		const char *text;
		const char *canonical; /* NULL: refused */
	} cases[] = {
		{ "debian", "docker://docker.io/library/debian:latest" },
		{ "debian:12", "docker://docker.io/library/debian:12" },
		{ "docker://debian", "docker://docker.io/library/debian:latest" },
		{ "user/app:v1.2_3-x", "docker://docker.io/user/app:v1.2_3-x" },
		{ "docker.io/debian", "docker://docker.io/library/debian:latest" },
		{ "index.docker.io/a/b", "docker://docker.io/a/b:latest" },
		{ "quay.io/x/y:z", "docker://quay.io/x/y:z" },
		{ "localhost/x", "docker://localhost/x:latest" },
		{ "localhost:5000/x:1", "docker://localhost:5000/x:1" },
		{ "reg.example:5000/a/b/c", "docker://reg.example:5000/a/b/c:latest" },
		{ "a__b/c--d.e", "docker://docker.io/a__b/c--d.e:latest" },
		{ "debian@sha256:"
		  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		  "docker://docker.io/library/debian@sha256:"
		  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" },
		{ "debian:12@sha256:"
		  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		  "docker://docker.io/library/debian@sha256:"
		  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" },
		{ "oci:/some/dir", "oci:/some/dir" },
		{ "oci:dir:a/b:c", "oci:dir:a/b:c" },
		{ "oci-archive:x.tar:v1", "oci-archive:x.tar:v1" },
		{ "docker-archive:x.tar:debian:12", "docker-archive:x.tar:debian:12" },
		{ "dir:/root:fs", "dir:/root:fs" },
		{ "", NULL },
		{ "oci:", NULL },
		{ "oci::tag", NULL },
		{ "oci:dir:", NULL },
		{ "dir:", NULL },
		{ "docker://", NULL },
		{ "Debian", NULL },
		{ "debian:", NULL },
		{ "debian:.x", NULL },
		{ "debian@sha256:12", NULL },
		{ "debian@md5:d41d8cd98f00b204e9800998ecf8427e", NULL },
		{ "a//b", NULL },
		{ "a/", NULL },
		{ "-a", NULL },
		{ "a b", NULL },
		{ "a/.b", NULL },
		{ "--help.io/x", NULL },
		{ "/var/lib/image", NULL },
		{ "./image", NULL },
		{ "containers-storage:debian", NULL },
		{ "docker-daemon:debian:12", NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(oci_ref_done) struct oci_ref ref = { 0 };
		_cleanup_(freep) char *text = NULL;
		struct err e = { 0 };
		int r = oci_ref_parse(cases[i].text, &ref, &e);

		if (!cases[i].canonical) {
			assert_int_equal(r, -EINVAL);
			assert_true(e.msg[0]);
			continue;
		}
		if (r < 0)
			fail_msg("%s: %s", cases[i].text, e.msg);
		text = oci_ref_text(&ref);
		assert_string_equal(text, cases[i].canonical);
	}
}

static void test_ref_hints(void **state)
{
	struct oci_ref ref;
	struct err e = { 0 };

	oci_ref_parse("./rootfs", &ref, &e);
	assert_non_null(strstr(e.hint, "dir:ROOTFS"));
	memset(&e, 0, sizeof(e));
	oci_ref_parse("docker-daemon:x:1", &ref, &e);
	assert_non_null(strstr(e.hint, "docker save"));
}

static void test_image(void **state)
{
	struct fixture *f = *state;
	const struct oci_config *c;

	put_index(f, put_image(f, "one", ""), NULL);
	assert_int_equal(load(f, NULL), 0);
	c = &f->image->config;
	assert_int_equal(f->image->n_layers, 1);
	assert_int_equal(f->image->layers[0].compression, OCI_GZIP);
	assert_int_equal(f->image->layers[0].desc.size, 3);
	assert_non_null(strstr(f->image->layers[0].diff_id, "sha256:000"));
	assert_true(oci_digest_ok(f->image->digest));
	assert_true(oci_digest_ok(f->image->config_digest));
	assert_string_not_equal(f->image->digest, f->image->config_digest);
	assert_int_equal(c->env.n, 2);
	assert_string_equal(c->env.v[1], "B=2");
	assert_int_equal(c->entrypoint.n, 0);
	assert_string_equal(c->cmd.v[0], "sh");
	assert_string_equal(c->user, "web");
	assert_string_equal(c->workdir, "/srv");
	assert_string_equal(c->volumes.v[0], "/data");
	assert_string_equal(c->exposed_ports.v[0], "80/tcp");
	assert_string_equal(c->stop_signal, "SIGQUIT");
	assert_string_equal(c->os, "linux");
	assert_string_equal(label(f), "one");
}

static void test_config_text_is_kept(void **state)
{
	_cleanup_(oci_config_done) struct oci_config again = { 0 };
	_cleanup_(strv_done) struct strv diff_ids = { 0 };
	struct fixture *f = *state;
	const char *json;

	put_index(f, put_image(f, "one", ""), NULL);
	assert_int_equal(load(f, NULL), 0);
	json = f->image->config_json;
	assert_int_equal(oci_config_parse(json, strlen(json), &again, &diff_ids, &f->e), 0);
	assert_string_equal(again.workdir, "/srv");
	assert_int_equal(diff_ids.n, 1);
}

#define TAG(t)	    ",\"annotations\":{\"org.opencontainers.image.ref.name\":\"" t "\"}"
#define PLATFORM(p) ",\"platform\":{\"os\":\"linux\"," p "}"

static void test_tags(void **state)
{
	struct fixture *f = *state;
	char tag[OCI_DIGEST_LEN + 2];

	put_index(f, put_image(f, "one", TAG("v1")), put_image(f, "two", TAG("v2")), NULL);
	assert_int_equal(load(f, "v2"), 0);
	assert_string_equal(label(f), "two");
	assert_int_equal(load(f, "v1"), 0);
	assert_string_equal(label(f), "one");
	snprintf(tag, sizeof(tag), "@%s", f->image->digest);
	assert_int_equal(load(f, tag), 0);
	assert_string_equal(label(f), "one");

	assert_int_equal(load(f, NULL), -ENOENT);
	assert_non_null(strstr(f->e.msg, "no tag was given"));
	assert_non_null(strstr(f->e.hint, "\"v1\", \"v2\""));
	assert_int_equal(load(f, "v3"), -ENOENT);
	assert_non_null(strstr(f->e.msg, "\"v3\""));
	assert_non_null(strstr(f->e.hint, "\"v1\", \"v2\""));

	/* Two names of one image are no choice to make. */
	put_index(f, put_image(f, "one", TAG("v1")), put_image(f, "one", TAG("latest")), NULL);
	assert_int_equal(load(f, NULL), 0);
	put_index(f, NULL);
	assert_int_equal(load(f, NULL), -ENOENT);
}

static void test_foreign_tags_are_quoted(void **state)
{
	struct fixture *f = *state;

	put_index(f, put_image(f, "one", TAG("\\u001b[31m")), put_image(f, "two", TAG("b")), NULL);
	assert_int_equal(load(f, NULL), -ENOENT);
	assert_null(strchr(f->e.hint, '\x1b'));
}

static void test_platforms(void **state)
{
	struct fixture *f = *state;

	put_index(f,
		  put_image(f, "windows",
			    ",\"platform\":{\"os\":\"windows\",\"architecture\":"
			    "\"" OCI_ARCH "\"}"),
		  put_image(f, "other", PLATFORM("\"architecture\":\"riscv64\"")),
		  put_image(f, "v3",
			    PLATFORM("\"architecture\":\"" OCI_ARCH "\",\"variant\":\"v3\"")),
		  put_image(f, "ours", PLATFORM("\"architecture\":\"" OCI_ARCH "\"")), NULL);
	assert_int_equal(load(f, NULL), 0);
	assert_string_equal(label(f), "ours");

	put_index(f,
		  put_image(f, "v3",
			    PLATFORM("\"architecture\":\"" OCI_ARCH "\","
				     "\"variant\":\"v3\"")),
		  NULL);
	assert_int_equal(load(f, NULL), 0);

	put_index(f, put_image(f, "other", PLATFORM("\"architecture\":\"riscv64\"")), NULL);
	assert_int_equal(load(f, NULL), -ENOENT);
	assert_non_null(strstr(f->e.msg, "not made for linux/" OCI_ARCH));
}

/* An index around an entry, as a blob with @more in its descriptor. */
static char *wrap_index(struct fixture *f, char *entry, const char *more)
{
	_cleanup_(freep) char *text = str_printf("{\"schemaVersion\":2,\"manifests\":[%s]}", entry);

	free(entry);
	return put_blob(f, INDEX, text, more);
}

static void test_nested_indexes(void **state)
{
	struct fixture *f = *state;
	char *entry = put_image(f, "deep", PLATFORM("\"architecture\":\"" OCI_ARCH "\""));

	for (int i = 0; i < 4; i++)
		entry = wrap_index(f, entry, i == 3 ? TAG("v1") : "");
	put_index(f, strdup(entry), NULL);
	assert_int_equal(load(f, "v1"), 0);
	assert_string_equal(label(f), "deep");
	put_index(f, wrap_index(f, entry, ""), NULL);
	assert_int_equal(load(f, NULL), -EBADMSG);
	assert_non_null(strstr(f->e.msg, "nested"));
}

static void test_docker_types(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *layer =
		put_blob(f, "application/vnd.docker.image.rootfs.diff.tar.gzip", "x", "");
	_cleanup_(freep) char *config = put_blob(
		f, "application/vnd.docker.container.image.v1+json",
		"{\"architecture\":\"" OCI_ARCH "\",\"os\":\"linux\",\"config\":{\"User\":\"\"},"
		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:"
		"0000000000000000000000000000000000000000000000000000000000000000\"]}}",
		"");
	_cleanup_(freep) char *manifest =
		str_printf("{\"schemaVersion\":2,\"config\":%s,\"layers\":[%s]}", config, layer);

	put_index(f,
		  put_blob(f, "application/vnd.docker.distribution.manifest.v2+json", manifest, ""),
		  NULL);
	assert_int_equal(load(f, NULL), 0);
	assert_int_equal(f->image->layers[0].compression, OCI_GZIP);
	assert_null(f->image->config.user);
}

static void test_unsupported_types(void **state)
{
	struct fixture *f = *state;

	put_index(
		f,
		put_blob(f, "application/vnd.docker.distribution.manifest.v1+prettyjws", "{}", ""),
		NULL);
	assert_int_equal(load(f, NULL), -EOPNOTSUPP);
	put_index(f,
		  put_blob(f, MANIFEST,
			   "{\"schemaVersion\":2,\"layers\":[],\"config\":{\"mediaType\":"
			   "\"application/vnd.cncf.helm.config.v1+json\",\"size\":2,\"digest\":"
			   "\"sha256:0000000000000000000000000000000000000000000000000000000000"
			   "000000\"}}",
			   ""),
		  NULL);
	assert_int_equal(load(f, NULL), -EOPNOTSUPP);
	assert_non_null(strstr(f->e.msg, "helm"));
}

/* Load the only image after one of the files that it consists of was replaced. */
static void test_changed_blobs(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *name = NULL;
	char *entry = put_image(f, "one", "");
	char *digest = strstr(entry, "sha256:") + 7;

	name = str_printf("blobs/sha256/%.64s", digest);
	put_index(f, entry, NULL);
	assert_int_equal(load(f, NULL), 0);
	put_text(f, name, "{}");
	assert_int_equal(load(f, NULL), -EBADMSG);
	assert_non_null(strstr(f->e.msg, "bytes instead of"));
}

static void test_hostile_digests(void **state)
{
	static const char *const bad[] = {
		"sha256:../../../../etc/passwd",
		"sha256:ABCDEF6789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde/",
		"sha512:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		"",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put_index(f,
			  str_printf("{\"mediaType\":\"" MANIFEST "\",\"size\":2,\"digest\":"
				     "\"%s\"}",
				     bad[i]),
			  NULL);
		assert_int_equal(load(f, NULL), -EBADMSG);
		assert_non_null(strstr(f->e.msg, "digest"));
	}
}

/* What has the right name but is no regular file is neither followed nor waited for. */
static void test_special_files(void **state)
{
	struct fixture *f = *state;
	char *entry = put_image(f, "one", "");
	_cleanup_(freep) char *path = str_printf("%s/blobs/sha256/%.64s", f->dir,
						 strstr(entry, "sha256:") + 7);
	_cleanup_(freep) char *moved = str_printf("%s/moved", f->dir);

	put_index(f, entry, NULL);
	assert_int_equal(rename(path, moved), 0);
	assert_int_equal(symlink("../../moved", path), 0);
	assert_int_equal(load(f, NULL), -ELOOP);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(load(f, NULL), -EBADMSG);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(load(f, NULL), -ENOENT);
	assert_int_equal(rename(moved, path), 0);
	assert_int_equal(load(f, NULL), 0);
}

static void test_bad_json(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{\"schemaVersion\":2",
		"{\"schemaVersion\":\"2\",\"manifests\":[]}",
		"{\"schemaVersion\":1,\"manifests\":[]}",
		"{\"schemaVersion\":2,\"manifests\":{}}",
		"{\"schemaVersion\":2,\"manifests\":[]} x",
		"{\"schemaVersion\":2,\"manifests\":[1]}",
		"{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"a\",\"size\":-1,"
		"\"digest\":\"sha256:"
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}]}",
		"{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"a\\u0000b\",\"size\":1,"
		"\"digest\":\"sha256:"
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}]}",
		"{\"schemaVersion\":2,\"manifests\":[\"\xff\"]}",
		"{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put_text(f, "index.json", bad[i]);
		if (load(f, NULL) != -EBADMSG)
			fail_msg("accepted: %s", bad[i]);
	}
}

static void test_limits(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *big = malloc(OCI_DOC_MAX + 2);

	memset(big, ' ', OCI_DOC_MAX + 1);
	put_file(f, "index.json", big, OCI_DOC_MAX + 1);
	assert_int_equal(load(f, NULL), -EBADMSG);
	assert_non_null(strstr(f->e.msg, "larger than"));

	/* Small, but of very many values. */
	memset(big, ',', 100000);
	big[0] = '[';
	put_file(f, "index.json", big, 100000);
	assert_int_equal(load(f, NULL), -EBADMSG);
	assert_non_null(strstr(f->e.msg, "too large"));

	put_index(f,
		  str_printf("{\"mediaType\":\"" MANIFEST "\",\"size\":%zu,\"digest\":\"sha256:"
			     "%064d\"}",
			     OCI_DOC_MAX + 1, 0),
		  NULL);
	assert_int_equal(load(f, NULL), -EBADMSG);
	assert_non_null(strstr(f->e.msg, "larger than"));
}

static void test_layers_and_diff_ids_differ(void **state)
{
	struct fixture *f = *state;
	_cleanup_(freep) char *config = put_blob(f, CONFIG,
						 "{\"architecture\":\"" OCI_ARCH
						 "\",\"os\":\"linux\",\"rootfs\":{\"type\":"
						 "\"layers\",\"diff_ids\":[]}}",
						 "");
	_cleanup_(freep) char *layer = put_blob(f, LAYER, "x", "");
	_cleanup_(freep) char *manifest =
		str_printf("{\"schemaVersion\":2,\"config\":%s,\"layers\":[%s]}", config, layer);

	put_index(f, put_blob(f, MANIFEST, manifest, ""), NULL);
	assert_int_equal(load(f, NULL), -EBADMSG);
	assert_non_null(strstr(f->e.msg, "manifest has 1 layers, config has 0"));
}

static void test_no_layout(void **state)
{
	struct fixture *f = *state;
	struct oci_layout *layout = NULL;
	_cleanup_(freep) char *missing = str_printf("%s/nothing", f->dir);
	_cleanup_(freep) char *blobs = str_printf("%s/blobs", f->dir);

	assert_int_equal(oci_layout_open(missing, &layout, &f->e), -ENOENT);
	assert_int_equal(oci_layout_open(blobs, &layout, &f->e), -EBADMSG);
	assert_non_null(strstr(f->e.msg, "no OCI layout"));
	put_text(f, "oci-layout", "{\"imageLayoutVersion\":\"2.0.0\"}");
	assert_int_equal(oci_layout_open(f->dir, &layout, &f->e), -EBADMSG);
	assert_non_null(strstr(f->e.msg, "version"));
}

static void test_blob(void **state)
{
	_cleanup_(oci_blob_freep) struct oci_blob *blob = NULL;
	struct fixture *f = *state;
	char data[8];

	put_index(f, put_image(f, "some bytes", ""), NULL);
	assert_int_equal(load(f, NULL), 0);
	assert_int_equal(oci_blob_open(f->layout, &f->image->layers[0].desc, &blob, &f->e), 0);
	assert_int_equal(oci_blob_read(blob, data, 8, &f->e), 8);
	assert_memory_equal(data, "some byt", 8);
	assert_int_equal(oci_blob_read(blob, data, 8, &f->e), 2);
	assert_int_equal(oci_blob_read(blob, data, 8, &f->e), 0);
	assert_int_equal(oci_blob_finish(blob, &f->e), 0);
}

static void test_blob_with_wrong_digest(void **state)
{
	struct fixture *f = *state;
	_cleanup_(oci_blob_freep) struct oci_blob *blob = NULL;
	_cleanup_(oci_blob_freep) struct oci_blob *unread = NULL;
	_cleanup_(freep) char *name = NULL;
	char data[64];

	put_index(f, put_image(f, "some bytes", ""), NULL);
	assert_int_equal(load(f, NULL), 0);
	name = str_printf("blobs/sha256/%s", f->image->layers[0].desc.digest + 7);
	put_text(f, name, "SOME bytes");
	assert_int_equal(oci_blob_open(f->layout, &f->image->layers[0].desc, &blob, &f->e), 0);
	assert_int_equal(oci_blob_read(blob, data, sizeof(data), &f->e), 10);
	assert_int_equal(oci_blob_read(blob, data, sizeof(data), &f->e), -EBADMSG);
	assert_non_null(strstr(f->e.msg, "digest mismatch"));
	assert_int_equal(oci_blob_finish(blob, &f->e), -EBADMSG);
	/* Also when nobody read to the end. */
	assert_int_equal(oci_blob_open(f->layout, &f->image->layers[0].desc, &unread, &f->e), 0);
	assert_int_equal(oci_blob_finish(unread, &f->e), -EBADMSG);
}

static void test_blob_that_shrinks(void **state)
{
	_cleanup_(oci_blob_freep) struct oci_blob *blob = NULL;
	struct fixture *f = *state;
	_cleanup_(freep) char *path = NULL;
	char data[4];

	put_index(f, put_image(f, "some bytes", ""), NULL);
	assert_int_equal(load(f, NULL), 0);
	path = str_printf("%s/blobs/sha256/%s", f->dir, f->image->layers[0].desc.digest + 7);
	assert_int_equal(oci_blob_open(f->layout, &f->image->layers[0].desc, &blob, &f->e), 0);
	assert_int_equal(oci_blob_read(blob, data, 4, &f->e), 4);
	assert_int_equal(truncate(path, 4), 0);
	assert_int_equal(oci_blob_read(blob, data, 4, &f->e), -EBADMSG);
	assert_int_equal(oci_blob_read(blob, data, 4, &f->e), -EBADMSG);
}

/* A skopeo of our own in PATH: a script. */
static void fake_skopeo(struct fixture *f, const char *script)
{
	_cleanup_(freep) char *path = str_printf("%s/skopeo", f->dir);

	assert_int_equal(file_replace(AT_FDCWD, path, script, strlen(script), 0755), 0);
	assert_int_equal(setenv("PATH", f->dir, 1), 0);
}

static void keep_line(void *data, const char *line)
{
	assert_int_equal(strv_add(data, line), 0);
}

static void test_fetch(void **state)
{
	struct fixture *f = *state;
	_cleanup_(oci_ref_done) struct oci_ref ref = { 0 };
	_cleanup_(strv_done) struct strv lines = { 0 };
	_cleanup_(freep) char *path = strdup(getenv("PATH"));
	struct oci_fetch_options options = { "/auth.json", keep_line, &lines };

	assert_int_equal(oci_ref_parse("debian:12", &ref, &f->e), 0);
	fake_skopeo(f, "#!/bin/sh\necho \"$@\"\nprintf 'Copying\\rblob\\n\\nno newline'\n");
	assert_int_equal(oci_fetch(&ref, "/dest", &options, &f->e), 0);
	assert_int_equal(lines.n, 4);
	assert_non_null(strstr(lines.v[0], "--override-os linux --override-arch " OCI_ARCH));
	assert_non_null(strstr(lines.v[0], "copy --authfile /auth.json "
					   "docker://docker.io/library/debian:12 "
					   "oci:/dest:latest"));
	assert_string_equal(lines.v[2], "blob");
	assert_string_equal(lines.v[3], "no newline");
	setenv("PATH", path, 1);
}

static void test_fetch_fails(void **state)
{
	struct fixture *f = *state;
	_cleanup_(oci_ref_done) struct oci_ref ref = { 0 };
	_cleanup_(oci_ref_done) struct oci_ref archive = { 0 };
	_cleanup_(freep) char *path = strdup(getenv("PATH"));

	assert_int_equal(oci_ref_parse("debian:12", &ref, &f->e), 0);
	fake_skopeo(f, "#!/bin/sh\necho one\n"
		       "echo 'time=\"x\" level=fatal msg=\"no \\\"such\\\" image\" a=b' >&2\n"
		       "exit 1\n");
	assert_int_equal(oci_fetch(&ref, "/dest", NULL, &f->e), -ECHILD);
	assert_string_equal(f->e.msg, "cannot get image docker://docker.io/library/debian:12: "
				      "no \"such\" image");
	assert_int_equal(oci_fetch(&ref, "/de:st", NULL, &f->e), -EINVAL);
	assert_int_equal(oci_ref_parse("oci-archive:/no/such/file", &archive, &f->e), 0);
	assert_int_equal(oci_fetch(&archive, "/dest", NULL, &f->e), -ENOENT);
	assert_non_null(strstr(f->e.msg, "/no/such/file"));
	setenv("PATH", path, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ref),
		cmocka_unit_test(test_ref_hints),
		TEST(test_image),
		TEST(test_config_text_is_kept),
		TEST(test_tags),
		TEST(test_foreign_tags_are_quoted),
		TEST(test_platforms),
		TEST(test_nested_indexes),
		TEST(test_docker_types),
		TEST(test_unsupported_types),
		TEST(test_changed_blobs),
		TEST(test_hostile_digests),
		TEST(test_special_files),
		TEST(test_bad_json),
		TEST(test_limits),
		TEST(test_layers_and_diff_ids_differ),
		TEST(test_no_layout),
		TEST(test_blob),
		TEST(test_blob_with_wrong_digest),
		TEST(test_blob_that_shrinks),
		TEST(test_fetch),
		TEST(test_fetch_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
