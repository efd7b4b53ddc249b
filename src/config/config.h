/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_CONFIG_CONFIG_H
#define PODVM_CONFIG_CONFIG_H

/*
 * Theory of operation
 *
 * What an administrator sets for all pods of a machine: /etc/podvm/podvm.conf and then, in the
 * order of their names, /etc/podvm/podvm.conf.d/ *.conf. Both are systemd-style INI files; a later
 * value replaces an earlier one, an empty value brings the default back. When the environment
 * variable PODVM_CONFIG names a file, that file and its own .d directory take their place; the file
 * must exist then, while the default one need not.
 *
 * One table (config_table.c) says everything there is to know about a key: section, name, type,
 * limits, default, help, and where its value goes in `struct config`. Reading, checking and
 * printing all follow the table, so a new key is one line in it and one member here.
 *
 * Nothing is guessed and nothing is ignored: an unknown section or key, or a value that is not
 * allowed, is an error that names file, line, value and what would be allowed. As programs run by
 * root believe what these files say, they have to belong to root (or to who runs the program) and
 * nobody else may be able to write them.
 *
 *	_cleanup_(config_done) struct config config = CONFIG_INIT;
 *
 *	r = config_load(&config, e);
 */

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"

#define CONFIG_FILE	      "/etc/podvm/podvm.conf"
#define CONFIG_ENV	      "PODVM_CONFIG"
#define CONFIG_DIRECT_VOLUMES "/run/kata-containers/shared/direct-volumes"
#define CONFIG_MAX_FILE	      ((size_t)1 << 20) /* bytes of one file */
#define CONFIG_MAX_LINE	      ((size_t)4 << 10) /* bytes of one line */
#define CONFIG_MAX_DROPINS    256

/* In the order of vmm.h's enum vmm_accel. */
enum config_accel { CONFIG_ACCEL_AUTO, CONFIG_ACCEL_KVM, CONFIG_ACCEL_TCG };
enum config_net { CONFIG_NET_USER, CONFIG_NET_NONE };
enum config_switch { CONFIG_NO, CONFIG_YES };
enum config_rootfs { CONFIG_ROOTFS_BLOCK, CONFIG_ROOTFS_VIRTIOFS };
enum config_emptydir { CONFIG_EMPTYDIR_DISK, CONFIG_EMPTYDIR_SHARED };
enum config_cache { CONFIG_CACHE_SAFE, CONFIG_CACHE_UNSAFE };
enum config_pull { CONFIG_PULL_MISSING, CONFIG_PULL_ALWAYS, CONFIG_PULL_NEVER };

/* Strings are never NULL after a successful config_load(); sizes are bytes, durations ms. */
struct config {
	/* [paths] */
	char *image; /* directory of the guest image */
	char *state; /* run directories */
	char *cache; /* images */

	/* [vmm] */
	char *driver;  /* name for vmm_driver_find() */
	char *machine; /* machine type, empty: the driver's default */
	enum config_accel accel;
	unsigned int uid_base; /* first user of monitors, 0: root */
	char *binary;	       /* program, empty: the driver finds it */

	/* [vm] */
	unsigned int vcpus;	 /* when the user says nothing */
	uint64_t memory;	 /* guest memory when the user sets no limit */
	unsigned int max_vcpus;	 /* that a pod may grow to, 0: see pod.c of the shim */
	uint64_t max_memory;	 /* that a pod may grow to, 0: the host's */
	uint64_t guest_overhead; /* added to the user's limit: guest kernel and agent */
	uint64_t scratch_size;	 /* writable layer */
	unsigned int debug;	 /* enum config_switch: debug variant of the guest image */

	/* [template] */
	unsigned int template_enabled; /* enum config_switch */
	uint64_t template_size;	       /* of all of them, on the disk */

	/* [pool] */
	unsigned int pool_pod; /* machines that wait, by network */
	unsigned int pool_none;
	unsigned int pool_user;
	uint64_t pool_memory; /* what they may take */

	/* [storage] */
	enum config_rootfs rootfs; /* of containerd's containers */
	enum config_cache scratch_cache;
	enum config_emptydir emptydir;
	uint64_t emptydir_size;	 /* of the disk */
	char *direct_volumes;	 /* directory of what CSI drivers hand over */
	char *host_sockets;	 /* patterns of paths, separated by blanks */
	unsigned int share_root; /* enum config_switch: the host's / may be a volume */

	/* [start] */
	uint64_t boot_timeout;	/* VMM started -> agent has dialled */
	uint64_t agent_timeout; /* until a guest that doesn't answer is given up */

	/* [net] */
	enum config_net net;
	char *subnet;	  /* IPv4 network of user mode, "10.0.2.0/24" */
	char *subnet6;	  /* IPv6 network of user mode, a /64 */
	unsigned int mtu; /* of user mode */

	/* [annotations] */
	char *annotations; /* names that pods may use, separated by blanks */

	/* [log] */
	unsigned int log_level; /* enum log_level */

	/* [image] */
	enum config_pull pull;
	unsigned int verity; /* enum config_switch: guests check what they read of images */
	uint64_t cache_size; /* of images, and of layers; 0: no limit */
	uint64_t cache_age;  /* how long an image or layer that isn't used is kept, 0: for ever */
};

#define CONFIG_INIT ((struct config){ .image = NULL })

/**
 * config_load() - Read the configuration
 * @c:		Gets the values; overwritten, so it should be empty
 * @e:		Names file, line, value and what is allowed
 *
 * Return: 0 or a negative errno (-EINVAL: a bad file, -EPERM: a file that others can write); @c is
 * empty again then
 */
int config_load(struct config *c, struct err *e);

/**
 * config_load_file() - Read a main file and the drop-ins in "@path.d"
 * @c:		Gets the values; overwritten
 * @path:	Main file, may be missing
 * @e:		As for config_load()
 *
 * Return: As config_load()
 */
int config_load_file(struct config *c, const char *path, struct err *e);

/**
 * config_parse() - Take over the settings of one text
 * @c:		Initialised by config_defaults(); changed up to the first error
 * @name:	What messages call the text: a file name
 * @text:	Its bytes, need not end in a NUL
 * @len:	How many
 * @e:		As for config_load()
 *
 * Return: 0 or a negative errno
 */
int config_parse(struct config *c, const char *name, const char *text, size_t len, struct err *e);

/* Annotations of pods that concern us begin with this. */
#define CONFIG_ANNOTATION_PREFIX "podvm.io/"

/**
 * config_annotate() - Take over a pod's annotation, if the configuration allows it by name
 * @c:		Configuration of this pod
 * @name:	"podvm.io/memory"
 * @value:	As in the file
 * @e:		Names the annotation, and says what is known, allowed, or a value of it
 *
 * Return: 0, -EPERM (it isn't allowed), -EINVAL or -ENOMEM
 */
int config_annotate(struct config *c, const char *name, const char *value, struct err *e);

/** config_defaults() - Set every key to its default. Return: 0 or -ENOMEM; @c is empty then */
int config_defaults(struct config *c);

/** config_done() - Free what it holds; all zeroes is fine */
void config_done(struct config *c);

/**
 * config_dump() - Print the values that are in force, as a file that can be read again
 * @c:		Configuration
 * @out:	Text is appended
 *
 * Return: 0 or a negative errno of @out
 */
int config_dump(const struct config *c, struct buf *out);

/**
 * config_reference() - Print every key with its help and default, all commented out
 * @out:	Text is appended: the packaged podvm.conf
 *
 * Return: 0 or a negative errno of @out
 */
int config_reference(struct buf *out);

#endif
