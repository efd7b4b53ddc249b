/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "oci/digest.h"
#include "storage/layer_entry.h"

/**
 * struct stream - The uncompressed bytes of a layer
 * @job:	Whose
 * @source:	Compressed bytes
 * @raw:	The decompressor
 * @md:		SHA-256 of what came out
 * @in:		Bytes that went in
 * @out:	Bytes that came out
 * @empty:	There are none
 * @buf:	What goes in next
 * @e:		Where failures are recorded
 */
struct stream {
	struct layer_job *job;
	const struct layer_source *source;
	struct archive *raw;
	struct sha256_ctx md;
	uint64_t in;
	uint64_t out;
	bool empty;
	uint8_t buf[128 << 10];
	struct err *e;
};

static void archive_freep(struct archive **a)
{
	archive_read_free(*a);
}

static void stream_free(struct stream *s)
{
	archive_read_free(s->raw);
	free(s);
}

DEFINE_CLEANUP(stream_freep, struct stream *, stream_free)

/* libarchive asks for compressed bytes. */
static la_ssize_t read_source(struct archive *a, void *data, const void **ret)
{
	struct stream *s = data;
	ssize_t n = s->source->read(s->source->data, s->buf, sizeof(s->buf), s->e);

	if (n < 0) {
		s->job->source_error = (int)n;
		archive_set_error(a, EIO, "cannot read the layer");
		return ARCHIVE_FATAL;
	}
	s->in += (uint64_t)n;
	*ret = s->buf;
	return n;
}

static int check_limits(struct stream *s, size_t n)
{
	const struct layer_limits *limits = &s->job->target->limits;

	if (n > limits->bytes - s->job->target->bytes)
		return layer_limit(s->e, "uncompressed size", limits->bytes, "bytes");
	s->job->target->bytes += n;
	s->out += n;
	if (s->out > limits->ratio_from && s->out / limits->ratio > s->in)
		return layer_limit(s->e, "compression ratio", limits->ratio, "to one");
	return 0;
}

static int decompress_error(struct stream *s)
{
	const char *text = archive_error_string(s->raw);
	char quoted[200];

	if (s->job->source_error < 0)
		return s->job->source_error;
	log_quote(quoted, sizeof(quoted), text ? text : "unknown error");
	return err_set(s->e, -EBADMSG, "cannot uncompress: %s", quoted);
}

/* The next uncompressed bytes, hashed and counted. Return: bytes, 0 at the end, negative errno */
static ssize_t stream_next(struct stream *s, const void **ret)
{
	size_t n = 0;
	int64_t offset;
	int r;

	if (s->empty)
		return 0;
	do {
		r = archive_read_data_block(s->raw, ret, &n, &offset);
		if (r == ARCHIVE_EOF)
			return 0;
		if (r != ARCHIVE_OK)
			return decompress_error(s);
	} while (n == 0);
	r = check_limits(s, n);
	if (r < 0)
		return r;
	sha256_update(&s->md, n, *ret);
	return (ssize_t)n;
}

/* libarchive asks for bytes of the tar file. */
static la_ssize_t read_stream(struct archive *a, void *data, const void **ret)
{
	struct stream *s = data;
	ssize_t n = stream_next(s, ret);

	if (n < 0) {
		s->job->source_error = (int)n;
		archive_set_error(a, EIO, "cannot read the layer");
		return ARCHIVE_FATAL;
	}
	return n;
}

static int stream_open(struct layer_job *job, const struct layer_source *source,
		       struct stream **ret, struct err *e)
{
	_cleanup_(stream_freep) struct stream *s = calloc(1, sizeof(*s));
	struct archive_entry *entry;
	int r;

