/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/vhost_fs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "storage/vhost_user.h"

/* The request queue: queue 0 is for what need not wait, and nothing is sent there. */
#define QUEUE	     1
#define QUEUE_SIZE   (2 * VHOST_FS_SLOTS)
#define USED_OFFSET  2048
#define SLOTS_OFFSET 4096

/* A reply to the longest request has room for an error and a few attributes. */
#define SLOT_SIZE   (VHOST_FS_MESSAGE_MAX + 4096)
#define MEMORY_SIZE (SLOTS_OFFSET + VHOST_FS_SLOTS * SLOT_SIZE)

#define FEATURES (UINT64_C(1) << 32) /* VIRTIO_F_VERSION_1 */

/* What the daemon is told, in this order. */
enum step {
	ASK_FEATURES,
	SET_OWNER,
	SET_FEATURES,
	SET_MEMORY,
	SET_SIZE,
	SET_BASE,
	SET_RING,
	SET_CALL,
	SET_KICK,
	ASK_AGAIN, /* its answer means that everything has arrived */
	READY,
};

/**
 * struct vhost_fs - A daemon and its queue
 * @step:	What is being said, or was last
 * @sending:	@out is to be sent
 * @timer:	Deadline until READY
 * @memory_fd, @memory: The memfd, and where it's mapped
 * @kick, @call: Events for the daemon, and from it
 * @used:	Entries of the used ring that were seen
 * @busy:	Slots that are the daemon's
 * @reply, @room: Where a slot's reply begins, from the slot's begin, and its longest length
 */
struct vhost_fs {
	struct vhost_fs_handlers handlers;
	void *data;
	int fd;
	struct loop_io *io;
	struct vhost_user_msg in;
	struct vhost_user_msg out;
	enum step step;
	bool sending;
	struct loop_timer *timer;
	int memory_fd;
	uint8_t *memory;
	int kick;
	int call;
	struct loop_io *call_io;
	uint16_t used;
	bool busy[VHOST_FS_SLOTS];
	size_t reply[VHOST_FS_SLOTS];
	size_t room[VHOST_FS_SLOTS];
};

/* ---- the queue ---- */

static struct vring_desc *ring_desc(struct vhost_fs *fs)
{
	return (struct vring_desc *)(void *)fs->memory;
}

static struct vring_avail *ring_avail(struct vhost_fs *fs)
{
	return (struct vring_avail *)(void *)(fs->memory + QUEUE_SIZE * sizeof(struct vring_desc));
}

static struct vring_used *ring_used(struct vhost_fs *fs)
{
	return (struct vring_used *)(void *)(fs->memory + USED_OFFSET);
}

static size_t slot_offset(unsigned int slot)
{
	return SLOTS_OFFSET + slot * SLOT_SIZE;
}

uint8_t *vhost_fs_request(struct vhost_fs *fs, unsigned int slot)
{
	return fs->memory + slot_offset(slot);
}

const uint8_t *vhost_fs_reply(struct vhost_fs *fs, unsigned int slot)
{
	return fs->memory + slot_offset(slot) + fs->reply[slot];
}

void vhost_fs_submit(struct vhost_fs *fs, unsigned int slot, size_t len, size_t reply_max)
{
	struct vring_desc *desc = ring_desc(fs) + 2 * slot;
	struct vring_avail *avail = ring_avail(fs);
	uint16_t head = (uint16_t)(2 * slot);
	uint64_t one = 1;

	fs->busy[slot] = true;
	fs->reply[slot] = (len + 7) / 8 * 8;
	fs->room[slot] = MIN(reply_max, SLOT_SIZE - fs->reply[slot]);
	desc[0] = (struct vring_desc){ .addr = slot_offset(slot),
				       .len = (uint32_t)len,
				       .flags = VRING_DESC_F_NEXT,
				       .next = (uint16_t)(head + 1) };
	desc[1] = (struct vring_desc){ .addr = slot_offset(slot) + fs->reply[slot],
				       .len = (uint32_t)fs->room[slot],
				       .flags = VRING_DESC_F_WRITE };
	avail->ring[avail->idx % QUEUE_SIZE] = head;
	__atomic_store_n(&avail->idx, (uint16_t)(avail->idx + 1), __ATOMIC_RELEASE);
	(void)!write(fs->kick, &one, sizeof(one));
}

