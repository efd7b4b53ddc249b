#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What a container can't exceed, and that neither its machine nor the host suffers when it tries.

# shellcheck disable=SC2154 # images and what run sets come from elsewhere
# shellcheck disable=SC2016 # what the container's shell is to expand stays as it is

load helpers

setup_file() {
	common_setup_file
	start_shared --pids-limit 64 --scratch-size 64m
}

teardown_file() {
	common_teardown_file
}

@test "a fork bomb hits its limit, the machine goes on" {
	run inside 'bomb() { bomb | bomb & }; bomb; sleep 2; echo survived'
	assert_match "$output" "fork|survived"
	# The agent isn't among those that the limit is for.
	podvm inspect shared | jq -e '.[0].live.guest.processes > 0'
	podvm kill -s KILL shared
	until_true 60 ended shared
	podvm rm shared
	start_shared --pids-limit 64 --scratch-size 64m
	run -0 inside 'echo again'
}

@test "137 and said so: out of memory" {
	run -137 --separate-stderr podvm run --rm --memory 64m --shm-size 1g "$base" \
		sh -c 'cat /dev/zero >/dev/shm/x'
	assert_error "out of memory"
}

@test "out of memory of a container that has ended is known afterwards" {
	run podvm run --name oom --memory 64m --shm-size 1g "$base" sh -c 'cat /dev/zero >/dev/shm/x'
	[ "$status" -eq 137 ]
	assert_equal "$(state_of oom oom_killed)" true
	podvm rm oom
}

@test "an environment of 600 KB, in a small machine" {
	local i value
	printf -v value '%060000d' 0
	for ((i = 0; i < 10; i++)); do
		echo "LONG$i=$value"
	done >"$E2E/tmp/env"
	sed 's/^\[vm\]/&\nmemory = 64M/' "$E2E/podvm.conf" >"$E2E/tmp/small.conf"
	chmod 600 "$E2E/tmp/small.conf"
	PODVM_CONFIG=$E2E/tmp/small.conf "$PODVM" run -d --name long --env-file "$E2E/tmp/env" "$base" \
		sleep 100000
	# It's parsed again for each process.
	run -0 podvm exec long sh -c 'echo ${#LONG0} ${#LONG9}'
	assert_equal "$output" "60000 60000"
	podvm rm -f long
}

@test "memory and CPU limits are what the container sees" {
	run -0 podvm run --rm --memory 100m --cpus 1.5 "$base" sh -c \
		'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max; nproc'
	assert_equal "${lines[0]}" $((100 << 20))
	assert_equal "${lines[1]}" "150000 100000"
	assert_equal "${lines[2]}" 2
}

@test "the whole of --memory can be used" {
	run -0 podvm run --rm --memory 64m --shm-size 1g "$base" sh -c \
		'head -c 56000000 /dev/zero >/dev/shm/x && echo fits'
	assert_equal "$output" fits
}

# Blocks of 512 bytes of the host's disk that are taken by the file that its machine may write to.
scratch_used() {
	find "/proc/$(state_of shared vmm_pid)/fd" -perm -u=w -xtype f ! -lname '/memfd:*' \
		-exec stat -Lc %b {} + | sort -n | tail -1
}

on_host() {
	podvm stats --no-stream --json "$1" | jq '.[0].host_pss'
}

# less_on_host NAME BYTES
less_on_host() {
	[ "$(on_host "$1")" -lt "$2" ]
}

@test "memory that the guest frees goes back to the host" {
	local full
	podvm run -d --no-template --name frees --memory 128m --shm-size 100m "$base" sleep 100000
	podvm exec frees sh -c 'head -c 80000000 /dev/zero >/dev/shm/x'
	full=$(on_host frees)
	[ "$full" -gt 80000000 ]
	podvm exec frees rm /dev/shm/x
	until_true 30 less_on_host frees $((full - 60000000))
	podvm rm -f frees
}

@test "a full disk is ENOSPC inside, and not the host's problem" {
	run inside 'dd if=/dev/urandom of=/root/x bs=1M count=200'
	[ "$status" -ne 0 ]
	assert_match "$output" "No space left on device"
	inside sync
	run -0 scratch_used
	[ "$output" -gt $((20 << 11)) ]
	[ "$output" -le $((65 << 11)) ]
	# Everything else works on.
	run -0 inside 'rm /root/x; echo 1 >/root/y; cat /root/y'
	assert_equal "$output" 1
}

@test "ulimits" {
	run -0 podvm run --rm --ulimit nofile=123:456 "$base" sh -c 'ulimit -Sn; ulimit -Hn'
	assert_equal "$output" "123"$'\n'"456"
}

@test "the monitor has a user of its own and no privileges" {
	local name status
	podvm run -d --name other "$base" sleep 100000
	for name in shared other; do
		status=/proc/$(state_of $name vmm_pid)/status
		assert_equal "$(sed -n 's/^CapEff:\t//p' "$status")" 0000000000000000
		assert_equal "$(sed -n 's/^NoNewPrivs:\t//p' "$status")" 1
		awk '$1 == "Uid:" { print $2 }' "$status"
	done >"$E2E/tmp/uids"
	assert_equal "$(sort -u "$E2E/tmp/uids" | awk '$1 >= 1900000000' | wc -l)" 2
	podvm rm -f other
}
