/* SPDX-License-Identifier: Apache-2.0 */
/*
 * podvm check: whether containerd is set up for pods in microVMs. What counts is the containerd that
 * runs: its program, its configuration file and its PATH. Only processes of root in our own mount
 * namespace are believed to be one, because their program is run to ask it for its configuration.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "cli/check.h"
#include "cli/check_containerd.h"

#define PROC_MAX       ((size_t)64 << 10)
#define MOUNTINFO_MAX  ((size_t)16 << 20)
#define INOTIFY_FILE   "/proc/sys/fs/inotify/max_user_instances"
#define INOTIFY_MIN    128 /* the kernel's default */
#define MAX_RUNNING    8
#define TIMEOUT_MS     20000
#define DEFAULT_FILE   "/etc/containerd/config.toml"
#define SHIM	       "containerd-shim-podvm-v2"
#define RUNTIME_TYPE   "io.containerd.podvm.v2"
#define CRI_1	       "plugins.\"io.containerd.grpc.v1.cri\""
#define CRI_2	       "plugins.'io.containerd.cri.v1.runtime'"
#define RESTART_ADVICE "then: systemctl restart containerd"

/**
 * struct containerd - One that runs, or is installed; strings are owned
 * @pid:	0: it doesn't run
 * @program:	What to run to ask it
 * @exe:	Where that is
 * @file:	Its configuration
 * @path:	Its PATH
 * @version:	"1.6.20"
 */
struct containerd {
	pid_t pid;
	char *program;
	char *exe;
	char *file;
	char *path;
	char *version;
};

static void containerd_done(struct containerd *c)
{
	free(c->program);
	free(c->exe);
	free(c->file);
	free(c->path);
	free(c->version);
}

/* ---- its configuration ---- */

/* "[a.'b'.c]" without quotes, in place. */
static void strip_header(char *line)
{
	char *to = line;

	for (const char *p = line + 1; *p && *p != ']'; p++)
		if (*p != '"' && *p != '\'')
			*to++ = *p;
	*to = '\0';
}

/* The first string of a value: of 'x', "x" or ["x", "y"], in place; NULL: there is none. */
static char *first_string(char *value)
{
	char *start = strpbrk(value, "'\"");
	char *end = start ? strchr(start + 1, *start) : NULL;

	if (!end || end == start + 1)
		return NULL;
	*end = '\0';
	return start + 1;
}

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text);

	return n >= strlen(end) && str_eq(text + n - strlen(end), end);
}

/* "[...containerd.runtimes.NAME]", whose keys come in any order. */
struct runtime_table {
	const char *name; /* NULL: another table */
	bool ours;
	struct containerd_config found;
};

static void begin_table(struct runtime_table *t, const char *header)
{
	static const char runtimes[] = ".containerd.runtimes.";
	const char *name = strstr(header, runtimes);

	name = name ? name + strlen(runtimes) : NULL;
	*t = (struct runtime_table){ .name = name && !strchr(name, '.') ? name : NULL };
}

/* The first one that is ours counts. */
static int end_table(const struct runtime_table *t, struct containerd_config *ret)
{
	if (!t->ours || ret->handler)
		return 0;
	ret->annotations = t->found.annotations;
	ret->no_host_devices = t->found.no_host_devices;
	ret->streaming = t->found.streaming;
	return str_set(&ret->handler, t->name);
}

static void take_runtime_value(struct runtime_table *t, const char *key, const char *value,
			       const char *s)
{
	if (str_eq(key, "runtime_type"))
		t->ours = s && str_eq(s, RUNTIME_TYPE);
	else if (str_eq(key, "pod_annotations"))
		t->found.annotations = s;
	else if (str_eq(key, "io_type"))
		t->found.streaming = s && str_eq(s, "streaming");
	else if (str_eq(key, "privileged_without_host_devices"))
		t->found.no_host_devices = str_starts(value, "true");
}

/* One "key = value" of a table. */
static int take_value(const char *table, struct runtime_table *t, const char *key, char *value,
		      struct containerd_config *ret)
{
	const char *s = first_string(value);

	if (t->name)
		take_runtime_value(t, key, value, s);
	if (!s || !ends_with(table, ".cni"))
		return 0;
	if (str_eq(key, "conf_dir"))
		return str_set(&ret->cni_conf, s);
	if (str_eq(key, "bin_dir") || str_eq(key, "bin_dirs"))
		return str_set(&ret->cni_bin, s);
	return 0;
}