static void break_up(struct vhost_fs *fs, const struct err *e)
{
	loop_timer_free(TAKE_PTR(fs->timer));
	loop_io_free(TAKE_PTR(fs->io));
	loop_io_free(TAKE_PTR(fs->call_io));
	fs->handlers.broken(fs->data, e);
}

/* The next slot that the daemon is done with. Return: 1, 0 when there is none, or -EPROTO */
static int next_used(struct vhost_fs *fs, unsigned int *slot, size_t *len)
{
	struct vring_used *used = ring_used(fs);
	struct vring_used_elem elem;
	uint16_t idx = __atomic_load_n(&used->idx, __ATOMIC_ACQUIRE);

	if (fs->used == idx)
		return 0;
	elem = used->ring[fs->used % QUEUE_SIZE];
	*slot = elem.id / 2;
	*len = elem.len;
	if (elem.id % 2 || *slot >= VHOST_FS_SLOTS || !fs->busy[*slot] || *len > fs->room[*slot])
		return -EPROTO;
	fs->busy[*slot] = false;
	fs->used++;
	return 1;
}

static void on_call(void *data, int events)
{
	struct vhost_fs *fs = data;
	unsigned int slot = 0;
	struct err e = { 0 };
	uint64_t count;
	size_t len = 0;
	int r = 1;

	(void)!read(fs->call, &count, sizeof(count));
	/* Each slot once: what is answered again at once can wait for a turn. */
	for (unsigned int i = 0; r == 1 && i < VHOST_FS_SLOTS; i++) {
		r = next_used(fs, &slot, &len);
		if (r == 1)
			fs->handlers.answered(fs->data, slot, len);
		if (!fs->call_io)
			return;
	}
	if (r == 1) {
		count = 1;
		(void)!write(fs->call, &count, sizeof(count));
	} else if (r < 0) {
		err_set(&e, r, "virtiofsd answers what it wasn't asked");
		break_up(fs, &e);
	}
}

/* ---- setting it up ---- */

static void say(struct vhost_fs *fs, uint32_t request, const void *payload, size_t size, int fd)
{
	vhost_user_ask(&fs->out, request);
	fs->out.size = (uint32_t)size;
	if (size > 0)
		memcpy(fs->out.payload, payload, size);
	if (fd >= 0)
		fs->out.fds[fs->out.n_fds++] = fd; /* on loan */
	fs->sending = true;
}

static void say_ring(struct vhost_fs *fs, uint32_t request, uint32_t value)
{
	say(fs, request, (uint32_t[]){ QUEUE, value }, 8, -1);
}

/* Ring addresses are those of our mapping, which the table of memory tells; the rest begin at 0. */
static void say_memory(struct vhost_fs *fs)
{
	uint64_t table[] = { 1, 0, MEMORY_SIZE, (uintptr_t)fs->memory, 0 };

	say(fs, VHOST_USER_SET_MEM_TABLE, table, sizeof(table), fs->memory_fd);
}

static void say_addresses(struct vhost_fs *fs)
{
	uint64_t addr[] = { QUEUE, (uintptr_t)ring_desc(fs), (uintptr_t)ring_used(fs),
			    (uintptr_t)ring_avail(fs), 0 };

	say(fs, VHOST_USER_SET_VRING_ADDR, addr, sizeof(addr), -1);
}

static void say_step(struct vhost_fs *fs)
{
	const uint64_t features = FEATURES;
	const uint64_t queue = QUEUE;

	switch (fs->step) {
	case ASK_FEATURES:
	case ASK_AGAIN:
		say(fs, VHOST_USER_GET_FEATURES, NULL, 0, -1);
		break;
	case SET_OWNER:
		say(fs, VHOST_USER_SET_OWNER, NULL, 0, -1);
		break;
	case SET_FEATURES:
		say(fs, VHOST_USER_SET_FEATURES, &features, sizeof(features), -1);
		break;
	case SET_MEMORY:
		say_memory(fs);
		break;
	case SET_SIZE:
		say_ring(fs, VHOST_USER_SET_VRING_NUM, QUEUE_SIZE);
		break;
	case SET_BASE:
		say_ring(fs, VHOST_USER_SET_VRING_BASE, 0);
		break;
	case SET_RING:
		say_addresses(fs);
		break;
	case SET_CALL:
		say(fs, VHOST_USER_SET_VRING_CALL, &queue, sizeof(queue), fs->call);
		break;
	case SET_KICK:
		say(fs, VHOST_USER_SET_VRING_KICK, &queue, sizeof(queue), fs->kick);
		break;
	case READY:
		break;
	}
}

