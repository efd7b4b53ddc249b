/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>

#include "base/fd.h"
#include "oci/json.h"
#include "oci/spec_internal.h"

static const struct oci_users users = {
	.passwd = "root:x:0:0:root:/root:/bin/bash\n"
		  "# a comment\n"
		  "broken line\n"
		  "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
		  "web:x:1000:1000:Web,,,:/home/web:/bin/sh\n"
		  "huge:x:99999999999:1:::\n"
		  "nohome:x:7:7:::",
	.group = "root:x:0:\n"
		 "daemon:x:1:\n"
		 "audio:x:29:web,daemon\n"
		 "video:x:44:other,web\n"
		 "web:x:1000:web\n",
};

/* What every test builds on: options, an image's config, and the spec that comes out. */
struct fixture {
	struct oci_run_options o;
	struct oci_config config;
	struct json_object *spec;
	char *text;
	struct err e;
};

static int setup(void **state)
{
	*state = calloc(1, sizeof(struct fixture));
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	oci_run_options_done(&f->o);
	oci_config_done(&f->config);
	json_object_put(f->spec);
	free(f->text);
	free(f);
	return 0;
}

/* "process.args.0": member or element at a path of the spec, or NULL. */
static struct json_object *at(struct json_object *obj, const char *path)
{
	_cleanup_(freep) char *copy = strdup(path);
	char *rest = copy;
	char *part;

	while (obj && (part = strsep(&rest, "."))) {
		if (json_object_is_type(obj, json_type_array))
			obj = json_object_array_get_idx(obj, (size_t)atoi(part));
		else if (!json_object_object_get_ex(obj, part, &obj))
			obj = NULL;
	}
	return obj;
}

static const char *str_at(struct json_object *obj, const char *path)
{
	struct json_object *v = at(obj, path);

	return v ? json_object_get_string(v) : NULL;
}

static int64_t int_at(struct json_object *obj, const char *path)
{
	struct json_object *v = at(obj, path);

	assert_non_null(v);
	return json_object_get_int64(v);
}

static bool array_has(struct json_object *obj, const char *path, const char *text)
{
	struct json_object *array = at(obj, path);

	assert_non_null(array);
	for (size_t i = 0; i < json_object_array_length(array); i++)
		if (str_eq(json_object_get_string(json_object_array_get_idx(array, i)), text))
			return true;
	return false;
}

static size_t length(struct json_object *obj, const char *path)
{
	struct json_object *array = at(obj, path);

	assert_non_null(array);
	return json_object_array_length(array);
}

/* Strings of an array, with blanks between them. */
static char *joined(struct json_object *obj, const char *path)
{
	struct json_object *array = at(obj, path);
	char *out = strdup("");

	assert_non_null(array);
	for (size_t i = 0; i < json_object_array_length(array); i++) {
		char *longer =
			str_printf("%s%s%s", out, i ? " " : "",
				   json_object_get_string(json_object_array_get_idx(array, i)));

		free(out);
		out = longer;
	}
	return out;
}

#define assert_joined(obj, path, expected)                          \
	do {                                                        \
		_cleanup_(freep) char *joined_ = joined(obj, path); \
		assert_string_equal(joined_, expected);             \
	} while (0)

static int build(struct fixture *f)
{
	int r;

	json_object_put(f->spec);
	free(f->text);
	f->spec = NULL;
	f->text = NULL;
	memset(&f->e, 0, sizeof(f->e));
	r = oci_spec_tree(&f->o, &f->config, &users, &f->spec, &f->e);
	return r < 0 ? r : json_text(f->spec, "spec", &f->text, &f->e);
}

static struct json_object *mount_on(struct json_object *spec, const char *destination)
{
	struct json_object *mounts = at(spec, "mounts");

	for (size_t i = 0; i < json_object_array_length(mounts); i++) {
		struct json_object *m = json_object_array_get_idx(mounts, i);

		if (str_eq(str_at(m, "destination"), destination))
			return m;
	}
	return NULL;
}

/* Action of the first rule of the filter for a system call without arguments. */
static const char *filter_of(struct json_object *spec, const char *name, int *ret_errno)
{
	struct json_object *rules = at(spec, "linux.seccomp.syscalls");

	for (size_t i = 0; i < json_object_array_length(rules); i++) {
		struct json_object *rule = json_object_array_get_idx(rules, i);

		if (!array_has(rule, "names", name))
			continue;
		*ret_errno = at(rule, "errnoRet") ? (int)int_at(rule, "errnoRet") : 0;
		return str_at(rule, "action");
	}
	return NULL;
}

