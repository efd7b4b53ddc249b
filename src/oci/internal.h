/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_OCI_INTERNAL_H
#define PODVM_OCI_INTERNAL_H

/* What the files of this folder share, and what tests feed with text. */

#include <stdbool.h>
#include <stddef.h>

#include "oci/oci.h"

#if defined(__x86_64__)
#define OCI_ARCH "amd64"
#elif defined(__aarch64__)
#define OCI_ARCH "arm64"
#else
#error "unknown architecture"
#endif

struct json_object;

/** oci_digest_ok() - Whether it is "sha256:" and 64 lower-case hexadecimal digits */
bool oci_digest_ok(const char *s);

/** oci_map_append() - As oci_map_add() for a key that is known to be new */
int oci_map_append(struct oci_map *map, const char *key, const char *value);

/**
 * oci_descriptor_parse() - Read a descriptor (image-spec descriptor.md)
 * @obj:	JSON object
 * @what:	What it is the descriptor of, for messages
 * @ret:	Filled in on success, to be released with oci_descriptor_done()
 * @e:		Says what is wrong with it
 *
 * Return: 0, -EBADMSG or -ENOMEM
 */
int oci_descriptor_parse(struct json_object *obj, const char *what, struct oci_descriptor *ret,
			 struct err *e);

/** oci_descriptor_done() - Free what it holds */
void oci_descriptor_done(struct oci_descriptor *desc);

/**
 * oci_index_select() - Choose the entry of an image index
 * @json:	Text of the index
 * @len:	Bytes
 * @tag:	As for oci_image_load()
 * @top:	It is the layout's index.json: without a tag there has to be one choice. Below it
 *		the entries differ by platform alone, and the best fit is taken
 * @ret:	The entry, to be released with oci_descriptor_done()
 * @e:		Says what is wrong, or which tags there are
 *
 * Return: 0, -ENOENT, -EBADMSG or -ENOMEM
 */
int oci_index_select(const char *json, size_t len, const char *tag, bool top,
		     struct oci_descriptor *ret, struct err *e);

/**
 * oci_manifest_parse() - Read an image manifest
 * @json:	Text of the manifest
 * @len:	Bytes
 * @image:	Gets the layers
 * @config:	Gets the descriptor of the config, to be released with oci_descriptor_done()
 * @e:		Says what is wrong with it
 *
 * Return: 0, -EBADMSG, -EOPNOTSUPP or -ENOMEM
 */
int oci_manifest_parse(const char *json, size_t len, struct oci_image *image,
		       struct oci_descriptor *config, struct err *e);

/**
 * oci_layout_read() - Read a whole small file of a layout
 * @layout:	Layout
 * @path:	Below it; has to be a regular file
 * @ret:	Its bytes and a NUL that is not counted; the caller frees it
 * @ret_len:	Bytes, at most OCI_DOC_MAX
 * @e:		Says what is wrong with it
 *
 * Return: 0 or a negative errno
 */
int oci_layout_read(const struct oci_layout *layout, const char *path, char **ret, size_t *ret_len,
		    struct err *e);

/** oci_layout_open_file() - Open a regular file of a layout. Return: Descriptor or an errno */
int oci_layout_open_file(const struct oci_layout *layout, const char *path, uint64_t *ret_size,
			 struct err *e);

/** oci_blob_load() - Read and verify a whole blob; as oci_layout_read() */
int oci_blob_load(const struct oci_layout *layout, const struct oci_descriptor *desc, char **ret,
		  size_t *ret_len, struct err *e);

#endif
