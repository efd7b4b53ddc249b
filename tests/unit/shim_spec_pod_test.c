/* SPDX-License-Identifier: Apache-2.0 */
/* What a pod is, from either of its two descriptions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "shim/sandbox_files.h"
#include "shim/spec.h"
#include "shim/spec_pod.h"

static char dir[] = "/tmp/shim-spec-pod.XXXXXX";

static int setup(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	return rm_rf(AT_FDCWD, dir);
}

static struct json_object *parse(const char *text)
{
	struct json_object *o = NULL;

	assert_int_equal(json_parse(text, strlen(text), "test", &o, NULL), 0);
	return o;
}

/* ---- config.json ---- */

static void test_config_of_a_sandbox(void **state)
{
	_cleanup_(json_putp) struct json_object *spec = parse(
		"{\"hostname\":\"pod\",\"annotations\":{\"podvm.io/memory\":\"1G\",\"other\":\"x\","
		"\"io.kubernetes.cri.sandbox-memory\":\"1048576\","
		"\"io.kubernetes.cri.sandbox-cpu-quota\":\"150000\","
		"\"io.kubernetes.cri.sandbox-cpu-period\":\"100000\"},"
		"\"linux\":{\"sysctl\":{\"net.core.somaxconn\":\"9\"},\"cgroupsPath\":\"/a/b\","
		"\"resources\":{\"cpu\":{\"quota\":900000}},"
		"\"namespaces\":[{\"type\":\"network\",\"path\":\"/run/netns/x\"}]}}");
	_cleanup_(spec_pod_done) struct spec_pod pod = { 0 };

	assert_int_equal(spec_pod_from_config(spec, true, &pod, NULL), 0);
	assert_string_equal(pod.hostname, "pod");
	assert_string_equal(pod.netns, "/run/netns/x");
	assert_string_equal(pod.cgroup, "/a/b");
	assert_false(pod.host_network);
	assert_int_equal(pod.memory, 1048576);
	assert_int_equal(pod.cpus, 2);
	assert_string_equal(oci_map_get(&pod.sysctl, "net.core.somaxconn"), "9");
	assert_string_equal(oci_map_get(&pod.annotations, "podvm.io/memory"), "1G");
	assert_int_equal(pod.annotations.n, 1);
}

static void test_config_of_a_single_container(void **state)
{
	_cleanup_(json_putp) struct json_object *spec = parse(
		"{\"linux\":{\"resources\":{\"memory\":{\"limit\":5000},\"cpu\":{\"quota\":-1}}}}");
	_cleanup_(spec_pod_done) struct spec_pod pod = { 0 };

	assert_int_equal(spec_pod_from_config(spec, false, &pod, NULL), 0);
	assert_int_equal(pod.memory, 5000);
	assert_int_equal(pod.cpus, 0);
	assert_true(pod.host_network);
	assert_null(pod.netns);
	assert_string_equal(pod.hostname, "");
}

static void test_limits_that_mean_none(void **state)
{
	_cleanup_(json_putp) struct json_object *spec = parse(
		"{\"annotations\":{\"io.kubernetes.cri.sandbox-memory\":\"0\","
		"\"io.kubernetes.cri.sandbox-cpu-quota\":\"-1\"},\"linux\":{}}");
	_cleanup_(spec_pod_done) struct spec_pod pod = { 0 };

	assert_int_equal(spec_pod_from_config(spec, true, &pod, NULL), 0);
	assert_int_equal(pod.memory, 0);
	assert_int_equal(pod.cpus, 0);
}

/* ---- config.json of CRI-O ---- */

static void from_crio(const char *resources, const char *annotation, struct spec_pod *pod)
{
	_cleanup_(freep) char *text =
		str_printf("{\"annotations\":{\"io.kubernetes.cri-o.ContainerType\":\"sandbox\","
			   "\"io.kubernetes.cri-o.KubeName\":\"web\",\"podvm.io/debug\":\"yes\","
			   "\"io.kubernetes.cri-o.Namespace\":\"shop\",\"%s\":\"%s\","
			   "\"io.kubernetes.cri.sandbox-memory\":\"99\"},\"linux\":{}}",
			   annotation, resources);
	_cleanup_(json_putp) struct json_object *spec = parse(text);

	assert_int_equal(spec_from_crio(spec, NULL), 0);
	assert_int_equal(spec_pod_from_config(spec, true, pod, NULL), 0);
}

static void test_config_of_crio(void **state)
{
	static const char resources[] = "{\\\"cpu_period\\\":50000,\\\"cpu_quota\\\":75000,"
					"\\\"memory_limit_in_bytes\\\":1048576}";
	static const char *const annotations[] = { "pod-linux-resources.crio.io",
						   "io.kubernetes.cri-o.PodLinuxResources" };

	for (size_t i = 0; i < ARRAY_SIZE(annotations); i++) {
		_cleanup_(spec_pod_done) struct spec_pod pod = { 0 };

		from_crio(resources, annotations[i], &pod);
		assert_string_equal(pod.name, "web");
		assert_string_equal(pod.namespace, "shop");
		assert_string_equal(oci_map_get(&pod.annotations, "podvm.io/debug"), "yes");
		assert_int_equal(pod.memory, 1048576);
		assert_int_equal(pod.cpus, 2);
	}
}