int containerd_config_parse(char *text, struct containerd_config *ret)
{
	struct runtime_table t = { 0 };
	char *table = (char *)"";
	char *save = NULL;
	int r = 0;

	for (char *l = strtok_r(text, "\n", &save); l && r == 0; l = strtok_r(NULL, "\n", &save)) {
		char *value;

		l += strspn(l, " \t");
		if (*l == '[') {
			r = end_table(&t, ret);
			strip_header(l);
			table = l;
			begin_table(&t, table);
			continue;
		}
		value = strstr(l, " = ");
		if (!value)
			continue;
		*value = '\0';
		r = take_value(table, &t, l, value + 3, ret);
	}
	return r < 0 ? r : end_table(&t, ret);
}

void containerd_config_done(struct containerd_config *c)
{
	free(c->handler);
	free(c->cni_conf);
	free(c->cni_bin);
	*c = (struct containerd_config){ 0 };
}

/* ---- which ones there are ---- */

static char *read_proc(pid_t pid, const char *name, size_t *len)
{
	char path[64];
	char *text = NULL;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return file_read(AT_FDCWD, path, PROC_MAX, &text, len) < 0 ? NULL : text;
}

static bool is_trusted(pid_t pid)
{
	char path[64];
	char own[64];
	char other[64];
	struct stat st;
	ssize_t n = readlink("/proc/self/ns/mnt", own, sizeof(own));

	snprintf(path, sizeof(path), "/proc/%d", pid);
	if (n < 0 || stat(path, &st) < 0 || st.st_uid != 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", pid);
	return readlink(path, other, sizeof(other)) == n && memcmp(own, other, (size_t)n) == 0;
}

/* From the strings of environ: value of a variable, borrowed, or NULL */
static const char *variable(const char *environ, size_t len, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = environ; p && p < environ + len; p += strlen(p) + 1)
		if (str_starts(p, name) && p[n] == '=')
			return p + n + 1;
	return NULL;
}

/* From the strings of cmdline: the file after -c or --config. */
static const char *config_option(const char *cmdline, size_t len)
{
	static const char *const names[] = { "-c", "--config", "-config" };
	const char *end = cmdline + len;

	for (const char *p = cmdline; p < end; p += strlen(p) + 1) {
		for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
			size_t n = strlen(names[i]);

			if (str_eq(p, names[i]) && p + n + 1 < end)
				return p + n + 1;
			if (str_starts(p, names[i]) && p[n] == '=')
				return p + n + 1;
		}
	}
	return DEFAULT_FILE;
}

static int look_at(pid_t pid, struct containerd *ret)
{
	size_t cmdline_len = 0;
	size_t environ_len = 0;
	_cleanup_(freep) char *cmdline = read_proc(pid, "cmdline", &cmdline_len);
	_cleanup_(freep) char *environ = read_proc(pid, "environ", &environ_len);
	char path[64];
	char exe[PATH_MAX];
	ssize_t n;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	n = readlink(path, exe, sizeof(exe) - 1);
	if (!cmdline || !environ || n < 0)
		return -ESRCH;
	exe[n] = '\0';
	ret->pid = pid;
	r = str_set(&ret->program, path);
	r = r < 0 ? r : str_set(&ret->exe, exe);
	r = r < 0 ? r : str_set(&ret->file, config_option(cmdline, cmdline_len));
	return r < 0 ? r : str_set(&ret->path, variable(environ, environ_len, "PATH"));
}

/* One that is just starting a shim is seen twice. */
static bool has_file(const struct containerd *v, size_t n, const char *file)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(v[i].file, file))
			return true;
	return false;
}

/* Those that run. Return: How many, at most @max */
static size_t find_running(struct containerd *v, size_t max)
{
	_cleanup_(closedirp) DIR *dir = opendir("/proc");
	struct dirent *d;
	size_t n = 0;

	while (dir && n < max && (d = readdir(dir))) {
		_cleanup_(freep) char *comm = NULL;
		uint64_t pid;

		if (parse_u64(d->d_name, INT32_MAX, &pid) < 0)
			continue;
		comm = read_proc((pid_t)pid, "comm", NULL);
		if (!comm || !str_eq(comm, "containerd\n") || !is_trusted((pid_t)pid))
			continue;
		v[n] = (struct containerd){ 0 };
		if (look_at((pid_t)pid, &v[n]) == 0 && !has_file(v, n, v[n].file))
			n++;
		else
			containerd_done(&v[n]);
	}
	return n;
}

static int find_installed(struct containerd *ret)
{
	char *path;
	int r;

	if (find_program("containerd", &path) < 0)
		return -ENOENT;
	ret->program = path;
	r = str_set(&ret->exe, path);
	if (r == 0)
		r = str_set(&ret->path, getenv("PATH"));
	return r < 0 ? r : str_set(&ret->file, DEFAULT_FILE);
}

