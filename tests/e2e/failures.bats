#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What can go wrong: each ends with a clear message, the right exit code, and nothing left.

# shellcheck disable=SC2154 # images and what run sets come from elsewhere
# shellcheck disable=SC2016 # what the container's shell is to expand stays as it is

load helpers

setup_file() {
	common_setup_file
	podvm image pull "$base"
}

teardown_file() {
	common_teardown_file
}

teardown() {
	podvm rm -fa >/dev/null
	if mountpoint -q "$E2E/tmp/small"; then
		unmount "$E2E/tmp/small"
	fi
	rm -rf "$E2E/tmp"/*
	assert_nothing_left
}

# configure LINES: a configuration with further lines, $conf
configure() {
	conf=$E2E/tmp/podvm.conf
	mkdir -p "$conf.d"
	cp "$E2E/podvm.conf" "$conf"
	printf '%b' "$1" >"$conf.d/test.conf"
	chmod -R go-w "$E2E/tmp"
}

# podvm_with LINES ARGUMENTS...: podvm with further lines of configuration
podvm_with() {
	local conf
	configure "$1"
	shift
	PODVM_CONFIG=$conf "$PODVM" "$@"
}

# configure_paused [LINES]: with monitors whose processors don't run. Then a start stays where the
# guest boots, on any machine.
configure_paused() {
	printf '#!/bin/sh\nexec qemu-system-x86_64 -S "$@"\n' >"$E2E/tmp/paused"
	chmod 755 "$E2E/tmp/paused"
	configure "[vmm]\nbinary = $E2E/tmp/paused\naccel = tcg\n${1:-}"
}

# ---- the machine can't start ----

@test "no monitor" {
	run -125 --separate-stderr unshare -m bash -c '
		for program in /usr/bin/qemu-system-x86_64 /usr/bin/qemu-system-x86_64-microvm; do
			[ ! -e $program ] || mount --bind /dev/null $program || exit 1
		done
		podvm run --rm "$base" true'
	assert_error "qemu"
	# One line of what to do.
	assert_match "$stderr" "apt|install"
}

@test "a monitor that doesn't run" {
	run -125 --separate-stderr podvm_with "[vmm]\nbinary = /bin/false\naccel = tcg\n" \
		run --rm "$base" true
	assert_error "monitor|vmm|QEMU"
}

copy_image() {
	mkdir "$E2E/tmp/image"
	cp "$PODVM_IMAGE"/* "$E2E/tmp/image/"
}

@test "no guest image" {
	run -125 --separate-stderr podvm run --rm --image /nonexistent "$base" true
	assert_error "guest image.*/nonexistent"
}

@test "a guest image whose manifest is garbage" {
	copy_image
	echo '{"schema": 1, "kernel": 7}' >"$E2E/tmp/image/manifest.json"
	run -125 --separate-stderr podvm run --rm --image "$E2E/tmp/image" "$base" true
	assert_error "guest image"
}

@test "a guest image that was cut off" {
	copy_image
	truncate -s 1000000 "$E2E/tmp/image/rootfs.erofs"
	run -125 --separate-stderr podvm run --rm --image "$E2E/tmp/image" "$base" true
	assert_error "guest image.*rootfs.erofs"
	run -125 --separate-stderr podvm image verify --image "$E2E/tmp/image"
}

@test "a root image of garbage: the kernel's words are shown" {
	copy_image
	head -c "$(stat -c %s "$PODVM_IMAGE/rootfs.erofs")" /dev/urandom >"$E2E/tmp/image/rootfs.erofs"
	run -125 --separate-stderr podvm run --rm --image "$E2E/tmp/image" "$base" true
	assert_error "boot"
	assert_match "$stderr" "panic|mount root|Cannot open root"
	run -125 --separate-stderr podvm image verify --image "$E2E/tmp/image"
	assert_error "SHA-256"
}

@test "a kernel that is none" {
	copy_image
	head -c "$(stat -c %s "$PODVM_IMAGE/vmlinux")" /dev/zero >"$E2E/tmp/image/vmlinux"
	run -125 --separate-stderr podvm_with "[start]\nboot_timeout = 15s\n" \
		run --rm --image "$E2E/tmp/image" "$base" true
	assert_error "vmm|boot"
}

@test "memory that is too small to boot" {
	run -125 --separate-stderr podvm_with "[vm]\nguest_overhead = 0\n[start]\nboot_timeout = 60s\n" \
		run --rm --memory 20m "$base" true
	assert_error "memory|boot"
}

