#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Every stage of a pod's start and of a container's creation fails, under CRI: the error names the
# stage, nothing is left on the host, and the next one works. The shim is one with
# -Dfault_injection=true and sanitizers, whose reports count as failures.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load pods

setup_file() {
	export PODVM_SHIM=$PODVM_SANITIZED/src/shim/containerd-shim-podvm-v2
	grep -q PODVM_FAULT "$PODVM_SHIM" ||
		fail "$PODVM_SHIM isn't built with -Dfault_injection=true" || return 1
	export PODVM_FAULT=$E2E/fault
	export ASAN_OPTIONS=log_path=$E2E/sanitizer:detect_leaks=1
	export UBSAN_OPTIONS=log_path=$E2E/sanitizer:print_stacktrace=1
	setup_containerd
	find_stages
}

teardown_file() {
	rm -f "$PODVM_FAULT"
	unset ASAN_OPTIONS UBSAN_OPTIONS
	teardown_pods
}

teardown() {
	rm -f "$PODVM_FAULT"
}

# Names of the stages that the shims have been through, after LINE of the log
stages_since() {
	sed -n "$1,\$s/.*msg=\"*stage\"* name=\([a-z-]*\).*/\1/p" "$CONTAINERD/log" | sort -u | xargs
}

log_end() {
	echo $(($(wc -l <"$CONTAINERD/log") + 1))
}

# logged FROM REGEX: after line FROM of the log
logged() {
	tail -n "+$1" "$CONTAINERD/log" | grep -q "$2"
}

# What stages there are tells a pod that works: POD_STAGES, CONTAINER_STAGES.
find_stages() {
	local from pod id
	from=$(log_end)
	pod=$(run_pod probe)
	until_true 30 logged "$from" 'sandbox changes state.* to=running'
	POD_STAGES=$(stages_since "$from")
	from=$(log_end)
	id=$(create_container "$pod" c true)
	start_container "$id"
	until_true 30 logged "$from" "process ended.*container=$id"
	CONTAINER_STAGES=$(stages_since "$from")
	remove_pod "$pod"
	[ -n "$POD_STAGES" ] && [ -n "$CONTAINER_STAGES" ]
	export POD_STAGES CONTAINER_STAGES
}

# With STAGE:HOW, a pod fails to start.
pod_fails() {
	echo "$1:$2" >"$PODVM_FAULT"
	run ! run_pod "$1-$2"
	assert_match "$output" "podvm: .*$1: injected"
	rm "$PODVM_FAULT"
	assert_no_pods
}

# A pod with a container that works. What that started may stay: it's noted after it.
start_fault_pod() {
	POD=$(run_pod "$1")
	GOOD=$(create_container "$POD" "good-$1" 'sleep 100000')
	start_container "$GOOD"
	note_pods
}

# With STAGE:HOW, a container of the pod $POD fails to start; another one works.
container_fails() {
	local id
	echo "$1:$2" >"$PODVM_FAULT"
	id=$(create_container "$POD" "$1-$2" 'sleep 1000')
	run ! start_container "$id"
	assert_match "$output" "podvm: .*$1: injected"
	rm "$PODVM_FAULT"
	remove_container "$id"
	assert_nothing_more
}

no_reports() {
	! cat "$E2E"/sanitizer.* 2>/dev/null | grep . >&2
}

@test "stages of a pod's start" {
	local stage
	assert_match " $POD_STAGES " ' boot .* network .* vmm '
	for stage in $POD_STAGES; do
		pod_fails "$stage" fail
		pod_fails "$stage" late
	done
}

@test "stages of a container's creation" {
	local stage
	assert_match " $CONTAINER_STAGES " ' create .* spec '
	start_fault_pod faults
	for stage in $CONTAINER_STAGES; do
		container_fails "$stage" fail
		container_fails "$stage" late
	done
	run -0 exec_in "$GOOD" 'echo works'
	assert_equal "$output" works
	remove_pod "$POD"
	assert_no_pods
}

@test "a pod whose start hangs is given up" {
	local stage from client
	for stage in network boot configure; do
		from=$(log_end)
		echo "$stage:hang" >"$PODVM_FAULT"
		cri RunPodSandbox "$(pod_request "$stage-hang")" >/dev/null 2>&1 3>&- &
		client=$!
		until_true 60 logged "$from" "a fault is injected.*stage=$stage how=hang"
		pkill -P $client
		wait_for $client
		rm "$PODVM_FAULT"
		assert_no_pods
	done
}

@test "a container whose creation hangs is given up; the pod goes on" {
	local stage from client id
	start_fault_pod hang
	for stage in $CONTAINER_STAGES; do
		from=$(log_end)
		echo "$stage:hang" >"$PODVM_FAULT"
		id=$(create_container "$POD" "$stage-hang" 'sleep 1000')
		cri StartContainer "{\"container_id\": \"$id\"}" >/dev/null 2>&1 3>&- &
		client=$!
		until_true 60 logged "$from" "a fault is injected.*stage=$stage how=hang"
		pkill -P $client
		wait_for $client
		rm "$PODVM_FAULT"
		until_true 60 remove_container "$id"
		assert_nothing_more
	done
	run -0 exec_in "$GOOD" true
	remove_pod "$POD"
	assert_no_pods
}

@test "the sanitizers have nothing to report" {
	no_reports
}
