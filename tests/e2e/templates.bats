#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Templates: machines that are copies of one that has booted. What they share, what they don't, and
# what happens when a template is missing, damaged or in the making.

# shellcheck disable=SC2030,SC2031 # variables that a test sets are its own
# shellcheck disable=SC2154 # images and what run sets come from elsewhere

load helpers

setup_file() {
	common_setup_file
	TEMPLATES=$E2E/cache/templates
	export TEMPLATES
	cp "$E2E/podvm.conf" "$E2E/podvm.conf.before"
	sed -i 's/^enabled = .*/enabled = yes/' "$E2E/podvm.conf"
	podvm template create
}

teardown_file() {
	podvm rm -fa >/dev/null
	until_true 240 no_maker
	podvm template rm -a >/dev/null
	mv "$E2E/podvm.conf.before" "$E2E/podvm.conf"
	common_teardown_file
}

teardown() {
	podvm rm -fa >/dev/null
	# What is made in the background is for the next test to find.
	until_true 240 no_maker
	rm -rf "$E2E/tmp"/*
}

# Does nobody make a template? Those in the background are found by their configuration.
no_maker() {
	! our_processes | grep -q 'template create'
}

# The only template's key.
key() {
	podvm template list --json | jq -r '.[0].key'
}

count_templates() {
	podvm template list --json | jq length
}

# run_named NAME ARGUMENT...: podvm run of a container that is asked for its template afterwards
run_named() {
	run -0 --separate-stderr podvm run --name "$@"
	template=$(state_of "$1" template)
}

assert_copy() {
	[ -n "$template" ] || fail "it has booted: $output $stderr"
}

assert_booted() {
	assert_equal "$template" ""
}

digests() {
	sha256sum "$TEMPLATES/$(key)"/{memory,state}
}

# ---- what a copy is ----

@test "a machine is a copy of the template there is" {
	run_named copy "$base" echo hello
	assert_equal "$output" hello
	assert_equal "$template" "$(key)"
}

@test "--no-template boots" {
	run_named booted --no-template "$base" echo hello
	assert_equal "$output" hello
	assert_booted
}

@test "list, and verify" {
	run -0 podvm template list
	assert_match "$output" "KEY .*$(key | cut -c1-12) +256MiB +1 +microvm +user"
	run -0 podvm template verify
	assert_match "$output" "$(key) is intact"
	run -0 podvm template verify "$(key | cut -c1-6)"
	run -125 podvm template verify 00
	assert_error "there is no template 00"
}

# Everything that has to be unique, a line each.
unique='cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid
	head -c 32 /dev/urandom | od -An -v -tx1 | tr -d "\n"; echo
	head -c 32 /dev/random | od -An -v -tx1 | tr -d "\n"; echo
	grep -E "stack|heap|vdso" /proc/self/maps | cut -d" " -f1
	cat /sys/class/net/eth0/address; hostname; mktemp -u'

@test "two copies have nothing unique in common" {
	podvm run --rm "$base" sh -c "$unique" >"$E2E/tmp/1" &
	local first=$!
	podvm run --rm "$base" sh -c "$unique" >"$E2E/tmp/2"
	wait_for "$first"
	assert_status 0
	[ "$(wc -l <"$E2E/tmp/1")" -ge 9 ] || fail "$(cat "$E2E/tmp/1")"
	assert_equal "$(sort "$E2E/tmp/1" "$E2E/tmp/2" | uniq -d)" ""
}

@test "the clock is the host's" {
	local before after
	before=$(date +%s)
	run_named clock "$base" date +%s
	after=$(date +%s)
	assert_copy
	[ "$before" -le "$output" ] && [ "$output" -le "$after" ] ||
		fail "host: $before to $after, guest: $output"
}

@test "what a copy writes reaches neither the template nor another copy" {
	local before
	before=$(digests)
	podvm run -d --name writer "$base" sh -c 'mkdir -p /dev/shm/x
		head -c 4000000 /dev/urandom >/dev/shm/x/data; echo written; sleep 100000'
	until_true 240 has_said writer written
	run_named other "$base" ls /dev/shm
	assert_copy
	assert_equal "$output" ""
	assert_equal "$(digests)" "$before"
	run -0 podvm template verify
}

# What is left of a container and an identity when they have gone: cgroups, disks, interfaces, lines of
# the agent in the log.
traces='dmesg | grep podvm-agent: | grep -v msg=.ready
	cut -f 1,3 /proc/cgroups; ls /sys/block /sys/class/scsi_device /sys/class/net'

# has_seen_disks CONTAINER NUMBER: so many have come, as the kernel's log in its output tells
has_seen_disks() {
	[ "$(podvm logs "$1" | grep -c "Attached SCSI disk")" -ge "$2" ]
}

@test "nothing is left in a copy of what its template has practised" {
	local booted
	booted=$(podvm run --rm --privileged --no-template "$base" sh -c "$traces")
	assert_match "$booted" "memory"
	# The kernel takes its time to forget a cgroup.
	podvm run -d --name copy --privileged "$base" sh -c "
		until [ \"\$($traces)\" = '$booted' ]; do sleep 1; done; echo same; dmesg; sleep 100000"
	[ -n "$(state_of copy template)" ]
	until_true 240 has_said copy same
	# It did start one: these are its disks and ours.
	until_true 240 has_seen_disks copy 4
}

@test "devices are as closed in a copy, whose filter is there already, as in a machine that has booted" {
	# What can be made, and what can be opened of it: type, numbers.
	local booted devices='n=0
		while read -r device; do
			n=$((n + 1))
			mknod /tmp/$n $device && made=yes || made=no
			(: </tmp/$n) 2>/dev/null && opened=yes || opened=no
			echo "$device: $made $opened"
		done <<-END
			c 1 3
			c 1 5
			c 1 1
			c 1 2
			c 5 1
			c 10 200
			c 10 229
			b 254 0
			b 8 0
		END'
	booted=$(podvm run --rm --cap-add MKNOD --no-template "$base" sh -c "$devices")
	run_named copy --cap-add MKNOD "$base" sh -c "$devices"
	assert_copy
	assert_equal "$output" "$booted"
	assert_match "$output" "c 1 3: yes yes"
	assert_match "$output" "c 1 1: yes no"
	assert_match "$output" "b 254 0: yes no"
	assert_equal "$(grep -c "yes yes" <<<"$output")" 3
}

@test "a template is made without practice when there is no disk for it" {
	podvm template rm -a >/dev/null
	mv "$E2E/cache/scratch" "$E2E/tmp/scratch"
	: >"$E2E/cache/scratch"
	run --separate-stderr podvm template create
	rm "$E2E/cache/scratch"
	mv "$E2E/tmp/scratch" "$E2E/cache/scratch"
	assert_status 0
	assert_match "$stderr" "no container is started for practice"
	run_named copy "$base" echo hello
	assert_copy
	assert_equal "$output" hello
}

@test "QEMU can't write to the template" {
	podvm run -d --name idle "$base" sleep 100000
	local pid fd
	pid=$(state_of idle vmm_pid)
	for fd in /proc/"$pid"/fd/*; do
		case $(readlink "$fd") in
		"$TEMPLATES"/*)
			found=yes
			assert_match "$(grep flags: "/proc/$pid/fdinfo/${fd##*/}")" '0$' ;;
		esac
	done
	assert_equal "${found:-}" yes
	run -0 grep "$TEMPLATES/.*/memory" "/proc/$pid/maps"
	assert_match "$output" ' rw-p '
}

