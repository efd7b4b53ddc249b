/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/disks.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "sandbox/sandbox-internal.h"

enum disk_state { DISK_PLUGGING, DISK_PLUGGED, DISK_UNPLUGGING };

/**
 * struct disk - A file that is plugged
 * @node:	In the sandbox's list
 * @sb:		NULL when the machine is gone
 * @dev, @ino:	The file
 * @readonly:	It may be shared
 * @kept:	It has a name: what is written to it is there when the machine has ended
 * @unwanted:	It's to be unplugged, as soon as it's plugged
 * @uses:	Those who use it
 * @held:	Its users are being called
 * @waiter:	Set that waits for its end
 */
struct disk {
	struct list node;
	struct sandbox *sb;
	dev_t dev;
	ino_t ino;
	bool readonly;
	bool kept;
	bool unwanted;
	bool held;
	enum disk_state state;
	struct vmm_disk_addr addr;
	struct list uses;
	struct disk_set *waiter;
};

struct disk_use {
	struct list node; /* of the disk's list, or in none */
	bool answered;
	struct disk *disk;
	struct disk_set *set;
};

/**
 * struct disk_set - The disks of a container
 * @pending:	Disks whose plugging, or later unplugging, is awaited
 * @plugged:	To be called when they are plugged, or one can't be
 * @gone:	To be called when they are unplugged
 */
struct disk_set {
	struct disk_use uses[DISK_SET_MAX];
	size_t n;
	size_t pending;
	sandbox_done plugged;
	void (*gone)(void *data);
	void *data;
};

/* A disk is known as long as somebody uses it, the monitor works on it, or the machine has it. */
static void disk_unref(struct disk *d)
{
	if (!list_empty(&d->uses) || d->sb || d->held)
		return;
	list_remove(&d->node);
	free(d);
}

static void disk_forget(struct disk *d)
{
	d->sb = NULL;
	list_remove(&d->node);
	disk_unref(d);
}

static void set_end(struct disk_set *set)
{
	void (*gone)(void *data) = set->gone;
	void *data = set->data;

	free(set);
	if (gone)
		gone(data);
}

static void on_unplugged(void *data, const struct err *e)
{
	struct disk *d = data;
	struct disk_set *waiter = TAKE_PTR(d->waiter);
	char text[256];

	if (e && e->code != -ECONNRESET)
		log_warn("a disk stays plugged", "disk=%s error=%s", d->addr.source,
			 log_quote(text, sizeof(text), e->msg));
	disk_forget(d);
	if (waiter && --waiter->pending == 0)
		set_end(waiter);
}

static void unplug(struct disk *d)
{
	struct vmm *vmm = d->sb ? sandbox_vmm(d->sb) : NULL;
	struct err e = { 0 };

	d->state = DISK_UNPLUGGING;
	if (!vmm)
		err_set(&e, -ECONNRESET, "the machine is gone");
	if (!vmm || vmm_detach_disk(vmm, &d->addr, on_unplugged, d, &e) < 0)
		on_unplugged(d, &e);
}

/* Whoever is called may give up sets. */
static void use_answered(struct disk_use *use, const struct err *e)
{
	struct disk_set *set = use->set;
	sandbox_done done = set->plugged;

	use->answered = true;
	set->pending--;
	if (!done || (!e && set->pending > 0))
		return;
	set->plugged = NULL;
	done(set->data, e);
}

/* A disk that couldn't be plugged isn't there for anybody. */
static void plugging_failed(struct disk *d, const struct err *e)
{
	struct disk_set *waiter = TAKE_PTR(d->waiter);

	list_remove(&d->node);
	while (!list_empty(&d->uses)) {
		struct disk_use *use = list_entry(d->uses.next, struct disk_use, node);

		list_remove(&use->node);
		use->disk = NULL;
		use_answered(use, e);
	}
	free(d);
	if (waiter && --waiter->pending == 0)
		set_end(waiter);
}

static struct disk_use *first_unanswered(const struct disk *d)
{
	struct disk_use *use;

	list_for_each (use, &d->uses, node)
		if (!use->answered)
			return use;
	return NULL;
}

static void on_plugged(void *data, const struct err *e)
{
	struct disk *d = data;
	struct disk_use *use;

	if (e) {
		plugging_failed(d, e);
		return;
	}
	d->state = DISK_PLUGGED;
	if (d->unwanted && list_empty(&d->uses)) {
		unplug(d);
		return;
	}
	d->held = true;
	while ((use = first_unanswered(d)))
		use_answered(use, NULL);
	d->held = false;
	disk_unref(d);
}

