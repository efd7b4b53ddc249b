/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "shim/spec.h"

static const struct spec_target target = {
	.id = "box",
	.rootfs = "/run/podvm/shared/box:rootfs",
	.member = true,
};

/* What CRI writes for a container of a pod, the parts that matter. */
static const char container_json[] =
	"{\"ociVersion\":\"1.3.0\","
	"\"process\":{\"terminal\":true,\"args\":[\"sh\"],\"apparmorProfile\":\"p\","
	"\"selinuxLabel\":\"l\"},"
	"\"root\":{\"path\":\"rootfs\",\"readonly\":true},\"hostname\":\"h\","
	"\"hooks\":{\"prestart\":[]},\"annotations\":{\"run.oci.handler\":\"krun\"},"
	"\"mounts\":["
	"{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
	"{\"destination\":\"/etc/hosts\",\"type\":\"bind\",\"source\":\"/c/hosts\","
	"\"options\":[\"rbind\",\"rprivate\",\"rw\"]},"
	"{\"destination\":\"/dev/shm\",\"type\":\"bind\",\"source\":\"/c/shm\","
	"\"options\":[\"rbind\"]},"
	"{\"destination\":\"/data\",\"source\":\"/vol/data\","
	"\"options\":[\"rbind\",\"rslave\",\"ro\"]}],"
	"\"linux\":{\"cgroupsPath\":\"/kubepods/x\",\"sysctl\":{\"net.core.somaxconn\":\"9\"},"
	"\"mountLabel\":\"m\","
	"\"resources\":{\"memory\":{\"limit\":1000,\"swap\":2000,\"swappiness\":1},"
	"\"cpu\":{\"shares\":2,\"cpus\":\"0-3\"},\"blockIO\":{\"weight\":5},"
	"\"devices\":[{\"allow\":false}]},"
	"\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"ipc\",\"path\":\"/proc/1/ns/ipc\"},"
	"{\"type\":\"uts\",\"path\":\"/proc/1/ns/uts\"},{\"type\":\"mount\"},"
	"{\"type\":\"network\",\"path\":\"/proc/1/ns/net\"}]}}";

static struct json_object *parse(const char *text)
{
	struct json_object *obj = NULL;

	assert_int_equal(json_parse(text, strlen(text), "test", &obj, NULL), 0);
	return obj;
}

/* The text at a path such as "linux/cgroupsPath", "mounts/1/source"; NULL: it isn't there. */
static const char *at(struct json_object *obj, const char *path)
{
	char copy[128];
	char *save = NULL;

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *name = strtok_r(copy, "/", &save); name && obj;
	     name = strtok_r(NULL, "/", &save)) {
		if (json_object_is_type(obj, json_type_array))
			obj = json_object_array_get_idx(obj, (size_t)atoi(name));
		else if (!json_object_object_get_ex(obj, name, &obj))
			obj = NULL;
	}
	return obj ? json_object_to_json_string_ext(obj, JSON_C_TO_STRING_NOSLASHESCAPE) : NULL;
}

static void rewrite(struct json_object *spec, const struct spec_target *t, struct spec_plan *plan)
{
	struct err e = { 0 };

	if (spec_rewrite(spec, t, plan, &e) < 0)
		fail_msg("%s", e.msg);
}

static void test_root_and_cgroup(void **state)
{
	_cleanup_(json_putp) struct json_object *spec = parse(container_json);
	_cleanup_(spec_plan_done) struct spec_plan plan = { 0 };

	rewrite(spec, &target, &plan);
	assert_string_equal(at(spec, "root/path"), "\"/run/podvm/shared/box:rootfs\"");
	assert_string_equal(at(spec, "root/readonly"), "true");
	assert_string_equal(at(spec, "linux/cgroupsPath"), "\"/pod/box\"");
	assert_string_equal(at(spec, "process/terminal"), "false");
	assert_string_equal(at(spec, "ociVersion"), "\"1.0.2\"");
}

static void test_what_is_of_the_host_is_dropped(void **state)
{
	static const char *const gone[] = {
		"hooks",
		"annotations",
		"process/apparmorProfile",
		"process/selinuxLabel",
		"linux/sysctl",
		"linux/mountLabel",
		"linux/resources/memory/swap",
		"linux/resources/memory/swappiness",
		"linux/resources/cpu/cpus",
		"linux/resources/blockIO",
	};
	_cleanup_(json_putp) struct json_object *spec = parse(container_json);
	_cleanup_(spec_plan_done) struct spec_plan plan = { 0 };

	rewrite(spec, &target, &plan);
	for (size_t i = 0; i < ARRAY_SIZE(gone); i++)
		if (at(spec, gone[i]))
			fail_msg("%s is still there", gone[i]);
	assert_string_equal(at(spec, "linux/resources/memory/limit"), "1000");
	assert_string_equal(at(spec, "linux/resources/cpu/shares"), "2");
	assert_non_null(at(spec, "linux/resources/devices/0"));
}

