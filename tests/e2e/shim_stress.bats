#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What kills: containerd, the shim, the monitor, the guest's kernel, virtiofsd, a full disk and short
# memory, each in every state of a pod. Exit codes are right, nothing is left on the host, and pods
# can be run as before. STRESS=long repeats more.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load pods

setup_file() {
	[ "${STRESS:-}" != long ] || export BATS_TEST_TIMEOUT=3600
	setup_containerd
	cp "$E2E/podvm.conf" "$E2E/tmp/conf"
}

teardown_file() {
	teardown_pods
}

setup() {
	cri Status >/dev/null || start_containerd
}

# start_pod NAME: POD and its container A, which ends when it's told to
start_pod() {
	POD=$(run_pod "$1")
	A=$(create_container "$POD" a 'trap "exit 5" TERM; while :; do sleep 0.1; done')
	start_container "$A"
}

# The monitor of the pod: the task's process
monitor_of() {
	ctr -n k8s.io task ls | awk -v id="$1" '$1 == id && $2 > 0 { print $2 }'
}

child_of() {
	pgrep -P "$1" -f "$2" | head -1
}

# A machine has been started after that line of the log; its guest hasn't answered.
boots() {
	tail -n "+$1" "$CONTAINERD/log" | grep -q 'msg=\"*stage\"* name=vmm'
}

# begin_pod NAME: begins in the background, and stays at it, because the processors of its machine
# don't run; $CLIENT, $SHIM, $MONITOR
begin_pod() {
	local from
	printf '#!/bin/sh\nexec qemu-system-x86_64 -S "$@"\n' >"$E2E/tmp/paused"
	chmod 755 "$E2E/tmp/paused"
	printf '[vmm]\nbinary = %s\n' "$E2E/tmp/paused" | cat "$E2E/tmp/conf" - >"$E2E/podvm.conf"
	from=$(($(wc -l <"$CONTAINERD/log") + 1))
	run_pod "$1" >"$E2E/tmp/pod" 2>&1 3>&- &
	CLIENT=$!
	until_true 60 boots "$from"
	MONITOR=$(our_processes | sed -n 's/ [^ ]*qemu-system.*//p')
	SHIM=$(awk '$1 == "PPid:" { print $2 }' "/proc/$MONITOR/status")
	cat "$E2E/tmp/conf" >"$E2E/podvm.conf"
}

kill_containerd() {
	local pid
	pid=$(cat "$CONTAINERD/pid")
	kill -9 "$pid"
	until_true 10 process_gone "$pid"
}

# The container and its pod have ended by themselves: assert_ended CODE. containerd may still be at
# what it learns from that when the pod is to be removed; the kubelet asks again as well.
assert_ended() {
	until_true 60 container_exited "$A"
	assert_equal "$(container_status "$A" exit_code)" "$1"
	until_true 60 pod_not_ready "$POD"
	until_true 60 remove_pod "$POD"
	assert_no_pods
}

works() {
	start_pod again
	run -0 exec_in "$A" 'echo works'
	assert_equal "$output" works
	remove_pod "$POD"
	assert_no_pods
}

# containerd 1.6 doesn't know of a pod that it was starting when it was killed: its network and
# its /dev/shm stay, whatever the runtime is.
remove_what_containerd_forgot() {
	local netns
	ctr -n k8s.io container rm "$(ctr -n k8s.io container ls -q)"
	unmount "$CONTAINERD"/state/io.containerd.grpc.v1.cri/sandboxes/*/shm
	for netns in $(ip netns list | sed -n 's/^\(cni-[^ ]*\).*/\1/p'); do
		if ip -n "$netns" -4 -o addr 2>/dev/null | grep -q " $SUBNET\."; then
			ip netns del "$netns"
		fi
	done
	rm -f "$CONTAINERD"/ipam/podvm-e2e/[0-9]*
}

@test "containerd is killed while a pod starts" {
	begin_pod c1
	kill_containerd
	wait_for "$CLIENT"
	assert_status 125
	until_true 60 no_shims
	start_containerd
	remove_what_containerd_forgot
	assert_no_pods
}

@test "containerd is killed while a pod runs, and while it stops" {
	local client
	start_pod c2
	kill_containerd
	start_containerd
	run -0 exec_in "$A" 'echo works'
	assert_equal "$output" works
	stop_pod "$POD" 3>&- &
	client=$!
	kill_containerd
	wait_for $client
	start_containerd
	until_true 60 remove_pod "$POD"
	assert_no_pods
}

@test "the shim is killed while a pod starts" {
	begin_pod s1
	kill -9 "$SHIM"
	wait_for "$CLIENT"
	assert_status 125
	assert_no_pods
}

@test "the shim is killed while a pod runs: 255" {
	start_pod s2
	kill -9 "$(shim_of "$POD")"
	assert_ended 255
}

@test "the shim is killed while a pod stops" {
	local client
	start_pod s3
	stop_pod "$POD" 3>&- &
	client=$!
	kill -9 "$(shim_of "$POD")"
	wait_for $client
	until_true 60 remove_pod "$POD"
	assert_no_pods
}