/* ---- asking ---- */

static char *ask(const struct containerd *c, const char *const *args)
{
	char *argv[8] = { (char *)"containerd" };
	struct spawn s = SPAWN_INIT;
	char *out = NULL;

	for (size_t i = 0; args[i]; i++)
		argv[i + 1] = (char *)args[i];
	s.path = c->program;
	s.argv = argv;
	if (spawn_run(&s, TIMEOUT_MS, &out, NULL) < 0) {
		free(out);
		return NULL;
	}
	return out;
}

/* "containerd github.com/containerd/containerd/v2 v2.1.9 REVISION" */
static int ask_version(struct containerd *c)
{
	_cleanup_(freep) char *out = ask(c, (const char *const[]){ "--version", NULL });
	char version[64] = "unknown";

	if (out)
		(void)sscanf(out, "%*s %*s %63s", version);
	return str_set(&c->version, version + (version[0] == 'v'));
}

static bool has_new_config(const struct containerd *c)
{
	return isdigit((unsigned char)c->version[0]) && atoi(c->version) >= 2;
}

static int ask_config(const struct containerd *c, struct containerd_config *ret)
{
	/* Only the usual one need not exist. */
	bool exists = !str_eq(c->file, DEFAULT_FILE) || access(c->file, F_OK) == 0;
	const char *const with_file[] = { "--config", c->file, "config", "dump", NULL };
	const char *const without[] = { "config", "default", NULL };
	_cleanup_(freep) char *out = ask(c, exists ? with_file : without);

	return out ? containerd_config_parse(out, ret) : -EIO;
}

/* ---- telling ---- */

