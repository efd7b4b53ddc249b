/* SPDX-License-Identifier: Apache-2.0 */
/* Templates, as those see them who use one. */
#include "sandbox/template.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "config/config.h"

#define DESCRIPTION_MAX ((size_t)64 << 10)
#define LINE_SIZE	256
#define BELIEVE_S	600
#define CPUINFO_BYTES	4096

/* When this changes, or what PrepareTemplate does, the templates that are there are of no use. */
#define TEMPLATE_VERSION 2

char *template_path(const char *store, const char *key, const char *name)
{
	return str_printf("%s/%s/%s", store, key, name);
}

char *template_checked_path(const char *state_dir, const char *key)
{
	return str_printf("%s/.template-%s", state_dir, key);
}

char *template_failed_path(const char *state_dir, const char *key)
{
	return str_printf("%s/.template-failed-%s", state_dir, key);
}

/* ---- what it depends on ---- */

void template_machine(const struct sandbox_config *c, struct vmm_config *config)
{
	*config = (struct vmm_config){
		.binary = c->binary,
		.machine = c->machine,
		.accel = c->accel,
		.kernel = c->image->kernel_path,
		.cmdline = c->image->cmdline,
		.rootfs_fd = -EBADF,
		.vcpus = c->vcpus,
		.memory = c->memory,
		.max_vcpus = c->max_vcpus,
		.max_memory = c->max_memory,
		.debug = c->debug,
		.state_dir = c->state_dir,
	};
}

/* The first CPU as Linux describes it, but for what changes all the time. */
static int describe_cpu(struct buf *text)
{
	static const char *const names[] = { "vendor_id", "cpu family", "model",
					     "stepping",  "microcode",	"flags" };
	_cleanup_(close_fdp) int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
	char info[CPUINFO_BYTES + 1];
	ssize_t n = fd < 0 ? -errno : fd_read_full(fd, info, CPUINFO_BYTES);
	char *save = NULL;
	int r = n < 0 ? (int)n : 0;

	if (r < 0)
		return r;
	info[n] = '\0';
	/* The block of a CPU ends with an empty line. */
	if (strstr(info, "\n\n"))
		*strstr(info, "\n\n") = '\0';
	for (char *line = strtok_r(info, "\n", &save); line && r == 0;
	     line = strtok_r(NULL, "\n", &save))
		for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++)
			if (str_starts(line, names[i]))
				r = buf_printf(text, "%s\n", line);
	return r;
}

static int describe_host(struct buf *text)
{
	_cleanup_(freep) char *boot = NULL;
	int r = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &boot, NULL);

	if (r == 0)
		r = buf_printf(text, "podvm %s %d\nboot %s\n", PODVM_VERSION, TEMPLATE_VERSION,
			       boot);
	return r == 0 ? describe_cpu(text) : r;
}