@test "disks, network, exec and a stop, in a copy on q35" {
	podvm template create --machine q35
	podvm run -d --name pci --machine q35 --cpus 1 "$base" sh -c 'trap "exit 7" TERM; echo up
		while :; do sleep 1; done'
	until_true 240 has_said pci up
	[ -n "$(state_of pci template)" ]
	run -0 podvm exec pci sh -c 'echo x >/file; cat /file; ls /sys/class/net'
	assert_match "$output" $'^x\neth0'
	podvm stop pci
	assert_equal "$(state_of pci exit_code)" 7
}

@test "without a network, and with the one of a namespace" {
	podvm template create --net none
	run_named none --net none "$base" ip -o link
	assert_copy
	[[ $output != *eth0* ]]
	podvm template create --net pod
	ip netns add "t-$$"
	ip link add "t$$" up type veth peer name eth0 netns "t-$$"
	ip -n "t-$$" link set eth0 up
	ip -n "t-$$" addr add 10.77.0.2/24 dev eth0
	status=0
	run --separate-stderr podvm run --name tap --net "ns:/run/netns/t-$$" "$base" \
		sh -c 'ip -o addr show eth0; cat /sys/class/net/eth0/address'
	local mac
	mac=$(ip -n "t-$$" -j link show eth0 | jq -r '.[0].address')
	ip netns del "t-$$"
	assert_status 0
	template=$(state_of tap template)
	assert_copy
	assert_match "$output" "10.77.0.2/24"
	assert_match "$output" "$mac"
}