static struct disk *find(struct sandbox *sb, const struct stat *st)
{
	struct disk *d;

	list_for_each (d, &sb->disks, node)
		if (d->readonly && d->dev == st->st_dev && d->ino == st->st_ino &&
		    d->state != DISK_UNPLUGGING)
			return d;
	return NULL;
}

static int plug_new(struct sandbox *sb, const struct vmm_disk *disk, const struct stat *st,
		    struct disk **ret, struct err *e)
{
	struct disk *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return err_oom(e);
	list_init(&d->uses);
	d->sb = sb;
	d->dev = st->st_dev;
	d->ino = st->st_ino;
	d->readonly = disk->readonly;
	d->kept = !disk->readonly && st->st_nlink > 0;
	r = vmm_attach_disk(sandbox_vmm(sb), disk, &d->addr, on_plugged, d, e);
	if (r < 0) {
		free(d);
		return r;
	}
	list_append(&sb->disks, &d->node);
	*ret = d;
	return 0;
}

static int use_disk(struct disk_set *set, struct sandbox *sb, const struct vmm_disk *disk,
		    struct err *e)
{
	struct disk_use *use = &set->uses[set->n];
	struct disk *d = NULL;
	struct stat st;
	int r;

	if (fstat(disk->fd, &st) < 0)
		return err_errno(e, -errno, "cannot use the disk");
	if (disk->readonly)
		d = find(sb, &st);
	r = d ? 0 : plug_new(sb, disk, &st, &d, e);
	if (r < 0)
		return r;
	*use = (struct disk_use){
		.disk = d,
		.set = set,
		.answered = d->state == DISK_PLUGGED,
	};
	list_append(&d->uses, &use->node);
	d->unwanted = false;
	set->pending += !use->answered;
	set->n++;
	return 0;
}

int disk_set_plug(struct sandbox *sb, const struct vmm_disk *disks, size_t n, sandbox_done done,
		  void *data, struct disk_set **ret, struct err *e)
{
	struct disk_set *set = calloc(1, sizeof(*set));
	int r = 0;

	assert(n <= DISK_SET_MAX);
	if (!set)
		return err_oom(e);
	set->plugged = done;
	set->data = data;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = use_disk(set, sb, &disks[i], e);
	if (r < 0) {
		disk_set_unplug(set, NULL, NULL);
		return r;
	}
	*ret = set;
	return set->pending > 0 ? STAGE_PENDING : 0;
}

const struct vmm_disk_addr *disk_set_addr(const struct disk_set *set, size_t i)
{
	return &set->uses[i].disk->addr;
}

void disk_set_unplug(struct disk_set *set, void (*done)(void *data), void *data)
{
	set->gone = done;
	set->data = data;
	/* One for ourselves: the last disk may go at once. */
	set->pending = 1;
	for (size_t i = 0; i < set->n; i++) {
		struct disk *d = set->uses[i].disk;

		if (!d)
			continue;
		list_remove(&set->uses[i].node);
		if (!list_empty(&d->uses))
			continue;
		if (!d->readonly) {
			d->waiter = set;
			set->pending++;
		}
		d->unwanted = true;
		if (d->state == DISK_PLUGGED)
			unplug(d);
	}
	set->n = 0;
	if (--set->pending == 0)
		set_end(set);
}

void disk_set_cancel(struct disk_set *set)
{
	if (set)
		set->gone = NULL;
}

void disk_set_free(struct disk_set *set)
{
	if (!set)
		return;
	for (size_t i = 0; i < set->n; i++) {
		struct disk *d = set->uses[i].disk;

		if (!d)
			continue;
		list_remove(&set->uses[i].node);
		disk_unref(d);
	}
	free(set);
}

size_t disks_room(const struct sandbox *sb)
{
	const struct list *l;
	size_t n = 0;

	for (l = sb->disks.next; l != &sb->disks; l = l->next)
		n++;
	return n < VMM_MAX_DISKS ? VMM_MAX_DISKS - n : 0;
}

bool disks_kept(const struct sandbox *sb)
{
	struct disk *d;

	list_for_each (d, &sb->disks, node)
		if (d->kept)
			return true;
	return false;
}

void disks_close(struct sandbox *sb)
{
	while (!list_empty(&sb->disks))
		disk_forget(list_entry(sb->disks.next, struct disk, node));
}
