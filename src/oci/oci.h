/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_OCI_OCI_H
#define PODVM_OCI_OCI_H

/*
 * Theory of operation
 *
 * From what a user types to layers that can be unpacked, in three steps:
 *
 *  1. oci_ref_parse() tells what kind of image is meant (see enum oci_transport).
 *  2. Everything but a layout and a plain directory is copied into an OCI layout first, by
 *     oci_fetch(), that is by Debian's skopeo as a child: registries, credentials, mirrors and
 *     archive formats are its business, not ours.
 *  3. oci_layout_open() and oci_image_load() read the layout: index -> manifest -> config, each
 *     checked against the size and SHA-256 digest by which it was named. Layers are streamed with
 *     oci_blob_open() / oci_blob_read() / oci_blob_finish().
 *
 *	struct oci_ref ref; parse -> (fetch) -> layout -> image -> blob of every layer
 *
 * A layout is hostile input. Index, manifest and config have at most OCI_DOC_MAX bytes, strict
 * UTF-8 JSON of limited depth; a blob is only ever opened as blobs/sha256/<64 hex digits> below
 * the layout and has to be a regular file of the size that its descriptor tells. What a layer
 * holds may be used only after oci_blob_finish() has returned 0: until then its bytes are those
 * of anybody. The diff_ids (digests of the uncompressed layers) are checked by who uncompresses.
 *
 * Specifications: OCI image-spec v1.1 (image-layout, image-index, manifest, config, descriptor),
 * Docker image manifest version 2, schema 2. Building runtime specs: see oci/spec.h.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/str.h"

#define OCI_DOC_MAX    ((size_t)4 << 20) /* bytes of an index, a manifest, an image config */
#define OCI_LAYERS_MAX 512
#define OCI_DIGEST_LEN 71 /* "sha256:" and 64 lower-case hexadecimal digits */

/* Where an image comes from. */
enum oci_transport {
	OCI_LAYOUT,	    /* oci:DIR[:TAG] */
	OCI_ARCHIVE,	    /* oci-archive:FILE[:TAG] */
	OCI_DOCKER_ARCHIVE, /* docker-archive:FILE[:REF] */
	OCI_DIR,	    /* dir:ROOTFS, an unpacked root file system without a config */
	OCI_DOCKER,	    /* docker://NAME[:TAG|@DIGEST] or a bare name as podman takes it */
};

/**
 * struct oci_ref - An image as the user named it
 * @transport:	Kind
 * @path:	Directory or file (all but OCI_DOCKER), else NULL
 * @tag:	Tag or reference inside of @path, NULL: none was given
 * @name:	OCI_DOCKER: complete name, e.g. "docker.io/library/debian:12", else NULL
 */
struct oci_ref {
	enum oci_transport transport;
	char *path;
	char *tag;
	char *name;
};

/**
 * oci_ref_parse() - Understand the name of an image
 * @text:	What the user typed
 * @ret:	Filled in on success, to be released with oci_ref_done()
 * @e:		Says what is wrong with it
 *
 * A bare name gets podman's defaults: docker.io, library/, :latest.
 *
 * Return: 0, -EINVAL or -ENOMEM
 */
int oci_ref_parse(const char *text, struct oci_ref *ret, struct err *e);

/** oci_ref_text() - The reference in its canonical, complete form; the caller frees it */
char *oci_ref_text(const struct oci_ref *ref);

/** oci_ref_done() - Free what it holds */
void oci_ref_done(struct oci_ref *ref);

/**
 * struct oci_fetch_options - How to copy an image into a layout
 * @authfile:	Credentials (skopeo's --authfile), NULL: its own defaults
 * @progress:	Called with every line that skopeo prints, without its newline; may be NULL
 * @data:	For @progress
 */
struct oci_fetch_options {
	const char *authfile;
	void (*progress)(void *data, const char *line);
	void *data;
};

