#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Standard streams and terminals.

# shellcheck disable=SC2154 # images and what run sets come from elsewhere
# shellcheck disable=SC2016 # what the container's shell is to expand stays as it is

load helpers

# Of what goes through a terminal, which is slower.
size=$((16 << 20))

setup_file() {
	common_setup_file
	# What random bytes can't be: sure to be the same, whatever cuts them.
	head -c $((64 << 20)) /dev/urandom >"$E2E/random"
	head -c $size "$E2E/random" >"$E2E/less"
	start_shared
}

teardown_file() {
	rm -f "$E2E"/{random,less}
	common_teardown_file
}

teardown() {
	rm -rf "$E2E/tmp"/*
}

sum() {
	sha256sum | cut -d' ' -f1
}

@test "stdin, stdout and stderr are apart" {
	run -0 --separate-stderr podvm exec -i shared sh -c 'cat; echo error >&2' <<<"input"
	assert_equal "$output" input
	assert_equal "$stderr" error
	# Without -i there is no input.
	run -0 podvm exec shared cat <<<"input"
	assert_equal "$output" ""
}

@test "64 MiB to the container" {
	run -0 podvm exec -i shared sha256sum <"$E2E/random"
	assert_equal "${output%% *}" "$(sum <"$E2E/random")"
}

@test "64 MiB from the container" {
	# A file in the guest that both sides know the sum of.
	podvm exec -i shared sh -c 'cat >/root/random' <"$E2E/random"
	assert_equal "$(podvm exec shared cat /root/random | sum)" "$(sum <"$E2E/random")"
	podvm exec shared rm /root/random
}

@test "16 MiB to the container through a terminal" {
	run -0 on_pty podvm exec -it shared sh -c \
		"stty raw -echo; echo READY; head -c $size | sha256sum" <<-END
		expect READY
		sendfile $E2E/less
		expect [0-9a-f]{64}
	END
	assert_match "$output" "$(sum <"$E2E/less")"
}

@test "16 MiB from the container through a terminal" {
	podvm exec -i shared sh -c 'cat >/root/random' <"$E2E/less"
	run -0 on_pty podvm exec -it shared sh -c \
		'stty raw -echo; echo READY; cat /root/random; echo DONE' <<-END
		expect READY\\n
		save $E2E/tmp/got $size
		expect DONE
	END
	assert_equal "$(sum <"$E2E/tmp/got")" "$(sum <"$E2E/less")"
	podvm exec shared rm /root/random
}

@test "a terminal: size, resize, Ctrl-C, exit code" {
	run -7 on_pty --size 33x99 podvm run --rm -it "$base" sh <<-'END'
		expect [#$] 
		send stty size\r
		expect 33 99
		resize 50x132
		send until [ "$(stty size)" = "50 132" ]; do sleep 0.1; done; echo is $((50 + 1))\r
		expect is 51
		send sh -c "echo RUN''NING; exec sleep 1000"\r
		expect RUNNING
		send \x03
		expect [#$] 
		send tty; exit 7\r
	END
	assert_match "$output" "/dev/(console|pts/)"
}

@test "resize of an exec" {
	run -0 on_pty podvm exec -it shared sh <<-'END'
		expect [#$] 
		resize 41x123
		send until [ "$(stty size)" = "41 123" ]; do sleep 0.1; done; echo is $((41 + 1))\r
		expect is 42
		send exit\r
	END
}

@test "Ctrl-C ends a container without a terminal of its own" {
	run -130 on_pty podvm run --rm "$base" sh -c \
		'trap "exit 130" INT; echo READY; while :; do sleep 0.1; done' <<-'END'
		expect READY
		send \x03
	END
}

@test "a reader that leaves ends the writer" {
	run -0 bash -c 'podvm exec shared yes | head -n 2'
	assert_equal "$output" "y"$'\n'"y"
	until_true 20 no_yes
}

no_yes() {
	! inside 'ps | grep " [y]es"'
}

@test "stdin is a file, an empty one, and closed" {
	echo text >"$E2E/tmp/file"
	run -0 podvm exec -i shared cat <"$E2E/tmp/file"
	assert_equal "$output" text
	run -0 podvm exec -i shared cat </dev/null
	assert_equal "$output" ""
	run -0 bash -c 'podvm exec -i shared cat <&-'
	assert_equal "$output" ""
}

@test "output of 20 MB is logged without growing without bounds" {
	podvm run -d --name chatty "$base" sh -c 'yes 0123456789012345678901234567890 | head -c 40000000'
	until_true 120 ended chatty
	local dir
	dir=$(podvm inspect chatty | jq -r '.[0].paths.run_dir')
	[ "$(stat -c %s "$dir/log")" -le $((16 << 20)) ]
	[ "$(stat -c %s "$dir/log.1")" -le $((16 << 20)) ]
	run -0 podvm logs --tail 1 chatty
	assert_match "$output" '^[0-9]+$'
	podvm rm chatty
}

@test "200 execs, one after the other" {
	local i
	for i in $(seq 200); do
		[ "$(podvm exec shared echo "$i")" = "$i" ] || fail "exec $i"
	done
	until_true 20 few_processes
}

few_processes() {
	[ "$(inside 'ls /proc | grep -c "^[0-9]"')" -le 6 ]
}

@test "20 execs at the same time" {
	local i pids=()
	for i in $(seq 20); do
		podvm exec -i shared sh -c "cat >/dev/null; head -c 100000 /dev/zero; exit $i" </dev/null \
			>"$E2E/tmp/out.$i" &
		pids+=($!)
	done
	for i in $(seq 20); do
		wait_for "${pids[$((i - 1))]}"
		assert_status "$i"
		assert_equal "$(stat -c %s "$E2E/tmp/out.$i")" 100000
	done
}

@test "an exec that is killed doesn't live on in the guest" {
	podvm exec shared sleep 4242 &
	local pid=$!
	until_true 20 inside 'ps | grep "sleep 424[2]"'
	kill -9 $pid
	until_true 20 no_sleep
}

no_sleep() {
	! inside 'ps | grep "sleep 424[2]"'
}
