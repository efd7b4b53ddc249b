#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# ps, inspect, logs, stats, stop, kill, rm, check.

# shellcheck disable=SC2154 # images and what run sets come from elsewhere
# shellcheck disable=SC2016 # what the container's shell is to expand stays as it is

load helpers

setup_file() {
	common_setup_file
	start_shared -p "$(free_ports 1):80" --hostname shared-host
	podvm run --name finished "$base" sh -c 'echo one; echo two >&2; echo three; printf four; exit 3' ||
		[ $? -eq 3 ]
}

teardown_file() {
	common_teardown_file
}

@test "ps: those that run, all, ids, JSON" {
	run -0 podvm ps
	assert_match "${lines[0]}" "^CONTAINER ID +IMAGE +COMMAND +CREATED +STATUS +PORTS +NAMES$"
	assert_equal "${#lines[@]}" 2
	assert_match "${lines[1]}" "^[0-9a-f]{12} .*sleep 100000 .* ago +Up .*:80 +shared$"
	run -0 podvm ps -a
	assert_match "$output" "Exited \(3\) .* ago +finished"
	run -0 podvm ps -q
	assert_match "$output" '^[0-9a-f]{12}$'
	run -0 podvm ps -aq --no-trunc
	assert_match "${lines[0]}" '^[0-9a-f]{64}$'
	assert_equal "${#lines[@]}" 2
	run -0 podvm ps -a --format json
	assert_equal "$(jq -r '.[] | select(.name == "finished") | .exit_code' <<<"$output")" 3
	assert_equal "$(podvm ps -a --json)" "$output"
	run -125 --separate-stderr podvm ps --format '{{.ID}}'
}

@test "inspect: state, spec, paths, what it uses" {
	run -0 podvm inspect shared
	jq -e '.[0] | .status == "running" and .hostname == "shared-host" and
		.spec.process.args == ["sleep", "100000"] and
		.live.guest.memory_total > 100000000 and
		([.live.processes[].role] | contains(["owner", "monitor"])) and
		([.live.processes[].pss] | min > 0)' <<<"$output"
	[ -d "$(jq -r '.[0].paths.run_dir' <<<"$output")" ]
	run -0 podvm inspect finished "$(podvm ps -q)"
	assert_equal "$(jq length <<<"$output")" 2
	assert_equal "$(jq -c '.[0].live' <<<"$output")" null
	run -125 --separate-stderr podvm inspect finished nonsense
	assert_equal "$(jq length <<<"$output")" 1
	assert_error nonsense
}

@test "logs: both streams, tail, timestamps" {
	run -0 --separate-stderr podvm logs finished
	assert_equal "$output" "one"$'\n'"three"$'\n'"four"
	assert_equal "$stderr" two
	# Which of the two streams is read first is chance.
	run -0 podvm logs --tail 2 finished
	assert_match "$output" '^(three|two|four)'$'\n''(four|two)$'
	run -0 podvm logs --tail 0 finished
	assert_equal "$output" ""
	run -0 podvm logs -t --tail 1 finished
	assert_match "$output" '^[0-9-]{10}T[0-9:.]+Z (four|two)$'
	run -125 --separate-stderr podvm logs nonsense
}

@test "logs -f ends with the container and misses nothing" {
	podvm run -d --name counting "$base" sh -c \
		'for i in $(seq 2000); do echo line $i; [ $((i % 100)) -ne 0 ] || sleep 0.1; done'
	run -0 podvm logs -f counting
	assert_equal "${#lines[@]}" 2000
	assert_equal "${lines[1999]}" "line 2000"
	run -0 podvm logs -f --tail 1 counting
	assert_equal "$output" "line 2000"
	podvm rm counting
}

@test "logs -f ends when the container is removed" {
	podvm run -d --name removed "$base" sh -c 'while :; do echo tick; sleep 0.2; done'
	podvm logs -f removed >"$E2E/tmp/log" &
	local pid=$!
	until_true 20 grep -q tick "$E2E/tmp/log"
	podvm rm -f removed
	wait_for $pid
	assert_status 0
	rm "$E2E/tmp/log"
}

@test "logs --machine: the guest's kernel and its agent, in the order of time" {
	run -0 podvm logs --machine shared
	assert_match "$output" 'Z kernel  Linux version'
	assert_match "$output" 'Z agent   level='
	assert_equal "$(cut -d ' ' -f 1 <<<"$output" | sort -c 2>&1)" ""
	# Of one that has ended there is what was on its console.
	podvm logs --machine finished
	run -125 podvm logs --machine -f shared
}

