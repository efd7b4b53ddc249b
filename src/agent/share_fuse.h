/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_AGENT_SHARE_FUSE_H
#define PODVM_AGENT_SHARE_FUSE_H

/*
 * Messages of FUSE (linux/fuse.h), between the guest's kernel and the host's virtiofsd.
 *
 * The daemon sees one client, which is in the directory with everything that is shared. The kernel
 * has a file system for each share. So that many of them speak for one client, a request carries
 * the number of its share in the upper bits of its unique number, which the reply repeats; and the
 * root of the kernel's file system, node 1, is the node that the daemon has for the share. All
 * other nodes are the daemon's own and go through as they are.
 */

#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest message: 512 KiB of data and the headers before it. */
#define SHARE_MESSAGE_MAX ((size_t)516 << 10)
#define SHARE_DATA_MAX	  ((uint32_t)512 << 10)

#define SHARE_NUMBER_MAX ((uint32_t)0xfffff)

/**
 * struct share_view - What is to be known of a share
 * @number:	Its number, from 1 on
 * @root:	The daemon's node for its root
 * @init:	What the daemon has agreed to
 */
struct share_view {
	uint32_t number;
	uint64_t root;
	const struct fuse_init_out *init;
};

/**
 * share_request() - Make a kernel's request one for the daemon, or answer it here
 * @v:		Share it's for
 * @msg:	A whole request; changed in place
 * @len:	Its length, at least that of its header
 * @answer:	Room for an answer of SHARE_ANSWER_MAX bytes
 *
 * Return: 0 when it's to be sent, or the length of @answer, which the kernel gets
 */
size_t share_request(const struct share_view *v, uint8_t *msg, size_t len, uint8_t *answer);

/** share_names() - How many files at most a whole request makes both sides remember */
size_t share_names(const uint8_t *msg, size_t len);

#define SHARE_ANSWER_MAX (sizeof(struct fuse_out_header) + sizeof(struct fuse_init_out))

/** share_reply() - Whose reply it is: the share's number; @msg is as its kernel wants it then */
uint32_t share_reply(struct fuse_out_header *msg);

/* Unique numbers of our own requests, without the share's: kernels' are even. */
#define SHARE_OWN	  1
#define SHARE_OWN_DESTROY 3

/* Requests of our own. Each returns its length; number 0 stands for all shares. */
#define SHARE_OWN_MAX (sizeof(struct fuse_in_header) + 256)

size_t share_make_init(uint8_t *msg);
size_t share_make_lookup(uint8_t *msg, uint32_t number, const char *name);
size_t share_make_forget(uint8_t *msg, uint32_t number, uint64_t node);
size_t share_make_destroy(uint8_t *msg);

#endif
