/* SPDX-License-Identifier: Apache-2.0 */

/* Blobs: content that is verified while it is read. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "oci/digest.h"
#include "oci/internal.h"

#define DIGEST_PREFIX "sha256:"

/**
 * struct oci_blob - A blob that is being read
 * @fd:		File
 * @md:		SHA-256 of what was read
 * @left:	Bytes to come
 * @digest:	What it has to be in the end
 * @result:	Of the verification: 1: not yet done, 0, or a negative errno
 */
struct oci_blob {
	int fd;
	struct sha256_ctx md;
	uint64_t left;
	char digest[OCI_DIGEST_LEN + 1];
	int result;
};

bool oci_digest_ok(const char *s)
{
	return strlen(s) == OCI_DIGEST_LEN && str_starts(s, DIGEST_PREFIX) &&
	       strspn(s + strlen(DIGEST_PREFIX), "0123456789abcdef") == 2 * SHA256_DIGEST_SIZE;
}

void oci_blob_free(struct oci_blob *blob)
{
	if (!blob)
		return;
	if (blob->fd >= 0)
		close(blob->fd);
	free(blob);
}

static int open_file(const struct oci_layout *layout, const struct oci_descriptor *desc,
		     struct err *e)
{
	_cleanup_(close_fdp) int fd = -EBADF;
	char path[OCI_DIGEST_LEN + sizeof("blobs/")];
	uint64_t size;

	/* The digest becomes a path: it is checked here again, whoever made the descriptor. */
	if (!oci_digest_ok(desc->digest))
		return err_set(e, -EBADMSG, "bad digest of a blob");
	snprintf(path, sizeof(path), "blobs/sha256/%s", desc->digest + strlen(DIGEST_PREFIX));
	fd = oci_layout_open_file(layout, path, &size, e);
	if (fd < 0)
		return fd;
	if (size != desc->size)
		return err_set(e, -EBADMSG, "blob %s has %llu bytes instead of %llu", desc->digest,
			       (unsigned long long)size, (unsigned long long)desc->size);
	return TAKE_FD(fd);
}

int oci_blob_open(const struct oci_layout *layout, const struct oci_descriptor *desc,
		  struct oci_blob **ret, struct err *e)
{
	_cleanup_(oci_blob_freep) struct oci_blob *blob = calloc(1, sizeof(*blob));

	if (!blob)
		return err_oom(e);
	blob->left = desc->size;
	blob->result = 1;
	memcpy(blob->digest, desc->digest, sizeof(blob->digest));
	blob->fd = open_file(layout, desc, e);
	if (blob->fd < 0)
		return blob->fd;
	sha256_init(&blob->md);
	*ret = TAKE_PTR(blob);
	return 0;
}

static int verify(struct oci_blob *blob)
{
	char hex[SHA256_HEX_SIZE];

	sha256_hex(&blob->md, hex);
	return str_eq(hex, blob->digest + strlen(DIGEST_PREFIX)) ? 0 : -EBADMSG;
}

static int at_end(struct oci_blob *blob, struct err *e)
{
	if (blob->result > 0)
		blob->result = verify(blob);
	if (blob->result == -EBADMSG)
		return err_set(e, -EBADMSG, "blob %s: digest mismatch", blob->digest);
	return 0;
}

ssize_t oci_blob_read(struct oci_blob *blob, void *data, size_t n, struct err *e)
{
	ssize_t got;

	if (blob->left == 0 || blob->result <= 0)
		return at_end(blob, e);
	got = fd_read_full(blob->fd, data, (size_t)MIN((uint64_t)n, blob->left));
	if (got < 0)
		return err_errno(e, (int)got, "blob %s: cannot read it", blob->digest);
	blob->left -= (uint64_t)got;
	if (got == 0 && n > 0) {
		blob->result = -EBADMSG; /* it has become shorter */
		return at_end(blob, e);
	}
	sha256_update(&blob->md, (size_t)got, data);
	return got;
}

int oci_blob_finish(struct oci_blob *blob, struct err *e)
{
	_cleanup_(freep) char *rest = malloc((size_t)64 << 10);
	ssize_t n;

	if (!rest)
		return err_oom(e);
	do
		n = oci_blob_read(blob, rest, (size_t)64 << 10, e);
	while (n > 0);
	return (int)n;
}

int oci_blob_load(const struct oci_layout *layout, const struct oci_descriptor *desc, char **ret,
		  size_t *ret_len, struct err *e)
{
	_cleanup_(oci_blob_freep) struct oci_blob *blob = NULL;
	_cleanup_(freep) char *text = NULL;
	ssize_t n;
	int r;

	if (desc->size > OCI_DOC_MAX)
		return err_set(e, -EBADMSG, "blob %s is larger than %zu bytes", desc->digest,
			       OCI_DOC_MAX);
	r = oci_blob_open(layout, desc, &blob, e);
	if (r < 0)
		return r;
	text = malloc((size_t)desc->size + 1);
	if (!text)
		return err_oom(e);
	n = oci_blob_read(blob, text, (size_t)desc->size, e);
	r = n < 0 ? (int)n : oci_blob_finish(blob, e);
	if (r < 0)
		return r;
	text[n] = '\0';
	*ret_len = (size_t)n;
	*ret = TAKE_PTR(text);
	return 0;
}
