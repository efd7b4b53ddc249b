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

# until_true SECONDS COMMAND...: wait for something that isn't ours to tell when it's ready. So many
# seconds are plenty on a machine that does nothing else; a busy one gets ten times as many.
until_true() {
	local end=$((SECONDS + 10 * $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { fail "not true in time: $*"; return 1; }
		sleep 0.1
	done
}

# ---- nothing may be left ----

# Every process that podvm started, or that is podvm, by its environment. Monitors have none.
our_processes() {
	local pid pids
	pids=$(grep -lzxs "PODVM_CONFIG=$E2E/.*" /proc/[0-9]*/environ | tr -dc '0-9\n')
	for pid in $pids ${pids:+$(pgrep -P "${pids//$'\n'/,}" qemu)}; do
		echo "$pid $(tr '\0' ' ' <"/proc/$pid/cmdline")"
	done 2>/dev/null
}

# A process that is being killed loses its environment before its locks.
no_processes() {
	local lock
	[ -z "$(our_processes)" ] || return 1
	for lock in "$E2E"/state/*/lock; do
		[ ! -e "$lock" ] || flock --nonblock --shared "$lock" true || return 1
	done
}

# unmount PATH...: processes that are being killed keep it busy for a moment.
unmount() {
	until_true 10 umount -R "$@"
}

# What the kernel has of mounts, loop devices and taps of ours.
host_state() {
	grep "$E2E" /proc/self/mountinfo || true
	losetup -l -n -O NAME,BACK-FILE 2>/dev/null | grep "$E2E" || true
	ip -j link show type tun | jq -r '.[].ifname' | grep podvm || true
}

# Directories of sandboxes, unfinished images, sockets. (Scratch disks have no names.)
leftover_files() {
	find "$E2E/state" -mindepth 1 -type d 2>/dev/null
	find "$E2E/cache/images/tmp" -mindepth 1 2>/dev/null
	find "$E2E" -type s
}

no_leftover_files() {
	[ -z "$(leftover_files)" ]
}

same_host_state() {
	[ "$(host_state)" = "$(cat "$E2E/host-state")" ]
}

# A process that isn't seen any more may still be closing what it had open.
assert_nothing_left() {
	until_true 10 no_processes || fail "processes are left: $(our_processes)" || return 1
	until_true 10 no_leftover_files || fail "files are left: $(leftover_files)" || return 1
	until_true 10 same_host_state || fail "the host has changed: $(host_state)"
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

# free_ports COUNT: ports of the host that are free, for TCP and UDP. The kernel gives none of these
# to clients.
free_ports() {
	python3 - "$1" <<-'END'
		import random, socket, sys
		ports = {}
		while len(ports) < int(sys.argv[1]):
		    port = random.randrange(20000, 32000)
		    try:
		        sockets = [socket.socket(socket.AF_INET, kind)
		                   for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
		        for s in sockets:
		            s.bind(("", port))
		        ports[port] = sockets
		    except OSError:
		        pass
		print(*ports)
	END
}

# on_pty: run a command on a terminal, see terminal.py
on_pty() {
	python3 "$BATS_TEST_DIRNAME/terminal.py" "$@"
}
