/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/volume.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/str.h"
#include "sandbox/agent_client.h"
#include "sandbox/host_socket.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/volume_tree.h"

#define BATCH_BYTES   ((size_t)1 << 20) /* of a call; a single file may be as large */
#define BATCH_CHANGES 1000
#define RETRY_MS      1000
#define RETRY_MAX     8 /* doublings: four minutes */

#define WATCH_DIRECTORY \
	(IN_CREATE | IN_DELETE | IN_MOVE | IN_CLOSE_WRITE | IN_ATTRIB | IN_ONLYDIR | IN_DONT_FOLLOW)
#define WATCH_FILE (IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB)

struct volume_set {
	struct sandbox *sb;
	struct list volumes;
	int fd; /* inotify, < 0: not needed yet */
	struct loop_io *io;
};

/**
 * struct volume - A volume
 * @dev, @ino:	Of a file: the one that is meant
 * @sockets:	Its sockets are offered
 * @socket_dir:	Of those
 * @watch:	Watch descriptor of inotify, < 0: it isn't followed
 * @have:	What the guest has, as far as we know
 * @next:	What it's about to have
 * @directories: To be made in a file system in memory: a path, and those above it first
 * @changes:	What is being sent, @n_sent of @n_changes are there; strings and data are @next's and
 *		@have's
 * @n_batch:	Of them, those that are under way
 * @timer:	Until the next reading, if @armed
 * @changed:	There was an event since the last reading
 * @unreadable:	It couldn't be read the last time, which was logged
 * @left_out:	A socket was left out, which was logged
 * @pause_ms:	From an event to the reading
 * @read_ms:	When it was read last
 * @failures:	How often sending has failed in a row
 * @done:	Until the first copy is there
 */
struct volume {
	struct list node;
	struct volume_set *set;
	char *source;
	char *path;
	char *name;
	struct strv directories;
	bool memory;
	bool fixed;
	bool sockets;
	struct socket_dir socket_dir;
	Podvm__Agent__V1__VolumeTmpfs tmpfs;
	dev_t dev;
	ino_t ino;
	int watch;
	struct volume_tree have;
	struct volume_tree next;
	Podvm__Agent__V1__VolumeChange *changes;
	size_t n_changes;
	size_t n_sent;
	size_t n_batch;
	struct ttrpc_pending *call;
	struct loop_timer *timer;
	bool armed;
	bool changed;
	bool unreadable;
	bool left_out;
	uint64_t pause_ms;
	uint64_t read_ms;
	unsigned int failures;
	sandbox_done done;
	void *data;
};

static void arm(struct volume *v, uint64_t ms)
{
	v->armed = loop_timer_set(v->timer, ms) == 0;
}

/* What changes all the time, such as a log file, is read less and less often. */
static void arm_for_event(struct volume *v)
{
	bool again = clock_ms() - v->read_ms < 2 * v->pause_ms;

	v->pause_ms = again ? MIN(2 * v->pause_ms, (uint64_t)VOLUME_MAX_MS) : VOLUME_SETTLE_MS;
	arm(v, v->pause_ms);
}

/* ---- sending ---- */

static void drop_changes(struct volume *v)
{
	free(TAKE_PTR(v->changes));
	v->n_changes = v->n_sent = v->n_batch = 0;
}

/* Its owner is told, and may free it. */
static void tell(struct volume *v, const struct err *e)
{
	sandbox_done done = v->done;
	struct err err = { 0 };

	v->done = NULL;
	if (e) {
		err = *e;
		err_wrap(&err, "cannot copy %s", v->source);
	}
	done(v->data, e ? &err : NULL);
}

static void log_failure(const struct volume *v, const struct err *e, const char *what)
{
	char source[256];
	char text[512];

	log_warn(what, "volume=%s error=%s", log_quote(source, sizeof(source), v->source),
		 log_quote(text, sizeof(text), e->msg));
}

static void failed(struct volume *v, const struct err *e)
{
	drop_changes(v);
	(void)volume_tree_doubt(&v->have, &v->next);
	if (v->done) {
		tell(v, e);
		return;
	}
	/* The machine has gone: whoever has it tells that. */
	if (e->code == -ECONNRESET || e->code == -ENOTCONN)
		return;
	log_failure(v, e, "a volume could not be changed in the guest, it will be tried again");
	arm(v, (uint64_t)RETRY_MS << MIN(v->failures, RETRY_MAX));
	v->failures++;
}