@test "a boot that takes too long" {
	configure_paused '[start]\nboot_timeout = 1s\n'
	run -125 --separate-stderr env "PODVM_CONFIG=$conf" "$PODVM" run --rm "$base" true
	assert_error "boot: .*within 1 s"
}

@test "a configuration that is wrong" {
	run -125 --separate-stderr podvm_with "[vm]\nmemory = lots\n" run --rm "$base" true
	assert_error "memory"
	run -125 --separate-stderr env PODVM_CONFIG=/nonexistent "$PODVM" ps
	assert_error /nonexistent
}

# ---- no room ----

@test "no room for an image" {
	mkdir "$E2E/tmp/small"
	mount -t tmpfs -o size=1m none "$E2E/tmp/small"
	run -125 --separate-stderr podvm_with "[paths]\ncache = $E2E/tmp/small\n" run --rm "$base" true
	assert_error "no space in .*/small"
	assert_match "$stderr" "podvm image prune"
	# What was half done is gone.
	run -0 find "$E2E/tmp/small" -size +0 -type f -name '*.erofs'
	assert_equal "$output" ""
}

@test "no room for what a container writes: it sees an error, and nothing hangs" {
	mkdir "$E2E/tmp/small"
	mount -t tmpfs -o size=24m none "$E2E/tmp/small"
	run --separate-stderr podvm_with "[paths]\ncache = $E2E/tmp/small\n" run --rm "$base" \
		sh -c 'dd if=/dev/urandom of=/x bs=1M count=64 conv=fsync || exit 77'
	assert_status 77
	assert_match "$stderr" "No space left|I/O error|Input/output"
}

@test "no room for the state" {
	mkdir "$E2E/tmp/small"
	mount -t tmpfs -o nr_inodes=1 none "$E2E/tmp/small"
	run -125 --separate-stderr podvm_with "[paths]\nstate = $E2E/tmp/small\n" run --rm "$base" true
	assert_error "No space left"
}

# ---- something dies ----

pid_of() {
	podvm inspect victim | jq -r ".[0].live.processes[] | select(.$1 | test(\"$2\")).pid"
}

start_victim() {
	podvm run --name victim "$@" "$base" sleep 10000 >"$E2E/tmp/out" 2>&1 &
	victim=$!
	until_true 60 podvm exec victim true
}

@test "the monitor is killed with -9" {
	start_victim
	kill -9 "$(pid_of role monitor)"
	wait_for $victim
	assert_status 125
	assert_match "$(cat "$E2E/tmp/out")" "podvm: .*(monitor|QEMU|qemu).*"
	assert_equal "$(state_of victim status)" exited
	[ -n "$(state_of victim error)" ]
}

@test "the monitor is killed while an exec runs" {
	start_victim
	podvm exec victim sleep 1000 2>"$E2E/tmp/exec" &
	local exec=$!
	until_true 20 podvm exec victim sh -c 'ps | grep "[s]leep 1000$"'
	kill -9 "$(pid_of role monitor)"
	wait_for $exec
	assert_status 125
	assert_match "$(cat "$E2E/tmp/exec")" "podvm: "
	wait_for $victim
	assert_status 125
}

@test "the monitor is killed while the guest boots" {
	configure_paused
	PODVM_CONFIG=$conf "$PODVM" run --name victim "$base" true 2>"$E2E/tmp/out" &
	local pid=$!
	until_true 30 monitor_of $pid
	kill -9 "$(monitor_of $pid)"
	wait_for $pid
	assert_status 125
	assert_match "$(cat "$E2E/tmp/out")" "podvm: "
}

monitor_of() {
	pgrep -P "$1" qemu
}

any_monitor() {
	our_processes | grep -q qemu-system
}

@test "the guest's kernel panics" {
	podvm run --rm --privileged --name victim "$base" sh -c \
		'echo 2 >/proc/sys/vm/panic_on_oom; mount -o remount,size=100% /dev/shm; cat /dev/zero >/dev/shm/x' \
		2>"$E2E/tmp/out" &
	wait_for $!
	assert_status 125
	assert_match "$(cat "$E2E/tmp/out")" "podvm: run: the guest ended|[Pp]anic"
}

@test "passt is killed" {
	start_victim
	kill -9 "$(pid_of name passt)"
	wait_for $victim
	[ "$status" -eq 125 ]
	assert_match "$(cat "$E2E/tmp/out")" "podvm: .*(passt|network)"
}

@test "virtiofsd is killed" {
	mkdir "$E2E/tmp/volume"
	start_victim -v "$E2E/tmp/volume:/volume"
	local pid
	pid=$(pid_of name virtiofsd | head -1)
	kill -9 "$pid"
	wait_for $victim
	assert_status 125
	assert_match "$(cat "$E2E/tmp/out")" "podvm: .*virtiofsd"
}