/* And what the pod says in containerd's name isn't one either. */
static void test_crio_knows_no_limits(void **state)
{
	static const char *const nothing[] = { "null", "{}", "", "[1]",
					       "{\\\"cpu_quota\\\":\\\"x\\\"}" };

	for (size_t i = 0; i < ARRAY_SIZE(nothing); i++) {
		_cleanup_(spec_pod_done) struct spec_pod pod = { 0 };

		from_crio(nothing[i], "pod-linux-resources.crio.io", &pod);
		assert_int_equal(pod.memory, 0);
		assert_int_equal(pod.cpus, 0);
	}
}

/* ---- PodSandboxConfig ---- */

static void test_pod_of_cri(void **state)
{
	Runtime__V1__PodSandboxConfig config = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__PodSandboxConfig__AnnotationsEntry own =
		RUNTIME__V1__POD_SANDBOX_CONFIG__ANNOTATIONS_ENTRY__INIT;
	Runtime__V1__PodSandboxConfig__AnnotationsEntry other = own;
	Runtime__V1__PodSandboxConfig__AnnotationsEntry *annotations[] = { &other, &own };
	Runtime__V1__LinuxPodSandboxConfig__SysctlsEntry sysctl =
		RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__SYSCTLS_ENTRY__INIT;
	Runtime__V1__LinuxPodSandboxConfig__SysctlsEntry *sysctls[] = { &sysctl };
	Runtime__V1__LinuxPodSandboxConfig l = RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__LinuxContainerResources resources =
		RUNTIME__V1__LINUX_CONTAINER_RESOURCES__INIT;
	_cleanup_(spec_pod_done) struct spec_pod pod = { 0 };

	own.key = (char *)"podvm.io/vcpus";
	own.value = (char *)"2";
	other.key = (char *)"kubernetes.io/x";
	sysctl.key = (char *)"kernel.shm_rmid_forced";
	sysctl.value = (char *)"1";
	resources.cpu_period = 100000;
	resources.cpu_quota = 150000;
	resources.memory_limit_in_bytes = 201326592;
	l.cgroup_parent = (char *)"/kubepods/pod1";
	l.sysctls = sysctls;
	l.n_sysctls = 1;
	l.resources = &resources;
	config.hostname = (char *)"pod-one";
	config.annotations = annotations;
	config.n_annotations = 2;
	config.linux_config = &l;
	assert_int_equal(spec_pod_from_cri(&config, "id", "/run/netns/x", &pod, NULL), 0);
	assert_string_equal(pod.hostname, "pod-one");
	assert_string_equal(pod.netns, "/run/netns/x");
	assert_string_equal(pod.cgroup, "/kubepods/pod1/id");
	assert_false(pod.host_network);
	assert_int_equal(pod.memory, 201326592);
	assert_int_equal(pod.cpus, 2);
	assert_string_equal(oci_map_get(&pod.sysctl, "kernel.shm_rmid_forced"), "1");
	assert_string_equal(oci_map_get(&pod.annotations, "podvm.io/vcpus"), "2");
	assert_int_equal(pod.annotations.n, 1);
}

static void test_pod_of_cri_that_says_nothing(void **state)
{
	Runtime__V1__PodSandboxConfig config = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	_cleanup_(spec_pod_done) struct spec_pod pod = { 0 };

	assert_int_equal(spec_pod_from_cri(&config, "id", "", &pod, NULL), 0);
	assert_null(pod.netns);
	assert_string_equal(pod.cgroup, "");
	assert_int_equal(pod.memory, 0);
	assert_int_equal(pod.cpus, 0);
}

static void test_network_of_the_host_by_cri(void **state)
{
	Runtime__V1__PodSandboxConfig config = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__LinuxPodSandboxConfig l = RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT;
	Runtime__V1__LinuxSandboxSecurityContext context =
		RUNTIME__V1__LINUX_SANDBOX_SECURITY_CONTEXT__INIT;
	Runtime__V1__NamespaceOption namespaces = RUNTIME__V1__NAMESPACE_OPTION__INIT;
	_cleanup_(spec_pod_done) struct spec_pod pod = { 0 };

	namespaces.network = RUNTIME__V1__NAMESPACE_MODE__NODE;
	context.namespace_options = &namespaces;
	l.security_context = &context;
	config.linux_config = &l;
	assert_int_equal(spec_pod_from_cri(&config, "id", "", &pod, NULL), 0);
	assert_true(pod.host_network);
}