	if (!s)
		return err_oom(e);
	s->job = job;
	s->source = source;
	s->e = e;
	sha256_init(&s->md);
	s->raw = archive_read_new();
	if (!s->raw || archive_read_support_filter_gzip(s->raw) != ARCHIVE_OK ||
	    archive_read_support_filter_zstd(s->raw) != ARCHIVE_OK ||
	    archive_read_support_format_raw(s->raw) != ARCHIVE_OK ||
	    archive_read_support_format_empty(s->raw) != ARCHIVE_OK)
		return err_set(e, -ENOMEM, "cannot set up libarchive for layers");
	if (archive_read_open(s->raw, s, NULL, read_source, NULL) != ARCHIVE_OK)
		return decompress_error(s);
	r = archive_read_next_header(s->raw, &entry);
	if (r != ARCHIVE_OK && r != ARCHIVE_EOF)
		return decompress_error(s);
	s->empty = r == ARCHIVE_EOF;
	*ret = TAKE_PTR(s);
	return 0;
}

/* Read what follows the archive, it belongs to the digest. */
static int stream_drain(struct stream *s)
{
	const void *data;
	ssize_t n;

	while ((n = stream_next(s, &data)) > 0)
		continue;
	return (int)n;
}

static int check_diff_id(struct stream *s, const char *diff_id)
{
	char text[7 + SHA256_HEX_SIZE] = "sha256:";

	sha256_hex(&s->md, text + 7);
	if (!diff_id || str_eq(text, diff_id))
		return 0;
	err_set(s->e, -EBADMSG, "digest mismatch: the uncompressed layer is %s, not %s", text,
		diff_id);
	err_hint(s->e, "The image is damaged or not what its author made; fetch it again.");
	return -EBADMSG;
}

/*
 * A warning about text that is not in the locale's character set is none: we want its bytes. Any
 * other warning means that the header was not understood.
 */
static bool is_charset_warning(struct archive *tar)
{
	const char *text = archive_error_string(tar);

	return text && strstr(text, "to current locale");
}

static int apply_entries(struct layer_job *job, struct err *e)
{
	struct archive_entry *entry;
	int r;

	while ((r = archive_read_next_header(job->tar, &entry)) != ARCHIVE_EOF) {
		if (r != ARCHIVE_OK && !(r == ARCHIVE_WARN && is_charset_warning(job->tar)))
			return layer_archive_error(job, e);
		r = -EDQUOT;
		if (job->tree.objects_left > 0) {
			job->tree.objects_left--;
			r = layer_entry_apply(job, entry, e);
		}
		if (r == -EDQUOT && job->tree.objects_left == 0)
			return layer_limit(e, "entries", job->target->limits.entries, "entries");
		if (r < 0)
			return r;
	}
	return 0;
}

static int open_tar(struct layer_job *job, struct stream *s, struct err *e)
{
	if (archive_read_support_format_tar(job->tar) != ARCHIVE_OK ||
	    archive_read_support_format_empty(job->tar) != ARCHIVE_OK)
		return err_set(e, -ENOMEM, "cannot set up libarchive for layers");
	if (archive_read_open(job->tar, s, NULL, read_stream, NULL) != ARCHIVE_OK)
		return layer_archive_error(job, e);
	return 0;
}

static int apply(struct layer_job *job, const struct layer_source *source, const char *diff_id,
		 struct err *e)
{
	_cleanup_(stream_freep) struct stream *s = NULL;
	_cleanup_(archive_freep) struct archive *tar = archive_read_new();
	int r;

	if (!tar)
		return err_oom(e);
	job->tar = tar;
	r = stream_open(job, source, &s, e);
	if (r == 0)
		r = open_tar(job, s, e);
	if (r == 0)
		r = apply_entries(job, e);
	if (r == 0)
		r = stream_drain(s);
	return r < 0 ? r : check_diff_id(s, diff_id);
}

int layer_apply(struct layer_target *target, const struct layer_source *source, const char *diff_id,
		struct err *e)
{
	struct layer_job job = { .target = target };
	locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	locale_t before;
	int r;

	if (!c_locale)
		return err_oom(e);
	tree_init(&job.tree, target->root_fd, target->limits.path, target->limits.depth,
		  target->limits.entries - target->entries);
	before = uselocale(c_locale);
	r = apply(&job, source, diff_id, e);
	uselocale(before);
	freelocale(c_locale);
	target->entries = target->limits.entries - job.tree.objects_left;
	tree_done(&job.tree);
	return r;
}