static void test_namespaces_of_a_pod_are_the_guests(void **state)
{
	_cleanup_(json_putp) struct json_object *spec = parse(container_json);
	_cleanup_(spec_plan_done) struct spec_plan plan = { 0 };

	rewrite(spec, &target, &plan);
	assert_string_equal(at(spec, "linux/namespaces/0/type"), "\"mount\"");
	assert_string_equal(at(spec, "linux/namespaces/1/type"), "\"pid\"");
	assert_null(at(spec, "linux/namespaces/1/path"));
	assert_string_equal(at(spec, "linux/namespaces/2/type"), "\"cgroup\"");
	assert_null(at(spec, "linux/namespaces/3"));
	/* crun would refuse one without a UTS namespace. */
	assert_null(at(spec, "hostname"));
}

static void test_shared_pid_namespace(void **state)
{
	_cleanup_(json_putp) struct json_object *spec = parse(
		"{\"process\":{},\"linux\":{\"namespaces\":[{\"type\":\"mount\"},"
		"{\"type\":\"pid\",\"path\":\"/proc/7/ns/pid\"}]}}");
	_cleanup_(spec_plan_done) struct spec_plan plan = { 0 };

	rewrite(spec, &target, &plan);
	assert_string_equal(at(spec, "linux/namespaces/1/path"), "\"" SPEC_PID_NS "\"");
}

static void test_container_of_its_own_keeps_its_namespaces(void **state)
{
	const struct spec_target single = { .id = "one", .rootfs = "/r", .terminal = true };
	_cleanup_(json_putp) struct json_object *spec = parse(
		"{\"process\":{},\"hostname\":\"h\",\"linux\":{\"namespaces\":["
		"{\"type\":\"pid\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":\"mount\"},"
		"{\"type\":\"network\"}]}}");
	_cleanup_(spec_plan_done) struct spec_plan plan = { 0 };

	rewrite(spec, &single, &plan);
	assert_string_equal(at(spec, "linux/namespaces"),
			    "[{\"type\":\"mount\"},{\"type\":\"ipc\"},{\"type\":\"uts\"},"
			    "{\"type\":\"pid\"},{\"type\":\"cgroup\"}]");
	assert_string_equal(at(spec, "hostname"), "\"h\"");
	assert_string_equal(at(spec, "process/terminal"), "true");
}

static void test_bind_mounts(void **state)
{
	_cleanup_(json_putp) struct json_object *spec = parse(container_json);
	_cleanup_(spec_plan_done) struct spec_plan plan = { 0 };

	rewrite(spec, &target, &plan);
	assert_string_equal(at(spec, "mounts/0/source"), "\"proc\"");
	assert_int_equal(plan.n_binds, 3);
	assert_string_equal(plan.binds[0].source, "/c/hosts");
	assert_string_equal(plan.binds[0].destination, "/etc/hosts");
	assert_false(plan.binds[0].readonly);
	assert_string_equal(plan.binds[2].source, "/vol/data");
	assert_true(plan.binds[2].readonly);
	assert_true(plan.binds[2].slave);

	assert_int_equal(spec_bind_to(&plan.binds[2], "/run/podvm/shared/box:2"), 0);
	assert_string_equal(at(spec, "mounts/3/source"), "\"/run/podvm/shared/box:2\"");
	assert_string_equal(at(spec, "mounts/3/type"), "\"bind\"");
	/* Mounts of the host don't propagate into a machine. */
	assert_string_equal(at(spec, "mounts/3/options"), "[\"rbind\",\"ro\"]");
	assert_string_equal(at(spec, "mounts/1/options"), "[\"rbind\",\"rw\"]");
}

static void test_recursively_read_only(void **state)
{
	_cleanup_(json_putp) struct json_object *spec = parse(
		"{\"process\":{},\"linux\":{},\"mounts\":[{\"destination\":\"/d\","
		"\"source\":\"/s\",\"options\":[\"rbind\",\"rro\"]}]}");
	_cleanup_(spec_plan_done) struct spec_plan plan = { 0 };

	rewrite(spec, &target, &plan);
	assert_true(plan.binds[0].readonly);
	assert_true(plan.binds[0].deep);
	assert_string_equal(at(spec, "mounts/0/options"), "[\"rbind\",\"rro\"]");
}

static void test_read_only_by_the_host_alone(void **state)
{
	_cleanup_(json_putp) struct json_object *spec = parse(
		"{\"process\":{},\"linux\":{},\"mounts\":[{\"destination\":\"/d\","
		"\"source\":\"/s\",\"options\":[\"ro\",\"rbind\",\"ro\"]}]}");
	_cleanup_(spec_plan_done) struct spec_plan plan = { 0 };

	rewrite(spec, &target, &plan);
	assert_true(plan.binds[0].readonly);
	assert_false(plan.binds[0].deep);
	spec_bind_writable(&plan.binds[0]);
	assert_string_equal(at(spec, "mounts/0/options"), "[\"rbind\"]");
}