@test "events: from the creation to the removal" {
	local id
	id=$(podvm run -d --name evented "$base" sh -c 'exit 5')
	until_true 20 ended evented
	podvm rm evented
	run -0 podvm events --no-stream --json
	run -0 jq -r --arg id "$id" 'select(.id == $id) | "\(.event) \(.exit_code // "")"' <<<"$output"
	assert_equal "$output" $'create \nstart \nexit 5\ndelete '
	run -0 podvm events --no-stream
	assert_match "$output" "Z container exit   $id name=evented .*exit_code=5"
}

@test "stats" {
	run -0 podvm stats --no-stream
	assert_match "${lines[0]}" "^ID +NAME +CPU % +MEM USAGE / LIMIT +MEM % +NET IO +BLOCK IO +DISK USAGE / SIZE +PIDS +HOST PSS"
	assert_match "${lines[1]}" "shared +[0-9.]+% "
	run -0 podvm stats --no-stream --json shared
	jq -e '.[0] | .name == "shared" and .memory > 0 and .memory_limit > .memory and .pids == 1 and
		.host_pss > 10000000 and .host_private > 0 and (.filesystems | length == 1) and
		([.host_processes[].role] | contains(["owner", "monitor"])) and
		([.host_processes[].pss] | add) == .host_pss' <<<"$output"
	run -125 --separate-stderr podvm stats --no-stream finished
	run -125 --separate-stderr podvm stats --no-stream nonsense
	# A stream goes on by itself.
	run -0 bash -c 'podvm stats -i 1 --json shared | grep -m 3 -o "\"name\""'
	assert_equal "${#lines[@]}" 3
}

busy_is_seen() {
	podvm stats --no-stream --json busy |
		jq -e '.[0] | .cpu_percent > 0 and .cpu_usec > 500000 and .block_written_bytes >= 3000000'
}

@test "stats shows what a busy container does" {
	podvm run -d --name busy "$base" sh -c 'head -c 3000000 /dev/urandom >/x; sync; while :; do :; done'
	until_true 60 busy_is_seen
	podvm rm -f busy
}

@test "stop: several at once, ended ones are fine" {
	podvm run -d --name stop1 --stop-timeout 2 "$base" sleep 1000
	podvm run -d --name stop2 "$base" sh -c 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done'
	until_true 20 has_said stop2 ready
	run -0 podvm stop stop1 stop2 finished
	assert_equal "$output" "stop1"$'\n'"stop2"$'\n'"finished"
	assert_equal "$(state_of stop1 exit_code)" 137
	assert_equal "$(state_of stop2 exit_code)" 5
	run -125 --separate-stderr podvm stop nonsense stop1
	assert_equal "$output" stop1
	run -125 --separate-stderr podvm stop
	podvm rm stop1 stop2
}

@test "kill with a signal of one's choice" {
	podvm run -d --name usr1 "$base" sh -c 'trap "exit 9" USR1; echo ready; while :; do sleep 0.1; done'
	until_true 20 has_said usr1 ready
	run -0 podvm kill -s USR1 usr1
	assert_equal "$output" usr1
	until_true 20 ended usr1
	assert_equal "$(state_of usr1 exit_code)" 9
	run -125 --separate-stderr podvm kill usr1
	assert_error "isn't running"
	run -125 --separate-stderr podvm kill -s NONSENSE shared
	assert_error NONSENSE
	podvm rm usr1
}

@test "rm: refuses what runs, -f doesn't" {
	podvm run -d --name removable "$base" sleep 1000
	run -125 --separate-stderr podvm rm removable
	assert_error "is running"
	run -0 podvm rm -f removable
	assert_equal "$output" removable
	run -125 --separate-stderr podvm rm removable
	run -0 podvm rm -f removable
	assert_equal "$output" ""
	run -125 --separate-stderr podvm inspect removable
}

@test "check tells what this machine can do" {
	run -0 podvm check
	assert_match "$output" "OK  guest-image"
	assert_match "$output" "(OK|--)  kvm"
	assert_match "${lines[-1]}" "^Containers run here"
	run -0 podvm check --json
	jq -e '.usable == true and (.checks | length > 8) and .config["paths.image"] != null' <<<"$output"
	run -1 podvm check --image /nonexistent
	assert_match "$output" "!!  guest-image"
	assert_match "${lines[-1]}" "^No container"
}

@test "help and version" {
	run -0 podvm --help
	for verb in run exec ps inspect logs stats stop kill rm image check; do
		assert_match "$output" "  $verb "
		podvm "$verb" --help >/dev/null
	done
	run -0 podvm --version
	assert_match "$output" "^podvm [0-9]"
	run -125 --separate-stderr podvm nonsense
	assert_error nonsense
}