static void test_defaults(void **state)
{
	struct fixture *f = *state;

	strv_add_all(&f->o.args, "sh", "-c", "true", NULL);
	assert_int_equal(build(f), 0);
	assert_joined(f->spec, "process.args", "sh -c true");
	assert_joined(f->spec, "process.env",
		      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "
		      "HOME=/root");
	assert_string_equal(str_at(f->spec, "process.cwd"), "/");
	assert_int_equal(int_at(f->spec, "process.user.uid"), 0);
	assert_false(json_object_get_boolean(at(f->spec, "process.terminal")));
	assert_int_equal(length(f->spec, "process.capabilities.effective"), 11);
	assert_true(array_has(f->spec, "process.capabilities.bounding", "CAP_CHOWN"));
	assert_false(array_has(f->spec, "process.capabilities.bounding", "CAP_SYS_ADMIN"));
	assert_int_equal(length(f->spec, "process.capabilities.ambient"), 0);
	assert_string_equal(str_at(f->spec, "root.path"), "rootfs");
	assert_true(array_has(f->spec, "linux.maskedPaths", "/proc/kcore"));
	assert_true(array_has(f->spec, "linux.readonlyPaths", "/proc/sys"));
	assert_int_equal(int_at(f->spec, "linux.resources.pids.limit"), 2048);
	assert_null(at(f->spec, "linux.resources.memory"));
	assert_null(at(f->spec, "hostname"));
}

static void test_namespaces(void **state)
{
	struct fixture *f = *state;

	strv_add(&f->o.args, "sh");
	str_set(&f->o.ns_path[OCI_NS_PID], "/proc/9/ns/pid");
	str_set(&f->o.ns_path[OCI_NS_UTS], "host");
	str_set(&f->o.hostname, "box");
	assert_int_equal(build(f), 0);
	assert_int_equal(length(f->spec, "linux.namespaces"), 4);
	assert_string_equal(str_at(f->spec, "linux.namespaces.0.type"), "mount");
	assert_string_equal(str_at(f->spec, "linux.namespaces.1.type"), "pid");
	assert_string_equal(str_at(f->spec, "linux.namespaces.1.path"), "/proc/9/ns/pid");
	assert_string_equal(str_at(f->spec, "linux.namespaces.2.type"), "ipc");
	assert_null(at(f->spec, "linux.namespaces.2.path"));
	assert_string_equal(str_at(f->spec, "linux.namespaces.3.type"), "cgroup");
	assert_null(at(f->spec, "hostname"));
	assert_true(array_has(f->spec, "process.env", "HOSTNAME=box"));

	free(TAKE_PTR(f->o.ns_path[OCI_NS_UTS]));
	assert_int_equal(build(f), 0);
	assert_string_equal(str_at(f->spec, "hostname"), "box");
	assert_null(strstr(f->text, "\"network\""));
}

static void test_entrypoint_and_cmd(void **state)
{
	struct fixture *f = *state;

	strv_add_all(&f->config.entrypoint, "/entry", "-x", NULL);
	strv_add_all(&f->config.cmd, "serve", NULL);
	assert_int_equal(build(f), 0);
	assert_joined(f->spec, "process.args", "/entry -x serve");

	/* Arguments replace the cmd. */
	strv_add(&f->o.args, "help");
	assert_int_equal(build(f), 0);
	assert_joined(f->spec, "process.args", "/entry -x help");

	/* An entrypoint replaces both, and arguments follow it. */
	f->o.has_entrypoint = true;
	strv_add(&f->o.entrypoint, "/bin/ls");
	assert_int_equal(build(f), 0);
	assert_joined(f->spec, "process.args", "/bin/ls help");
	strv_done(&f->o.args);
	assert_int_equal(build(f), 0);
	assert_joined(f->spec, "process.args", "/bin/ls");

	/* An empty one leaves nothing to run. */
	strv_done(&f->o.entrypoint);
	assert_int_equal(build(f), -EINVAL);
	assert_non_null(strstr(f->e.msg, "no command"));
	assert_non_null(strstr(f->e.hint, "after the image"));
}