/* Numbers of the host that the guest gives to other devices. */
static void test_devices_get_the_guests_numbers(void **state)
{
	_cleanup_(json_putp) struct json_object *spec = parse(
		"{\"process\":{},\"linux\":{\"devices\":["
		"{\"path\":\"/dev/a\",\"type\":\"c\",\"major\":10,\"minor\":61},"
		"{\"path\":\"/dev/b\",\"type\":\"c\",\"major\":10,\"minor\":62},"
		"{\"path\":\"/dev/pipe\",\"type\":\"p\"}],"
		"\"resources\":{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},"
		"{\"allow\":true,\"type\":\"c\",\"major\":10,\"minor\":62},"
		"{\"allow\":true,\"type\":\"c\",\"major\":10,\"minor\":61},"
		"{\"allow\":true,\"type\":\"c\",\"major\":1,\"minor\":3}]}}}");
	_cleanup_(spec_plan_done) struct spec_plan plan = { 0 };

	rewrite(spec, &target, &plan);
	assert_int_equal(plan.n_devices, 2);
	assert_string_equal(plan.devices[0].path, "/dev/a");
	for (unsigned int i = 0; i < 2; i++) {
		plan.devices[i].guest_major = 10;
		plan.devices[i].guest_minor = 62 + i;
	}
	assert_int_equal(spec_devices_done(spec, &plan), 0);
	assert_string_equal(at(spec, "linux/devices/0/minor"), "62");
	assert_string_equal(at(spec, "linux/devices/1/minor"), "63");
	assert_string_equal(at(spec, "linux/resources/devices/1/minor"), "63");
	assert_string_equal(at(spec, "linux/resources/devices/2/minor"), "62");
	assert_string_equal(at(spec, "linux/resources/devices/3/minor"), "3");
}

/* A privileged container's devices are what the host happens to have. */
static void test_a_privileged_container_gets_what_the_guest_has(void **state)
{
	_cleanup_(json_putp) struct json_object *spec = parse(
		"{\"process\":{},\"linux\":{\"devices\":["
		"{\"path\":\"/dev/sda\",\"type\":\"b\",\"major\":8,\"minor\":0},"
		"{\"path\":\"/dev/odd\",\"type\":\"c\",\"major\":240,\"minor\":1},"
		"{\"path\":\"/dev/fuse\",\"type\":\"c\",\"major\":10,\"minor\":229}],"
		"\"resources\":{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},"
		"{\"allow\":true,\"access\":\"rwm\"}]}}}");
	_cleanup_(spec_plan_done) struct spec_plan plan = { 0 };

	rewrite(spec, &target, &plan);
	assert_true(plan.any_device);
	assert_int_equal(plan.n_devices, 2);
	plan.devices[0].absent = true;
	plan.devices[1].guest_major = 10;
	plan.devices[1].guest_minor = 229;
	assert_int_equal(spec_devices_done(spec, &plan), 0);
	assert_string_equal(at(spec, "linux/devices/0/path"), "\"/dev/fuse\"");
	assert_null(at(spec, "linux/devices/1"));
}

static void refused(const char *json, const char *why)
{
	_cleanup_(json_putp) struct json_object *spec = parse(json);
	_cleanup_(spec_plan_done) struct spec_plan plan = { 0 };
	struct err e = { 0 };

	assert_true(spec_rewrite(spec, &target, &plan, &e) < 0);
	if (!strstr(e.msg, why))
		fail_msg("%s", e.msg);
}

static void test_refused_ones(void **state)
{
	refused("{}", "process");
	refused("{\"process\":{}}", "linux");
	refused("{\"process\":{},\"linux\":{},\"mounts\":[7]}", "mount 0");
	refused("{\"process\":{},\"linux\":{},\"mounts\":[{\"type\":\"bind\",\"source\":\"x\","
		"\"destination\":\"/y\"}]}",
		"no absolute path");
	refused("{\"process\":{},\"linux\":{},\"mounts\":[{\"source\":\"/x\","
		"\"destination\":\"/y\",\"options\":[\"rbind\",\"rshared\"]}]}",
		"propagate mounts to the host");
	refused("{\"process\":{},\"linux\":{\"devices\":[7]}}", "device 0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_root_and_cgroup),
		cmocka_unit_test(test_what_is_of_the_host_is_dropped),
		cmocka_unit_test(test_namespaces_of_a_pod_are_the_guests),
		cmocka_unit_test(test_shared_pid_namespace),
		cmocka_unit_test(test_container_of_its_own_keeps_its_namespaces),
		cmocka_unit_test(test_bind_mounts),
		cmocka_unit_test(test_recursively_read_only),
		cmocka_unit_test(test_read_only_by_the_host_alone),
		cmocka_unit_test(test_devices_get_the_guests_numbers),
		cmocka_unit_test(test_a_privileged_container_gets_what_the_guest_has),
		cmocka_unit_test(test_refused_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