static int flush(struct vhost_fs *fs)
{
	while (fs->sending) {
		int r = vhost_user_send(fs->fd, &fs->out);

		if (r <= 0)
			return r;
		fs->sending = false;
		if (fs->step == ASK_FEATURES || fs->step == ASK_AGAIN)
			return 0;
		fs->step++;
		say_step(fs);
	}
	return 0;
}

/* An answer. Return: 0 or a negative errno */
static int take_answer(struct vhost_fs *fs, struct err *e)
{
	struct vhost_user_msg *m = &fs->in;
	uint64_t features = vhost_user_u64(m);
	bool expected = (fs->step == ASK_FEATURES || fs->step == ASK_AGAIN) && !fs->sending &&
			m->request == VHOST_USER_GET_FEATURES && m->flags & VHOST_USER_REPLY &&
			m->size == sizeof(features) && m->n_fds == 0;

	vhost_user_done(m);
	if (!expected)
		return err_set(e, -EPROTO, "virtiofsd says what it wasn't asked");
	if (!(features & FEATURES)) {
		err_set(e, -EOPNOTSUPP, "virtiofsd has features %#" PRIx64 " only", features);
		err_hint(e, "Install a supported virtiofsd: that of QEMU 7.2 or a Rust one of 1.4 "
			    "or later.");
		return -EOPNOTSUPP;
	}
	fs->step++;
	say_step(fs);
	return 0;
}

static void on_socket(void *data, int events)
{
	struct vhost_fs *fs = data;
	enum step before = fs->step;
	struct err e = { 0 };
	int r = vhost_user_recv(fs->fd, &fs->in);

	if (r == 1)
		r = take_answer(fs, &e);
	if (r == 0)
		r = flush(fs);
	if (r == 0)
		r = loop_io_set(fs->io, LOOP_READ | (fs->sending ? LOOP_WRITE : 0));
	if (r < 0) {
		if (!e.code)
			err_set(&e, r, "virtiofsd, which serves the shared directories, has gone");
		break_up(fs, &e);
	} else if (before != READY && fs->step == READY) {
		loop_timer_free(TAKE_PTR(fs->timer));
		fs->handlers.ready(fs->data);
	}
}

static void on_deadline(void *data)
{
	struct err e = { 0 };

	err_set(&e, -ETIMEDOUT, "virtiofsd doesn't answer");
	err_hint(&e, "What it says is in the system's log.");
	break_up(data, &e);
}

/* ---- life ---- */

static int make_memory(struct vhost_fs *fs)
{
	void *p;

	fs->memory_fd = memfd_create("podvm-shares", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fs->memory_fd < 0 || ftruncate(fs->memory_fd, MEMORY_SIZE) < 0 ||
	    fcntl(fs->memory_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	p = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fs->memory_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	fs->memory = p;
	fs->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fs->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return fs->kick < 0 || fs->call < 0 ? -errno : 0;
}

int vhost_fs_new(struct loop *loop, int fd, uint64_t timeout_ms,
		 const struct vhost_fs_handlers *handlers, void *data, struct vhost_fs **ret)
{
	struct vhost_fs *fs = calloc(1, sizeof(*fs));
	int r;

	if (!fs) {
		close(fd);
		return -ENOMEM;
	}
	fs->handlers = *handlers;
	fs->data = data;
	fs->fd = fd;
	fs->kick = fs->call = fs->memory_fd = -EBADF;
	r = make_memory(fs);
	if (r == 0)
		r = loop_timer_new(loop, timeout_ms, on_deadline, fs, &fs->timer);
	if (r == 0)
		r = loop_io_new(loop, fs->call, LOOP_READ, on_call, fs, &fs->call_io);
	if (r == 0)
		r = loop_io_new(loop, fd, LOOP_READ | LOOP_WRITE, on_socket, fs, &fs->io);
	if (r < 0) {
		vhost_fs_free(fs);
		return r;
	}
	say_step(fs);
	*ret = fs;
	return 0;
}

void vhost_fs_free(struct vhost_fs *fs)
{
	if (!fs)
		return;
	loop_timer_free(fs->timer);
	loop_io_free(fs->io);
	loop_io_free(fs->call_io);
	vhost_user_done(&fs->in);
	close_fdp(&fs->fd);
	close_fdp(&fs->memory_fd);
	close_fdp(&fs->kick);
	close_fdp(&fs->call);
	if (fs->memory)
		munmap(fs->memory, MEMORY_SIZE);
	free(fs);
}