/**
 * oci_fetch() - Copy an image of any kind but OCI_DIR into an OCI layout
 * @ref:	Source
 * @dest:	Directory of the layout; it is made. Its only image is tagged "latest". What is in
 *		it after a failure is garbage that the caller removes
 * @options:	May be NULL
 * @e:		Has the last line that skopeo printed, or how to get skopeo
 *
 * Runs skopeo (at most 30 minutes) and blocks meanwhile; it dies with the calling process.
 *
 * Return: 0, -ENOENT (no skopeo), -ETIMEDOUT, -ECHILD (it failed) or another negative errno
 */
int oci_fetch(const struct oci_ref *ref, const char *dest, const struct oci_fetch_options *options,
	      struct err *e);

/** oci_ref_needs_fetch() - Whether oci_fetch() has to make a layout of it first */
static inline bool oci_ref_needs_fetch(const struct oci_ref *ref)
{
	return ref->transport != OCI_LAYOUT && ref->transport != OCI_DIR;
}

/**
 * struct oci_descriptor - What names a blob
 * @media_type:	Its type, never NULL
 * @digest:	"sha256:" and 64 lower-case hexadecimal digits, checked
 * @size:	Bytes
 */
struct oci_descriptor {
	char *media_type;
	char digest[OCI_DIGEST_LEN + 1];
	uint64_t size;
};

enum oci_compression { OCI_PLAIN, OCI_GZIP, OCI_ZSTD };

/**
 * struct oci_layer - One layer, a tar file
 * @desc:	Its blob
 * @compression: As its media type tells
 * @diff_id:	Digest of the uncompressed tar, as the image config tells; as oci_descriptor.digest
 */
struct oci_layer {
	struct oci_descriptor desc;
	enum oci_compression compression;
	char diff_id[OCI_DIGEST_LEN + 1];
};

/* Names with values, in their order; all owned. */
struct oci_map {
	struct oci_pair {
		char *key;
		char *value;
	} * v;
	size_t n;
};

/** oci_map_add() - Append copies, or replace the value of a key. Return: 0 or -ENOMEM */
int oci_map_add(struct oci_map *map, const char *key, const char *value);

/** oci_map_get() - Value of a key, NULL: there is none */
const char *oci_map_get(const struct oci_map *map, const char *key);

/** oci_map_done() - Free everything; the map can be used again */
void oci_map_done(struct oci_map *map);

/**
 * struct oci_config - Image config: how a container of the image is run by default
 *
 * Strings are NULL when the image doesn't tell. An all-zero object is the config of an image that
 * tells nothing (dir:ROOTFS).
 *
 * @env:	"NAME=value"
 * @entrypoint:	Start of the command line
 * @cmd:	Rest of the command line, or its default
 * @volumes:	Absolute paths
 * @exposed_ports: "80/tcp"
 * @labels:	Labels
 * @user:	"name", "uid", "name:group", "uid:gid"
 * @workdir:	Directory
 * @stop_signal: As oci_signal_parse() takes it
 * @architecture: "amd64"
 * @variant:	Of the architecture
 * @os:		"linux"
 * @created:	RFC 3339 time
 */
struct oci_config {
	struct strv env;
	struct strv entrypoint;
	struct strv cmd;
	struct strv volumes;
	struct strv exposed_ports;
	struct oci_map labels;
	char *user;
	char *workdir;
	char *stop_signal;
	char *architecture;
	char *variant;
	char *os;
	char *created;
};

/**
 * oci_config_parse() - Read the JSON text of an image config
 * @json:	Text, need not end in a NUL
 * @len:	Bytes, at most OCI_DOC_MAX
 * @ret:	Filled in on success, to be released with oci_config_done()
 * @ret_diff_ids: Digests of the uncompressed layers, checked to be digests; may be NULL
 * @e:		Says what is wrong with it
 *
 * Return: 0, -EBADMSG or -ENOMEM
 */