/* As CRI itself names the cgroup of a sandbox, with both of its cgroup drivers. */
static void test_cgroup_of_a_sandbox(void **state)
{
	static const struct {
		const char *parent;
		const char *cgroup;
	} cases[] = {
		{ "/kubepods/besteffort/pod1", "/kubepods/besteffort/pod1/id" },
		{ "/kubepods/", "/kubepods/id" },
		{ "/kubepods.slice/kubepods-pod1.slice", "kubepods-pod1.slice:cri-containerd:id" },
		{ "a.slice", "a.slice:cri-containerd:id" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		Runtime__V1__PodSandboxConfig config = RUNTIME__V1__POD_SANDBOX_CONFIG__INIT;
		Runtime__V1__LinuxPodSandboxConfig l = RUNTIME__V1__LINUX_POD_SANDBOX_CONFIG__INIT;
		_cleanup_(spec_pod_done) struct spec_pod pod = { 0 };

		l.cgroup_parent = (char *)cases[i].parent;
		config.linux_config = &l;
		assert_int_equal(spec_pod_from_cri(&config, "id", "", &pod, NULL), 0);
		assert_string_equal(pod.cgroup, cases[i].cgroup);
	}
}

/* ---- files of its containers ---- */

static void assert_file(const char *name, const char *text)
{
	_cleanup_(freep) char *path = str_printf("%s/%s", dir, name);
	_cleanup_(freep) char *got = NULL;

	assert_int_equal(file_read(AT_FDCWD, path, 4096, &got, NULL), 0);
	assert_string_equal(got, text);
}

static void test_files_of_a_pod(void **state)
{
	Runtime__V1__DNSConfig dns = RUNTIME__V1__DNSCONFIG__INIT;
	char *servers[] = { (char *)"192.0.2.1", (char *)"192.0.2.2" };
	char *searches[] = { (char *)"a.example", (char *)"b.example" };
	char *options[] = { (char *)"ndots:5" };

	dns.servers = servers;
	dns.n_servers = 2;
	dns.searches = searches;
	dns.n_searches = 2;
	dns.options = options;
	dns.n_options = 1;
	assert_int_equal(sandbox_files_write(dir, "pod-one", &dns, NULL), 0);
	assert_file("hostname", "pod-one\n");
	assert_file("resolv.conf", "search a.example b.example\nnameserver 192.0.2.1\n"
				   "nameserver 192.0.2.2\noptions ndots:5\n");
}

static void test_mounts_of_a_container(void **state)
{
	_cleanup_(json_putp) struct json_object *spec = parse(
		"{\"root\":{\"readonly\":true},\"mounts\":["
		"{\"destination\":\"/dev/shm\",\"type\":\"tmpfs\",\"source\":\"shm\"},"
		"{\"destination\":\"/etc/hosts\",\"type\":\"bind\",\"source\":\"/kubelet/"
		"hosts\"}]}");
	const char *text;

	assert_int_equal(sandbox_files_mount(spec, "/box", NULL), 0);
	text = json_object_to_json_string_ext(spec, JSON_C_TO_STRING_PLAIN |
							    JSON_C_TO_STRING_NOSLASHESCAPE);
	assert_string_equal(
		text,
		"{\"root\":{\"readonly\":true},\"mounts\":["
		"{\"destination\":\"/etc/hosts\",\"type\":\"bind\","
		"\"source\":\"/kubelet/hosts\"},"
		"{\"destination\":\"/etc/hostname\",\"type\":\"bind\","
		"\"source\":\"/box/hostname\",\"options\":[\"rbind\",\"rprivate\",\"ro\"]},"
		"{\"destination\":\"/etc/resolv.conf\",\"type\":\"bind\","
		"\"source\":\"/box/resolv.conf\",\"options\":[\"rbind\",\"rprivate\",\"ro\"]},"
		"{\"destination\":\"/dev/shm\",\"type\":\"bind\",\"source\":\"/box/shm\","
		"\"options\":[\"rbind\",\"rprivate\",\"rw\"]}]}");
}

/* A volume on /dev/shm (an emptyDir of Kubernetes) is what the pod wants there. */
static void test_a_volume_on_dev_shm_stays(void **state)
{
	_cleanup_(json_putp) struct json_object *spec = parse(
		"{\"mounts\":[{\"destination\":\"/dev/shm\",\"type\":\"bind\","
		"\"source\":\"/kubelet/shm\"}]}");

	assert_int_equal(sandbox_files_mount(spec, "/box", NULL), 0);
	assert_null(strstr(json_object_to_json_string_ext(spec, JSON_C_TO_STRING_NOSLASHESCAPE),
			   "/box/shm"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config_of_a_sandbox),
		cmocka_unit_test(test_config_of_a_single_container),
		cmocka_unit_test(test_limits_that_mean_none),
		cmocka_unit_test(test_config_of_crio),
		cmocka_unit_test(test_crio_knows_no_limits),
		cmocka_unit_test(test_pod_of_cri),
		cmocka_unit_test(test_pod_of_cri_that_says_nothing),
		cmocka_unit_test(test_network_of_the_host_by_cri),
		cmocka_unit_test(test_cgroup_of_a_sandbox),
		cmocka_unit_test(test_files_of_a_pod),
		cmocka_unit_test(test_mounts_of_a_container),
		cmocka_unit_test(test_a_volume_on_dev_shm_stays),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
