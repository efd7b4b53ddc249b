/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_SANDBOX_TEMPLATE_H
#define PODVM_SANDBOX_TEMPLATE_H

/*
 * Theory of operation
 *
 * A template is a machine that was saved when its guest had booted and its agent waited, before it
 * had an identity. Sandboxes of the same kind start as copies of it (clone.c). What it depends on
 * is written down as a text, its description: the monitor's program, its whole command line, kernel
 * and root image, our version, and the host's boot, which stands for its kernel, its CPU and the
 * rate of its clocks. A sandbox uses a template only if their descriptions are the same. So nothing
 * has to be made invalid: what changes leads to another template, and old ones are removed.
 *
 *	<store>/KEY/memory		the guest's memory, sparse
 *	<store>/KEY/state		that of its devices
 *	<store>/KEY/description		what it depends on; KEY is a hash of it
 *	<store>/KEY/template.json	digests of memory and state, and what `podvm template list` shows
 *	<store>/making/			one that is being made
 *	<store>/lock			held by who makes or removes one: one at a time
 *	<state>/.template-KEY		which files were found to have their digests
 *	<state>/.template-failed-KEY	it could not be made; nobody tries again for ten minutes
 *
 * Everything is root's alone. Monitors get descriptors: of the memory one that is read-only, which
 * they map privately. The digests are compared when the template has just been made, and whenever
 * the files aren't those that were compared before (by inode, size and times, ctime among them).
 * That takes longer than a boot, so a sandbox doesn't wait for it: it boots.
 *
 * A template is made by another process, `podvm template create`, which is started when a sandbox
 * has booted for want of one. It has low priority, isn't in the pod's cgroup, has no network, and
 * whatever goes wrong in it concerns no pod.
 */

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/str.h"
#include "sandbox/sandbox.h"

#define TEMPLATE_KEY_SIZE STR_HASH_SIZE

/* The address of a template's network device, until a guest gets its own. */
#define TEMPLATE_MAC "02:00:00:00:00:01"

/* The network device of a machine. Its kind is what the guest's driver has agreed with. */
enum template_nic { TEMPLATE_NIC_NONE, TEMPLATE_NIC_USER, TEMPLATE_NIC_TAP, TEMPLATE_NICS };

/* ---- for sandboxes ---- */

/**
 * struct template - One that can be used
 * @key:	Its name
 * @memory_fd, @state_fd: Its files, open for reading
 */
struct template
{
	char key[TEMPLATE_KEY_SIZE];
	int memory_fd;
	int state_fd;
};

#define TEMPLATE_INIT ((struct template){ .memory_fd = -EBADF, .state_fd = -EBADF })

/**
 * template_machine() - The machine that a sandbox gets, without network, shares and user
 * @c:		Sandbox
 * @config:	Machine; its strings are the sandbox's, and it has no root image yet
 */
void template_machine(const struct sandbox_config *c, struct vmm_config *config);

/**
 * template_describe() - What a template for a sandbox depends on
 * @c:		Sandbox, with its accelerator decided
 * @nic:	Its network device
 * @text:	Gets the description
 * @key:	Gets the key
 *
 * Return: 0, -EOPNOTSUPP (there are no templates for it) or another negative errno
 */
int template_describe(const struct sandbox_config *c, enum template_nic nic, struct buf *text,
		      char key[TEMPLATE_KEY_SIZE], struct err *e);

/**
 * template_open() - Open the template of a description
 * @c:		Sandbox: where its templates and its state are
 * @key, @text:	From template_describe()
 * @ret:	Template, to be released by template_close()
 *
 * Return: 0, -ENOENT (there is none), -ESTALE (it has to be checked), -EBADMSG (it's of another
 * description, or incomplete) or another negative errno
 */
int template_open(const struct sandbox_config *c, const char *key, struct buf *text,
		  struct template *ret);

void template_close(struct template *t);

/** template_close_files() - The monitor has them; the key stays */
void template_close_files(struct template *t);

/** template_remove_bad() - Remove one that no machine could be started from */
void template_remove_bad(const struct sandbox_config *c, const char *key);

