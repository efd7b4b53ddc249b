/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Names of images, in the syntax that podman and skopeo share (containers-transports(5)), and
 * registry names (the grammar of github.com/distribution/reference).
 */

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "oci/internal.h"

#define NAME_MAX_LEN 255
#define TAG_MAX_LEN  128
#define DOCKER_HOST  "docker.io"

static const struct {
	const char *prefix;
	enum oci_transport transport;
} transports[] = {
	{ "oci:", OCI_LAYOUT },
	{ "oci-archive:", OCI_ARCHIVE },
	{ "docker-archive:", OCI_DOCKER_ARCHIVE },
	{ "dir:", OCI_DIR },
	{ "docker://", OCI_DOCKER },
};

/* Transports of podman whose images live in stores that only their owners can read. */
static const char *const foreign_transports[] = { "containers-storage:", "docker-daemon:",
						  "ostree:", "sif:", "tarball:" };

static const char *transport_prefix(enum oci_transport transport)
{
	for (size_t i = 0; i < ARRAY_SIZE(transports); i++)
		if (transports[i].transport == transport)
			return transports[i].prefix;
	return "";
}

void oci_ref_done(struct oci_ref *ref)
{
	free(ref->path);
	free(ref->tag);
	free(ref->name);
	*ref = (struct oci_ref){ 0 };
}

/* PATH[:TAG]; as with skopeo the path ends at the first colon. */
static int parse_path(const char *text, struct oci_ref *ref, struct err *e)
{
	const char *colon = ref->transport == OCI_DIR ? NULL : strchr(text, ':');

	ref->path = colon ? strndup(text, (size_t)(colon - text)) : strdup(text);
	if (!ref->path || (colon && str_set(&ref->tag, colon + 1) < 0))
		return err_oom(e);
	if (!*ref->path || (ref->tag && !*ref->tag))
		return err_set(e, -EINVAL, "image %s has an empty %s",
			       transport_prefix(ref->transport), *ref->path ? "tag" : "path");
	return 0;
}

static bool tag_ok(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > TAG_MAX_LEN || *s == '.' || *s == '-')
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("_.-", *s))
			return false;
	return true;
}

/* HOST[:PORT]; what only matters to skopeo (a valid address) is left to it. */
static bool host_ok(const char *s, size_t n)
{
	if (n == 0 || !(isalnum((unsigned char)*s) || *s == '['))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr(".-:[]", s[i]))
			return false;
	return true;
}

/* Components of lower-case letters and digits, with separators between them. */
static bool repository_ok(const char *s)
{
	char before = '/';

	for (; *s; s++) {
		bool alnum = islower((unsigned char)*s) || isdigit((unsigned char)*s);

		if (!alnum && !strchr("._-/", *s))
			return false;
		if (*s == '/' && !isalnum((unsigned char)before))
			return false;
		if (!alnum && *s != '/' && before == '/')
			return false;
		before = *s;
	}
	return isalnum((unsigned char)before);
}

/* Length of the registry's host at the start of a name, 0: there is none. */
static size_t host_len(const char *name)
{
	const char *slash = strchr(name, '/');
	size_t n = slash ? (size_t)(slash - name) : 0;

	if (n == 0)
		return 0;
	if (memchr(name, '.', n) || memchr(name, ':', n))
		return n;
	return n == strlen("localhost") && str_starts(name, "localhost") ? n : 0;
}

/* Complete REPOSITORY to HOST/REPOSITORY with the defaults of Docker's registry. */
static char *complete(const char *repository, const char *suffix)
{
	size_t n = host_len(repository);
	const char *rest = n ? repository + n + 1 : repository;
	bool docker = n == 0 || (n == strlen(DOCKER_HOST) && str_starts(repository, DOCKER_HOST)) ||
		      (n == strlen("index." DOCKER_HOST) &&
		       str_starts(repository, "index." DOCKER_HOST));

	if (!docker)
		return str_printf("%s%s", repository, suffix);
	return str_printf(DOCKER_HOST "/%s%s%s", strchr(rest, '/') ? "" : "library/", rest, suffix);
}

