/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The QEMU driver: finding the program, starting it, what it tells, its end.
 *
 * Devices of a machine, all of them:
 *
 *	ttyS0 (isa-serial)	the kernel's console, one way, from the first line on; into our ring
 *	virtio-serial		port "podvm.agent": the agent's channel. A running guest can be given
 *				one more (qemu-channel.c)
 *	virtio-blk		the root image, read-only
 *	virtio-scsi		a controller without disks: those of containers come later, by QMP
 *				(microvm has 8 device slots and can't plug into them; LUNs it can)
 *	virtio-rng		entropy for a guest that has seen nothing yet
 *	virtio-balloon		only for free page reporting: memory the guest frees goes back
 *				(not in copies of a template)
 *	vmgenid			only on q35: tells a copy of a template that it's one
 *	virtio-mem		only on q35, for memory that comes later
 *	virtio-net		one for each network, at most 8
 *
 * There is no display, no USB, no disk or network controller of real hardware, no monitor but
 * ours, no configuration file, and QEMU's seccomp filter is on. Debian's qemu-system-x86_64-microvm
 * is used where it will do: it starts faster and loads a fifth of the libraries, but has KVM only,
 * no PCI devices, and no seccomp filter of its own.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "vmm/qemu.h"

/* From the start of the process to its answer on the control connection. */
#define START_TIMEOUT_MS 60000

/* A QEMU that has closed its control connection should be gone at once. */
#define EXIT_GRACE_MS 2000

static const char *const small_binary = "qemu-system-x86_64-microvm";
static const char *const full_binary = "qemu-system-x86_64";

int qemu_find(const struct vmm_config *config, enum vmm_accel accel, char **ret, struct err *e)
{
	const char *name = config->binary ? config->binary : full_binary;
	bool pci;
	int r;

	r = qemu_is_pci(config->machine, &pci, e);
	if (r < 0)
		return r;
	if (!config->binary && accel == VMM_ACCEL_KVM && !pci &&
	    find_program(small_binary, ret) == 0)
		return 0;
	r = find_program(name, ret);
	if (r == -ENOENT) {
		err_set(e, r, "%s was not found", name);
		err_hint(e, "install QEMU: apt install qemu-system-x86");
	} else if (r < 0) {
		err_errno(e, r, "cannot use %s", name);
	}
	return r;
}

/* ---- what QEMU tells ---- */

static void start_answered(struct qemu *q, const struct err *e)
{
	vmm_done done = q->done;

	q->done = NULL;
	if (done)
		done(q->done_data, e);
}

/* An error that came with the end of QEMU is told when it's known what it died of. */
static void on_status(void *data, struct json_object *ret, const struct err *e)
{
	struct qemu *q = data;

	if (!e || e->code != -ECONNRESET)
		start_answered(q, e);
}

/* It would wait for a state that doesn't come. */
static void on_load(void *data, struct json_object *ret, const struct err *e)
{
	if (e)
		on_status(data, ret, e);
}

static const char *member(struct json_object *obj, const char *key)
{
	struct json_object *value = NULL;

	if (!json_object_object_get_ex(obj, key, &value))
		return NULL;
	return json_object_get_string(value);
}

/* The CPUs stopped and we didn't ask: KVM could not go on. QEMU would wait for a debugger. */
static void on_stop(struct qemu *q)
{
	if (q->stopped || q->shutdown[0])
		return;
	q->halted = true;
	(void)vmm_proc_kill_in(q->vmm->proc, 0);
}

static void on_memory(struct qemu *q, struct json_object *event)
{
	struct json_object *size = NULL;

	if (json_object_object_get_ex(event, "size", &size) &&
	    json_object_is_type(size, json_type_int))
		qemu_memory_changed(q, json_object_get_uint64(size));
}

static void on_port(struct qemu *q, struct json_object *event)
{
	const char *open = member(event, "open");
	const char *id = member(event, "id");

	if (open && str_eq(open, "true") && q->vmm->guest_up)
		q->vmm->guest_up(q->vmm->guest_up_data);
	else if (open && str_eq(open, "false") && id && str_starts(id, QEMU_PORT))
		vmm_channel_closed(q->vmm, id + strlen(QEMU_PORT));
}

static void on_event(void *data, const char *name, struct json_object *event)
{
	struct qemu *q = data;
	const char *text;

	if (str_eq(name, "VSERPORT_CHANGE")) {
		on_port(q, event);
	} else if (str_eq(name, "DEVICE_DELETED")) {
		text = member(event, "device");
		if (text)
			qemu_disk_deleted(q, text);
	} else if (str_eq(name, "MEMORY_DEVICE_SIZE_CHANGE")) {
		on_memory(q, event);
	} else if (str_eq(name, "SHUTDOWN")) {
		text = member(event, "reason");
		printable(q->shutdown, sizeof(q->shutdown), text ? text : "?",
			  text ? strlen(text) : 1);
	} else if (str_eq(name, "MIGRATION")) {
		text = member(event, "status");
		if (text)
			qemu_migrated(q, text);
	} else if (str_eq(name, "STOP")) {
		on_stop(q);
	}
}

static void on_closed(void *data, const struct err *e)
{
	struct qemu *q = data;

	(void)vmm_proc_kill_in(q->vmm->proc, e->code == -EPROTO ? 0 : EXIT_GRACE_MS);
}

static void on_exited(void *data, const struct vmm_exit *exit)
{
	struct vmm *vmm = data;
	struct qemu *q = vmm->state;
	struct vmm_exit copy = *exit;

	vmm_enter(vmm);
	if (q->qmp)
		qmp_drain(q->qmp);
	if (!vmm->freed && q->halted)
		snprintf(copy.message, sizeof(copy.message),
			 "the CPU could not go on (KVM internal error)");
	else if (!vmm->freed && q->shutdown[0] && copy.code == 0)
		snprintf(copy.message, sizeof(copy.message), "the guest ended itself (%s)",
			 q->shutdown);
	if (!vmm->freed)
		vmm_exited(vmm, &copy);
	vmm_leave(vmm);
}

/* ---- start ---- */

/* Our ends go to the machine, QEMU's ends are closed here after the start. */
struct ends {
	int console;
	int agent;
	int qmp;
};

static void close_ends(struct ends *ends)
{
	close_fdp(&ends->console);
	close_fdp(&ends->agent);
	close_fdp(&ends->qmp);
}

static int make_channels(struct vmm *vmm, struct ends *theirs, int *ret_qmp)
{
	int console;
	int r;

	r = vmm_socketpair(&console, &theirs->console);
	if (r == 0)
		r = vmm_console_open(vmm, console);
	if (r == 0)
		r = vmm_socketpair(&vmm->agent_fd, &theirs->agent);
	if (r == 0)
		r = vmm_socketpair(ret_qmp, &theirs->qmp);
	return r;
}

static void note_size(struct qemu *q, const struct qemu_machine *m)
{
	q->pci = m->pci;
	q->boot_memory = m->config->memory;
	q->spare_memory = qemu_spare_memory(m);
	q->max_vcpus = MAX(m->config->vcpus, m->config->max_vcpus);
}

/* QEMU refuses memory without a promise there. */
static bool is_memory_strict(void)
{
	_cleanup_(freep) char *mode = NULL;

	return file_read(AT_FDCWD, "/proc/sys/vm/overcommit_memory", 16, &mode, NULL) == 0 &&
	       *mode == '2';
}

/* KVM's device belongs to a group, usually. */
static void set_user(struct spawn *s, uid_t uid, bool kvm)
{
	const mode_t group = S_IRGRP | S_IWGRP;
	const mode_t other = S_IROTH | S_IWOTH;
	struct stat st;

	s->uid = uid;
	if (uid == 0 || !kvm || stat("/dev/kvm", &st) < 0 || (st.st_mode & other) == other)
		return;
	if ((st.st_mode & group) == group && st.st_gid != 0) {
		s->group = st.st_gid;
		return;
	}
	s->uid = 0;
	log_warn("QEMU runs with privileges", "why=\"only root may open /dev/kvm\" hint=\"chgrp "
					      "kvm /dev/kvm; chmod 660 /dev/kvm\"");
}

/* What a template is made of, or made into. */
static int prepare_template(struct qemu *q, const struct vmm_config *config, struct spawn *s)
{
	if (config->template == VMM_TEMPLATE_NONE)
		return 0;
	if (config->template == VMM_TEMPLATE_USE) {
		q->state_fd = spawn_fd(s, config->state_fd);
		if (q->state_fd < 0)
			return q->state_fd;
	}
	q->memory_fd = fcntl(config->memory_fd, F_DUPFD_CLOEXEC, 3);
	if (q->memory_fd < 0)
		return -errno;
	return memory_grant_new(q->vmm->loop, q->memory_fd, s, &q->memory);
}

static int spawn_qemu(struct vmm *vmm, const struct vmm_config *config, const struct ends *ends,
		      struct err *e)
{
	_cleanup_(freep) char *binary = NULL;
	_cleanup_(close_fdp) int kernel = open(config->kernel, O_RDONLY | O_CLOEXEC);
	_cleanup_(strv_done) struct strv argv = { 0 };
	struct spawn s = SPAWN_INIT;
	struct qemu *q = vmm->state;
	struct qemu_machine m = {
		.config = config,
		.accel = vmm->accel,
		.console_fd = ends->console,
		.agent_fd = ends->agent,
		.qmp_fd = ends->qmp,
		.kernel_fd = kernel,
		.strict_memory = is_memory_strict(),
	};
	int r;

	if (kernel < 0)
		return err_errno(e, -errno, "cannot open %s", config->kernel);
	r = qemu_find(config, vmm->accel, &binary, e);
	if (r < 0)
		return r;
	r = qemu_is_pci(config->machine, &m.pci, e);
	if (r < 0)
		return r;
	m.binary = binary;
	note_size(vmm->state, &m);
	if (vmm->accel == VMM_ACCEL_TCG && config->template != VMM_TEMPLATE_USE)
		m.tsc_khz = tsc_khz();
	r = qemu_cmdline(&m, &argv, &s, e);
	if (r < 0)
		return r;
	r = prepare_template(q, config, &s);
	if (r < 0)
		return err_errno(e, r, "cannot hand the template to QEMU");
	s.path = binary;
	s.argv = argv.v;
	set_user(&s, config->uid, vmm->accel == VMM_ACCEL_KVM);
	if (config->netns_fd > 0)
		s.netns_fd = config->netns_fd;
	r = vmm_proc_start(vmm->loop, &s, on_exited, vmm, &vmm->proc, e);
	if (r == -EACCES && s.uid != 0)
		err_hint(e,
			 "It runs as a user of its own: the program and the directories above it "
			 "have to be executable for everybody.");
	if (r == 0 && q->memory) {
		r = memory_grant_start(q->memory);
		if (r < 0)
			err_errno(e, r, "cannot hand the template's memory to QEMU");
	}
	return r;
}

static const struct qmp_handlers handlers = { .event = on_event, .closed = on_closed };

static int open_qmp(struct qemu *q, int fd)
{
	int r = qmp_new(q->vmm->loop, fd, &handlers, q, &q->qmp);

	if (r == 0 && q->state_fd)
		r = qemu_load(q, on_load);
	if (r < 0)
		return r;
	return qmp_call(q->qmp, "query-status", NULL, -1, START_TIMEOUT_MS, on_status, q);
}

static int start(struct vmm *vmm, struct qemu *q, const struct vmm_config *config, struct err *e)
{
	_cleanup_(close_ends) struct ends theirs = { -EBADF, -EBADF, -EBADF };
	_cleanup_(close_fdp) int qmp_fd = -EBADF;
	int r;

	r = make_channels(vmm, &theirs, &qmp_fd);
	if (r < 0)
		return err_errno(e, r, "cannot make QEMU's channels");
	r = spawn_qemu(vmm, config, &theirs, e);
	if (r < 0)
		return r;
	r = open_qmp(q, TAKE_FD(qmp_fd));
	if (r < 0)
		return err_errno(e, r, "cannot talk to QEMU");
	return 0;
}

static void qemu_free(struct vmm *vmm)
{
	struct qemu *q = vmm->state;

	if (!q)
		return;
	qmp_free(q->qmp);
	memory_grant_free(q->memory);
	close_fdp(&q->memory_fd);
	free(q);
	vmm->state = NULL;
}

static struct qemu *state_new(struct vmm *vmm)
{
	struct qemu *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->vmm = vmm;
	q->memory_fd = -EBADF;
	list_init(&q->ops);
	vmm->state = q;
	return q;
}

static int qemu_start(struct vmm *vmm, const struct vmm_config *config, vmm_done done, void *data,
		      struct err *e)
{
	struct qemu *q = state_new(vmm);
	int r;

	if (!q)
		return err_oom(e);
	r = start(vmm, q, config, e);
	if (r < 0)
		return r;
	q->done = done;
	q->done_data = data;
	return 0;
}

/* ---- handing it over ---- */

static int qemu_adopt(struct vmm *vmm, const struct vmm_config *config, struct vmm_handover *h,
		      int guard_fd, struct err *e)
{
	_cleanup_(close_fdp) int guard = guard_fd;
	struct qemu *q = state_new(vmm);
	struct qemu_machine m = { .config = config, .strict_memory = is_memory_strict() };
	int r;

	if (!q)
		return err_oom(e);
	r = qemu_is_pci(config->machine, &m.pci, e);
	if (r < 0)
		return r;
	note_size(q, &m);
	r = vmm_proc_adopt(vmm->loop, h, TAKE_FD(guard), on_exited, vmm, &vmm->proc);
	if (r == 0)
		r = qmp_adopt(vmm->loop, TAKE_FD(h->fds[VMM_HANDOVER_CONTROL]), &handlers, q,
			      &q->qmp);
	return r < 0 ? err_errno(e, r, "cannot take over QEMU") : 0;
}

static int qemu_hand_over(struct vmm *vmm, struct vmm_handover *h)
{
	struct qemu *q = vmm->state;
	int fd = qmp_hand_over(q->qmp);
	int r;

	if (fd < 0)
		return fd;
	h->fds[VMM_HANDOVER_CONTROL] = fd;
	r = vmm_proc_hand_over(vmm->proc, h);
	if (r == 0)
		qmp_free(TAKE_PTR(q->qmp));
	return r;
}

/* ---- the rest ---- */

struct simple_op {
	vmm_done done;
	void *data;
};

static void on_simple(void *user, struct json_object *ret, const struct err *e)
{
	struct simple_op op = *(struct simple_op *)user;

	free(user);
	op.done(op.data, e);
}

/* A command whose success is all there is to its answer. */
static int simple(struct qemu *q, const char *command, const char *args, vmm_done done, void *data,
		  struct err *e)
{
	struct simple_op *op = malloc(sizeof(*op));
	int r;

	if (!op)
		return err_oom(e);
	*op = (struct simple_op){ done, data };
	r = qmp_call(q->qmp, command, args, -1, QEMU_COMMAND_TIMEOUT_MS, on_simple, op);
	if (r < 0) {
		free(op);
		return err_errno(e, r, "%s", command);
	}
	return 0;
}

static int qemu_pause(struct vmm *vmm, vmm_done done, void *data, struct err *e)
{
	struct qemu *q = vmm->state;

	q->stopped = true;
	return simple(q, "stop", NULL, done, data, e);
}

static int qemu_resume(struct vmm *vmm, vmm_done done, void *data, struct err *e)
{
	struct qemu *q = vmm->state;
	int r = simple(q, "cont", NULL, done, data, e);

	if (r == 0)
		q->stopped = false;
	return r;
}

static int qemu_grow_disk(struct vmm *vmm, const struct vmm_disk_addr *addr, uint64_t size,
			  vmm_done done, void *data, struct err *e)
{
	_cleanup_(freep) char *args = str_printf("{\"node-name\":\"disk%s\",\"size\":%llu}",
						 addr->source, (unsigned long long)size);

	return args ? simple(vmm->state, "block_resize", args, done, data, e) : err_oom(e);
}

static void qemu_failed(struct vmm *vmm, const char *why)
{
	struct qemu *q = vmm->state;
	struct err e = { 0 };

	err_set(&e, -ECONNRESET, "QEMU ended%s%s", why[0] ? ": " : "", why);
	qmp_free(TAKE_PTR(q->qmp));
	qemu_disks_failed(q, &e);
	qemu_resize_failed(q, &e);
	qemu_save_failed(q, &e);
	start_answered(q, &e);
}

const struct vmm_driver vmm_qemu_driver = {
	.name = "qemu",
	.caps = VMM_CAP_KVM | VMM_CAP_EMULATION | VMM_CAP_DISK_HOTPLUG | VMM_CAP_DISK_UNPLUG |
		VMM_CAP_CHANNEL | VMM_CAP_PAUSE | VMM_CAP_BALLOON | VMM_CAP_RESIZE |
		VMM_CAP_TEMPLATE,
	.find = qemu_find,
	.start = qemu_start,
	.adopt = qemu_adopt,
	.hand_over = qemu_hand_over,
	.attach_disk = qemu_attach_disk,
	.detach_disk = qemu_detach_disk,
	.add_channel = qemu_add_channel,
	.grow_disk = qemu_grow_disk,
	.resize = qemu_resize,
	.describe = qemu_describe,
	.save = qemu_save,
	.pause = qemu_pause,
	.resume = qemu_resume,
	.failed = qemu_failed,
	.free = qemu_free,
};