@test "the monitor is killed while a pod starts: the error tells" {
	begin_pod v1
	kill -9 "$MONITOR"
	wait_for "$CLIENT"
	assert_status 125
	assert_match "$(cat "$E2E/tmp/pod")" 'podvm: .*the monitor was killed by signal 9'
	assert_no_pods
}

@test "the monitor is killed while a pod runs: 137" {
	start_pod v2
	kill -9 "$(monitor_of "$POD")"
	assert_ended 137
}

@test "a machine that stands still is stopped" {
	start_pod v3
	kill -STOP "$(monitor_of "$POD")"
	stop_pod "$POD"
	assert_ended 137
}

# Does `ctr events`, whose output is in $E2E/tmp/events, listen by now? Makes an event to see.
events_come() {
	ctr namespace create "n$RANDOM"
	[ -s "$E2E/tmp/events" ]
}

@test "the guest's kernel crashes: 137, and the log tells" {
	local events
	"$CONTAINERD/bin/ctr" -a "$CONTAINERD/c.sock" events >"$E2E/tmp/events" 3>&- &
	events=$!
	until_true 30 events_come
	run ctr_run --rm --cap-add CAP_SYS_ADMIN $image crash sh -c 'mount -o remount,rw /proc/sys
		echo 2 >/proc/sys/vm/panic_on_oom
		for i in $(seq 40); do dd if=/dev/zero of=/dev/null bs=50M & done; wait'
	assert_status 137
	until_true 30 grep -q '/tasks/exit.*"crash".*"exit_status":137' "$E2E/tmp/events"
	kill $events
	rm "$E2E/tmp/events"
	log_says "the guest's kernel has crashed: Kernel panic"
	assert_no_pods
}

@test "virtiofsd is killed: 137" {
	local virtiofsd
	start_pod f1
	virtiofsd=$(child_of "$(shim_of "$POD")" virtiofsd)
	kill -9 "$virtiofsd"
	assert_ended 137
}

@test "the host's disk is full: the error tells, and with space a pod starts again" {
	mkdir -p "$E2E/state"
	mount -t tmpfs -o size=16k full "$E2E/state"
	head -c 16384 /dev/zero >"$E2E/state/full" || true
	run -125 run_pod full
	unmount "$E2E/state"
	assert_match "$output" 'podvm: .*No space left on device'
	assert_no_pods
	works
}

@test "the pod's cgroup has too little memory for the machine" {
	local group
	for group in /sys/fs/cgroup/memory/$CGROUP /sys/fs/cgroup/$CGROUP; do
		[ -e "${group%/*}/cgroup.procs" ] && mkdir -p "$group" || continue
		echo 40M >"$group/memory.limit_in_bytes" 2>/dev/null ||
			echo 40M >"$group/memory.max" 2>/dev/null || continue
		# Where there is swap it isn't to help.
		echo 40M >"$group/memory.memsw.limit_in_bytes" 2>/dev/null ||
			echo 0 >"$group/memory.swap.max" 2>/dev/null || true
		run -125 run_pod small
		assert_match "$output" 'podvm: |shim'
		assert_no_pods
		echo -1 >"$group/memory.memsw.limit_in_bytes" 2>/dev/null || true
		echo -1 >"$group/memory.limit_in_bytes" 2>/dev/null || echo max >"$group/memory.max"
		works
		return
	done
	skip "no memory controller"
}

@test "many deletes of a pod that was killed, at once" {
	local shim bundle pids=() i
	start_pod d1
	shim=$(shim_of "$POD")
	bundle=$CONTAINERD/state/io.containerd.runtime.v2.task/k8s.io/$POD
	kill_containerd
	kill -9 "$shim"
	for i in $(seq 8); do
		(cd "$bundle" && PODVM_CONFIG=$E2E/podvm.conf "$CONTAINERD/bin/containerd-shim-podvm-v2" \
			-namespace k8s.io -address "$CONTAINERD/c.sock" -publish-binary containerd \
			-id "$POD" -bundle "$bundle" delete) >/dev/null 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait_for "$i"
		assert_status 0
	done
	[ ! -e "$E2E/state/$POD" ]
	start_containerd
	assert_ended 255
}

@test "one pod after the other" {
	local i n=3
	[ "${STRESS:-}" != long ] || n=50
	for i in $(seq $n); do
		start_pod "cycle$i"
		remove_pod "$POD"
		assert_no_pods
	done
}

@test "many pods at once" {
	local i n=5 pids=()
	[ "${STRESS:-}" != long ] || n=20
	for i in $(seq $n); do
		run_pod "p$i" >"$E2E/tmp/pod$i" 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait_for "$i"
		assert_status 0
	done
	pids=()
	for i in $(seq $n); do
		remove_pod "$(cat "$E2E/tmp/pod$i")" 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait_for "$i"
		assert_status 0
	done
	rm "$E2E"/tmp/pod*
	assert_no_pods
}
