/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/share_fuse.h"

#include <errno.h>
#include <string.h>
#include <sys/param.h>

#define NUMBER_SHIFT 44

/* What a guest's driver of virtiofs would ask for, as far as it makes sense here. */
#define WANTED                                                                                  \
	(FUSE_ASYNC_READ | FUSE_POSIX_LOCKS | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |           \
	 FUSE_DONT_MASK | FUSE_FLOCK_LOCKS | FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS |       \
	 FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_NO_OPEN_SUPPORT | FUSE_PARALLEL_DIROPS | \
	 FUSE_HANDLE_KILLPRIV | FUSE_POSIX_ACL | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS |         \
	 FUSE_NO_OPENDIR_SUPPORT | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT)

#define PAGE 4096

/* Requests that name a node in their body as well, and where. */
static const struct {
	uint32_t opcode;
	size_t offset;
} nodes[] = {
	{ FUSE_RENAME, offsetof(struct fuse_rename_in, newdir) },
	{ FUSE_RENAME2, offsetof(struct fuse_rename2_in, newdir) },
	{ FUSE_LINK, offsetof(struct fuse_link_in, oldnodeid) },
	{ FUSE_COPY_FILE_RANGE, offsetof(struct fuse_copy_file_range_in, nodeid_out) },
};

static void translate_body(const struct share_view *v, uint32_t opcode, uint8_t *msg, size_t len)
{
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
		size_t at = sizeof(struct fuse_in_header) + nodes[i].offset;
		uint64_t node;

		if (nodes[i].opcode != opcode || at + sizeof(node) > len)
			continue;
		memcpy(&node, msg + at, sizeof(node));
		if (node == FUSE_ROOT_ID)
			memcpy(msg + at, &v->root, sizeof(node));
	}
}

static size_t answer_init(const struct share_view *v, const uint8_t *msg, size_t len,
			  struct fuse_out_header *head, uint8_t *answer)
{
	struct fuse_init_out out = *v->init;
	struct fuse_init_in in = { 0 };

	memcpy(&in, msg + sizeof(struct fuse_in_header),
	       MIN(sizeof(in), len - sizeof(struct fuse_in_header)));
	out.flags &= in.flags;
	out.flags2 = 0;
	out.max_readahead = MIN(out.max_readahead, in.max_readahead);
	out.max_write = MIN(out.max_write, SHARE_DATA_MAX);
	out.max_pages = SHARE_DATA_MAX / PAGE;
	head->len += (uint32_t)sizeof(out);
	memcpy(answer, head, sizeof(*head));
	memcpy(answer + sizeof(*head), &out, sizeof(out));
	return head->len;
}

size_t share_request(const struct share_view *v, uint8_t *msg, size_t len, uint8_t *answer)
{
	struct fuse_out_header out = { .len = sizeof(out) };
	struct fuse_in_header in;

	memcpy(&in, msg, sizeof(in));
	out.unique = in.unique;
	if (in.opcode == FUSE_INIT)
		return answer_init(v, msg, len, &out, answer);
	if (in.opcode == FUSE_INTERRUPT) {
		/* The kernel doesn't ask again then: what is under way ends by itself. */
		out.error = -ENOSYS;
		memcpy(answer, &out, sizeof(out));
		return out.len;
	}
	in.unique |= (uint64_t)v->number << NUMBER_SHIFT;
	if (in.nodeid == FUSE_ROOT_ID)
		in.nodeid = v->root;
	memcpy(msg, &in, sizeof(in));
	translate_body(v, in.opcode, msg, len);
	return 0;
}

size_t share_names(const uint8_t *msg, size_t len)
{
	struct fuse_in_header head;
	struct fuse_read_in in;

	memcpy(&head, msg, sizeof(head));
	switch (head.opcode) {
	case FUSE_LOOKUP:
	case FUSE_CREATE:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
		return 1;
	case FUSE_READDIRPLUS:
		if (len < sizeof(head) + sizeof(in))
			return 0;
		memcpy(&in, msg + sizeof(head), sizeof(in));
		return in.size / FUSE_NAME_OFFSET_DIRENTPLUS;
	default:
		return 0;
	}
}

uint32_t share_reply(struct fuse_out_header *msg)
{
	uint32_t number = (uint32_t)(msg->unique >> NUMBER_SHIFT);

	msg->unique &= (UINT64_C(1) << NUMBER_SHIFT) - 1;
	return number;
}

static size_t make(uint8_t *msg, uint32_t opcode, uint32_t number, uint64_t node, const void *body,
		   size_t len)
{
	struct fuse_in_header in = { .len = (uint32_t)(sizeof(in) + len),
				     .opcode = opcode,
				     .unique = (uint64_t)number << NUMBER_SHIFT |
					       (opcode == FUSE_DESTROY ? SHARE_OWN_DESTROY
								       : SHARE_OWN),
				     .nodeid = node };

	memcpy(msg, &in, sizeof(in));
	if (len > 0)
		memcpy(msg + sizeof(in), body, len);
	return in.len;
}

size_t share_make_init(uint8_t *msg)
{
	const struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION,
					 .minor = FUSE_KERNEL_MINOR_VERSION,
					 .max_readahead = SHARE_DATA_MAX,
					 .flags = WANTED };

	return make(msg, FUSE_INIT, 0, 0, &in, sizeof(in));
}

size_t share_make_lookup(uint8_t *msg, uint32_t number, const char *name)
{
	return make(msg, FUSE_LOOKUP, number, FUSE_ROOT_ID, name, strnlen(name, 254) + 1);
}

size_t share_make_forget(uint8_t *msg, uint32_t number, uint64_t node)
{
	const struct fuse_forget_in in = { .nlookup = 1 };

	return make(msg, FUSE_FORGET, number, node, &in, sizeof(in));
}

size_t share_make_destroy(uint8_t *msg)
{
	return make(msg, FUSE_DESTROY, 0, 0, NULL, 0);
}
