#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# bats file_tags=containerd:any
# The shim under Debian's containerd, as ctr uses it.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd

setup_file() {
	setup_containerd
	ctr_run -d $image shared sleep 100000
}

teardown_file() {
	ctr task kill -s SIGKILL shared
	until_true 20 is_stopped shared
	remove_task shared
	teardown_containerd
}

# exec_in EXEC COMMAND...: in the container that most tests share
exec_in() {
	local id=$1
	shift
	ctr task exec --exec-id "$id" shared "$@"
}

# has_file TASK PATH
has_file() {
	ctr task exec --exec-id "look-$RANDOM" "$1" test -e "$2"
}

# Does `ctr events`, whose output is in $E2E/tmp/events, listen by now? Makes an event to see.
events_come() {
	ctr container label shared "x=$RANDOM"
	[ -s "$E2E/tmp/events" ]
}

# delete_stopped TASK CODE: its exit code is what is expected
delete_stopped() {
	run -0 ctr task delete "$1"
	assert_match "$output" "exit code $2"
	ctr container rm "$1"
}

@test "-v and -info answer without containerd" {
	run -0 "$CONTAINERD/bin/containerd-shim-podvm-v2" -v
	assert_match "$output" '^.*containerd-shim-podvm-v2 [0-9]+\.'
	run -0 bash -c '"$1" -info </dev/null | tr -d "\0-\37"' - \
		"$CONTAINERD/bin/containerd-shim-podvm-v2"
	assert_match "$output" 'io.containerd.podvm.v2'
}

@test "a container has a kernel of its own and both streams and its exit code come through" {
	run -7 --separate-stderr ctr_run --rm $image t1 sh -c 'uname -r; echo err >&2; exit 7'
	assert_equal "$output" "$(podvm image info --json | jq -r .kernel_version)"
	assert_match "$stderr" err
}

@test "8 MiB go through stdin and stdout unchanged" {
	head -c 8388608 /dev/urandom >"$E2E/tmp/in"
	ctr_run --rm $image t2 cat <"$E2E/tmp/in" >"$E2E/tmp/out"
	cmp "$E2E/tmp/in" "$E2E/tmp/out"
	rm "$E2E"/tmp/{in,out}
}

@test "a privileged container has the guest's devices, none of the host" {
	run -0 --separate-stderr ctr_run --rm --privileged $image t21 sh -c '
		mknod /tmp/kmsg c 1 11 && head -n 1 /tmp/kmsg
		find /dev -type b'
	assert_match "$output" "Linux version $(podvm image info --json | jq -r .kernel_version)"
	assert_equal "${#lines[@]}" 1
}

@test "ctr's rules for devices open what every container may use, and what it's given" {
	local try='for d in "1 3" "1 1" "10 229"; do
			mknod "/tmp/$d" c $d && (: <"/tmp/$d") 2>/dev/null && echo "$d"
		done
		true'
	run -0 --separate-stderr ctr_run --rm $image t22 sh -c "$try"
	assert_equal "$output" "1 3"
	run -0 --separate-stderr ctr_run --rm --device /dev/fuse $image t23 sh -c "$try"
	assert_equal "$output" $'1 3\n10 229'
}

@test "a terminal" {
	run -5 script -qec "$CONTAINERD/bin/ctr -a $CONTAINERD/c.sock run --rm -t --runtime $runtime $image t3 sh -c 'tty; exit 5'" /dev/null
	assert_match "$output" /dev/pts/0
}

@test "a command that doesn't exist is said to be" {
	run -1 --separate-stderr ctr_run --rm $image t4 no-such-command
	assert_match "$stderr" 'podvm: .*no-such-command.* not found'
}

@test "the host's network is refused, and nothing is left" {
	run -1 --separate-stderr ctr_run --rm --net-host $image t5 true
	assert_match "$stderr" hostNetwork
	until_true 10 no_shim_of t5
}

