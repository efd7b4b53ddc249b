#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# virtiofsd runs for pods that mount directories of the host, from the first one on.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load pods

setup_file() {
	setup_containerd
	mkdir "$CONTAINERD/logs"
	POD=$(run_pod pod1)
	export POD
}

teardown_file() {
	teardown_pods
}

# How many a pod has.
daemons() {
	pgrep -c -P "$(shim_of "$1")" virtiofsd || true
}

# start_plain POD NAME: a container without volumes. Prints its id.
start_plain() {
	local id
	id=$(cri CreateContainer "$(jq -n --arg pod "$1" --argjson pc "$(pod_config pod)" \
		--arg name "$2" --arg image "$image" '{pod_sandbox_id: $pod, sandbox_config: $pc,
			config: {metadata: {name: $name}, image: {image: $image},
			command: ["sleep", "100000"], log_path: "\($name).log"}}')" | jq -r .container_id)
	start_container "$id"
	echo "$id"
}

start_sharing() {
	local id
	id=$(create_container "$1" "$2" 'sleep 100000')
	start_container "$id"
	echo "$id"
}

@test "a pod without directories of the host has no virtiofsd" {
	local a
	assert_equal "$(daemons "$POD")" 0
	a=$(start_plain "$POD" a)
	exec_in "$a" true
	assert_equal "$(daemons "$POD")" 0
}

@test "the first container that mounts one starts it, the next ones use it" {
	local b c
	b=$(start_sharing "$POD" b)
	assert_equal "$(daemons "$POD")" 1
	echo from-the-host >"$CONTAINERD/volume/file"
	assert_equal "$(exec_in "$b" 'cat /volume/file')" from-the-host
	exec_in "$b" 'head -c 8388608 /dev/urandom >/volume/big; sha256sum </volume/big >/volume/sum'
	assert_equal "$(sha256sum <"$CONTAINERD/volume/big")" "$(cat "$CONTAINERD/volume/sum")"
	c=$(start_sharing "$POD" c)
	assert_equal "$(daemons "$POD")" 1
	assert_equal "$(exec_in "$c" 'cat /volume/file')" from-the-host
}

# Descriptors that a pod's virtiofsd has open. (The one that serves is a child of the one that was started.)
files_of_daemon() {
	local first
	first=$(pgrep -P "$(shim_of "$1")" virtiofsd)
	find /proc/"$(pgrep -P "$first" virtiofsd || echo "$first")"/fd -mindepth 1 | wc -l
}

has_at_most_files() {
	[ "$(files_of_daemon "$1")" -le "$2" ]
}

@test "the host needn't remember every file that the guest has seen" {
	local pod one dir
	for dir in "$CONTAINERD"/volume/many/{1..14}; do
		mkdir -p "$dir"
		(cd "$dir" && touch {1..1000})
	done
	pod=$(run_pod many)
	one=$(start_sharing "$pod" one)
	assert_equal "$(exec_in "$one" 'ls -lR /volume/many | grep -c "^-"')" 14000
	until_true 60 has_at_most_files "$pod" 11000
	assert_equal "$(exec_in "$one" 'cat /volume/file')" from-the-host
	remove_pod "$pod"
}

@test "two first ones at the same moment" {
	local pod one two
	pod=$(run_pod pod2)
	one=$(create_container "$pod" one 'cat /volume/file; sleep 100000')
	two=$(create_container "$pod" two 'cat /volume/file; sleep 100000')
	start_container "$one" 3>&- &
	start_container "$two"
	wait_for $!
	assert_status 0
	assert_equal "$(daemons "$pod")" 1
	exec_in "$one" 'echo one >/volume/one'
	exec_in "$two" 'cat /volume/one'
	remove_pod "$pod"
}

@test "the pod ends with its virtiofsd" {
	local pod one
	pod=$(run_pod pod3)
	one=$(start_sharing "$pod" one)
	pkill -KILL -P "$(shim_of "$pod")" virtiofsd
	until_true 30 container_exited "$one"
	assert_equal "$(container_status "$one" exit_code)" 137
	until_true 60 remove_pod "$pod"
}