static void test_entrypoint_parse(void **state)
{
	struct strv v = { 0 };

	assert_int_equal(oci_entrypoint_parse("/bin/my prog", &v, NULL), 0);
	assert_int_equal(v.n, 1);
	assert_string_equal(v.v[0], "/bin/my prog");
	strv_done(&v);
	assert_int_equal(oci_entrypoint_parse("[\"a\", \"b c\"]", &v, NULL), 0);
	assert_int_equal(v.n, 2);
	assert_string_equal(v.v[1], "b c");
	strv_done(&v);
	assert_int_equal(oci_entrypoint_parse("", &v, NULL), 0);
	assert_int_equal(v.n, 0);
	assert_int_equal(oci_entrypoint_parse("[\"a\"", &v, NULL), -EINVAL);
	assert_int_equal(oci_entrypoint_parse("[1]", &v, NULL), -EINVAL);
	assert_int_equal(oci_entrypoint_parse("[\"a\"] x", &v, NULL), -EINVAL);
}

static void test_env_order(void **state)
{
	struct fixture *f = *state;

	strv_add(&f->o.args, "sh");
	strv_add_all(&f->config.env, "PATH=/image", "A=image", "B=image", "=bad", NULL);
	strv_add_all(&f->o.env, "B=user", "C=", "D", "HOME=/elsewhere", NULL);
	str_set(&f->o.hostname, "box");
	f->o.tty = true;
	assert_int_equal(build(f), 0);
	assert_joined(f->spec, "process.env",
		      "PATH=/image TERM=xterm A=image B=user C= D= HOME=/elsewhere HOSTNAME=box");
}