int oci_config_parse(const char *json, size_t len, struct oci_config *ret,
		     struct strv *ret_diff_ids, struct err *e);

/** oci_config_done() - Free what it holds */
void oci_config_done(struct oci_config *config);

/**
 * struct oci_image - One image for this machine's platform
 * @digest:	Of its manifest: the name under which it can be cached
 * @config_digest: Of its config ("image id" for podman and docker)
 * @config_json: The config as it was, for caches: oci_config_parse() reads it again
 * @config:	The config, understood
 * @layers:	Lowest first
 * @n_layers:	How many, at most OCI_LAYERS_MAX
 */
struct oci_image {
	char digest[OCI_DIGEST_LEN + 1];
	char config_digest[OCI_DIGEST_LEN + 1];
	char *config_json;
	struct oci_config config;
	struct oci_layer *layers;
	size_t n_layers;
};

struct oci_layout;
struct oci_blob;

/**
 * oci_layout_open() - Open an OCI layout and check that it is one
 * @path:	Its directory
 * @ret:	The layout, to be released with oci_layout_free()
 * @e:		Says why it is none
 *
 * Return: 0, -EBADMSG (no layout, unknown version) or another negative errno
 */
int oci_layout_open(const char *path, struct oci_layout **ret, struct err *e);

/** oci_layout_free() - NULL is fine; blobs that are open stay usable */
void oci_layout_free(struct oci_layout *layout);

/**
 * oci_image_load() - Read and verify index, manifest and config of an image
 * @layout:	Layout
 * @tag:	Its org.opencontainers.image.ref.name, or "@sha256:..." for the digest of a
 *		manifest or index that index.json names; NULL: the layout's only image
 * @ret:	The image, to be released with oci_image_free()
 * @e:		Says what is wrong, or which tags there are
 *
 * Return: 0, -ENOENT (no such tag, or none for linux/amd64), -EBADMSG (broken or hostile),
 * -EOPNOTSUPP (kind of image that we can't run) or another negative errno
 */
int oci_image_load(const struct oci_layout *layout, const char *tag, struct oci_image **ret,
		   struct err *e);

/** oci_image_free() - NULL is fine */
void oci_image_free(struct oci_image *image);

/**
 * oci_blob_open() - Start to read a blob
 * @layout:	Layout
 * @desc:	Which
 * @ret:	The reader, to be released with oci_blob_free()
 * @e:		Says which blob is missing or has a wrong size
 *
 * Return: 0, -ENOENT, -EBADMSG or another negative errno
 */
int oci_blob_open(const struct oci_layout *layout, const struct oci_descriptor *desc,
		  struct oci_blob **ret, struct err *e);

/**
 * oci_blob_read() - Read on
 * @blob:	Reader
 * @data:	Where to put the bytes
 * @n:		Room
 * @e:		Says "digest mismatch" or what could not be read
 *
 * Return: Bytes (> 0), 0 at the end of a blob whose digest is right, -EBADMSG at the end of one
 * whose digest or size is wrong, or another negative errno
 */
ssize_t oci_blob_read(struct oci_blob *blob, void *data, size_t n, struct err *e);

/**
 * oci_blob_finish() - Read what is left and verify the blob
 * @blob:	Reader
 * @e:		Says "digest mismatch" or what could not be read
 *
 * To be called even when the data ended before (a tar file may be followed by anything). Only
 * when it returns 0 what came out of the blob may be used.
 *
 * Return: 0, -EBADMSG or another negative errno
 */
int oci_blob_finish(struct oci_blob *blob, struct err *e);

/** oci_blob_free() - NULL is fine */
void oci_blob_free(struct oci_blob *blob);

DEFINE_CLEANUP(oci_layout_freep, struct oci_layout *, oci_layout_free)
DEFINE_CLEANUP(oci_image_freep, struct oci_image *, oci_image_free)
DEFINE_CLEANUP(oci_blob_freep, struct oci_blob *, oci_blob_free)

#endif
