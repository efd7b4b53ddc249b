#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# bats file_tags=containerd:2
# The shim as its own sandbox controller (containerd 2, sandboxer = "shim"): pods without a pause
# container.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd

setup_file() {
	"${CONTAINERD_BIN:-/usr/bin}/containerd" --version | grep -q ' v\?[2-9]\.' ||
		fail "containerd before 2 has no sandbox controllers"
	setup_containerd
	mkdir "$CONTAINERD/logs"
	POD=$(run_pod pod1)
	A=$(create "$POD" a 'trap "exit 7" TERM; echo out; echo err >&2; while :; do sleep 0.1; done')
	start_container "$A"
	B=$(create "$POD" b 'echo shared >/dev/shm/x; sleep 100000')
	start_container "$B"
	export POD A B
}

teardown_file() {
	[ -n "${CONTAINERD:-}" ] || return 0
	remove_pod "$POD" || true
	teardown_containerd
}

# The pod's configuration: CPU 1, 160 MiB.
pod_config() {
	jq -n --arg logs "$CONTAINERD/logs" --arg name "$1" --arg cgroup "/$CGROUP" '{
		metadata: {name: $name, uid: $name, namespace: "default"}, hostname: "pod-one",
		log_directory: $logs,
		dns_config: {servers: ["192.0.2.53"], searches: ["example.org"]},
		linux: {cgroup_parent: $cgroup, sysctls: {"kernel.shm_rmid_forced": "1"},
			resources: {cpu_period: 100000, cpu_quota: 100000,
				    memory_limit_in_bytes: 167772160}}}'
}

# run_pod NAME: prints its id
run_pod() {
	cri RunPodSandbox "$(jq -n --argjson c "$(pod_config "$1")" \
		'{runtime_handler: "podvm-sandboxer", config: $c}')" | jq -r .pod_sandbox_id
}

stop_pod() {
	cri StopPodSandbox "{\"pod_sandbox_id\": \"$1\"}"
}

remove_pod() {
	stop_pod "$1"
	cri RemovePodSandbox "{\"pod_sandbox_id\": \"$1\"}"
}

# create POD NAME SCRIPT: prints the container's id
create() {
	cri CreateContainer "$(jq -n --arg pod "$1" --argjson pc "$(pod_config pod1)" \
		--arg name "$2" --arg script "$3" --arg image "$image" '{
		pod_sandbox_id: $pod, sandbox_config: $pc, config: {
			metadata: {name: $name}, image: {image: $image},
			command: ["sh", "-c", $script], log_path: "\($name).log",
			linux: {security_context: {namespace_options: {pid: 1}}}}}')" |
		jq -r .container_id
}

start_container() {
	cri StartContainer "{\"container_id\": \"$1\"}"
}

# inside CONTAINER SCRIPT
inside() {
	cri ExecSync "$(jq -n --arg id "$1" --arg script "$2" \
		'{container_id: $id, cmd: ["sh", "-c", $script], timeout: 60}')"
}

container_status() {
	cri ContainerStatus "{\"container_id\": \"$1\"}" | jq -r ".status.$2"
}

one_shim() {
	[ "$(our_processes | grep -c 'containerd-shim-podvm-v2 .*-id')" = 1 ]
}

# 0: ready, 1: not ready
pod_state() {
	cri PodSandboxStatus "{\"pod_sandbox_id\": \"$1\"}" | jq -r .status.state
}

pod_is() {
	[ "$(pod_state "$1")" = "$2" ]
}

exited() {
	[ "$(container_status "$1" state)" = 2 ]
}

log_is_there() {
	[ "$(wc -l <"$CONTAINERD/logs/a.log")" -eq 2 ]
}

info_of() {
	cri PodSandboxStatus "{\"pod_sandbox_id\": \"$1\", \"verbose\": true}" |
		jq -r .status.network.ip,.info.podvm
}

# pid of the monitor of a pod
monitor_of() {
	cri PodSandboxStatus "{\"pod_sandbox_id\": \"$1\", \"verbose\": true}" |
		jq -r .info.podvm | jq .monitorPid
}

# only_pod_in DIRECTORY: of bundles
only_pod_in() {
	[ "$(ls "$1")" = "$POD" ]
}

nothing_left_of() {
	[ -z "$(shim_of "$1")" ] && [ ! -e "$E2E/state/$1" ] &&
		[ -z "$(find /sys/fs/cgroup -type d -name "$1")" ]
}

@test "a pod has a machine and a shim, and no pause container" {
	run -0 pod_state "$POD"
	assert_equal "$output" 0
	until_true 20 one_shim
	run -0 ctr -n k8s.io container ls -q
	[[ $output != *"$POD"* ]]
	run -0 inside "$A" 'uname -r'
	assert_equal "$output" "$(podvm image info --json | jq -r .kernel_version)"
}

@test "its size, sysctls and host cgroup are those of the pod" {
	run -0 inside "$A" 'nproc; cat /proc/sys/kernel/shm_rmid_forced'
	assert_equal "$output" $'1\n1'
	run -0 inside "$A" 'sed -n "s/MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo'
	[ "$output" -gt 163840 ]
	[ "$output" -lt 262144 ]
	grep -q "/$CGROUP/$POD$" "/proc/$(monitor_of "$POD")/cgroup"
}

