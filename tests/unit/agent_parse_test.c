/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent reads from the kernel, from crun and from the host as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "agent/cgroup.h"
#include "agent/crun.h"
#include "agent/klog.h"
#include "agent/metrics.h"
#include "agent/mount.h"
#include "agent/paths.h"
#include "agent/proclist.h"
#include "agent/stats.h"
#include "agent/sysctl.h"
#include "agent/transport.h"
#include "base/cleanup.h"
#include "base/fd.h"

/* Strings of messages are `char *` in protobuf-c, though nobody writes to them. */
#pragma GCC diagnostic ignored "-Wdiscarded-qualifiers"

static void test_ids(void **state)
{
	char id[ID_MAX + 2];

	assert_true(id_valid("web-1.a_B"));
	assert_true(id_valid("0"));
	assert_false(id_valid(""));
	assert_false(id_valid(".."));
	assert_false(id_valid("-x"));
	assert_false(id_valid("a/b"));
	assert_false(id_valid("a b"));
	assert_false(id_valid("a\n"));
	memset(id, 'a', sizeof(id));
	id[ID_MAX + 1] = '\0';
	assert_false(id_valid(id));
	id[ID_MAX] = '\0';
	assert_true(id_valid(id));
}

static void test_path_below(void **state)
{
	char component[300];
	char path[512];

	assert_string_equal(path_below("/run/podvm/a/b", DIR_PODVM), "a/b");
	assert_string_equal(path_below("/run/podvm/..a", DIR_PODVM), "..a");
	assert_null(path_below("/run/podvm", DIR_PODVM));
	assert_null(path_below("/run/podvm/", DIR_PODVM));
	assert_null(path_below("/run/podvmx/a", DIR_PODVM));
	assert_null(path_below("/run/podvm/../x", DIR_PODVM));
	assert_null(path_below("/run/podvm/a/..", DIR_PODVM));
	assert_null(path_below("/run/podvm/a/./b", DIR_PODVM));
	assert_null(path_below("/run/podvm/a//b", DIR_PODVM));
	assert_null(path_below("/run/podvm/a/", DIR_PODVM));
	assert_null(path_below("run/podvm/a", DIR_PODVM));
	assert_null(path_below("", DIR_PODVM));
	memset(component, 'x', 256);
	component[256] = '\0';
	snprintf(path, sizeof(path), "/run/podvm/%s", component);
	assert_null(path_below(path, DIR_PODVM));
	component[255] = '\0';
	snprintf(path, sizeof(path), "/run/podvm/%s", component);
	assert_non_null(path_below(path, DIR_PODVM));
}

static void test_beneath(void **state)
{
	char dir[] = "/tmp/podvm-agent-XXXXXX";
	struct stat st;
	int root;
	int fd;

	assert_non_null(mkdtemp(dir));
	root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	fd = mkdir_beneath(root, "a/b/c", 0755);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(fstatat(root, "a/b/c", &st, 0), 0);
	fd = mkdir_beneath(root, "", 0755);
	assert_true(fd >= 0);
	close(fd);
	/* Nothing is made or opened through a link, wherever it leads. */
	assert_int_equal(symlinkat("b", root, "a/link"), 0);
	assert_int_equal(symlinkat("/etc", root, "out"), 0);
	assert_int_equal(mkdir_beneath(root, "a/link/x", 0755), -ELOOP);
	assert_int_equal(mkdir_beneath(root, "out/x", 0755), -ELOOP);
	assert_int_equal(open_beneath(root, "out/passwd", O_RDONLY, 0), -ELOOP);
	assert_int_equal(open_beneath(root, "../etc", O_RDONLY, 0), -EXDEV);
	assert_int_equal(mkdir_beneath(root, "..", 0755), -EINVAL);
	close(root);
	assert_int_equal(rm_rf(AT_FDCWD, dir), 0);
}