static void check_shim(struct check *check, const struct containerd *c)
{
	_cleanup_(freep) char *dir = strndup(c->exe, (size_t)(strrchr(c->exe, '/') - c->exe));
	_cleanup_(freep) char *dirs = str_printf("%s:%s", c->path ? c->path : "", dir ? dir : "");
	char *save = NULL;

	if (!dir || !dirs)
		return;
	for (char *d = strtok_r(dirs, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
		_cleanup_(freep) char *file = str_printf("%s/" SHIM, d);

		if (file && *d == '/' && access(file, X_OK) == 0) {
			check_add(check, CHECK_OK, "containerd-shim", NULL, "%s, for %s", file,
				  c->file);
			return;
		}
	}
	check_add(check, CHECK_LIMITED, "containerd-shim",
		  "put " SHIM " into one of these directories, for instance by 'make install'",
		  SHIM " isn't on containerd's PATH (%s), for %s", c->path ? c->path : "", c->file);
}

static void check_runtime(struct check *check, const struct containerd *c,
			  const struct containerd_config *config)
{
	_cleanup_(freep) char *hint = NULL;

	if (config->handler && config->streaming) {
		check_add(check, CHECK_LIMITED, "containerd-runtime",
			  "remove io_type from the table of the runtime; " RESTART_ADVICE,
			  "runtime handler %s in %s has streaming I/O, which is refused",
			  config->handler, c->file);
		return;
	}
	if (config->handler && !config->no_host_devices) {
		check_add(check, CHECK_LIMITED, "containerd-runtime",
			  "add privileged_without_host_devices = true; " RESTART_ADVICE,
			  "runtime handler %s in %s gives privileged containers the host's "
			  "devices, which are refused",
			  config->handler, c->file);
		return;
	}
	if (config->handler) {
		check_add(check, CHECK_OK, "containerd-runtime", NULL,
			  "runtime handler %s in %s, annotations of podvm.io are %s",
			  config->handler, c->file,
			  config->annotations ? "passed on" : "not passed on");
		return;
	}
	hint = str_printf("add to %s:\n"
			  "[%s.containerd.runtimes.podvm]\n"
			  "  runtime_type = \"" RUNTIME_TYPE "\"\n"
			  "  privileged_without_host_devices = true\n"
			  "  pod_annotations = [\"podvm.io/*\"]\n" RESTART_ADVICE,
			  c->file, has_new_config(c) ? CRI_2 : CRI_1);
	check_add(check, CHECK_LIMITED, "containerd-runtime", hint,
		  "no runtime of type " RUNTIME_TYPE " in %s", c->file);
}

static size_t count_entries(const char *path, const char *const *ends)
{
	_cleanup_(closedirp) DIR *dir = path ? opendir(path) : NULL;
	struct dirent *d;
	size_t n = 0;

	while (dir && (d = readdir(dir)))
		for (size_t i = 0; d->d_name[0] != '.' && ends[i]; i++)
			if (ends_with(d->d_name, ends[i])) {
				n++;
				break;
			}
	return n;
}

static void check_cni(struct check *check, const struct containerd *c,
		      const struct containerd_config *config)
{
	static const char *const confs[] = { ".conf", ".conflist", ".json", NULL };
	static const char *const any[] = { "", NULL };
	const char *conf = config->cni_conf ? config->cni_conf : "";
	const char *bin = config->cni_bin ? config->cni_bin : "";

	if (count_entries(bin, any) == 0)
		check_add(
			check, CHECK_LIMITED, "containerd-cni",
			"apt-get install containernetworking-plugins, and name their directory as "
			"bin_dir",
			"no CNI plugins in %s, for %s", bin, c->file);
	else if (count_entries(conf, confs) == 0)
		check_add(check, CHECK_LIMITED, "containerd-cni",
			  "the cluster's network add-on puts one there; without it no pod starts",
			  "no CNI network in %s, for %s", conf, c->file);
	else
		check_add(check, CHECK_OK, "containerd-cni", NULL,
			  "networks in %s, plugins in %s, for %s", conf, bin, c->file);
}

static void check_one(struct check *check, struct containerd *c)
{
	_cleanup_(containerd_config_done) struct containerd_config config = { 0 };

	if (ask_version(c) < 0) {
		check->oom = true;
		return;
	}
	if (c->pid)
		check_add(check, CHECK_OK, "containerd", NULL, "version %s, process %d, %s",
			  c->version, c->pid, c->file);
	else
		check_add(check, CHECK_LIMITED, "containerd", "systemctl start containerd",
			  "version %s doesn't run, %s", c->version, c->file);
	if (ask_config(c, &config) < 0) {
		check_add(check, CHECK_LIMITED, "containerd-runtime",
			  "'containerd config dump' says what is wrong",
			  "the configuration %s can't be read", c->file);
		return;
	}
	check_shim(check, c);
	check_runtime(check, c, &config);
	check_cni(check, c, &config);
}

/* ---- the host, as far as pods of containerd need something of it ---- */

/* Up to and with so many blanks of a line; NULL: it has fewer. */
static const char *skip_fields(const char *l, int n)
{
	while (n-- > 0) {
		l += strcspn(l, " \n");
		if (*l++ != ' ')
			return NULL;
	}
	return l;
}

bool is_shared_root(const char *mountinfo)
{
	/* 29 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw */
	for (const char *l = mountinfo; l; l = strchr(l, '\n')) {
		const char *point;

		l += *l == '\n';
		point = skip_fields(l, 4);
		if (!point || !str_starts(point, "/ "))
			continue;
		for (const char *f = skip_fields(point, 2); f && *f != '-'; f = skip_fields(f, 1))
			if (str_starts(f, "shared:"))
				return true;
	}
	return false;
}

static void check_mounts(struct check *check)
{
	_cleanup_(freep) char *text = NULL;

	if (file_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL) < 0)
		return;
	if (is_shared_root(text))
		check_add(check, CHECK_OK, "mounts", NULL, "/ is a shared mount");
	else
		check_add(check, CHECK_LIMITED, "mounts", "mount --make-rshared /",
			  "/ isn't a shared mount: changes of volumes that are mounted on the host "
			  "after the start of a pod don't reach it");
}

/* One of them per pod; the kubelet, containerd and others have some, too. */
static void check_inotify(struct check *check)
{
	_cleanup_(freep) char *text = NULL;
	int max;

	if (file_read(AT_FDCWD, INOTIFY_FILE, 32, &text, NULL) < 0)
		return;
	max = atoi(text);
	if (max >= INOTIFY_MIN)
		check_add(check, CHECK_OK, "inotify", NULL, "%d instances", max);
	else
		check_add(check, CHECK_LIMITED, "inotify",
			  "sysctl fs.inotify.max_user_instances=8192, and in /etc/sysctl.d",
			  "%d instances: volumes of more pods than that aren't kept in step", max);
}

void check_containerd(struct check *check)
{
	struct containerd v[MAX_RUNNING];
	size_t n = find_running(v, ARRAY_SIZE(v));

	if (n == 0) {
		v[0] = (struct containerd){ 0 };
		if (find_installed(&v[0]) == 0)
			n = 1;
		else
			check_add(check, CHECK_OK, "containerd", NULL,
				  "not installed; only pods of Kubernetes need it");
	}
	if (n > 0) {
		check_mounts(check);
		check_inotify(check);
	}
	for (size_t i = 0; i < n; i++) {
		check_one(check, &v[i]);
		containerd_done(&v[i]);
	}
}
