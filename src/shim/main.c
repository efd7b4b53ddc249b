/* SPDX-License-Identifier: Apache-2.0 */
/* containerd-shim-podvm-v2 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "proto/types.pb-c.h"
#include "shim/daemon.h"
#include "shim/mount_format.h"

#define RUNTIME_NAME "io.containerd.podvm.v2"

int shim_fail(const struct err *e)
{
	fprintf(stderr, "podvm: %s%s%s%s%s\n", e->stage, *e->stage ? ": " : "", e->msg,
		*e->hint ? "; " : "", e->hint);
	return 1;
}

/* What is known here of mounts decides whether CRI takes recursive read-only ones. */
#define FEATURES_TYPE "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
#define FEATURES                                                                     \
	"{\"ociVersionMin\":\"1.0.0\",\"ociVersionMax\":\"1.1.0\",\"mountOptions\":" \
	"[\"bind\",\"rbind\",\"ro\",\"rro\",\"rw\",\"nosuid\",\"nodev\",\"noexec\"]}"

/* Mounts that containerd's mount manager (2.2 and later) leaves to us: see mount_format.h. */
#define MOUNTS_ANNOTATION "containerd.io/runtime-allow-mounts"
#define MOUNTS		  "erofs," MOUNT_FORMAT_OVERLAY

/* A RuntimeInfo message on stdout (containerd 2 and later). */
static int print_info(void)
{
	Containerd__Types__RuntimeInfo info = CONTAINERD__TYPES__RUNTIME_INFO__INIT;
	Containerd__Types__RuntimeVersion version = CONTAINERD__TYPES__RUNTIME_VERSION__INIT;
	Containerd__Types__Any features = CONTAINERD__TYPES__ANY__INIT;
	Containerd__Types__RuntimeInfo__AnnotationsEntry mounts =
		CONTAINERD__TYPES__RUNTIME_INFO__ANNOTATIONS_ENTRY__INIT;
	Containerd__Types__RuntimeInfo__AnnotationsEntry *annotations[] = { &mounts };
	_cleanup_(freep) uint8_t *bytes = NULL;
	size_t len;

	info.name = (char *)RUNTIME_NAME;
	version.version = (char *)PODVM_VERSION;
	info.version = &version;
	features.type_url = (char *)FEATURES_TYPE;
	features.value.data = (uint8_t *)FEATURES;
	features.value.len = strlen(FEATURES);
	info.features = &features;
	mounts.key = (char *)MOUNTS_ANNOTATION;
	mounts.value = (char *)MOUNTS;
	info.annotations = annotations;
	info.n_annotations = ARRAY_SIZE(annotations);
	len = containerd__types__runtime_info__get_packed_size(&info);
	bytes = malloc(len + 1);
	if (!bytes)
		return 1;
	containerd__types__runtime_info__pack(&info, bytes);
	return fd_write_all(STDOUT_FILENO, bytes, len) < 0;
}

int main(int argc, char **argv)
{
	struct shim_options o;
	struct err e = { 0 };
	char quoted[64];

	/* stdout and stderr belong to containerd's protocol. */
	log_init(-1, LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
	if (shim_options_parse(argv, &o, &e) < 0)
		return shim_fail(&e);
	if (o.version) {
		printf("%s %s\n", argv[0], PODVM_VERSION);
		return 0;
	}
	if (o.info)
		return print_info();
	if (str_empty(o.namespace) || str_empty(o.id) || !o.address) {
		err_set(&e, -1,
			"-namespace, -id and -address are needed: this program is for containerd");
		return shim_fail(&e);
	}
	if (!o.action)
		return shim_serve(&o);
	if (str_eq(o.action, "start"))
		return shim_start(&o);
	if (str_eq(o.action, "delete"))
		return shim_remove(&o);
	err_set(&e, -1, "unknown action %s", log_quote(quoted, sizeof(quoted), o.action));
	return shim_fail(&e);
}