@test "exec: output, exit code, input" {
	run -3 exec_in e1 sh -c 'echo hello; exit 3'
	assert_equal "$output" hello
	run -0 bash -c 'echo piped | "$1/bin/ctr" -a "$1/c.sock" task exec --exec-id e2 shared cat' - "$CONTAINERD"
	assert_equal "$output" piped
	run -1 --separate-stderr exec_in e3 no-such-command
	assert_match "$stderr" no-such-command
	exec_in bad1 sh -c 'echo text >/tmp/text; chmod +x /tmp/text'
	run -1 --separate-stderr exec_in bad2 /tmp/text
	assert_match "$stderr" 'cannot start the exec.*format error'
}

@test "20 execs at once" {
	local pids=() i
	for i in $(seq 20); do
		exec_in "many$i" sh -c "exit $i" &
		pids+=($!)
	done
	for i in $(seq 20); do
		wait_for "${pids[i - 1]}"
		assert_status "$i"
	done
}

@test "pause stops it, resume goes on" {
	ctr task pause shared
	assert_equal "$(task_status shared)" PAUSED
	run -1 ctr task pause shared
	ctr task resume shared
	assert_equal "$(task_status shared)" RUNNING
	run -0 exec_in e4 true
}

@test "metrics are those of the guest" {
	run -0 ctr task metrics --format json shared
	[ "$(jq .memory.usage <<<"$output")" -gt 10000 ]
	[ "$(jq .cpu.usage_usec <<<"$output")" -gt 0 ]
	assert_equal "$(jq .pids.current <<<"$output")" 1
}

@test "signals reach the process, also after the end they are no error" {
	ctr_run -d $image t6 sh -c 'trap "exit 9" TERM; touch /ready; while :; do sleep 0.1; done'
	until_true 60 has_file t6 /ready
	ctr task kill -s SIGTERM t6
	until_true 20 is_stopped t6
	run -0 ctr task metrics t6
	run -0 ctr task kill -s SIGKILL t6
	delete_stopped t6 9
}

@test "output goes to a file, or to a log program" {
	ctr_run -d --log-uri "file://$E2E/tmp/logs/file" $image t11 sh -c 'echo out; echo err >&2'
	until_true 20 is_stopped t11
	assert_equal "$(sort "$E2E/tmp/logs/file")" $'err\nout'
	remove_task t11

	cat >"$E2E/tmp/logger" <<-END
		#!/bin/bash
		echo "\$CONTAINER_NAMESPACE \$CONTAINER_ID \$*" >"\$2"
		exec 5>&-
		cat <&3 >>"\$2"
		cat <&4 >>"\$2"
	END
	chmod +x "$E2E/tmp/logger"
	ctr_run -d --log-uri "binary://$E2E/tmp/logger?out=$E2E/tmp/log" $image t12 \
		sh -c 'echo out; echo err >&2'
	until_true 20 is_stopped t12
	assert_equal "$(cat "$E2E/tmp/log")" "default t12 out $E2E/tmp/log"$'\nout\nerr'
	remove_task t12
	rm -r "$E2E"/tmp/{logs,log,logger}
}

@test "what is mounted below a read-only volume is writable, unless it's asked for as well" {
	local script='touch /v/below/x && echo below; touch /v/x && echo volume' deep
	mkdir -p "$E2E/tmp/volume/below"
	mount -t tmpfs -o size=1m none "$E2E/tmp/volume/below"
	deep=$(ctr_run --rm --mount "type=bind,src=$E2E/tmp/volume,dst=/v,options=rbind:rro" \
		$image t14 sh -c "$script" || true)
	run --separate-stderr ctr_run --rm \
		--mount "type=bind,src=$E2E/tmp/volume,dst=/v,options=rbind:ro" $image t15 \
		sh -c "$script"
	unmount "$E2E/tmp/volume/below"
	rm -r "$E2E/tmp/volume"
	assert_equal "$deep" ""
	assert_equal "$output" below
}

