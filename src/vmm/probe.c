/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this machine can do, found out by running a guest.
 *
 * The proof is that the guest's agent has opened its end of the channel: by then the CPU, the
 * kernel, the root image and user space have worked. Whether KVM can do that is remembered for
 * this boot of the host, in a file that names everything the answer depends on: the boot, the
 * /dev/kvm node (it's another one after a module was loaded), QEMU and the kernel. A machine that
 * starts with VMM_ACCEL_AUTO asks there first. That KVM doesn't work is believed for ten minutes
 * only: the host may just have been too busy for the deadline.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/str.h"
#include "vmm/vmm-internal.h"

#define REMEMBER_FILE	     "kvm-usable"
#define KVM_TIMEOUT_MS	     8000
#define BELIEVE_NO_S	     600
#define EMULATION_TIMEOUT_MS 60000
#define VERSION_TIMEOUT_MS   10000
#define PROBE_MEMORY	     (UINT64_C(128) << 20)
#define REMEMBER_LIMIT	     4096
#define CPU_HINT                                                                                \
	"In a virtual machine, switch on nested virtualisation for it; on hardware, switch on " \
	"virtualisation (VT-x, AMD-V) in the firmware"

static int kvm_openable(struct err *e)
{
	_cleanup_(close_fdp) int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int r = -errno;

	if (fd >= 0)
		return 0;
	if (r == -ENOENT) {
		err_set(e, r, "there is no /dev/kvm");
		err_hint(e, "load the module kvm_intel or kvm_amd. " CPU_HINT);
	} else {
		err_errno(e, r, "cannot open /dev/kvm");
		err_hint(e, "become root or a member of group kvm");
	}
	return r;
}

/* ---- running a guest ---- */

struct run {
	bool over; /* the guest is up, or run.e says why not */
	struct err e;
};

static void on_up(void *data)
{
	struct run *run = data;

	run->over = true;
}

static void on_started(void *data, const struct err *e)
{
	struct run *run = data;

	if (!e)
		return;
	run->e = *e;
	run->over = true;
}

static void on_exited(void *data, const struct vmm_exit *exit)
{
	struct run *run = data;

	if (!run->e.code)
		err_set(&run->e, -EIO, "the guest ended before it was up: %s",
			exit->message[0] ? exit->message : "no reason was given");
	run->over = true;
}

DEFINE_CLEANUP(vmm_freep, struct vmm *, vmm_free)
DEFINE_CLEANUP(loop_freep, struct loop *, loop_free)

/* Run the loop until the guest is up. */
static int await_up(struct loop *loop, struct vmm *vmm, struct run *run, int timeout_ms,
		    struct err *e)
{
	int r = loop_run_until(loop, &run->over, timeout_ms);
	char tail[200];

	vmm_console_tail(vmm, 1, tail, sizeof(tail));
	if (r < 0)
		err_set(&run->e, r, "the guest was not up after %d ms", timeout_ms);
	if (!run->e.code)
		return 0;
	return err_set(e, run->e.code, "%s%s%s", run->e.msg,
		       tail[0] ? "; the last line of its console: " : "", tail);
}

int vmm_runs_guest(const struct vmm_driver *driver, const struct vmm_config *config, int timeout_ms,
		   struct err *e)
{
	_cleanup_(loop_freep) struct loop *loop = NULL;
	_cleanup_(vmm_freep) struct vmm *vmm = NULL;
	struct run run = { 0 };
	int r;

	r = loop_new(&loop);
	if (r == 0)
		r = vmm_new(loop, driver, on_exited, &run, &vmm);
	if (r < 0)
		return err_errno(e, r, "cannot run a guest");
	vmm->guest_up = on_up;
	vmm->guest_up_data = &run;
	r = vmm_start(vmm, config, on_started, &run, e);
	if (r < 0)
		return r;
	return await_up(loop, vmm, &run, timeout_ms, e);
}

/* The smallest machine of the same kind. */
static struct vmm_config probe_config(const struct vmm_config *config, enum vmm_accel accel)
{
	return (struct vmm_config){
		.binary = config->binary,
		.machine = config->machine,
		.accel = accel,
		.kernel = config->kernel,
		.cmdline = config->cmdline,
		.rootfs_fd = config->rootfs_fd,
		.vcpus = 1,
		.memory = PROBE_MEMORY,
	};
}

/* ---- remembering ---- */

static int add_file(struct buf *key, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	return buf_printf(key, " %s:%llu:%lld:%lld.%09ld", path, (unsigned long long)st.st_ino,
			  (long long)st.st_size, (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
}

/* One line, with its end, that names everything the answer depends on. */
static int make_key(const struct vmm_driver *driver, const struct vmm_config *config,
		    struct buf *key)
{
	_cleanup_(freep) char *boot = NULL;
	_cleanup_(freep) char *binary = NULL;
	int r;

	r = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &boot, NULL);
	if (r < 0)
		return r;
	boot[strcspn(boot, "\n")] = '\0';
	r = driver->find(config, VMM_ACCEL_KVM, &binary, NULL);
	if (r == 0)
		r = buf_printf(key, "%s %s", boot, config->machine ? config->machine : "-");
	if (r == 0)
		r = add_file(key, "/dev/kvm");
	if (r == 0)
		r = add_file(key, binary);
	if (r == 0)
		r = add_file(key, config->kernel);
	return r == 0 ? buf_printf(key, "\n") : r;
}

static char *remember_path(const struct vmm_driver *driver, const struct vmm_config *config)
{
	return str_printf("%s/%s-%s", config->state_dir ? config->state_dir : VMM_STATE_DIR,
			  driver->name, REMEMBER_FILE);
}

/* The file: the key, then "yes" or "no", then the reason. */
static void remember(const struct vmm_driver *driver, const struct vmm_config *config,
		     const struct buf *key, int r, const struct err *why)
{
	_cleanup_(freep) char *path = remember_path(driver, config);
	_cleanup_(freep) char *text = NULL;

	text = str_printf("%.*s%s\n%s\n", (int)buf_len(key), (const char *)buf_head(key),
			  r == 0 ? "yes" : "no", r == 0 ? "" : why->msg);
	if (!path || !text)
		return;
	if (mkdir_p(config->state_dir ? config->state_dir : VMM_STATE_DIR, 0755) == 0)
		(void)file_replace(AT_FDCWD, path, text, strlen(text), 0644);
}

static bool is_recent(const char *path)
{
	struct stat st;
	time_t age;

	if (stat(path, &st) < 0)
		return false;
	age = time(NULL) - st.st_mtim.tv_sec;
	return age >= 0 && age < BELIEVE_NO_S;
}

/* Return: 0 (KVM is usable), -EIO (it isn't, @why says why), -ENOENT (not known) */
static int recall(const struct vmm_driver *driver, const struct vmm_config *config,
		  const struct buf *key, struct err *why)
{
	_cleanup_(freep) char *path = remember_path(driver, config);
	_cleanup_(freep) char *text = NULL;
	const char *rest;
	size_t len;

	if (!path || file_read(AT_FDCWD, path, REMEMBER_LIMIT, &text, &len) < 0)
		return -ENOENT;
	if (len < buf_len(key) || memcmp(text, buf_head(key), buf_len(key)) != 0)
		return -ENOENT;
	rest = text + buf_len(key);
	if (str_starts(rest, "yes\n"))
		return 0;
	if (!str_starts(rest, "no\n") || !is_recent(path))
		return -ENOENT;
	rest += strlen("no\n");
	return err_set(why, -EIO, "%.*s", (int)strcspn(rest, "\n"), rest);
}

/* Find out for sure, and remember. */
static int find_out_kvm(const struct vmm_driver *driver, const struct vmm_config *config,
			int timeout_ms, struct err *why)
{
	struct vmm_config probe = probe_config(config, VMM_ACCEL_KVM);
	_cleanup_(buf_done) struct buf key = { 0 };
	struct err e = { 0 };
	int r;

	r = vmm_runs_guest(driver, &probe, timeout_ms, &e);
	if (r < 0)
		err_set(why, r, "/dev/kvm opens, but no guest runs on it: %s", e.msg);
	if (make_key(driver, &probe, &key) == 0)
		remember(driver, config, &key, r, why);
	return r;
}

enum vmm_accel vmm_accel_auto(const struct vmm_driver *driver, const struct vmm_config *config,
			      struct err *why)
{
	struct vmm_config probe = probe_config(config, VMM_ACCEL_KVM);
	_cleanup_(buf_done) struct buf key = { 0 };
	struct err unused = { 0 };
	int r;

	if (!why)
		why = &unused;
	r = kvm_openable(why);
	if (r == 0) {
		r = make_key(driver, &probe, &key);
		if (r == 0)
			r = recall(driver, config, &key, why);
		if (r == -ENOENT)
			r = find_out_kvm(driver, config, KVM_TIMEOUT_MS, why);
	}
	return r == 0 ? VMM_ACCEL_KVM : VMM_ACCEL_TCG;
}

/* ---- for `podvm check` ---- */

static void find_version(const char *binary, char *ret, size_t size)
{
	char *argv[] = { (char *)(uintptr_t)binary, (char *)(uintptr_t) "--version", NULL };
	_cleanup_(freep) char *out = NULL;
	struct spawn s = SPAWN_INIT;

	s.path = binary;
	s.argv = argv;
	if (spawn_run(&s, VERSION_TIMEOUT_MS, &out, NULL) == 0 && out)
		printable(ret, size, out, MIN(strcspn(out, "\n"), size - 1));
}

/* Which program there is: the one for KVM when both are there. Return: 0 or a negative errno */
static int probe_binary(const struct vmm_driver *driver, const struct vmm_config *config,
			struct vmm_probe_result *ret, struct err *e)
{
	_cleanup_(freep) char *binary = NULL;
	int r = driver->find(config, VMM_ACCEL_KVM, &binary, e);

	if (r < 0)
		return r;
	snprintf(ret->binary, sizeof(ret->binary), "%s", binary);
	find_version(binary, ret->version, sizeof(ret->version));
	return 0;
}

static void probe_emulation(const struct vmm_driver *driver, const struct vmm_config *config,
			    struct vmm_probe_result *ret)
{
	struct vmm_config probe = probe_config(config, VMM_ACCEL_TCG);
	struct err e = { 0 };

	if (!(driver->caps & VMM_CAP_EMULATION))
		snprintf(ret->emulation, sizeof(ret->emulation), "%s can't emulate", driver->name);
	else if (vmm_runs_guest(driver, &probe, EMULATION_TIMEOUT_MS, &e) < 0)
		snprintf(ret->emulation, sizeof(ret->emulation), "%.250s", e.msg);
	else
		ret->usable = VMM_USABLE_EMULATION;
	if (ret->usable == VMM_USABLE_EMULATION)
		snprintf(ret->emulation, sizeof(ret->emulation), "a guest ran");
}

static void probe_kvm(const struct vmm_driver *driver, const struct vmm_config *config,
		      int timeout_ms, struct vmm_probe_result *ret)
{
	struct err e = { 0 };
	int r = kvm_openable(&e);

	if (r == 0)
		r = find_out_kvm(driver, config, timeout_ms, &e);
	if (r == 0) {
		ret->usable = VMM_USABLE_KVM;
		snprintf(ret->kvm, sizeof(ret->kvm), "a guest ran");
		return;
	}
	err_hint(&e, "This /dev/kvm may be a software one that needs special guests. " CPU_HINT);
	snprintf(ret->kvm, sizeof(ret->kvm), "%.250s", e.msg);
	snprintf(ret->hint, sizeof(ret->hint), "%s", e.hint);
}

int vmm_probe(const struct vmm_driver *driver, const char *kernel, const char *rootfs,
	      const char *cmdline, int kvm_timeout_ms, struct vmm_probe_result *ret, struct err *e)
{
	_cleanup_(close_fdp) int fd = open(rootfs, O_RDONLY | O_CLOEXEC);
	struct vmm_config config = { .kernel = kernel, .cmdline = cmdline, .rootfs_fd = fd };
	struct err missing = { 0 };

	*ret = (struct vmm_probe_result){ 0 };
	if (fd < 0)
		return err_errno(e, -errno, "cannot open %s", rootfs);
	if (access(kernel, R_OK) < 0)
		return err_errno(e, -errno, "cannot read %s", kernel);
	if (probe_binary(driver, &config, ret, &missing) < 0) {
		snprintf(ret->kvm, sizeof(ret->kvm), "%.250s", missing.msg);
		snprintf(ret->emulation, sizeof(ret->emulation), "%.250s", missing.msg);
		snprintf(ret->hint, sizeof(ret->hint), "%s", missing.hint);
		return 0;
	}
	probe_emulation(driver, &config, ret);
	probe_kvm(driver, &config, kvm_timeout_ms, ret);
	return 0;
}
