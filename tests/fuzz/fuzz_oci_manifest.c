/* SPDX-License-Identifier: Apache-2.0 */
/* An image manifest. */
#include "base/cleanup.h"
#include "oci/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(oci_image_freep) struct oci_image *image = calloc(1, sizeof(*image));
	_cleanup_(oci_descriptor_done) struct oci_descriptor config = { 0 };
	struct err e = { 0 };

	if (!image)
		return 0;
	if (oci_manifest_parse((const char *)data, size, image, &config, &e) < 0) {
		if (!e.msg[0])
			abort();
		return 0;
	}
	if (image->n_layers > OCI_LAYERS_MAX || !oci_digest_ok(config.digest))
		abort();
	for (size_t i = 0; i < image->n_layers; i++)
		if (!oci_digest_ok(image->layers[i].desc.digest))
			abort();
	return 0;
}
