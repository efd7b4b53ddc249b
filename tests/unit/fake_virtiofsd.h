/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PODVM_TESTS_FAKE_VIRTIOFSD_H
#define PODVM_TESTS_FAKE_VIRTIOFSD_H

/* The daemon's side of vhost-user, as far as vhost_fs.c needs it, in the same process. */

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "storage/vhost_user.h"

/**
 * struct fake_fs - A daemon
 * @features:	What it says it has
 * @memory, @size, @base: What it was given to map, and the peer's address of it
 * @seen:	Requests that were taken
 */
struct fake_fs {
	int sock;
	uint64_t features;
	struct vhost_user_msg in;
	uint8_t *memory;
	uint64_t size;
	uint64_t base;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	unsigned int ring_size;
	int kick;
	int call;
	uint16_t seen;
};

/* A request that was taken, and where its reply goes. */
struct fake_request {
	uint16_t id;
	uint8_t *data;
	size_t len;
	uint8_t *reply;
	size_t room;
};

static inline uint64_t fake_fs_u64(const struct vhost_user_msg *m, size_t i)
{
	uint64_t v;

	memcpy(&v, m->payload + 8 * i, sizeof(v));
	return v;
}

static inline void fake_fs_answer(struct fake_fs *f)
{
	struct vhost_user_msg m = { .request = VHOST_USER_GET_FEATURES,
				    .flags = VHOST_USER_VERSION | VHOST_USER_REPLY,
				    .size = sizeof(f->features) };

	memcpy(m.payload, &f->features, sizeof(f->features));
	(void)vhost_user_send(f->sock, &m);
}

/* Take what the peer says. Return: Whether something was said */
static inline bool fake_fs_hear(struct fake_fs *f)
{
	struct vhost_user_msg *m = &f->in;

	if (f->sock < 0 || vhost_user_recv(f->sock, m) != 1)
		return false;
	switch (m->request) {
	case VHOST_USER_GET_FEATURES:
		fake_fs_answer(f);
		break;
	case VHOST_USER_SET_MEM_TABLE:
		f->size = fake_fs_u64(m, 2);
		f->base = fake_fs_u64(m, 3);
		f->memory = mmap(NULL, f->size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fds[0], 0);
		break;
	case VHOST_USER_SET_VRING_NUM:
		memcpy(&f->ring_size, m->payload + 4, sizeof(f->ring_size));
		break;
	case VHOST_USER_SET_VRING_ADDR:
		f->desc = (void *)(f->memory + (fake_fs_u64(m, 1) - f->base));
		f->used = (void *)(f->memory + (fake_fs_u64(m, 2) - f->base));
		f->avail = (void *)(f->memory + (fake_fs_u64(m, 3) - f->base));
		break;
	case VHOST_USER_SET_VRING_CALL:
		f->call = TAKE_FD(m->fds[0]);
		m->n_fds = 0;
		break;
	case VHOST_USER_SET_VRING_KICK:
		f->kick = TAKE_FD(m->fds[0]);
		m->n_fds = 0;
		break;
	default:
		break;
	}
	vhost_user_done(m);
	return true;
}

/* The next request, if there is one. */
static inline bool fake_fs_take(struct fake_fs *f, struct fake_request *r)
{
	const struct vring_desc *d;

	if (!f->avail || f->avail->idx == f->seen)
		return false;
	r->id = f->avail->ring[f->seen++ % f->ring_size];
	d = &f->desc[r->id];
	r->data = f->memory + d->addr;
	r->len = d->len;
	d = &f->desc[d->next];
	r->reply = f->memory + d->addr;
	r->room = d->len;
	return true;
}

/* Say that a request is done with @len bytes of reply, whatever these numbers are. */
static inline void fake_fs_finish(struct fake_fs *f, uint32_t id, uint32_t len)
{
	uint64_t one = 1;

	f->used->ring[f->used->idx % f->ring_size] = (struct vring_used_elem){ id, len };
	__atomic_store_n(&f->used->idx, (uint16_t)(f->used->idx + 1), __ATOMIC_RELEASE);
	(void)!write(f->call, &one, sizeof(one));
}

static inline void fake_fs_done(struct fake_fs *f)
{
	close_fdp(&f->sock);
	close_fdp(&f->kick);
	close_fdp(&f->call);
	vhost_user_done(&f->in);
	if (f->memory)
		munmap(f->memory, f->size);
}

#define FAKE_FS(fd) \
	((struct fake_fs){ .sock = (fd), .features = UINT64_MAX, .kick = -1, .call = -1 })

#endif
