#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Machines that grow with the limits of their containers: CPUs everywhere, memory on q35 only.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load pods

# A runtime handler whose machines are q35.
add_q35() {
	local runtimes
	{ cat "$E2E/podvm.conf"; printf '[vmm]\nmachine = q35\n[vm]\nmax_memory = 1G\nmax_vcpus = 3\n'; } >"$CONTAINERD/q35.conf"
	chmod 600 "$CONTAINERD/q35.conf"
	runtimes=$(sed -n 's/^ *\[\(.*runtimes\)\.podvm\]/\1/p' "$CONTAINERD/config.toml")
	cat >>"$CONTAINERD/config.toml" <<-END
		[$runtimes.q35]
		  runtime_type = "$runtime"
		  [$runtimes.q35.options]
		    ConfigPath = "$CONTAINERD/q35.conf"
	END
	stop_containerd
	start_containerd
}

setup_file() {
	setup_containerd
	mkdir "$CONTAINERD/logs"
	add_q35
	POD=$(run_sized q35 pod1)
	export POD
}

teardown_file() {
	teardown_pods
}

# run_sized HANDLER NAME: a pod of one CPU and 128 MiB. Prints its id.
run_sized() {
	cri RunPodSandbox "$(pod_request "$2" | jq --arg handler "$1" '.runtime_handler = $handler |
		.config.linux.resources = {cpu_period: 100000, cpu_quota: 100000,
			memory_limit_in_bytes: 134217728}')" | jq -r .pod_sandbox_id
}

# start_sized POD NAME CPUS MIB: a container with these limits. Prints its id.
start_sized() {
	local id
	id=$(cri CreateContainer "$(jq -n --arg pod "$1" --argjson pc "$(pod_config pod)" \
		--arg name "$2" --argjson cpus "$3" --argjson mib "$4" --arg image "$image" \
		'{pod_sandbox_id: $pod, sandbox_config: $pc, config: {metadata: {name: $name},
			image: {image: $image}, command: ["sleep", "100000"],
			log_path: "\($name).log", linux: {resources: {cpu_period: 100000,
				cpu_quota: ($cpus * 100000),
				memory_limit_in_bytes: ($mib * 1048576)}}}}')" | jq -r .container_id)
	start_container "$id"
	echo "$id"
}

# update CONTAINER CPUS MIB
update() {
	cri UpdateContainerResources "$(jq -n --arg id "$1" --argjson cpus "$2" --argjson mib "$3" \
		'{container_id: $id, linux: {cpu_period: 100000, cpu_quota: ($cpus * 100000),
			memory_limit_in_bytes: ($mib * 1048576)}}')"
}

# MiB of the guest
memory_of() {
	exec_in "$1" 'echo $(($(sed -n "s/MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo) / 1024))'
}

limit_of() {
	exec_in "$1" 'cat /sys/fs/cgroup/memory.max'
}

@test "a pod starts as large as it was announced" {
	A=$(start_sized "$POD" a 1 128)
	echo "$A" >"$E2E/tmp/a"
	assert_equal "$(exec_in "$A" nproc)" 1
	[ "$(memory_of "$A")" -lt 192 ]
}

@test "it grows for a container that wasn't announced" {
	local a b
	a=$(cat "$E2E/tmp/a")
	b=$(start_sized "$POD" b 1 256)
	echo "$b" >"$E2E/tmp/b"
	# One CPU for each of the two.
	assert_equal "$(exec_in "$b" nproc)" 2
	[ "$(memory_of "$a")" -gt 384 ]
	# More than there was before fits into it.
	exec_in "$b" 'dd if=/dev/zero of=/dev/null bs=220M count=1'
}

@test "it grows before a limit is raised" {
	local b before
	b=$(cat "$E2E/tmp/b")
	before=$(memory_of "$b")
	update "$b" 1 512
	assert_equal "$(limit_of "$b")" 536870912
	[ "$(memory_of "$b")" -ge $((before + 250)) ]
	exec_in "$b" 'dd if=/dev/zero of=/dev/null bs=450M count=1'
}

@test "it gets no more CPUs than it may have" {
	local b
	b=$(cat "$E2E/tmp/b")
	update "$b" 7 512
	assert_equal "$(exec_in "$b" nproc)" 3
	assert_equal "$(exec_in "$b" 'cat /sys/fs/cgroup/cpu.max')" "700000 100000"
	# And works with them.
	exec_in "$b" 'for i in 1 2 3; do taskset $((1 << (i - 1))) true || exit 1; done'
}

@test "lower limits leave the machine as it is" {
	local b before
	b=$(cat "$E2E/tmp/b")
	before=$(memory_of "$b")
	update "$b" 1 64
	assert_equal "$(limit_of "$b")" 67108864
	assert_equal "$(memory_of "$b")" "$before"
	assert_equal "$(exec_in "$b" nproc)" 3
}

@test "the size is what podvm shows" {
	[ "$(state_of "$POD" memory)" -gt $((512 << 20)) ]
	assert_equal "$(state_of "$POD" vcpus)" 3
}

@test "it doesn't grow above its maximum, and nothing fails for that" {
	local b
	b=$(cat "$E2E/tmp/b")
	update "$b" 1 100000
	assert_equal "$(limit_of "$b")" 104857600000
	[ "$(memory_of "$b")" -le 1024 ]
	log_says 'smaller than the limits'
}

@test "a microvm gets CPUs, its memory stays as it is and is shared" {
	local pod c
	pod=$(run_sized podvm pod2)
	c=$(start_sized "$pod" c 2 512)
	assert_equal "$(exec_in "$c" nproc)" 2
	[ "$(memory_of "$c")" -lt 192 ]
	log_says 'use machine q35'
	remove_pod "$pod"
}