static int describe_image(const struct guest_image *image, struct buf *text)
{
	struct stat st;

	if (stat(image->rootfs_path, &st) < 0)
		return -errno;
	return buf_printf(text, "kernel %s\nroot %s %s %llx:%llx %lld %lld.%09ld\n",
			  image->kernel.sha256, image->rootfs.sha256, image->rootfs_path,
			  (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
			  (long long)st.st_size, (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
}

int template_describe(const struct sandbox_config *c, enum template_nic nic, struct buf *text,
		      char key[TEMPLATE_KEY_SIZE], struct err *e)
{
	struct vmm_config config;
	int r;

	template_machine(c, &config);
	config.n_nics = nic == TEMPLATE_NIC_NONE ? 0 : 1;
	config.nics[0] = (struct vmm_nic){ .tap = nic == TEMPLATE_NIC_TAP, .mac = TEMPLATE_MAC };
	text->limit = DESCRIPTION_MAX;
	r = describe_host(text);
	if (r == 0)
		r = describe_image(c->image, text);
	if (r < 0)
		return err_errno(e, r, "cannot describe the machine");
	r = vmm_describe(c->driver, &config, c->accel, text, e);
	if (r < 0)
		return r;
	if (!buf_cstr(text))
		return err_oom(e);
	str_hash(buf_cstr(text), key);
	return 0;
}

/* ---- using it ---- */

static int identity_of(int fd, char *text, size_t size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	snprintf(text, size, "%llx:%llx %lld %lld.%09ld %lld.%09ld", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
		 st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	return 0;
}

int template_identity(int memory_fd, int state_fd, char *line, size_t size)
{
	char memory[LINE_SIZE / 2];
	char state[LINE_SIZE / 2];
	int r = identity_of(memory_fd, memory, sizeof(memory));

	if (r == 0)
		r = identity_of(state_fd, state, sizeof(state));
	if (r == 0)
		snprintf(line, size, "%s %s\n", memory, state);
	return r;
}

static int open_file(const char *store, const char *key, const char *name)
{
	_cleanup_(freep) char *path = template_path(store, key, name);
	int fd = path ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;

	if (!path)
		return -ENOMEM;
	return fd < 0 ? -errno : fd;
}

/* Return: 0 when they are those that were compared with their digests */
static int check_identity(const struct sandbox_config *c, const struct template *t)
{
	_cleanup_(freep) char *path = template_checked_path(c->state_dir, t->key);
	_cleanup_(freep) char *known = NULL;
	char line[LINE_SIZE];
	int r;

	if (!path)
		return -ENOMEM;
	r = template_identity(t->memory_fd, t->state_fd, line, sizeof(line));
	if (r < 0)
		return r;
	if (file_read(AT_FDCWD, path, sizeof(line), &known, NULL) < 0 || !str_eq(line, known))
		return -ESTALE;
	return 0;
}

static int check_description(const char *store, const char *key, struct buf *text)
{
	_cleanup_(freep) char *path = template_path(store, key, "description");
	_cleanup_(freep) char *found = NULL;
	int r = path ? file_read(AT_FDCWD, path, DESCRIPTION_MAX, &found, NULL) : -ENOMEM;

	if (r < 0)
		return r;
	return str_eq(found, buf_cstr(text)) ? 0 : -EBADMSG;
}

int template_open(const struct sandbox_config *c, const char *key, struct buf *text,
		  struct template *ret)
{
	_cleanup_(template_close) struct template t = TEMPLATE_INIT;
	_cleanup_(freep) char *dir = str_printf("%s/%s", c->templates, key);
	int r;

	if (!dir)
		return -ENOMEM;
	snprintf(t.key, sizeof(t.key), "%s", key);
	r = check_description(c->templates, key, text);
	if (r < 0)
		return r;
	t.memory_fd = open_file(c->templates, key, "memory");
	t.state_fd = open_file(c->templates, key, "state");
	if (t.memory_fd < 0 || t.state_fd < 0)
		return -EBADMSG;
	r = check_identity(c, &t);
	if (r < 0)
		return r;
	/* It has been used now. */
	(void)utimensat(AT_FDCWD, dir, NULL, 0);
	*ret = t;
	t = TEMPLATE_INIT;
	return 0;
}

void template_close_files(struct template *t)
{
	close_fdp(&t->memory_fd);
	close_fdp(&t->state_fd);
	t->memory_fd = t->state_fd = -EBADF;
}

void template_close(struct template *t)
{
	template_close_files(t);
	*t = TEMPLATE_INIT;
}

void template_remove_bad(const struct sandbox_config *c, const char *key)
{
	_cleanup_(freep) char *dir = str_printf("%s/%s", c->templates, key);

	if (dir)
		(void)rm_rf(AT_FDCWD, dir);
}

/* ---- having it made ---- */

static bool failed_lately(const struct sandbox_config *c, const char *key)
{
	_cleanup_(freep) char *path = template_failed_path(c->state_dir, key);
	struct stat st;
	time_t age;

	if (!path || stat(path, &st) < 0)
		return false;
	age = time(NULL) - st.st_mtim.tv_sec;
	return age >= 0 && age < BELIEVE_S;
}

static bool is_busy(const char *store)
{
	_cleanup_(freep) char *path = str_printf("%s/lock", store);
	_cleanup_(close_fdp) int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -EBADF;

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
}

static int maker_arguments(const struct sandbox_config *c, enum template_nic nic, const char *key,
			   struct strv *argv)
{
	static const char *const nets[] = { "none", "user", "pod" };
	int r = strv_add_all(argv, "podvm", "template", "create", "--background", "--key", key,
			     "--net", nets[nic], "--image", c->image->dir, "--kernel",
			     c->image->kernel_path, "--vmm", vmm_driver_name(c->driver), "--accel",
			     c->accel == VMM_ACCEL_KVM ? "kvm" : "tcg", NULL);

	if (r == 0)
		r = strv_addf(argv, "--vcpus=%u", c->vcpus);
	if (r == 0)
		r = strv_addf(argv, "--memory=%llu", (unsigned long long)c->memory);
	if (r == 0)
		r = strv_addf(argv, "--max-vcpus=%u", c->max_vcpus);
	if (r == 0)
		r = strv_addf(argv, "--max-memory=%llu", (unsigned long long)c->max_memory);
	if (r == 0 && c->machine)
		r = strv_addf(argv, "--machine=%s", c->machine);
	if (r == 0 && c->debug)
		r = strv_add(argv, "--debug");
	return r;
}

static int maker_environment(const struct sandbox_config *c, struct strv *environment)
{
	const char *file = c->config_file ? c->config_file : getenv(CONFIG_ENV);
	int r = strv_addf(environment, "PATH=%s", getenv("PATH") ?: "");

	return r == 0 && file ? strv_addf(environment, "%s=%s", CONFIG_ENV, file) : r;
}

/* It goes into the background by itself; this only reaps what was started. */
static void on_started(void *data, int code)
{
	bool *started = data;

	if (started)
		*started = true;
}

int template_wanted(const struct sandbox_config *c, enum template_nic nic, const char *key,
		    struct loop *loop, bool *started, struct loop_child **ret, struct err *e)
{
	_cleanup_(strv_done) struct strv argv = { 0 };
	_cleanup_(strv_done) struct strv environment = { 0 };
	struct spawn s = SPAWN_INIT;
	int pidfd;
	int r;

	if (failed_lately(c, key) || is_busy(c->templates))
		return 0;
	r = maker_arguments(c, nic, key, &argv);
	if (r == 0)
		r = maker_environment(c, &environment);
	if (r < 0)
		return err_oom(e);
	s.path = c->maker ? c->maker : "podvm";
	s.argv = argv.v;
	s.envp = environment.v;
	s.cwd = "/";
	s.new_session = true;
	pidfd = spawn_start(&s, NULL, e);
	if (pidfd < 0)
		return pidfd;
	r = loop_child_new(loop, pidfd, on_started, started, ret);
	return r < 0 ? err_errno(e, r, "cannot watch podvm") : 0;
}