static bool still_has(const void *data, const char *path)
{
	const struct volume *v = data;

	return volume_tree_find(&v->have, path);
}

static void succeeded(struct volume *v)
{
	drop_changes(v);
	volume_tree_drop_data(&v->next);
	volume_tree_done(&v->have);
	v->have = v->next;
	v->next = (struct volume_tree){ 0 };
	if (v->sockets && v->set->sb->sockets)
		host_sockets_keep(v->set->sb->sockets, v, still_has, v);
	v->failures = 0;
	if (v->changed)
		arm_for_event(v);
	if (v->done)
		tell(v, NULL);
}

static int send_batch(struct volume *v);

static void on_sent(void *data, const ProtobufCMessage *msg, const struct err *e)
{
	struct volume *v = data;
	struct err err = { 0 };
	int r = 0;

	v->call = NULL;
	if (!e) {
		v->n_sent += v->n_batch;
		if (v->n_sent == v->n_changes) {
			succeeded(v);
			return;
		}
		r = send_batch(v);
		if (r < 0)
			err_errno(&err, r, "cannot call the guest");
	}
	if (e || r < 0)
		failed(v, e ? e : &err);
}

static int send_batch(struct volume *v)
{
	Podvm__Agent__V1__UpdateVolumeRequest req = PODVM__AGENT__V1__UPDATE_VOLUME_REQUEST__INIT;
	Podvm__Agent__V1__VolumeChange *pointers[BATCH_CHANGES];
	size_t bytes = 0;
	size_t n = 0;

	while (v->n_sent + n < v->n_changes && n < BATCH_CHANGES) {
		bytes += v->changes[v->n_sent + n].data.len;
		if (n > 0 && bytes > BATCH_BYTES)
			break;
		pointers[n] = &v->changes[v->n_sent + n];
		n++;
	}
	v->n_batch = n;
	req.path = v->path;
	req.changes = pointers;
	req.n_changes = n;
	req.tmpfs = v->memory ? &v->tmpfs : NULL;
	return agent_call(sandbox_agent(v->set->sb), "UpdateVolume", &req.base, AGENT_TIMEOUT_MS,
			  on_sent, v, &v->call);
}

/* ---- reading ---- */

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* What the pod can't have isn't there; it's said once. */
static int leave_out(struct volume *v, const char *name, int why)
{
	static const char advice[] = "host_sockets in [storage] of podvm.conf lists those that are";
	char path[PATH_MAX];
	char quoted[256];

	if (why == -ENOENT || why == -ESTALE || v->left_out)
		return 0;
	v->left_out = true;
	snprintf(path, sizeof(path), "%s/%s", v->socket_dir.path, name);
	log_warn("a host socket isn't available in the pod", "socket=%s reason=\"%s\"%s%s%s",
		 log_quote(quoted, sizeof(quoted), path),
		 why == -EPERM ? "it isn't listed" : strerror(-why),
		 why == -EPERM ? " hint=\"" : "", why == -EPERM ? advice : "",
		 why == -EPERM ? "\"" : "");
	return 0;
}

static int offer_socket(void *data, struct volume_entry *n, struct err *e)
{
	struct volume *v = data;
	const char *name = v->name ? base_name(v->source) : n->path;
	struct socket_offer o = { .owner = v, .key = n->path, .dir = &v->socket_dir, .name = name };
	struct host_sockets *hs = sandbox_sockets(v->set->sb);
	int r = hs ? host_sockets_offer(hs, &o, &n->socket, &n->messages) : -ENOMEM;

	if (r == -ENOMEM)
		return err_oom(e);
	if (r < 0)
		return v->name ? err_errno(e, r, "cannot use the socket") : leave_out(v, name, r);
	return 1;
}

static int read_source(struct volume *v, struct err *e)
{
	struct volume_sockets sockets = { offer_socket, v };

	if (v->sockets && v->name)
		return volume_tree_read_socket(&v->next, v->source, v->name, &sockets, e);
	if (v->sockets)
		return volume_tree_read(&v->next, v->source, &sockets, e);
	if (v->name)
		return volume_tree_read_file(&v->next, v->source, v->name, v->dev, v->ino, e);
	if (v->memory)
		return volume_tree_read_top(&v->next, v->source, e);
	return volume_tree_read(&v->next, v->source, NULL, e);
}