static void test_transport(void **state)
{
	struct transport t;

	assert_int_equal(transport_parse("quiet panic=-1\n", &t), 0);
	assert_int_equal(t.port, 0);
	assert_int_equal(transport_parse("a podvm.transport=serial b", &t), 0);
	assert_int_equal(t.port, 0);
	assert_int_equal(transport_parse("podvm.transport=vsock:1024\n", &t), 0);
	assert_int_equal(t.port, 1024);
	assert_int_equal(transport_parse("xpodvm.transport=vsock:1 podvm.transport=vsock:2", &t),
			 0);
	assert_int_equal(t.port, 2);
	assert_int_equal(transport_parse("podvm.transport=vsock:", &t), -EINVAL);
	assert_int_equal(transport_parse("podvm.transport=vsock:0", &t), -EINVAL);
	assert_int_equal(transport_parse("podvm.transport=vsock:4294967295", &t), -EINVAL);
	assert_int_equal(transport_parse("podvm.transport=pigeon", &t), -EINVAL);
	assert_int_equal(transport_parse("podvm.transport=", &t), -EINVAL);
}

static void test_sysctl_path(void **state)
{
	char path[64];

	assert_int_equal(sysctl_path("net.ipv4.ip_forward", path, sizeof(path)), 0);
	assert_string_equal(path, "net/ipv4/ip_forward");
	assert_int_equal(sysctl_path("net/ipv4/conf/eth0.1/forwarding", path, sizeof(path)), 0);
	assert_string_equal(path, "net/ipv4/conf/eth0.1/forwarding");
	assert_int_equal(sysctl_path("net.ipv4.conf.eth0/1.forwarding", path, sizeof(path)), 0);
	assert_string_equal(path, "net/ipv4/conf/eth0.1/forwarding");
	assert_int_equal(sysctl_path("net/../kernel/x", path, sizeof(path)), -EINVAL);
	assert_int_equal(sysctl_path("/etc/passwd", path, sizeof(path)), -EINVAL);
	assert_int_equal(sysctl_path("..net", path, sizeof(path)), -EINVAL);
	assert_int_equal(sysctl_path("a..b", path, sizeof(path)), -EINVAL);
	assert_int_equal(sysctl_path("a.", path, sizeof(path)), -EINVAL);
	assert_int_equal(sysctl_path("abc", path, sizeof(path)), -EINVAL);
	assert_int_equal(sysctl_path("", path, sizeof(path)), -EINVAL);
	assert_int_equal(sysctl_path("a.b", path, 3), -EINVAL);
	assert_int_equal(sysctl_path("a.b", path, 4), 0);
}