static void test_users(void **state)
{
	static const struct {
		const char *text;
		int result;
		uint32_t uid;
		uint32_t gid;
		size_t n_groups;
		const char *home;
	} cases[] = {
		{ NULL, 0, 0, 0, 0, "/root" },
		{ "", 0, 0, 0, 0, "/root" },
		{ "web", 0, 1000, 1000, 2, "/home/web" },
		{ "1000", 0, 1000, 1000, 2, "/home/web" },
		{ "web:daemon", 0, 1000, 1, 0, "/home/web" },
		{ "web:77", 0, 1000, 77, 0, "/home/web" },
		{ "4242", 0, 4242, 0, 0, "/" },
		{ "4242:29", 0, 4242, 29, 0, "/" },
		{ ":29", 0, 0, 29, 0, "/root" },
		{ "nohome", 0, 7, 7, 0, "/" },
		{ "nobody", -ENOENT, 0, 0, 0, NULL },
		{ "huge", -ENOENT, 0, 0, 0, NULL },
		{ "web:nogroup", -ENOENT, 0, 0, 0, NULL },
		{ "-1", -ENOENT, 0, 0, 0, NULL },
		{ "4294967295", -ENOENT, 0, 0, 0, NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct oci_user u = { 0 };
		struct err e = { 0 };

		assert_int_equal(oci_user_lookup(&users, cases[i].text, NULL, &u, &e),
				 cases[i].result);
		if (cases[i].result < 0) {
			assert_non_null(strstr(e.msg, "there is no "));
			continue;
		}
		assert_int_equal(u.uid, cases[i].uid);
		assert_int_equal(u.gid, cases[i].gid);
		assert_int_equal(u.n_groups, cases[i].n_groups);
		assert_string_equal(u.home, cases[i].home);
		oci_user_done(&u);
	}
}

static void test_user_in_spec(void **state)
{
	struct fixture *f = *state;

	strv_add(&f->o.args, "sh");
	str_set(&f->config.user, "web");
	strv_add_all(&f->o.groups, "daemon", "500", "44", NULL);
	strv_add_all(&f->o.cap_add, "net_raw", NULL);
	assert_int_equal(build(f), 0);
	assert_int_equal(int_at(f->spec, "process.user.uid"), 1000);
	assert_joined(f->spec, "process.user.additionalGids", "29 44 1 500");
	/* Who isn't root only has what was added by name. */
	assert_joined(f->spec, "process.capabilities.effective", "CAP_NET_RAW");
	assert_joined(f->spec, "process.capabilities.ambient", "CAP_NET_RAW");
	assert_int_equal(length(f->spec, "process.capabilities.bounding"), 12);
	assert_true(array_has(f->spec, "process.env", "HOME=/home/web"));
}

static void test_capabilities(void **state)
{
	struct fixture *f = *state;

	strv_add(&f->o.args, "sh");
	strv_add_all(&f->o.cap_drop, "all", NULL);
	strv_add_all(&f->o.cap_add, "CAP_NET_ADMIN", "sys_time", NULL);
	assert_int_equal(build(f), 0);
	assert_joined(f->spec, "process.capabilities.bounding", "CAP_NET_ADMIN CAP_SYS_TIME");

	strv_done(&f->o.cap_drop);
	strv_add(&f->o.cap_drop, "NET_ADMIN");
	assert_int_equal(build(f), -EINVAL);
	assert_non_null(strstr(f->e.msg, "both added and dropped"));

	strv_done(&f->o.cap_add);
	strv_add(&f->o.cap_add, "ALL");
	assert_int_equal(build(f), 0);
	assert_int_equal(length(f->spec, "process.capabilities.bounding"), 40);

	strv_add(&f->o.cap_add, "FLY");
	assert_int_equal(build(f), -EINVAL);
	assert_non_null(strstr(f->e.msg, "\"FLY\""));
}

static void test_privileged(void **state)
{
	struct fixture *f = *state;

	strv_add(&f->o.args, "sh");
	f->o.privileged = true;
	assert_int_equal(build(f), 0);
	assert_int_equal(length(f->spec, "process.capabilities.effective"), 41);
	assert_null(at(f->spec, "linux.seccomp"));
	assert_null(at(f->spec, "linux.maskedPaths"));
	assert_true(json_object_get_boolean(at(f->spec, "linux.resources.devices.0.allow")));
	assert_false(array_has(mount_on(f->spec, "/sys"), "options", "ro"));
	/* A filter that is asked for is used all the same. */
	str_set(&f->o.seccomp, "default");
	assert_int_equal(build(f), 0);
	assert_non_null(at(f->spec, "linux.seccomp"));
}

static void test_mounts(void **state)
{
	struct fixture *f = *state;
	struct json_object *m;
	struct json_object *mounts;

	strv_add(&f->o.args, "sh");
	f->o.shm_size = 1 << 20;
	assert_int_equal(
		oci_run_add_mount(&f->o, "bind", "/v/0", "/data/deep//x/", "ro,nosuid", &f->e), 0);
	assert_int_equal(oci_run_add_mount(&f->o, "bind", "/v/1", "/data", NULL, &f->e), 0);
	assert_int_equal(oci_run_add_mount(&f->o, "bind", "/v/2", "/dev/mqueue", "bind", &f->e), 0);
	assert_int_equal(build(f), 0);
	m = mount_on(f->spec, "/data/deep/x");
	assert_string_equal(str_at(m, "source"), "/v/0");
	assert_joined(m, "options", "ro nosuid rbind");
	assert_joined(mount_on(f->spec, "/dev/mqueue"), "options", "bind");
	assert_true(array_has(mount_on(f->spec, "/dev/shm"), "options", "size=1048576"));
	assert_true(array_has(mount_on(f->spec, "/sys"), "options", "ro"));
	/* Nothing is mounted below a place that is mounted on later. */
	mounts = at(f->spec, "mounts");
	for (size_t i = 0; i < json_object_array_length(mounts); i++) {
		const char *earlier = str_at(json_object_array_get_idx(mounts, i), "destination");

		for (size_t j = i + 1; j < json_object_array_length(mounts); j++) {
			const char *later = str_at(json_object_array_get_idx(mounts, j),
						   "destination");
			size_t n = strlen(later);

			assert_false(strncmp(earlier, later, n) == 0 && earlier[n] == '/');
		}
	}
}

static void test_bad_mounts(void **state)
{
	static const char *const bad[] = { "/", "/a/../b", "//", "/.." };
	struct fixture *f = *state;

	strv_add(&f->o.args, "sh");
	assert_int_equal(oci_run_add_mount(&f->o, "bind", "/x", "data", NULL, &f->e), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(oci_run_add_mount(&f->o, "bind", "/x", bad[i], NULL, &f->e), 0);
		assert_int_equal(build(f), -EINVAL);
		str_set(&f->o.mounts[--f->o.n_mounts].type, NULL);
		str_set(&f->o.mounts[f->o.n_mounts].source, NULL);
		str_set(&f->o.mounts[f->o.n_mounts].destination, NULL);
	}
	oci_run_add_mount(&f->o, "bind", "/x", "/a", NULL, &f->e);
	assert_int_equal(build(f), 0);
	oci_run_add_mount(&f->o, "bind", "/y", "/a/", NULL, &f->e);
	assert_int_equal(build(f), -EINVAL);
	assert_non_null(strstr(f->e.msg, "two mounts on /a"));
}

static void test_tmpfs_option(void **state)
{
	struct fixture *f = *state;

	strv_add(&f->o.args, "sh");
	assert_int_equal(oci_run_add_tmpfs(&f->o, "/scratch:size=64m,exec,notmpcopyup", &f->e), 0);
	assert_int_equal(oci_run_add_tmpfs(&f->o, "/plain", &f->e), 0);
	assert_int_equal(oci_run_add_tmpfs(&f->o, "relative", &f->e), -EINVAL);
	assert_int_equal(build(f), 0);
	assert_joined(mount_on(f->spec, "/scratch"), "options", "size=64m exec nosuid nodev");
	assert_joined(mount_on(f->spec, "/plain"), "options", "nosuid nodev noexec tmpcopyup");
}

static void test_readonly(void **state)
{
	struct fixture *f = *state;

	strv_add(&f->o.args, "sh");
	strv_add_all(&f->config.volumes, "/var/lib/db/", "/tmp", NULL);
	assert_int_equal(build(f), 0);
	assert_null(mount_on(f->spec, "/tmp"));
	f->o.readonly = true;
	assert_int_equal(build(f), 0);
	assert_true(json_object_get_boolean(at(f->spec, "root.readonly")));
	assert_string_equal(str_at(mount_on(f->spec, "/tmp"), "type"), "tmpfs");
	assert_true(array_has(mount_on(f->spec, "/tmp"), "options", "mode=1777"));
	assert_non_null(mount_on(f->spec, "/var/lib/db"));
}

static void test_resources(void **state)
{
	struct fixture *f = *state;

	strv_add(&f->o.args, "sh");
	f->o.memory = UINT64_C(3) << 30;
	f->o.cpu_quota = 150000;
	f->o.cpu_shares = 512;
	f->o.pids_limit = -1;
	f->o.has_oom_score_adj = true;
	f->o.oom_score_adj = -500;
	str_set(&f->o.cgroup_path, "/pod/c1");
	assert_int_equal(build(f), 0);
	assert_int_equal(int_at(f->spec, "linux.resources.memory.limit"), INT64_C(3) << 30);
	assert_null(at(f->spec, "linux.resources.memory.swap"));
	assert_int_equal(int_at(f->spec, "linux.resources.cpu.quota"), 150000);
	assert_int_equal(int_at(f->spec, "linux.resources.cpu.period"), 100000);
	assert_int_equal(int_at(f->spec, "linux.resources.cpu.shares"), 512);
	assert_null(at(f->spec, "linux.resources.pids"));
	assert_int_equal(int_at(f->spec, "process.oomScoreAdj"), -500);
	assert_string_equal(str_at(f->spec, "linux.cgroupsPath"), "/pod/c1");
}

static void test_ulimits(void **state)
{
	static const char *const bad[] = { "nofile", "nofile=",	  "nofile=5:3",
					   "x=1",    "nofile=1k", "nofile=unlimited:5" };
	struct fixture *f = *state;

	strv_add(&f->o.args, "sh");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(oci_run_add_ulimit(&f->o, bad[i], &f->e), -EINVAL);
	assert_int_equal(oci_run_add_ulimit(&f->o, "core=0", &f->e), 0);
	assert_int_equal(oci_run_add_ulimit(&f->o, "nofile=10:20", &f->e), 0);
	assert_int_equal(oci_run_add_ulimit(&f->o, "NOFILE=5:unlimited", &f->e), 0);
	assert_int_equal(build(f), 0);
	assert_int_equal(length(f->spec, "process.rlimits"), 3);
	assert_string_equal(str_at(f->spec, "process.rlimits.0.type"), "RLIMIT_NPROC");
	assert_string_equal(str_at(f->spec, "process.rlimits.1.type"), "RLIMIT_CORE");
	assert_string_equal(str_at(f->spec, "process.rlimits.2.type"), "RLIMIT_NOFILE");
	assert_int_equal(int_at(f->spec, "process.rlimits.2.soft"), 5);
	assert_string_equal(str_at(f->spec, "process.rlimits.2.hard"), "18446744073709551615");
}

static void test_workdir(void **state)
{
	struct fixture *f = *state;

	strv_add(&f->o.args, "sh");
	str_set(&f->config.workdir, "srv");
	assert_int_equal(build(f), 0);
	assert_string_equal(str_at(f->spec, "process.cwd"), "/srv");
	str_set(&f->o.workdir, "/opt");
	assert_int_equal(build(f), 0);
	assert_string_equal(str_at(f->spec, "process.cwd"), "/opt");
	str_set(&f->o.workdir, "opt");
	assert_int_equal(build(f), -EINVAL);
}

static void test_annotations_and_sysctl(void **state)
{
	struct fixture *f = *state;

	strv_add(&f->o.args, "sh");
	str_set(&f->config.stop_signal, "SIGQUIT");
	oci_map_add(&f->o.annotations, "io.example/a.b", "1");
	oci_map_add(&f->o.sysctl, "kernel.shmmax", "1000");
	assert_int_equal(build(f), 0);
	assert_string_equal(json_object_get_string(json_get(at(f->spec, "annotations"),
							    "org.opencontainers.image.stopSignal",
							    json_type_string)),
			    "3");
	assert_string_equal(json_object_get_string(json_get(at(f->spec, "linux.sysctl"),
							    "kernel.shmmax", json_type_string)),
			    "1000");
	oci_map_add(&f->o.sysctl, "net.ipv4.ip_forward", "1");
	assert_int_equal(build(f), -EINVAL);
	assert_non_null(strstr(f->e.msg, "machine's network"));
	oci_map_done(&f->o.sysctl);
	str_set(&f->o.stop_signal, "SIGNOTHING");
	assert_int_equal(build(f), -EINVAL);
	assert_non_null(strstr(f->e.msg, "stop signal"));
}

static void test_not_utf8(void **state)
{
	struct fixture *f = *state;

	strv_add_all(&f->o.args, "echo", "\xff\xfe", NULL);
	assert_int_equal(build(f), -EINVAL);
	assert_non_null(strstr(f->e.msg, "UTF-8"));
	strv_done(&f->o.args);
	strv_add_all(&f->o.args, "echo", "a\"b\\c\n\x01\xc3\xa4/d", NULL);
	assert_int_equal(build(f), 0);
	assert_string_equal(str_at(f->spec, "process.args.1"), "a\"b\\c\n\x01\xc3\xa4/d");
}

static void test_default_filter(void **state)
{
	struct fixture *f = *state;
	int error;

	strv_add(&f->o.args, "sh");
	assert_int_equal(build(f), 0);
	assert_int_equal(int_at(f->spec, "linux.seccomp.defaultErrnoRet"), ENOSYS);
	assert_string_equal(filter_of(f->spec, "read", &error), "SCMP_ACT_ALLOW");
	assert_string_equal(filter_of(f->spec, "mount", &error), "SCMP_ACT_ERRNO");
	assert_int_equal(error, EPERM);
	assert_string_equal(filter_of(f->spec, "clone3", &error), "SCMP_ACT_ERRNO");
	assert_int_equal(error, ENOSYS);
	assert_string_equal(filter_of(f->spec, "io_uring_setup", &error), "SCMP_ACT_ERRNO");
	assert_null(filter_of(f->spec, "socketcall", &error));
	assert_string_equal(filter_of(f->spec, "chroot", &error), "SCMP_ACT_ALLOW");

	strv_add(&f->o.cap_add, "SYS_ADMIN");
	strv_add(&f->o.cap_drop, "SYS_CHROOT");
	assert_int_equal(build(f), 0);
	assert_string_equal(filter_of(f->spec, "mount", &error), "SCMP_ACT_ALLOW");
	assert_string_equal(filter_of(f->spec, "clone3", &error), "SCMP_ACT_ALLOW");
	assert_string_equal(filter_of(f->spec, "bpf", &error), "SCMP_ACT_ALLOW");
	assert_string_equal(filter_of(f->spec, "chroot", &error), "SCMP_ACT_ERRNO");

	str_set(&f->o.seccomp, "unconfined");
	assert_int_equal(build(f), 0);
	assert_null(at(f->spec, "linux.seccomp"));
}

/* No system call may be in two tables: libseccomp would take whichever it likes. */
static void test_filter_is_unambiguous(void **state)
{
	struct fixture *f = *state;
	struct json_object *seen = json_object_new_object();
	struct json_object *rules;

	strv_add(&f->o.args, "sh");
	assert_int_equal(build(f), 0);
	rules = at(f->spec, "linux.seccomp.syscalls");
	for (size_t i = 0; i < json_object_array_length(rules); i++) {
		struct json_object *rule = json_object_array_get_idx(rules, i);
		struct json_object *names = at(rule, "names");

		for (size_t j = 0; !at(rule, "args") && j < json_object_array_length(names); j++) {
			const char *name =
				json_object_get_string(json_object_array_get_idx(names, j));

			assert_false(json_object_object_get_ex(seen, name, NULL));
			json_object_object_add(seen, name, NULL);
		}
	}
	assert_true(json_object_object_length(seen) > 350);
	json_object_put(seen);
}

static const char profile[] =
	"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":1,\"archMap\":[],\"syscalls\":["
	"{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{},\"excludes\":{}},"
	"{\"name\":\"write\",\"action\":\"SCMP_ACT_ALLOW\",\"comment\":\"old form\"},"
	"{\"names\":[\"ptrace\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"minKernel\":\"4.8\"}"
	"},"
	"{\"names\":[\"mount\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"caps\":"
	"[\"CAP_SYS_ADMIN\"]}},"
	"{\"names\":[\"chroot\"],\"action\":\"SCMP_ACT_ALLOW\",\"excludes\":{\"caps\":"
	"[\"CAP_SYS_CHROOT\"]}},"
	"{\"names\":[\"s390_pci\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"arches\":"
	"[\"s390x\"]}}]}";

static void test_users_filter(void **state)
{
	char path[] = "/tmp/podvm-profile-XXXXXX";
	struct fixture *f = *state;
	int fd = mkstemp(path);
	int error;

	assert_true(fd >= 0);
	strv_add(&f->o.args, "sh");
	str_set(&f->o.seccomp, path);
	assert_int_equal(build(f), -EINVAL); /* empty */
	assert_non_null(strstr(f->e.msg, path));

	assert_int_equal(fd_write_all(fd, profile, strlen(profile)), 0);
	assert_int_equal(build(f), 0);
	assert_int_equal(length(f->spec, "linux.seccomp.syscalls"), 3);
	assert_string_equal(filter_of(f->spec, "read", &error), "SCMP_ACT_ALLOW");
	assert_string_equal(filter_of(f->spec, "write", &error), "SCMP_ACT_ALLOW");
	assert_string_equal(filter_of(f->spec, "ptrace", &error), "SCMP_ACT_ALLOW");
	assert_int_equal(length(f->spec, "linux.seccomp.architectures"), 1);

	strv_add(&f->o.cap_add, "SYS_ADMIN");
	strv_add(&f->o.cap_drop, "SYS_CHROOT");
	assert_int_equal(build(f), 0);
	assert_int_equal(length(f->spec, "linux.seccomp.syscalls"), 5);

	close(fd);
	unlink(path);
	assert_int_equal(build(f), -ENOENT);
	assert_non_null(strstr(f->e.msg, path));
}

/* Build the process of an exec in the fixture's container. */
static int exec_in(struct fixture *f, struct oci_exec_options *o, struct json_object **ret)
{
	_cleanup_(freep) char *text = NULL;
	int r;

	assert_int_equal(build(f), 0);
	r = oci_exec_build(f->text, o, &users, &text, &f->e);
	if (r == 0)
		assert_int_equal(json_parse(text, strlen(text), "process", ret, NULL), 0);
	return r;
}

static void test_exec(void **state)
{
	_cleanup_(oci_exec_options_done) struct oci_exec_options o = { 0 };
	_cleanup_(json_putp) struct json_object *p = NULL;
	struct fixture *f = *state;

	strv_add(&f->o.args, "sleep");
	strv_add_all(&f->o.env, "A=1", "B=2", NULL);
	str_set(&f->o.workdir, "/srv");
	f->o.no_new_privileges = true;
	strv_add_all(&o.args, "ls", "-l", NULL);
	strv_add_all(&o.env, "B=3", NULL);
	o.tty = true;
	assert_int_equal(exec_in(f, &o, &p), 0);
	assert_joined(p, "args", "ls -l");
	assert_joined(p, "env",
		      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin A=1 B=3 "
		      "HOME=/root TERM=xterm");
	assert_string_equal(str_at(p, "cwd"), "/srv");
	assert_true(json_object_get_boolean(at(p, "terminal")));
	assert_true(json_object_get_boolean(at(p, "noNewPrivileges")));
	assert_int_equal(length(p, "capabilities.effective"), 11);
	assert_int_equal(length(p, "rlimits"), 2);
}

static void test_exec_as_another_user(void **state)
{
	_cleanup_(oci_exec_options_done) struct oci_exec_options o = { 0 };
	_cleanup_(json_putp) struct json_object *p = NULL;
	struct fixture *f = *state;

	strv_add(&f->o.args, "sleep");
	strv_add(&o.args, "id");
	str_set(&o.user, "web");
	str_set(&o.workdir, "/tmp");
	assert_int_equal(exec_in(f, &o, &p), 0);
	assert_int_equal(int_at(p, "user.uid"), 1000);
	assert_joined(p, "user.additionalGids", "29 44");
	assert_int_equal(length(p, "capabilities.effective"), 0);
	assert_int_equal(length(p, "capabilities.bounding"), 11);
	assert_true(array_has(p, "env", "HOME=/home/web"));
	assert_string_equal(str_at(p, "cwd"), "/tmp");

	/* A HOME that somebody chose stays. */
	json_object_put(TAKE_PTR(p));
	strv_add(&f->config.env, "HOME=/data");
	assert_int_equal(exec_in(f, &o, &p), 0);
	assert_true(array_has(p, "env", "HOME=/data"));

	/* And back to root in a container that isn't. */
	json_object_put(TAKE_PTR(p));
	str_set(&f->config.user, "web");
	str_set(&o.user, "root");
	o.privileged = true;
	assert_int_equal(exec_in(f, &o, &p), 0);
	assert_int_equal(length(p, "capabilities.effective"), 41);
}

static void test_exec_refuses(void **state)
{
	_cleanup_(oci_exec_options_done) struct oci_exec_options o = { 0 };
	struct fixture *f = *state;
	struct json_object *p = NULL;
	char *text;

	strv_add(&f->o.args, "sleep");
	assert_int_equal(exec_in(f, &o, &p), -EINVAL);
	strv_add(&o.args, "id");
	str_set(&o.user, "stranger");
	assert_int_equal(exec_in(f, &o, &p), -ENOENT);
	str_set(&o.user, NULL);
	str_set(&o.workdir, "x");
	assert_int_equal(exec_in(f, &o, &p), -EINVAL);
	str_set(&o.workdir, NULL);
	assert_int_equal(oci_exec_build("{}", &o, &users, &text, &f->e), -EBADMSG);
	assert_int_equal(oci_exec_build("{\"process\":{\"user\":{\"uid\":\"0\"},"
					"\"capabilities\":{}}}",
					&o, &users, &text, &f->e),
			 -EBADMSG);
	assert_non_null(strstr(f->e.msg, "\"uid\""));
}

static void test_signals(void **state)
{
	static const struct {
		const char *text;
		int expected;
	} cases[] = {
		{ "SIGTERM", SIGTERM },
		{ "term", SIGTERM },
		{ "15", 15 },
		{ "64", 64 },
		{ "RTMIN", 34 },
		{ "SIGRTMIN+3", 37 },
		{ "RTMAX-1", 63 },
		{ "IOT", SIGABRT },
		{ "rtmin+30", 64 },
		{ "SIGCLD", SIGCHLD },
		{ "0", -EINVAL },
		{ "65", -EINVAL },
		{ "RTMIN+31", -EINVAL },
		{ "RTMIN-1", -EINVAL },
		{ "", -EINVAL },
		{ "SIG", -EINVAL },
		{ "-9", -EINVAL },
		{ "KILL ", -EINVAL },
		{ "9x", -EINVAL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(oci_signal_parse(cases[i].text), cases[i].expected);
	assert_string_equal(oci_signal_name(SIGKILL), "SIGKILL");
	assert_null(oci_signal_name(0));
	assert_null(oci_signal_name(40));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_defaults),
		TEST(test_namespaces),
		TEST(test_entrypoint_and_cmd),
		cmocka_unit_test(test_entrypoint_parse),
		TEST(test_env_order),
		cmocka_unit_test(test_users),
		TEST(test_user_in_spec),
		TEST(test_capabilities),
		TEST(test_privileged),
		TEST(test_mounts),
		TEST(test_bad_mounts),
		TEST(test_tmpfs_option),
		TEST(test_readonly),
		TEST(test_resources),
		TEST(test_ulimits),
		TEST(test_workdir),
		TEST(test_annotations_and_sysctl),
		TEST(test_not_utf8),
		TEST(test_default_filter),
		TEST(test_filter_is_unambiguous),
		TEST(test_users_filter),
		TEST(test_exec),
		TEST(test_exec_as_another_user),
		TEST(test_exec_refuses),
		cmocka_unit_test(test_signals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