# ---- what doesn't work ----

# flip FILE: change one byte of the template's
flip() {
	local file
	file=$TEMPLATES/$(key)/$1
	chmod 600 "$file"
	printf '\377\376' | dd of="$file" bs=1 seek=4096 conv=notrunc status=none
}

only_template() {
	podvm template rm -a >/dev/null
	podvm template create
}

@test "a template with another byte in its memory isn't used, and is made anew" {
	only_template
	flip memory
	run_named damaged "$base" echo hello
	assert_equal "$output" hello
	assert_booted
	assert_match "$stderr" "isn't used before it's been checked"
	until_true 240 no_maker
	run_named again "$base" echo hello
	assert_copy
}

@test "the same with its state; verify tells" {
	only_template
	flip state
	run -125 podvm template verify
	assert_error "state is damaged"
	run_named damaged "$base" echo hello
	assert_equal "$output" hello
	assert_booted
}

# What its digest says, but no machine can be started from it.
forge() {
	/usr/bin/python3 - "$TEMPLATES/$(key)" <<-'END'
		import hashlib, json, os, struct, sys
		d = sys.argv[1]
		os.chmod(d + "/state", 0o600)
		data = os.urandom(8192)
		open(d + "/state", "wb").write(data)
		info = json.load(open(d + "/template.json"))
		hashed = struct.pack("<Q", len(data))
		for place in range(0, len(data), 4096):
		    hashed += struct.pack("<Q", place) + data[place:place + 4096]
		info["state_sha256"] = hashlib.sha256(hashed).hexdigest()
		json.dump(info, open(d + "/template.json", "w"))
	END
}

@test "a template that no machine starts from is removed, and the machine boots" {
	only_template
	forge
	podvm template verify
	run_named forged "$base" echo hello
	assert_equal "$output" hello
	assert_booted
	assert_match "$stderr" "the template doesn't work; it's removed"
	assert_equal "$(count_templates)" 0
}

@test "another guest image, another template" {
	only_template
	cp -r "$PODVM_IMAGE" "$E2E/tmp/image"
	run_named other --image "$E2E/tmp/image" "$base" echo hello
	assert_equal "$output" hello
	assert_booted
}

@test "shared directories, in a copy" {
	only_template
	run_named shares -v "$E2E/tmp:/data" "$base" sh -c 'echo written >/data/by-a-copy'
	assert_copy
	assert_equal "$(cat "$E2E/tmp/by-a-copy")" written
}

# ---- making one ----

@test "the first machine boots, and the next is a copy" {
	podvm template rm -a
	run_named first "$base" echo hello
	assert_booted
	until_true 240 no_maker
	assert_equal "$(count_templates)" 1
	run_named second "$base" echo hello
	assert_copy
}

@test "many at the same moment make one" {
	podvm template rm -a
	local i pids=()
	for i in 1 2 3; do
		podvm run --name "many$i" "$base" echo hello >"$E2E/tmp/$i" &
		pids+=($!)
	done
	for i in 1 2 3; do
		wait_for "${pids[i - 1]}"
		assert_status 0
		assert_equal "$(cat "$E2E/tmp/$i")" hello
	done
	until_true 240 no_maker
	assert_equal "$(count_templates)" 1
}

@test "who makes one is killed" {
	podvm template rm -a
	podvm template create &
	local maker=$!
	until_true 240 test -e "$TEMPLATES/making/memory"
	kill -9 "$(our_processes | awk '/template create/ { print $1; exit }')" "$maker"
	wait_for "$maker"
	until_true 240 no_maker
	assert_equal "$(count_templates)" 0
	podvm template create
	[ ! -e "$TEMPLATES/making" ]
	run_named copy "$base" echo hello
	assert_copy
}

@test "no room for one" {
	podvm template rm -a
	mount -t tmpfs -o size=8m none "$TEMPLATES"
	run --separate-stderr podvm template create
	local code=$status left
	left=$(ls "$TEMPLATES")
	run_named full "$base" echo hello
	until_true 240 no_maker
	unmount "$TEMPLATES"
	assert_equal "$code" 125
	assert_equal "$left" lock
	assert_equal "$output" hello
	assert_booted
}

@test "not more of them than there's room for" {
	podvm template rm -a
	podvm template create
	sed -i 's/^\[template\]/&\nsize = 50M/' "$E2E/podvm.conf"
	podvm template create --net none
	sed -i '/^size = 50M/d' "$E2E/podvm.conf"
	assert_equal "$(podvm template list --json | jq -r '.[].network')" none
}