static int make_directories(struct volume *v)
{
	v->changes = calloc(v->directories.n, sizeof(*v->changes));
	if (!v->changes)
		return -ENOMEM;
	v->n_changes = v->directories.n;
	for (size_t i = 0; i < v->n_changes; i++) {
		Podvm__Agent__V1__VolumeChange *c = &v->changes[i];

		podvm__agent__v1__volume_change__init(c);
		c->kind = PODVM__AGENT__V1__VOLUME_CHANGE__KIND__DIRECTORY;
		c->path = v->directories.v[i];
		c->mode = v->next.v[0].mode;
		c->uid = v->next.v[0].uid;
		c->gid = v->next.v[0].gid;
		c->keep = true;
	}
	return 0;
}

static int make_changes(struct volume *v)
{
	ssize_t n;

	if (v->directories.n > 0)
		return make_directories(v);
	n = volume_tree_diff(&v->have, &v->next, &v->changes);
	if (n < 0)
		return (int)n;
	v->n_changes = (size_t)n;
	return 0;
}

/* What can't be read stays as it is in the guest, until the next event. */
static void unreadable(struct volume *v, int code, const struct err *e)
{
	volume_tree_done(&v->next);
	if (code == -EAGAIN) {
		arm(v, VOLUME_SETTLE_MS);
	} else if (v->done) {
		tell(v, e);
	} else if (code != -ESTALE && !v->unreadable) {
		log_failure(v, e, "a volume can't be copied, the guest keeps what it has");
		v->unreadable = true;
	}
}

static void on_timer(void *data)
{
	struct volume *v = data;
	struct err e = { 0 };
	int r;

	v->armed = false;
	v->changed = false;
	v->read_ms = clock_ms();
	r = read_source(v, &e);
	if (r < 0) {
		unreadable(v, r, &e);
		return;
	}
	v->unreadable = false;
	r = make_changes(v);
	if (r == 0 && v->n_changes == 0) {
		succeeded(v);
		return;
	}
	if (r == 0)
		r = send_batch(v);
	if (r < 0) {
		err_errno(&e, r, "cannot send %s to the guest", v->source);
		failed(v, &e);
	}
}

/* ---- events ---- */

static void note_event(struct volume_set *set, const struct inotify_event *ev)
{
	struct volume *v;

	list_for_each (v, &set->volumes, node) {
		if (!(ev->mask & IN_Q_OVERFLOW) && v->watch != ev->wd)
			continue;
		if (ev->mask & IN_IGNORED)
			v->watch = -EBADF;
		v->changed = true;
		if (!v->call && !v->armed)
			arm_for_event(v);
	}
}

static void on_events(void *data, int events)
{
	struct volume_set *set = data;
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n = read(set->fd, buf, sizeof(buf));

	for (ssize_t i = 0; i + (ssize_t)sizeof(struct inotify_event) <= n;) {
		const struct inotify_event *ev = (const void *)(buf + i);

		note_event(set, ev);
		i += (ssize_t)sizeof(*ev) + ev->len;
	}
}

static int start_inotify(struct volume_set *set)
{
	int r;

	set->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (set->fd < 0)
		return -errno;
	r = loop_io_new(sandbox_loop(set->sb), set->fd, LOOP_READ, on_events, set, &set->io);
	if (r < 0)
		close(TAKE_FD(set->fd));
	return r;
}

/* A pod runs without that as well, only that it doesn't see changes. */
static void follow(struct volume *v)
{
	int r = v->set->fd < 0 ? start_inotify(v->set) : 0;
	char source[256];

	if (r == 0) {
		v->watch = inotify_add_watch(v->set->fd, v->source,
					     v->name ? WATCH_FILE : WATCH_DIRECTORY);
		r = v->watch < 0 ? -errno : 0;
	}
	if (r < 0)
		log_warn(
			"changes of a volume won't be seen in the pod", "volume=%s error=\"%s\"%s",
			log_quote(source, sizeof(source), v->source), strerror(-r),
			r == -EMFILE || r == -ENOSPC
				? " hint=\"sysctl fs.inotify.max_user_instances, max_user_watches\""
				: "");
}

/* Another volume may be the same file. */
static void unfollow(struct volume *v)
{
	struct volume *other;

	if (v->watch < 0)
		return;
	list_for_each (other, &v->set->volumes, node)
		if (other->watch == v->watch)
			return;
	(void)inotify_rm_watch(v->set->fd, v->watch);
}