@test "new limits of the pod as a whole are no error, and those of its containers count" {
	run cri UpdatePodSandboxResources "$(jq -n --arg id "$POD" \
		'{pod_sandbox_id: $id, resources: {cpu_period: 100000, cpu_quota: 200000}}')"
	[[ $output != *UNIMPLEMENTED* ]] || skip "this containerd doesn't know them"
	assert_status 0
	run -0 inside "$A" nproc
	assert_equal "$output" 1
}

@test "host name, hosts and DNS are the pod's, and /dev/shm is shared" {
	run -0 inside "$A" 'hostname; cat /etc/hostname /dev/shm/x'
	assert_equal "$output" $'pod-one\npod-one\nshared'
	run -0 inside "$B" 'cat /etc/resolv.conf'
	assert_equal "$output" $'search example.org\nnameserver 192.0.2.53'
	run -0 inside "$B" 'cat /etc/hosts'
	assert_equal "$output" "$(cat /etc/hosts)"
}

@test "logs, exec, exit codes" {
	until_true 10 log_is_there
	run -0 sed 's/^[^ ]* //' "$CONTAINERD/logs/a.log"
	assert_match "$output" 'stdout F out'
	assert_match "$output" 'stderr F err'
	run -3 --separate-stderr inside "$A" 'echo out; echo err >&2; exit 3'
	assert_equal "$output" out
	assert_equal "$stderr" err
}

@test "stats of a container" {
	run -0 cri ContainerStats "{\"container_id\": \"$B\"}"
	[ "$(jq -r .stats.memory.working_set_bytes.value <<<"$output")" -gt 10000 ]
	[ "$(jq -r .stats.cpu.usage_core_nano_seconds.value <<<"$output")" -gt 0 ]
}

@test "status tells what the machine is" {
	run -0 info_of "$POD"
	assert_equal "$(sed 1d <<<"$output" | jq -r '.vcpus, .hostname, .monitor')" \
		$'1\npod-one\nqemu'
	assert_equal "$(sed 1d <<<"$output" | jq -r .shimPid)" "$(shim_of "$POD")"
}

@test "the pod's address is the guest's, and port-forward reaches its localhost" {
	local ip netns
	inside "$A" 'mkdir /www; echo page >/www/index.html; httpd -p 8080 -h /www >/dev/null 2>&1'
	run -0 info_of "$POD"
	ip=${lines[0]}
	netns=$(sed 1d <<<"$output" | jq -r .networkNamespace)
	run -0 curl --noproxy '*' -sSf -m 200 "http://$ip:8080/"
	assert_equal "$output" page
	run -0 nsenter "--net=$netns" curl --noproxy '*' -sSf -m 200 http://127.0.0.1:8080/
	assert_equal "$output" page
}

@test "containerd is restarted: the pod goes on" {
	stop_containerd
	start_containerd
	run -0 pod_state "$POD"
	assert_equal "$output" 0
	run -0 inside "$A" 'echo again'
	assert_equal "$output" again
	run -0 create "$POD" late 'exit 5'
	start_container "$output"
	until_true 30 exited "$output"
	assert_equal "$(container_status "$output" exit_code)" 5
}

# (containerd 2.1 itself crashes on a pod with the host's network and such a controller.)
@test "a pod that can't be made says why, and nothing is left" {
	local bundles=$CONTAINERD/state/io.containerd.sandbox.controller.v1.shim/k8s.io
	run -125 cri RunPodSandbox "$(jq -n --argjson c "$(pod_config pod2)" '{
		runtime_handler: "podvm-sandboxer",
		config: ($c + {annotations: {"podvm.io/no-such-thing": "1"}})}')"
	assert_match "$output" 'podvm: cannot create the sandbox: .*podvm.io/no-such-thing'
	until_true 20 only_pod_in "$bundles"
	until_true 20 one_shim
}

@test "the monitor is killed: the pod isn't ready, its container has ended with 137" {
	local pod id
	pod=$(run_pod pod3)
	id=$(create "$pod" c 'sleep 100000')
	start_container "$id"
	kill -9 "$(monitor_of "$pod")"
	until_true 20 exited "$id"
	assert_equal "$(container_status "$id" exit_code)" 137
	until_true 20 pod_is "$pod" 1
	until_true 60 remove_pod "$pod"
	until_true 10 nothing_left_of "$pod"
}

@test "the shim is killed: the pod isn't ready, and nothing is left of it" {
	local pod id
	pod=$(run_pod pod4)
	id=$(create "$pod" c 'sleep 100000')
	start_container "$id"
	kill -9 "$(shim_of "$pod")"
	until_true 20 exited "$id"
	until_true 20 pod_is "$pod" 1
	until_true 20 nothing_left_of "$pod"
	until_true 60 remove_pod "$pod"
}

@test "StopContainer sends SIGTERM, the exit code is the container's" {
	cri StopContainer "{\"container_id\": \"$A\", \"timeout\": 10}"
	assert_equal "$(container_status "$A" exit_code)" 7
	cri RemoveContainer "{\"container_id\": \"$A\"}"
}

@test "StopPodSandbox ends what still runs, and the machine" {
	stop_pod "$POD"
	assert_equal "$(container_status "$B" exit_code)" 137
	run -0 pod_state "$POD"
	assert_equal "$output" 1
	cri RemovePodSandbox "{\"pod_sandbox_id\": \"$POD\"}"
	until_true 10 nothing_left_of "$POD"
}