/* Why a registry name is wrong, or NULL; cuts it: *@tag and *@digest point behind their marks. */
static const char *split_name(char *name, char **tag, char **digest)
{
	size_t n;
	char *last;

	*tag = NULL;
	*digest = strchr(name, '@');
	if (*digest)
		*(*digest)++ = '\0';
	last = strrchr(name, '/');
	*tag = strchr(last ? last : name, ':');
	if (*tag)
		*(*tag)++ = '\0';
	if (*digest && !oci_digest_ok(*digest))
		return "its digest is not sha256: and 64 hexadecimal digits";
	if (*tag && !tag_ok(*tag))
		return "its tag is not of letters, digits, '_', '.' and '-'";
	n = host_len(name);
	if (strlen(name) > NAME_MAX_LEN || (n && !host_ok(name, n)) ||
	    !repository_ok(n ? name + n + 1 : name))
		return "a name is [HOST/]REPOSITORY[:TAG|@sha256:DIGEST] in lower case";
	return NULL;
}

static int parse_name(const char *text, struct oci_ref *ref, struct err *e)
{
	_cleanup_(freep) char *name = strdup(text);
	_cleanup_(freep) char *suffix = NULL;
	const char *why;
	char quoted[160];
	char *digest;
	char *tag;

	if (!name)
		return err_oom(e);
	why = split_name(name, &tag, &digest);
	if (why)
		return err_set(e, -EINVAL, "bad image name %s: %s",
			       log_quote(quoted, sizeof(quoted), text), why);
	/* With both, podman ignores the tag: the digest says more. */
	suffix = digest ? str_printf("@%s", digest) : str_printf(":%s", tag ? tag : "latest");
	ref->transport = OCI_DOCKER;
	ref->name = suffix ? complete(name, suffix) : NULL;
	return ref->name ? 0 : err_oom(e);
}

static int parse_bare(const char *text, struct oci_ref *ref, struct err *e)
{
	char quoted[160];

	for (size_t i = 0; i < ARRAY_SIZE(foreign_transports); i++) {
		if (!str_starts(text, foreign_transports[i]))
			continue;
		err_set(e, -EINVAL, "images of kind %s can't be read", foreign_transports[i]);
		err_hint(e, "save it first: podman save -o FILE IMAGE, docker save -o FILE IMAGE; "
			    "then use docker-archive:FILE");
		return -EINVAL;
	}
	if (text[0] == '/' || text[0] == '.') {
		err_set(e, -EINVAL, "%s is a path, not the name of an image",
			log_quote(quoted, sizeof(quoted), text));
		err_hint(e, "say what it is: oci:DIR, oci-archive:FILE, docker-archive:FILE or "
			    "dir:ROOTFS");
		return -EINVAL;
	}
	return parse_name(text, ref, e);
}

static int parse(const char *text, struct oci_ref *ref, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(transports); i++) {
		if (!str_starts(text, transports[i].prefix))
			continue;
		text += strlen(transports[i].prefix);
		ref->transport = transports[i].transport;
		return ref->transport == OCI_DOCKER ? parse_name(text, ref, e)
						    : parse_path(text, ref, e);
	}
	return parse_bare(text, ref, e);
}

int oci_ref_parse(const char *text, struct oci_ref *ret, struct err *e)
{
	_cleanup_(oci_ref_done) struct oci_ref ref = { 0 };
	int r;

	if (str_empty(text))
		return err_set(e, -EINVAL, "the name of the image is empty");
	r = parse(text, &ref, e);
	if (r < 0)
		return r;
	*ret = ref;
	ref = (struct oci_ref){ 0 };
	return 0;
}

char *oci_ref_text(const struct oci_ref *ref)
{
	const char *prefix = transport_prefix(ref->transport);

	if (ref->transport == OCI_DOCKER)
		return str_printf("%s%s", prefix, ref->name);
	return str_printf("%s%s%s%s", prefix, ref->path, ref->tag ? ":" : "",
			  ref->tag ? ref->tag : "");
}