static void test_cgroup_fields(void **state)
{
	static const char text[] = "low 0\noom 7\noom_kill 3\nmax max\nbad x\nlast 9";
	uint64_t v;

	assert_int_equal(cgroup_field(text, "oom_kill", &v), 0);
	assert_int_equal(v, 3);
	assert_int_equal(cgroup_field(text, "oom", &v), 0);
	assert_int_equal(v, 7);
	assert_int_equal(cgroup_field(text, "last", &v), 0);
	assert_int_equal(v, 9);
	assert_int_equal(cgroup_field(text, "max", &v), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(cgroup_field(text, "bad", &v), -EINVAL);
	assert_int_equal(cgroup_field(text, "oo", &v), -ENOENT);
	assert_int_equal(cgroup_field("", "x", &v), -ENOENT);
	assert_int_equal(cgroup_field("x 99999999999999999999999999999999", "x", &v), -EINVAL);
	assert_int_equal(cgroup_field("x", "x", &v), -ENOENT);
	assert_int_equal(cgroup_field("x ", "x", &v), -EINVAL);
}

static void test_pod_limit(void **state)
{
	uint64_t mb = 1 << 20;

	/* 128 MB, 24 used: 104 are left, of these 6 + 2 in reserve. */
	assert_int_equal(cgroup_pod_limit(128 * mb, 24 * mb), 96 * mb);
	assert_true(cgroup_pod_limit(1024 * mb, 40 * mb) > 950 * mb);
	/* Never more than there is, whatever the numbers. */
	assert_int_equal(cgroup_pod_limit(16 * mb, 8 * mb), 4 * mb);
	assert_int_equal(cgroup_pod_limit(16 * mb, 32 * mb), 0);
}

static void test_counters(void **state)
{
	struct counters *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	c->text = strdup("anon 4096\nnonsense\n 5\nfile x\nshmem 18446744073709551615\n"
			 "huge 18446744073709551616\nlast 1");
	counters_parse(c);
	assert_int_equal(c->n, 3);
	assert_string_equal(c->list[0]->name, "anon");
	assert_int_equal(c->list[0]->value, 4096);
	assert_string_equal(c->list[1]->name, "shmem");
	assert_true(c->list[1]->value == UINT64_MAX);
	assert_string_equal(c->list[2]->name, "last");
	free(c->text);
	free(c);
}

static void test_counters_are_limited(void **state)
{
	struct counters *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	c->text = malloc(STATS_COUNTERS * 8 + 1);
	for (size_t i = 0; i < 2 * STATS_COUNTERS; i++)
		memcpy(c->text + 4 * i, "a 1\n", 5);
	counters_parse(c);
	assert_int_equal(c->n, STATS_COUNTERS);
	free(c->text);
	free(c);
}

static void test_io_stat(void **state)
{
	Podvm__Agent__V1__IoStats io;
	char line[] = "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6";
	char odd[] = "8:0 rbytes=x wios=7";
	char bad[] = "loop0 rbytes=1";
	char empty[] = "";

	assert_int_equal(stats_parse_io(line, &io), 0);
	assert_int_equal(io.major, 8);
	assert_int_equal(io.minor, 16);
	assert_int_equal(io.rbytes, 1);
	assert_int_equal(io.wbytes, 2);
	assert_int_equal(io.rios, 3);
	assert_int_equal(io.wios, 4);
	assert_int_equal(stats_parse_io(odd, &io), 0);
	assert_int_equal(io.rbytes, 0);
	assert_int_equal(io.wios, 7);
	assert_int_equal(stats_parse_io(bad, &io), -EINVAL);
	assert_int_equal(stats_parse_io(empty, &io), -EINVAL);
}

static void test_proc_stat(void **state)
{
	/* A process may call itself anything. */
	static const char text[] =
		"42 (a) R 1 (x) S 17 42 42 0 -1 4194304 100 0 0 0 5 6 0 0 20 0 1 "
		"0 1000 2000000 77 18446744073709551615 0";
	struct proc_stat ps;

	assert_int_equal(proc_stat_parse(text, &ps), 0);
	assert_string_equal(ps.comm, "a) R 1 (x");
	assert_int_equal(ps.ppid, 17);
	assert_int_equal(ps.cpu_ticks, 11);
	assert_int_equal(ps.rss_pages, 77);
	assert_int_equal(proc_stat_parse("42 (x", &ps), -EINVAL);
	assert_int_equal(proc_stat_parse("42 )x(", &ps), -EINVAL);
	assert_int_equal(proc_stat_parse("42 (x) S 1", &ps), -EINVAL);
	assert_int_equal(proc_stat_parse("", &ps), -EINVAL);
}

static void test_command(void **state)
{
	char out[PROCLIST_COMMAND + 1];
	char longer[PROCLIST_COMMAND + 100];

	proc_command("sh\0-c\0a\nb\033", 10, out);
	assert_string_equal(out, "sh -c a?b?");
	proc_command("ls\0", 3, out);
	assert_string_equal(out, "ls");
	proc_command("\xff\0\0", 3, out);
	assert_string_equal(out, "?");
	proc_command("", 0, out);
	assert_string_equal(out, "");
	memset(longer, 'x', sizeof(longer));
	proc_command(longer, sizeof(longer), out);
	assert_int_equal(strlen(out), PROCLIST_COMMAND);
}

static void test_klog(void **state)
{
	_cleanup_(buf_done) struct buf out = { .limit = 64 };
	static const char record[] = "6,339,5140900,-;hello\n SUBSYSTEM=net\n";

	assert_int_equal(klog_format(record, strlen(record), &out), 0);
	assert_string_equal(buf_cstr(&out), "[    5.140900] hello\n");
	assert_int_equal(klog_format("no semicolon", 12, &out), -EINVAL);
	assert_int_equal(klog_format("6,1;x", 5, &out), -EINVAL);
	assert_int_equal(klog_format("", 0, &out), -EINVAL);
	/* When it's full the oldest lines go. */
	for (int i = 0; i < 5; i++)
		assert_int_equal(klog_format("6,340,7000001,-;more", 20, &out), 0);
	assert_string_equal(buf_cstr(&out), "[    7.000001] more\n[    7.000001] more\n"
					    "[    7.000001] more\n");
}

static void test_meminfo(void **state)
{
	static const char text[] = "MemTotal:  1000 kB\nMemFree: 20 kB\nActive(file): 3 kB\n";

	assert_int_equal(meminfo_field(text, "MemTotal"), 1024000);
	assert_int_equal(meminfo_field(text, "MemFree"), 20480);
	assert_int_equal(meminfo_field(text, "Mem"), 0);
	assert_int_equal(meminfo_field(text, "Cached"), 0);
	assert_int_equal(meminfo_field("", "Cached"), 0);
}

static void test_net_dev(void **state)
{
	Podvm__Agent__V1__NetworkStats s;
	char line[] = "  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
	char header[] = " face |bytes    packets errs drop";
	char cut[] = "eth0: 1 2 3";

	assert_int_equal(net_dev_parse(line, &s), 0);
	assert_string_equal(s.name, "eth0");
	assert_int_equal(s.rx_bytes, 1);
	assert_int_equal(s.rx_dropped, 4);
	assert_int_equal(s.tx_bytes, 9);
	assert_int_equal(s.tx_dropped, 12);
	assert_int_equal(net_dev_parse(header, &s), -EINVAL);
	assert_int_equal(net_dev_parse(cut, &s), -EINVAL);
}

/* What crun 1.8 and 1.21 say, to terminals and to pipes. */
static void test_crun_errors(void **state)
{
	struct err failed = { .code = -ECHILD, .msg = "/usr/bin/crun failed (1)" };
	struct err late = { .code = -ETIMEDOUT, .msg = "/usr/bin/crun did not end within 5 ms" };
	struct err e;
	char not_found[] = "executable file `foo` not found in $PATH: No such file or directory\n";
	char coloured[] = "\x1b[1;31m2026-11-22T00:49:20.781071Z: open executable: Permission "
			  "denied\x1b[0m\r\n";
	char not_exec[] = "the path `/x` exists but it is not executable: Operation not permitted";
	char cwd[] = "chdir `/nowhere`: No such file or directory";
	char lines[] = "parse error\nerror loading config.json\n";
	char escapes[] = "\x1b[\x1b[1";
	char nothing[] = "";

	crun_error(&e, "create", not_found, &failed);
	assert_int_equal(e.code, -ENOENT);
	assert_string_equal(e.msg, "crun create: executable file `foo` not found in $PATH: No such "
				   "file or directory");
	crun_error(&e, "exec", coloured, &failed);
	assert_int_equal(e.code, -EACCES);
	assert_string_equal(e.msg, "crun exec: open executable: Permission denied");
	crun_error(&e, "create", not_exec, &failed);
	assert_int_equal(e.code, -EACCES);
	/* Not about the program: must not look like exit code 127. */
	crun_error(&e, "exec", cwd, &failed);
	assert_int_equal(e.code, -EIO);
	crun_error(&e, "create", lines, &failed);
	assert_string_equal(e.msg, "crun create: parse error error loading config.json");
	crun_error(&e, "create", escapes, &failed);
	crun_error(&e, "create", nothing, &late);
	assert_int_equal(e.code, -ETIMEDOUT);
	assert_string_equal(e.msg, "crun create: /usr/bin/crun did not end within 5 ms");
}

static void test_mount_options(void **state)
{
	char *options[] = { "ro",    "nosuid",	     "noatime", "size=1m",
			    "rbind", "data=ordered", "relatime" };
	char *again[] = { "ro", "rw", "nodev", "dev" };
	char *bad[] = { "ro", "" };
	char *nameless[] = { "=x" };
	struct mount_options o = { 0 };

	assert_int_equal(mount_options_parse(&o, options, ARRAY_SIZE(options)), 0);
	assert_true(o.ro);
	assert_true(o.recursive);
	assert_int_equal(o.attr, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID);
	assert_int_equal(o.fs.n, 2);
	assert_string_equal(o.fs.v[0], "size=1m");
	mount_options_done(&o);
	memset(&o, 0, sizeof(o));
	assert_int_equal(mount_options_parse(&o, again, ARRAY_SIZE(again)), 0);
	assert_int_equal(o.attr, 0);
	assert_false(o.ro);
	assert_int_equal(mount_options_parse(&o, bad, 2), -EINVAL);
	assert_int_equal(mount_options_parse(&o, nameless, 1), -EINVAL);
	mount_options_done(&o);
}

static void test_storage_check(void **state)
{
	Podvm__Agent__V1__Storage s = PODVM__AGENT__V1__STORAGE__INIT;
	struct err e = { 0 };

	s.driver = "tmpfs";
	s.mount_point = "/run/podvm/a";
	assert_int_equal(storage_check(&s, &e), 0);
	s.mount_point = "/run/podvm/../a";
	assert_int_equal(storage_check(&s, &e), -EINVAL);
	s.mount_point = "/etc";
	assert_int_equal(storage_check(&s, &e), -EINVAL);
	s.mount_point = "/run/podvm/a";
	s.driver = "bind";
	s.source = "/etc/shadow";
	assert_int_equal(storage_check(&s, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "/etc/shadow"));
	s.source = "/run/podvm/b";
	assert_int_equal(storage_check(&s, &e), 0);
	s.driver = "nfs";
	assert_int_equal(storage_check(&s, &e), -EINVAL);
}

static int check_part(unsigned int part, uint64_t offset, uint64_t size)
{
	Podvm__Agent__V1__Storage s = PODVM__AGENT__V1__STORAGE__INIT;

	s.driver = "scsi";
	s.source = "3";
	s.mount_point = "/run/podvm/a";
	s.part = part;
	s.offset = offset;
	s.size = size;
	return storage_check(&s, NULL);
}

static void test_parts_of_disks(void **state)
{
	assert_int_equal(check_part(0, 0, 0), 0);
	assert_int_equal(check_part(255, 4096, 4096), 0);
	assert_int_equal(check_part(256, 4096, 4096), -EINVAL);
	assert_int_equal(check_part(1, 512, 4096), -EINVAL);
	assert_int_equal(check_part(1, 4096, 0), -EINVAL);
	assert_int_equal(check_part(1, 4096, 4097), -EINVAL);
	assert_int_equal(check_part(1, UINT64_MAX - 4095, 4096), -EINVAL);
	assert_int_equal(check_part(1, 0, UINT64_MAX - 4095), -EINVAL);
}

static int check_verity(const char *driver, uint64_t size, size_t hash_len)
{
	Podvm__Agent__V1__Storage s = PODVM__AGENT__V1__STORAGE__INIT;
	Podvm__Agent__V1__Verity v = PODVM__AGENT__V1__VERITY__INIT;
	char name[DM_NAME_MAX];
	uint8_t hash[64] = { 0 };

	s.driver = (char *)driver;
	s.source = "3";
	s.mount_point = "/run/podvm/a";
	s.verity = &v;
	v.data_size = size;
	v.root_hash.data = hash;
	v.root_hash.len = hash_len;
	assert_true(storage_verity_name(&s, name));
	return storage_check(&s, NULL);
}

static void test_verity(void **state)
{
	assert_int_equal(check_verity("scsi", 4096, 32), 0);
	assert_int_equal(check_verity("tmpfs", 4096, 32), -EINVAL);
	assert_int_equal(check_verity("scsi", 0, 32), -EINVAL);
	assert_int_equal(check_verity("scsi", 4095, 32), -EINVAL);
	assert_int_equal(check_verity("scsi", 4096, 31), -EINVAL);
	assert_int_equal(check_verity("scsi", 4096, 64), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_path_below),
		cmocka_unit_test(test_beneath),
		cmocka_unit_test(test_transport),
		cmocka_unit_test(test_sysctl_path),
		cmocka_unit_test(test_cgroup_fields),
		cmocka_unit_test(test_pod_limit),
		cmocka_unit_test(test_counters),
		cmocka_unit_test(test_counters_are_limited),
		cmocka_unit_test(test_io_stat),
		cmocka_unit_test(test_proc_stat),
		cmocka_unit_test(test_command),
		cmocka_unit_test(test_klog),
		cmocka_unit_test(test_meminfo),
		cmocka_unit_test(test_net_dev),
		cmocka_unit_test(test_crun_errors),
		cmocka_unit_test(test_mount_options),
		cmocka_unit_test(test_storage_check),
		cmocka_unit_test(test_parts_of_disks),
		cmocka_unit_test(test_verity),
	};

	return cmocka_run_group_tests_name("agent_parse", tests, NULL, NULL);
}
