#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# bats file_tags=containerd:any
# The shim under CRI: a pod of two containers, from its start to its end.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd

setup_file() {
	setup_containerd
	LOGS=$CONTAINERD/logs
	VOLUME=$CONTAINERD/volume
	export LOGS VOLUME
	mkdir "$LOGS" "$VOLUME"
	echo from-the-host >"$VOLUME/file"
	start_pod
}

teardown_file() {
	cri StopPodSandbox "{\"pod_sandbox_id\": \"$POD\"}" || true
	cri RemovePodSandbox "{\"pod_sandbox_id\": \"$POD\"}" || true
	teardown_containerd
}

# The pod's configuration: CPU 1.5, 192 MiB.
pod_config() {
	jq -n --arg logs "$LOGS" --arg name "$1" --arg cgroup "/$CGROUP" '{
		metadata: {name: $name, uid: $name, namespace: "default"}, hostname: "pod-one",
		log_directory: $logs, dns_config: {servers: ["192.0.2.53"]},
		linux: {cgroup_parent: $cgroup, sysctls: {"kernel.shm_rmid_forced": "1"},
			resources: {cpu_period: 100000, cpu_quota: 150000,
				    memory_limit_in_bytes: 201326592}}}'
}

run_pod() {
	cri RunPodSandbox "$(jq -n --argjson c "$(pod_config "$1")" \
		'{runtime_handler: "podvm", config: $c}')" | jq -r .pod_sandbox_id
}

# create NAME PID_MODE SCRIPT: prints the container's id. PID_MODE 0: the pod's, 1: its own
create() {
	cri CreateContainer "$(jq -n --arg pod "$POD" --argjson pc "$(pod_config pod1)" \
		--arg name "$1" --argjson pid "$2" --arg script "$3" --arg image "$image" \
		--arg volume "$VOLUME" '{pod_sandbox_id: $pod, sandbox_config: $pc, config: {
			metadata: {name: $name}, image: {image: $image}, command: ["sh", "-c", $script],
			log_path: "\($name).log", mounts: [
				{container_path: "/volume", host_path: $volume},
				{container_path: "/readonly", host_path: $volume, readonly: true}],
			linux: {resources: {memory_limit_in_bytes: 67108864},
				security_context: {namespace_options: {pid: $pid}}}}}')" |
		jq -r .container_id
}

start_container() {
	cri StartContainer "{\"container_id\": \"$1\"}"
}

start_pod() {
	POD=$(run_pod pod1)
	export POD
	A=$(create a 1 'trap "exit 7" TERM; echo out; echo err >&2; while :; do sleep 0.1; done')
	start_container "$A"
	B=$(create b 0 'echo shared >/dev/shm/x; echo b >/volume/b; sleep 100000')
	start_container "$B"
	export A B
}

# inside CONTAINER SCRIPT
inside() {
	cri ExecSync "$(jq -n --arg id "$1" --arg script "$2" \
		'{container_id: $id, cmd: ["sh", "-c", $script], timeout: 60}')"
}

status() {
	cri ContainerStatus "{\"container_id\": \"$1\"}" | jq -r ".status.$2"
}

no_cgroup() {
	[ -z "$(find /sys/fs/cgroup -type d -name "$1")" ]
}

exited() {
	[ "$(status "$1" state)" = 2 ]
}

log_is_there() {
	[ "$(wc -l <"$LOGS/a.log")" -eq 2 ]
}

one_shim() {
	[ "$(shim_of "$POD" | wc -l)" = 1 ]
}

@test "one machine and one shim for the pod" {
	until_true 20 one_shim
	run -0 inside "$A" 'uname -r'
	assert_equal "$output" "$(podvm image info --json | jq -r .kernel_version)"
}

@test "the monitor and its helpers are in the pod's cgroup" {
	local shim pid
	shim=$(shim_of "$POD")
	[ "$(pgrep -c -P "$shim" 'qemu|virtiofsd')" -ge 2 ]
	for pid in "$shim" $(pgrep -P "$shim" 'qemu|virtiofsd'); do
		grep -q ":.*memory.*:/$CGROUP/$POD$\|^0::/$CGROUP/$POD$" "/proc/$pid/cgroup"
	done
}

@test "its size is that of the pod's limits" {
	run -0 inside "$A" nproc
	assert_equal "$output" "$(($(nproc) < 2 ? $(nproc) : 2))"
	run -0 inside "$A" 'sed -n "s/MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo'
	[ "$output" -gt 200000 ]
	[ "$output" -lt 262144 ]
}

@test "logs are what the container has printed" {
	until_true 10 log_is_there
	run -0 sed 's/^[^ ]* //' "$LOGS/a.log"
	assert_match "$output" 'stdout F out'
	assert_match "$output" 'stderr F err'
}

@test "ExecSync: output and exit code" {
	run -3 --separate-stderr inside "$A" 'echo out; echo err >&2; exit 3'
	assert_equal "$output" out
	assert_equal "$stderr" err
}

@test "host name, hosts, DNS and sysctls are the pod's" {
	run -0 inside "$A" 'hostname; cat /etc/hostname'
	assert_equal "$output" $'pod-one\npod-one'
	run -0 inside "$B" 'cat /etc/resolv.conf'
	assert_match "$output" 'nameserver 192.0.2.53'
	run -0 inside "$B" 'cat /proc/sys/kernel/shm_rmid_forced'
	assert_equal "$output" 1
}