/* ---- sets and volumes ---- */

int volume_set_new(struct sandbox *sb, struct volume_set **ret)
{
	struct volume_set *set = calloc(1, sizeof(*set));

	if (!set)
		return -ENOMEM;
	set->sb = sb;
	set->fd = -EBADF;
	list_init(&set->volumes);
	*ret = set;
	return 0;
}

void volume_set_free(struct volume_set *set)
{
	if (!set)
		return;
	while (!list_empty(&set->volumes))
		volume_free(list_entry(set->volumes.next, struct volume, node));
	loop_io_free(set->io);
	close_fdp(&set->fd);
	free(set);
}

/* "a/b": a, a/b */
static int add_directories(struct strv *to, const char *path)
{
	int r = 0;

	for (size_t n = 0; r == 0 && path[n];) {
		n += 1 + strcspn(path + n + 1, "/");
		r = strv_addf(to, "%.*s", (int)n, path);
	}
	return r;
}

static int look_at_sockets(struct volume *v)
{
	_cleanup_(freep) char *path = realpath(v->source, NULL);

	if (!path)
		return -errno;
	free(v->source);
	v->source = TAKE_PTR(path);
	return socket_dir_init(&v->socket_dir, v->source, v->name, NULL);
}

static int copy_config(struct volume *v, const struct volume_config *c)
{
	struct stat st;
	int r;

	r = str_set(&v->source, c->source);
	r = r < 0 ? r : str_set(&v->path, c->path);
	r = r < 0 ? r : str_set(&v->name, c->name);
	r = r < 0 || !c->directory ? r : add_directories(&v->directories, c->directory);
	if (r < 0)
		return r;
	v->memory = c->memory;
	v->sockets = c->sockets;
	v->fixed = c->fixed || c->memory || (c->sockets && c->name);
	podvm__agent__v1__volume_tmpfs__init(&v->tmpfs);
	v->tmpfs.size = c->size;
	v->tmpfs.inodes = c->inodes;
	if (stat(c->source, &st) < 0)
		return -errno;
	v->dev = st.st_dev;
	v->ino = st.st_ino;
	return v->sockets ? look_at_sockets(v) : 0;
}

int volume_add(struct volume_set *set, const struct volume_config *config, sandbox_done done,
	       void *data, struct volume **ret)
{
	struct volume *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	list_init(&v->node);
	v->set = set;
	v->watch = -EBADF;
	v->pause_ms = VOLUME_SETTLE_MS;
	v->done = done;
	v->data = data;
	r = copy_config(v, config);
	/* The watch comes before the first reading, so that nothing falls in between. */
	if (r == 0 && !v->fixed)
		follow(v);
	if (r == 0)
		r = loop_timer_new(sandbox_loop(set->sb), 0, on_timer, v, &v->timer);
	if (r < 0) {
		volume_free(v);
		return r;
	}
	v->armed = true;
	list_append(&set->volumes, &v->node);
	*ret = v;
	return 0;
}

void volume_free(struct volume *v)
{
	if (!v)
		return;
	list_remove(&v->node);
	unfollow(v);
	if (v->sockets && v->set->sb->sockets)
		host_sockets_keep(v->set->sb->sockets, v, NULL, NULL);
	socket_dir_done(&v->socket_dir);
	ttrpc_cancel(v->call);
	loop_timer_free(v->timer);
	drop_changes(v);
	volume_tree_done(&v->have);
	volume_tree_done(&v->next);
	free(v->source);
	free(v->path);
	free(v->name);
	strv_done(&v->directories);
	free(v);
}

void volume_remove(struct sandbox *sb, const char *path)
{
	Podvm__Agent__V1__UpdateVolumeRequest req = PODVM__AGENT__V1__UPDATE_VOLUME_REQUEST__INIT;
	Podvm__Agent__V1__VolumeChange change = PODVM__AGENT__V1__VOLUME_CHANGE__INIT;
	Podvm__Agent__V1__VolumeChange *changes[] = { &change };

	change.kind = PODVM__AGENT__V1__VOLUME_CHANGE__KIND__REMOVE;
	req.path = (char *)path;
	req.changes = changes;
	req.n_changes = 1;
	(void)agent_call(sandbox_agent(sb), "UpdateVolume", &req.base, AGENT_TIMEOUT_MS,
			 agent_ignore, NULL, NULL);
}