@test "podvm run is killed with -9" {
	start_victim
	kill -9 $victim
	wait_for $victim
	until_true 10 no_processes
	# The next command puts the rest away.
	run -0 podvm ps -a
	assert_match "$output" "Exited \(255\).*victim"
	run -0 podvm rm victim
}

@test "podvm run --rm is killed with -9" {
	start_victim --rm
	kill -9 $victim
	until_true 10 no_processes
	run -0 podvm ps -aq
	assert_equal "$output" ""
	assert_nothing_left
}

@test "podvm run is killed with -9 while the guest boots" {
	configure_paused
	PODVM_CONFIG=$conf "$PODVM" run --name victim "$base" true 2>/dev/null &
	local pid=$!
	until_true 30 monitor_of $pid
	kill -9 $pid
	until_true 10 no_processes
	podvm rm -f victim
	assert_nothing_left
}

@test "the owner of a detached container is killed with -9" {
	podvm run -d --name victim "$base" sleep 10000
	kill -9 "$(state_of victim pid)"
	until_true 10 no_processes
	run -125 --separate-stderr podvm exec victim true
	assert_error "isn't running|not running"
	podvm rm victim
}

@test "a monitor that hangs can be stopped all the same" {
	podvm run -d --name victim "$base" sleep 10000
	kill -STOP "$(pid_of role monitor)"
	run -0 podvm stop -t 1 victim
	assert_equal "$(state_of victim status)" exited
	# Its owner has given up by itself.
	assert_match "$(state_of victim error)" "did not end the container"
}

@test "an owner that hangs can be stopped all the same" {
	podvm run -d --name victim "$base" sleep 10000
	kill -STOP "$(state_of victim pid)"
	run -0 podvm rm -f victim
}

@test "SIGTERM while the guest boots ends it" {
	configure_paused
	PODVM_CONFIG=$conf "$PODVM" run --rm "$base" sleep 1000 2>"$E2E/tmp/out" &
	local pid=$!
	until_true 30 monitor_of $pid
	kill -TERM $pid
	wait_for $pid
	[ "$status" -ne 0 ]
}

@test "an output that is full doesn't end the container" {
	run -0 bash -c 'podvm run --rm "$base" sh -c "yes | head -c 100000; echo err >&2" >/dev/full'
	run -0 podvm ps -aq
	assert_equal "$output" ""
}

@test "a container that is starting can be stopped" {
	configure_paused
	PODVM_CONFIG=$conf "$PODVM" run --name victim "$base" sleep 1000 2>"$E2E/tmp/out" &
	local pid=$!
	until_true 30 monitor_of $pid
	run -0 --separate-stderr podvm stop victim
	assert_equal "$stderr" ""
	wait_for $pid
	assert_status 143
	run -0 podvm ps -aq
	assert_equal "$output" ""
}

@test "a detached container that is removed while it starts: who started it is told" {
	configure_paused
	PODVM_CONFIG=$conf "$PODVM" run -d --name victim "$base" sleep 1000 >"$E2E/tmp/out" 2>&1 &
	local pid=$!
	until_true 30 any_monitor
	run -0 podvm rm -f victim
	wait_for $pid
	[ "$status" -ne 0 ]
	assert_match "$(cat "$E2E/tmp/out")" "podvm: interrupted by signal 15"
}

# Two things happen at the same moment, in whatever order.
@test "a container that ends while it is stopped keeps its exit code" {
	local i pid
	for i in 1 2 3 4; do
		podvm run --rm --name victim "$base" sh -c 'trap "" TERM; echo ready
			until [ -e /go ]; do sleep 0.1; done; exit 7' >"$E2E/tmp/out" &
		pid=$!
		until_true 60 grep -q ready "$E2E/tmp/out"
		podvm exec victim touch /go &
		[ $i -le 2 ] || wait_for $!
		podvm stop -t 200 victim || true
		wait_for $pid
		assert_status 7
	done
}

@test "two containers want one name at the same moment" {
	local first second failed=0
	podvm run -d --name victim "$base" sleep 1000 2>>"$E2E/tmp/out" &
	first=$!
	podvm run -d --name victim "$base" sleep 1000 2>>"$E2E/tmp/out" &
	second=$!
	for pid in $first $second; do
		wait_for "$pid"
		[ "$status" -eq 0 ] || failed=$((failed + 1))
	done
	assert_equal $failed 1
	assert_match "$(cat "$E2E/tmp/out")" "the name victim is in use"
}
