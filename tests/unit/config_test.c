/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "config/config.h"

/* Each test has a directory of its own; its main file is "podvm.conf". */
static char dir[64];

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/podvm-config-test.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	unsetenv(CONFIG_ENV);
	return rm_rf(AT_FDCWD, dir);
}

static const char *path_of(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void put(const char *name, const char *text)
{
	mkdir(path_of("podvm.conf.d"), 0755);
	assert_int_equal(file_replace(AT_FDCWD, path_of(name), text, strlen(text), 0644), 0);
}

static int load(struct config *c, struct err *e)
{
	return config_load_file(c, path_of("podvm.conf"), e);
}

static int parse(const char *text, struct config *c, struct err *e)
{
	assert_int_equal(config_defaults(c), 0);
	return config_parse(c, "test.conf", text, strlen(text), e);
}

/* The text is refused with exactly this message. */
static void assert_refused(const char *text, const char *msg)
{
	_cleanup_(config_done) struct config c = CONFIG_INIT;
	struct err e = { 0 };

	assert_int_equal(parse(text, &c, &e), -EINVAL);
	assert_string_equal(e.msg, msg);
}

static void test_defaults(void **state)
{
	_cleanup_(config_done) struct config c = CONFIG_INIT;

	assert_int_equal(load(&c, NULL), 0);
	assert_string_equal(c.image, "/usr/share/podvm");
	assert_string_equal(c.state, "/run/podvm");
	assert_string_equal(c.cache, "/var/lib/podvm");
	assert_string_equal(c.driver, "qemu");
	assert_int_equal(c.accel, CONFIG_ACCEL_AUTO);
	assert_string_equal(c.binary, "");
	assert_int_equal(c.vcpus, 1);
	assert_int_equal(c.memory, (uint64_t)256 << 20);
	assert_int_equal(c.scratch_size, (uint64_t)10 << 30);
	assert_int_equal(c.boot_timeout, 60000);
	assert_int_equal(c.net, CONFIG_NET_USER);
	assert_int_equal(c.log_level, LOG_LEVEL_WARN);
	assert_int_equal(c.pull, CONFIG_PULL_MISSING);
}

static void test_every_type(void **state)
{
	_cleanup_(config_done) struct config c = CONFIG_INIT;

	assert_int_equal(parse("# a comment\n"
			       "[vm]\r\n"
			       "  vcpus=4 ; as many as that\n"
			       "memory = 2GiB\n"
			       "[start]\n"
			       "boot_timeout = 5min\n"
			       "agent_timeout = 1500ms\n"
			       "[vmm]\n"
			       "machine = q35\n"
			       "accel = tcg\n"
			       "binary = /opt/qemu\n"
			       "[net]\n"
			       "default = none\n"
			       "subnet = 172.20.0.0/16\n"
			       "[log]\n"
			       "level = debug",
			       &c, NULL),
			 0);
	assert_int_equal(c.vcpus, 4);
	assert_int_equal(c.memory, (uint64_t)2 << 30);
	assert_int_equal(c.boot_timeout, 300000);
	assert_int_equal(c.agent_timeout, 1500);
	assert_string_equal(c.machine, "q35");
	assert_int_equal(c.accel, CONFIG_ACCEL_TCG);
	assert_string_equal(c.binary, "/opt/qemu");
	assert_int_equal(c.net, CONFIG_NET_NONE);
	assert_string_equal(c.subnet, "172.20.0.0/16");
	assert_int_equal(c.log_level, LOG_LEVEL_DEBUG);
}

static void test_empty_is_default(void **state)
{
	_cleanup_(config_done) struct config c = CONFIG_INIT;

	assert_int_equal(parse("[vm]\nvcpus = 7\nvcpus =\n", &c, NULL), 0);
	assert_int_equal(c.vcpus, 1);
}

static void test_bad_values(void **state)
{
	assert_refused("\n[vm]\nvcpus = 0\n",
		       "test.conf:3: [vm] vcpus = \"0\": it must be a number from 1 to 256");
	assert_refused("[vm]\nvcpus = -1\n",
		       "test.conf:2: [vm] vcpus = \"-1\": it must be a number from 1 to 256");
	assert_refused("[vm]\nmemory = 32M\n", "test.conf:2: [vm] memory = \"32M\": it must be a "
					       "size such as 256M or 10G from 64M to 1T");
	assert_refused("[start]\nboot_timeout = 60\n",
		       "test.conf:2: [start] boot_timeout = \"60\": it must be a time such as "
		       "500ms, 60s, 5min, 12h or 30d from 1s to 1h");
	assert_refused("[vmm]\naccel = xen\n", "test.conf:2: [vmm] accel = \"xen\": it must be one "
					       "of: auto, kvm, tcg");
	assert_refused("[vmm]\nmachine = pc\n", "test.conf:2: [vmm] machine = \"pc\": it must be "
						"one of: microvm, q35");
	assert_refused("[paths]\nstate = run\n",
		       "test.conf:2: [paths] state = \"run\": it must be an absolute path");
	assert_refused("[paths]\nstate = /run/../etc\n",
		       "test.conf:2: [paths] state = \"/run/../etc\": it must be a path without "
		       "\"..\"");
	assert_refused("[storage]\nhost_sockets = /run/a.sock b\n",
		       "test.conf:2: [storage] host_sockets = \"/run/a.sock b\": it must be an "
		       "absolute path");
	assert_refused("[storage]\nhost_sockets = /run/\n",
		       "test.conf:2: [storage] host_sockets = \"/run/\": it must be paths of "
		       "sockets");
	assert_refused("[net]\nsubnet = 10.0.2.0/30\n",
		       "test.conf:2: [net] subnet = \"10.0.2.0/30\": it must be a network as "
		       "ADDRESS/LENGTH with a length of 8 to 27");
	assert_refused("[net]\nsubnet6 = fd00::/48\n",
		       "test.conf:2: [net] subnet6 = \"fd00::/48\": it must be a network as "
		       "ADDRESS/64");
}

static void test_unknown_names(void **state)
{
	_cleanup_(config_done) struct config c = CONFIG_INIT;
	struct err e = { 0 };

	assert_refused("vcpus = 1\n", "test.conf:1: outside of a section: key \"vcpus\"");
	assert_refused("[disk]\nsize = 1\n", "test.conf:2: unknown key \"size\" in section [disk]");
	assert_int_equal(parse("[start]\nbootTimeout = 1s\n", &c, &e), -EINVAL);
	assert_string_equal(e.msg, "test.conf:2: unknown key \"bootTimeout\" in section [start]");
	assert_string_equal(e.hint, "The keys of [start] are: boot_timeout, agent_timeout.");
}

static void test_bad_lines(void **state)
{
	char text[CONFIG_MAX_LINE + 32];

	assert_refused("[vm]\nvcpus\n", "test.conf:2: neither a [section] nor a key = value");
	assert_refused("[vm\nvcpus = 1\n", "test.conf:2: outside of a section: key \"vcpus\"");
	assert_refused("[vm]\nvcpus = \x1b[1m\n", "test.conf:2: a control character in the line");
	memset(text, '#', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	assert_refused(text, "test.conf:1: the line is too long");
	text[CONFIG_MAX_LINE] = '\0';
	{
		_cleanup_(config_done) struct config c = CONFIG_INIT;

		assert_int_equal(parse(text, &c, NULL), 0);
	}
}

static void test_indented_line_is_no_continuation(void **state)
{
	_cleanup_(config_done) struct config c = CONFIG_INIT;

	assert_int_equal(parse("[vm]\nvcpus = 2\n\tmemory = 128M\n", &c, NULL), 0);
	assert_int_equal(c.vcpus, 2);
	assert_int_equal(c.memory, (uint64_t)128 << 20);
}

static void test_precedence(void **state)
{
	_cleanup_(config_done) struct config c = CONFIG_INIT;

	put("podvm.conf", "[vm]\nvcpus = 2\nmemory = 128M\n[log]\nlevel = info\n");
	put("podvm.conf.d/20-b.conf", "[vm]\nvcpus = 4\n");
	put("podvm.conf.d/10-a.conf", "[vm]\nvcpus = 3\nmemory = 512M\n");
	put("podvm.conf.d/README", "not a configuration file");
	put("podvm.conf.d/.hidden.conf", "neither");
	assert_int_equal(load(&c, NULL), 0);
	assert_int_equal(c.vcpus, 4);
	assert_int_equal(c.memory, (uint64_t)512 << 20);
	assert_int_equal(c.log_level, LOG_LEVEL_INFO);
}

static void test_error_names_the_drop_in(void **state)
{
	struct config c = CONFIG_INIT;
	struct err e = { 0 };

	put("podvm.conf.d/10-a.conf", "[vm]\n\nmemory = lots\n");
	assert_int_equal(load(&c, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "podvm.conf.d/10-a.conf:3: [vm] memory = \"lots\""));
	assert_null(c.image);
}

static void test_environment(void **state)
{
	_cleanup_(config_done) struct config c = CONFIG_INIT;
	struct err e = { 0 };

	setenv(CONFIG_ENV, path_of("podvm.conf"), 1);
	assert_int_equal(config_load(&c, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "from PODVM_CONFIG"));
	put("podvm.conf", "[vm]\nvcpus = 9\n");
	assert_int_equal(config_load(&c, NULL), 0);
	assert_int_equal(c.vcpus, 9);
}

static void test_foreign_files_are_refused(void **state)
{
	struct config c = CONFIG_INIT;
	struct err e = { 0 };

	put("podvm.conf", "[vm]\nvcpus = 9\n");
	chmod(path_of("podvm.conf"), 0666);
	assert_int_equal(load(&c, &e), -EPERM);
	assert_non_null(strstr(e.msg, "can be changed by other users"));
	assert_non_null(strstr(e.hint, "chmod 644"));
	unlink(path_of("podvm.conf"));
	assert_int_equal(mkfifo(path_of("podvm.conf"), 0644), 0);
	assert_int_equal(load(&c, NULL), -EINVAL);
	unlink(path_of("podvm.conf"));
	if (geteuid() == 0) {
		put("podvm.conf", "[vm]\nvcpus = 9\n");
		assert_int_equal(chown(path_of("podvm.conf"), 12345, 12345), 0);
		assert_int_equal(load(&c, NULL), -EPERM);
	}
}

static void test_limits(void **state)
{
	struct config c = CONFIG_INIT;
	struct err e = { 0 };
	char name[64];

	put("podvm.conf", "");
	assert_int_equal(truncate(path_of("podvm.conf"), (off_t)CONFIG_MAX_FILE + 1), 0);
	assert_int_equal(load(&c, &e), -EFBIG);
	put("podvm.conf", "");
	for (int i = 0; i <= CONFIG_MAX_DROPINS; i++) {
		snprintf(name, sizeof(name), "podvm.conf.d/%03d.conf", i);
		put(name, "");
	}
	assert_int_equal(load(&c, &e), -E2BIG);
	unlink(path_of("podvm.conf.d/000.conf"));
	assert_int_equal(load(&c, &e), 0);
	config_done(&c);
}

/* What is printed can be read again and says the same. */
static void test_dump(void **state)
{
	_cleanup_(config_done) struct config a = CONFIG_INIT;
	_cleanup_(config_done) struct config b = CONFIG_INIT;
	_cleanup_(buf_done) struct buf first = { 0 };
	_cleanup_(buf_done) struct buf second = { 0 };

	assert_int_equal(parse("[vm]\nmemory = 1536k\n", &a, NULL), -EINVAL);
	config_done(&a);
	assert_int_equal(parse("[vm]\nmemory = 100000k\n[start]\nboot_timeout = 90s\n"
			       "[vmm]\naccel = kvm\n",
			       &a, NULL),
			 0);
	assert_int_equal(config_dump(&a, &first), 0);
	assert_non_null(strstr(buf_cstr(&first), "[vm]\nvcpus = 1\nmemory = 100000K\n"));
	assert_non_null(strstr(buf_cstr(&first), "boot_timeout = 90s\n"));
	assert_non_null(strstr(buf_cstr(&first), "accel = kvm\n"));
	assert_int_equal(parse(buf_cstr(&first), &b, NULL), 0);
	assert_int_equal(config_dump(&b, &second), 0);
	assert_string_equal(buf_cstr(&first), buf_cstr(&second));
}

/* The packaged file is what the table says, and it's valid with everything switched on. */
static void test_packaged_file(void **state)
{
	_cleanup_(config_done) struct config c = CONFIG_INIT;
	_cleanup_(buf_done) struct buf reference = { 0 };
	_cleanup_(buf_done) struct buf active = { 0 };
	_cleanup_(freep) char *packaged = NULL;
	char *save = NULL;

	assert_int_equal(config_reference(&reference), 0);
	assert_int_equal(file_read(AT_FDCWD, PACKAGED_CONF, CONFIG_MAX_FILE, &packaged, NULL), 0);
	assert_string_equal(packaged, buf_cstr(&reference));
	for (char *line = strtok_r(packaged, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		buf_printf(&active, "%s\n", line[0] == '#' && line[1] != ' ' ? line + 1 : line);
	assert_int_equal(parse(buf_cstr(&active), &c, NULL), 0);
}

/* What annotating a pod's configuration is answered. */
static int annotate(const char *allowed, const char *name, const char *value, struct config *c,
		    struct err *e)
{
	char text[256];

	snprintf(text, sizeof(text), "[annotations]\nallowed = %s\n", allowed);
	assert_int_equal(parse(text, c, e), 0);
	return config_annotate(c, name, value, e);
}

static void test_annotations(void **state)
{
	static const struct {
		const char *allowed;
		const char *name;
		const char *value;
		int result;
		const char *msg;
	} cases[] = {
		{ "podvm.io/vcpus  podvm.io/memory", "podvm.io/memory", "1G", 0, NULL },
		{ "podvm.io/memory", "podvm.io/memory", "1X", -EINVAL,
		  "annotation podvm.io/memory = \"1X\": it must be a size such as 256M or 10G from "
		  "64M to 1T" },
		{ "podvm.io/memory", "podvm.io/memory", "", -EINVAL,
		  "annotation podvm.io/memory = \"\": it must be a size such as 256M or 10G from "
		  "64M "
		  "to 1T" },
		{ "podvm.io/vcpus", "podvm.io/memory", "1G", -EPERM,
		  "the annotation podvm.io/memory isn't allowed on this machine" },
		{ "", "podvm.io/memory", "1G", -EPERM,
		  "the annotation podvm.io/memory isn't allowed on this machine" },
		{ "podvm.io/memory", "podvm.io/mem", "1G", -EINVAL,
		  "there is no annotation \"podvm.io/mem\"" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_(config_done) struct config c = CONFIG_INIT;
		struct err e = { 0 };

		assert_int_equal(annotate(cases[i].allowed, cases[i].name, cases[i].value, &c, &e),
				 cases[i].result);
		assert_string_equal(e.msg, cases[i].msg ? cases[i].msg : "");
		assert_int_equal(c.memory, (uint64_t)(cases[i].result ? 256 : 1024) << 20);
	}
}

static void test_annotations_are_checked(void **state)
{
	static const char all[] = "[annotations]\nallowed = podvm.io/memory podvm.io/vcpus "
				  "podvm.io/guest-overhead podvm.io/scratch-size podvm.io/rootfs "
				  "podvm.io/debug podvm.io/machine podvm.io/boot-timeout\n";
	_cleanup_(config_done) struct config c = CONFIG_INIT;

	assert_int_equal(parse(all, &c, NULL), 0);
	assert_refused("[annotations]\nallowed = podvm.io/memory podvm.io/root\n",
		       "test.conf:2: [annotations] allowed = \"podvm.io/memory podvm.io/root\": "
		       "there is no annotation \"podvm.io/root\"");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_annotations),
		TEST(test_annotations_are_checked),
		TEST(test_defaults),
		TEST(test_every_type),
		TEST(test_empty_is_default),
		TEST(test_bad_values),
		TEST(test_unknown_names),
		TEST(test_bad_lines),
		TEST(test_indented_line_is_no_continuation),
		TEST(test_precedence),
		TEST(test_error_names_the_drop_in),
		TEST(test_environment),
		TEST(test_foreign_files_are_refused),
		TEST(test_limits),
		TEST(test_dump),
		TEST(test_packaged_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
