# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154 # what bats sets
#
# What the end-to-end tests share. A test file loads this and calls common_setup_file and
# common_teardown_file; the latter fails when anything is left on the host.

bats_require_minimum_version 1.5.0

# The images of images.sh.
base=oci:$IMAGES/oci:base
config_image=oci:$IMAGES/oci:config
debian=oci:$IMAGES/oci:debian
nginx=oci:$IMAGES/oci:nginx
redis=oci:$IMAGES/oci:redis
python=oci:$IMAGES/oci:python
export base config_image debian nginx redis python

# ---- checks ----

# fail MESSAGE...
fail() {
	printf '%s\n' "$*" >&2
	return 1
}

# Is $status what it should be? Shows what was printed if not.
assert_status() {
	[ "$status" -eq "$1" ] && return
	printf 'status %d instead of %d\noutput: %s\nstderr: %s\n' "$status" "$1" "$output" \
		"${stderr:-}" >&2
	return 1
}

# assert_equal GOT WANT
assert_equal() {
	[ "$1" = "$2" ] || fail "got: $1"$'\n'"want: $2"
}

# assert_match TEXT REGEX
assert_match() {
	[[ $1 =~ $2 ]] || fail "got: $1"$'\n'"want a match of: $2"
}

# An error as the user sees it: "podvm: ... REGEX ..."
assert_error() {
	assert_match "${stderr:-}${output:-}" "podvm: .*$1"
}

# wait_for PID: its exit code becomes $status. (bats' run has no children of ours.)
wait_for() {
	status=0
	wait "$1" || status=$?
}

# until_true SECONDS COMMAND...: wait for something that isn't ours to tell when it's ready.
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { fail "not true in time: $*"; return 1; }
		sleep 0.1
	done
}

# ---- nothing may be left ----

# Every process that podvm started, or that is podvm, by its environment.
our_processes() {
	local dir
	grep -lzxs "PODVM_CONFIG=$E2E/.*" /proc/[0-9]*/environ | while read -r dir; do
		dir=${dir%/environ}
		echo "${dir#/proc/} $(tr '\0' ' ' <"$dir/cmdline")"
	done 2>/dev/null
}

no_processes() {
	[ -z "$(our_processes)" ]
}

# What the kernel has of mounts and loop devices of ours, and of taps.
host_state() {
	grep "$E2E" /proc/self/mountinfo || true
	losetup -l -n -O NAME,BACK-FILE 2>/dev/null | grep "$E2E" || true
	grep -l . /sys/class/net/*/tun_flags 2>/dev/null || true
}

# Directories of sandboxes, unfinished images, sockets. (Scratch disks have no names.)
leftover_files() {
	find "$E2E/state" -mindepth 1 -type d 2>/dev/null
	find "$E2E/cache/images/tmp" -mindepth 1 2>/dev/null
	find "$E2E" -type s
}

assert_nothing_left() {
	until_true 10 no_processes || fail "processes are left: $(our_processes)" || return 1
	assert_equal "$(leftover_files)" "" || fail "files are left" || return 1
	assert_equal "$(host_state)" "$(cat "$E2E/host-state")" || fail "the host has changed"
}

common_setup_file() {
	export BATS_TEST_TIMEOUT
	host_state >"$E2E/host-state"
}

common_teardown_file() {
	podvm rm -fa >/dev/null
	assert_nothing_left
}

# ---- containers ----

# The container that most tests of a file share: it sleeps.
start_shared() {
	podvm run -d --name shared "$@" "$base" sleep 100000
}

# A shell command in it.
inside() {
	podvm exec shared sh -c "$1"
}

state_of() {
	podvm inspect "$1" | jq -r ".[0].$2"
}

ended() {
	[ "$(state_of "$1" status)" = exited ]
}

# has_said NAME REGEX
has_said() {
	podvm logs "$1" | grep -q "$2"
}

# A free TCP port of the host.
free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
}

# on_pty: run a command on a terminal, see terminal.py
on_pty() {
	python3 "$BATS_TEST_DIRNAME/terminal.py" "$@"
}