@test "events come in order" {
	local events
	ctr events >"$E2E/tmp/events" 3>&- &
	events=$!
	until_true 60 events_come
	run -4 ctr_run --rm $image t7 sh -c 'exit 4'
	until_true 60 grep -q '/tasks/delete .*"t7"' "$E2E/tmp/events"
	kill $events
	run -0 sed -n 's/^.* default \(\/tasks\/[a-z-]*\) .*"t7".*/\1/p' "$E2E/tmp/events"
	assert_equal "$output" $'/tasks/create\n/tasks/start\n/tasks/exit\n/tasks/delete'
	grep -q '/tasks/exit.*"exit_status":4' "$E2E/tmp/events"
	rm "$E2E/tmp/events"
}

@test "an OOM kill of any process is an event" {
	local events
	ctr events >"$E2E/tmp/events" 3>&- &
	events=$!
	until_true 60 events_come
	ctr_run -d --memory-limit 33554432 $image t13 sleep 1000
	run ctr task exec --exec-id eat t13 dd if=/dev/zero of=/dev/null bs=60M count=1
	assert_status 137
	until_true 10 grep -q '/tasks/oom.*t13' "$E2E/tmp/events"
	kill $events
	assert_equal "$(task_status t13)" RUNNING
	ctr task kill -s SIGKILL t13
	until_true 20 is_stopped t13
	remove_task t13
	rm "$E2E/tmp/events"
}

@test "the monitor is killed: 137, for the exec too" {
	local exec
	ctr_run -d $image t8 sleep 1000
	ctr task exec --exec-id x t8 sh -c 'touch /ready; exec sleep 1000' &
	exec=$!
	until_true 60 has_file t8 /ready
	kill -9 "$(ctr task ls | awk '$1 == "t8" { print $2 }')"
	wait_for $exec
	assert_status 137
	until_true 10 is_stopped t8
	delete_stopped t8 137
}

@test "the shim is killed: containerd notices, nothing is left" {
	local shim
	ctr_run -d $image t9 sleep 1000
	shim=$(shim_of t9)
	kill -9 "$shim"
	until_true 20 no_task t9
	ctr container rm t9
	until_true 10 test ! -e "$E2E/state/default_t9"
}

@test "a configuration file of the runtime's own, also for cleaning up after a crash" {
	sed "s|^state = .*|state = $E2E/state2|" "$E2E/podvm.conf" >"$E2E/tmp/own.conf"
	chmod 600 "$E2E/tmp/own.conf"
	ctr_run -d --runtime-config-path "$E2E/tmp/own.conf" $image t14 sleep 1000
	[ -e "$E2E/state2/default_t14" ]
	kill -9 "$(shim_of t14)"
	until_true 20 no_task t14
	ctr container rm t14
	until_true 10 test ! -e "$E2E/state2/default_t14"
	rm -r "$E2E/state2" "$E2E/tmp/own.conf"
}

# run ends when the last descriptor of its pipe is closed, as containerd's reading does.
@test "start prints an address and nothing else, and the daemon gets no descriptors" {
	local shim socket bundle=$E2E/tmp/bundle
	mkdir "$bundle"
	touch "$bundle/log"
	echo '{}' >"$bundle/config.json"
	run -0 env "PODVM_CONFIG=$E2E/podvm.conf" bash -c 'cd "$1" && exec "$2" -namespace e2e \
		-address /nowhere -id direct start 9<config.json </dev/null' - \
		"$bundle" "$CONTAINERD/bin/containerd-shim-podvm-v2"
	assert_match "$output" '^unix:///run/containerd/s/[0-9a-f]{32}$'
	socket=${output#unix://}
	shim=$(shim_of direct)
	until_true 30 grep -q 'the shim serves' "$bundle/log"
	run -1 bash -c "ls -l /proc/$shim/fd | grep config.json"
	kill "$shim"
	until_true 10 no_shim_of direct
	[ ! -e "$socket" ]
	rm -r "$bundle"
}

@test "containerd is restarted: the task goes on" {
	ctr_run -d $image t10 sh -c 'sleep 3; exit 6'
	stop_containerd
	start_containerd
	assert_equal "$(task_status shared)" RUNNING
	run -0 exec_in e5 echo again
	assert_equal "$output" again
	until_true 20 is_stopped t10
	delete_stopped t10 6
}