/**
 * template_wanted() - Have a template made or checked, by another process
 * @c:		Sandbox that would have used it
 * @nic:	Its network device
 * @key:	From template_describe()
 * @loop:	Where that is noticed
 * @started:	Set when it has gone into the background, or failed; may be NULL
 * @ret:	The child that starts it, to be released by loop_child_free(); NULL: it isn't needed
 *		(it was tried in vain, or somebody makes one)
 *
 * Return: 0 or a negative errno
 */
int template_wanted(const struct sandbox_config *c, enum template_nic nic, const char *key,
		    struct loop *loop, bool *started, struct loop_child **ret, struct err *e);

/* ---- for who makes and keeps them (template_store.c, template_make.c) ---- */

/**
 * struct template_info - What template.json says, and the file system
 * @key:	Name
 * @memory, @vcpus: Size of the machine
 * @machine, @accel, @network: Kind of it
 * @image:	Version of the guest image
 * @created_ns:	When it was made
 * @memory_sha256, @state_sha256: Digests
 * @used:	When it was used last (not in template.json)
 * @size:	What it takes on the disk (not in template.json)
 */
struct template_info {
	char key[TEMPLATE_KEY_SIZE];
	uint64_t memory;
	uint64_t vcpus;
	char *machine;
	char *accel;
	char *network;
	char *image;
	uint64_t created_ns;
	char *memory_sha256;
	char *state_sha256;
	time_t used;
	uint64_t size;
};

struct template_infos {
	struct template_info *v;
	size_t n;
};

void template_info_done(struct template_info *info);
void template_infos_done(struct template_infos *infos);

/** template_info_parse() - Read the text of a template.json. Return: 0 or a negative errno */
int template_info_parse(const char *text, size_t len, struct template_info *ret, struct err *e);

/** template_info_text() - The text of a template.json; NULL: no memory */
char *template_info_text(const struct template_info *info);

/** template_list() - All of a store, those first that were used last. Return: 0 or an errno */
int template_list(const char *store, struct template_infos *ret, struct err *e);

/**
 * template_find() - Complete the begin of a key
 * @text:	At least one digit of it
 *
 * Return: 0, -ENOENT or -ENOTUNIQ
 */
int template_find(const char *store, const char *text, char key[TEMPLATE_KEY_SIZE], struct err *e);

/**
 * template_lock() - Become the one who may change the store
 * @wait:	Wait for who is
 *
 * Return: A descriptor that holds the lock, -EWOULDBLOCK or another negative errno
 */
int template_lock(const char *store, bool wait, struct err *e);

/** template_remove() - Remove one; the lock is held. Return: 0 or a negative errno */
int template_remove(const char *store, const char *state_dir, const char *key, struct err *e);

/**
 * template_verify() - Compare the files of a template with their digests
 *
 * Return: 0 (it may be used), -EBADMSG (it's damaged) or another negative errno
 */
int template_verify(const char *store, const char *state_dir, const char *key, struct err *e);

/**
 * template_evict() - Remove what isn't of this boot of the host, and what was used least recently
 * @max:	What all may take on the disk
 * @keep:	Key of one that stays; NULL: none
 *
 * The lock is held. Return: How many were removed, or a negative errno
 */
int template_evict(const char *store, const char *state_dir, uint64_t max, const char *keep,
		   struct err *e);

/** template_failed() - Remember that one could not be made */
void template_failed(const char *state_dir, const char *key, const struct err *e);

/**
 * template_make() - Boot a machine and save it; the lock is held
 * @c:		Sandbox that it would be for: its run directory, network and shares are not used
 * @nic:	Its network device
 * @key:	Gets its key
 * @e:		What failed; nothing is left then
 *
 * Blocks, with a loop of its own, and moves this process into a network namespace of its own.
 *
 * Return: 0 or a negative errno
 */
int template_make(const struct sandbox_config *c, enum template_nic nic,
		  char key[TEMPLATE_KEY_SIZE], struct err *e);

/* ---- what the files of this module share ---- */

/** template_path() - "<store>/KEY/name", to be freed */
char *template_path(const char *store, const char *key, const char *name);

/** template_identity() - One line that says which files these are. Return: 0 or a negative errno */
int template_identity(int memory_fd, int state_fd, char *line, size_t size);

/** template_checked_path() - File that holds the identity of files that were found good */
char *template_checked_path(const char *state_dir, const char *key);

/** template_failed_path() - File that says that it could not be made */
char *template_failed_path(const char *state_dir, const char *key);

#endif