@test "containers share /dev/shm, and PIDs if they want to" {
	run -0 inside "$A" 'cat /dev/shm/x; ps | grep -c podvm-pause'
	assert_match "$output" '^shared'
	run -0 inside "$B" 'ps'
	assert_match "$output" 'podvm-pause'
	run -0 inside "$A" 'cat /proc/1/cmdline'
	assert_match "$output" 'trap'
}

@test "volumes are read and written; a read-only one isn't" {
	run -0 inside "$A" 'cat /volume/file; echo a >/volume/a'
	assert_equal "$output" from-the-host
	assert_equal "$(cat "$VOLUME/a")" a
	assert_equal "$(cat "$VOLUME/b")" b
	run -0 inside "$A" 'cat /readonly/file; echo x 2>/dev/null >/readonly/c || echo refused'
	assert_equal "$output" $'from-the-host\nrefused'
}

@test "the pod's address is the guest's, and port-forward reaches its localhost" {
	local ip netns
	inside "$A" 'mkdir /www; echo page >/www/index.html; httpd -p 8080 -h /www >/dev/null 2>&1'
	ip=$(cri PodSandboxStatus "{\"pod_sandbox_id\": \"$POD\"}" | jq -r .status.network.ip)
	run -0 inside "$A" 'ip -o -4 addr show eth0'
	assert_match "$output" "$ip/24"
	run -0 curl --noproxy '*' -sSf -m 200 "http://$ip:8080/"
	assert_equal "$output" page
	netns=$(jq -r '.linux.namespaces[] | select(.type == "network").path' \
		"$CONTAINERD/state/io.containerd.runtime.v2.task/k8s.io/$POD/config.json")
	run -0 nsenter "--net=$netns" curl --noproxy '*' -sSf -m 200 http://127.0.0.1:8080/
	assert_equal "$output" page
}

@test "stats, and limits that are changed" {
	run -0 cri ContainerStats "{\"container_id\": \"$A\"}"
	[ "$(jq -r .stats.memory.working_set_bytes.value <<<"$output")" -gt 10000 ]
	[ "$(jq -r .stats.cpu.usage_core_nano_seconds.value <<<"$output")" -gt 0 ]
	run -0 inside "$A" 'cat /sys/fs/cgroup/memory.max'
	assert_equal "$output" 67108864
	cri UpdateContainerResources "{\"container_id\": \"$A\", \"linux\": {\"memory_limit_in_bytes\": 134217728}}"
	run -0 inside "$A" 'cat /sys/fs/cgroup/memory.max'
	assert_equal "$output" 134217728
}

@test "a container that eats more memory than it may is OOMKilled" {
	local id
	id=$(create eater 1 'dd if=/dev/zero of=/dev/null bs=100M count=1')
	start_container "$id"
	until_true 60 exited "$id"
	assert_equal "$(status "$id" exit_code)" 137
	assert_equal "$(status "$id" reason)" OOMKilled
	cri RemoveContainer "{\"container_id\": \"$id\"}"
}

@test "a command that doesn't exist is said to be" {
	local id
	id=$(cri CreateContainer "$(jq -n --arg pod "$POD" --argjson pc "$(pod_config pod1)" \
		--arg image "$image" '{pod_sandbox_id: $pod, sandbox_config: $pc, config: {
		metadata: {name: "none"}, image: {image: $image}, command: ["no-such-command"],
		log_path: "none.log"}}')" | jq -r .container_id)
	run -125 start_container "$id"
	assert_match "$output" 'podvm: .*no-such-command.* not found'
	cri RemoveContainer "{\"container_id\": \"$id\"}"
	run -0 inside "$A" true
}

@test "StopContainer sends SIGTERM, the exit code is the container's" {
	cri StopContainer "{\"container_id\": \"$A\", \"timeout\": 10}"
	assert_equal "$(status "$A" exit_code)" 7
	cri RemoveContainer "{\"container_id\": \"$A\"}"
}

@test "StopPodSandbox ends what still runs, and the machine" {
	local shim
	shim=$(shim_of "$POD")
	cri StopPodSandbox "{\"pod_sandbox_id\": \"$POD\"}"
	assert_equal "$(status "$B" exit_code)" 137
	cri RemovePodSandbox "{\"pod_sandbox_id\": \"$POD\"}"
	until_true 10 process_gone "$shim"
	[ ! -e "$E2E/state/$POD" ]
	until_true 10 no_cgroup "$POD"
	assert_equal "$(cat "$VOLUME/file")" from-the-host
}

@test "a pod whose shim is killed can be stopped and removed" {
	local pod
	pod=$(run_pod pod2)
	kill -9 "$(shim_of "$pod")"
	until_true 20 test ! -e "$E2E/state/$pod"
	until_true 10 no_cgroup "$pod"
	# containerd may still be at what it learns from that.
	until_true 60 cri StopPodSandbox "{\"pod_sandbox_id\": \"$pod\"}"
	until_true 60 cri RemovePodSandbox "{\"pod_sandbox_id\": \"$pod\"}"
}
