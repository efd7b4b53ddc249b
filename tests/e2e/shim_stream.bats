#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# bats file_tags=containerd:any
# What kubectl exec, attach and port-forward use: CRI's streaming server, with cri-tools' crictl; logs
# that are rotated, and statistics of a pod.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load pods

setup_file() {
	local tools
	if ! tools=$("$BATS_TEST_DIRNAME/../tools.sh" cri-tools 2>"$E2E/tmp/tools"); then
		WHY_NOT=$(tail -n 1 "$E2E/tmp/tools")
		export WHY_NOT
		return
	fi
	setup_containerd
	ln -s "$tools/crictl" "$CONTAINERD/bin/"
	printf 'runtime-endpoint: unix://%s/c.sock\n' "$CONTAINERD" >"$CONTAINERD/crictl.yaml"
	POD=$(run_pod one)
	WEB=$(create_container "$POD" web 'echo before; httpd -f -p 127.0.0.1:8080 -h /volume')
	export POD WEB
	start_container "$WEB"
}

teardown_file() {
	[ -n "${WHY_NOT:-}" ] || teardown_pods
}

setup() {
	[ -z "${WHY_NOT:-}" ] || skip "$WHY_NOT"
}

crictl() {
	"$CONTAINERD/bin/crictl" -c "$CONTAINERD/crictl.yaml" "$@"
}

# create_reader NAME TTY SCRIPT: a container with standard input; prints its id
create_reader() {
	cri CreateContainer "$(jq -n --arg pod "$POD" --argjson pc "$(pod_config one)" --arg name "$1" \
		--argjson tty "$2" --arg script "$3" --arg image "$image" '{pod_sandbox_id: $pod,
			sandbox_config: $pc, config: {metadata: {name: $name}, image: {image: $image},
			command: ["sh", "-c", $script], log_path: "\($name).log",
			stdin: true, tty: $tty}}')" | jq -r .container_id
}

log_lines() {
	sed 's/^[^ ]* //' "$CONTAINERD/logs/$1.log"
}

has_logged() {
	log_lines "$1" | grep -qx "$2"
}

@test "exec: both streams, input, exit code" {
	run --separate-stderr crictl exec -i "$WEB" sh -c 'cat; echo err >&2; exit 3' <<<"a line"
	assert_equal "$output" "a line"
	assert_match "$stderr" '^err'
	assert_match "$stderr" 'exit code 3'
}

@test "exec: 4 MiB each way are unchanged" {
	head -c 4194304 /dev/urandom >"$E2E/tmp/in"
	crictl exec -i "$WEB" cat <"$E2E/tmp/in" >"$E2E/tmp/out"
	cmp "$E2E/tmp/in" "$E2E/tmp/out"
	rm "$E2E"/tmp/{in,out}
}

@test "exec: a terminal, with its size" {
	run -0 on_pty --size 30x100 "$CONTAINERD/bin/crictl" -c "$CONTAINERD/crictl.yaml" \
		exec -it "$WEB" sh <<-'END'
		expect #
		send until [ "$(stty size)" = "30 100" ]; do sleep 0.1; done; echo is $((30 + 1))\r
		expect is 31
		resize 40x120
		send until [ "$(stty size)" = "40 120" ]; do sleep 0.1; done; echo is $((40 + 1))\r
		expect is 41
		send exit\r
	END
}

@test "attach: input goes to the process, output comes from it and to the log" {
	local id
	id=$(create_reader reader false 'while read -r x && [ "$x" != bye ]; do echo "got $x"; done; exit 6')
	start_container "$id"
	# The end of the input is the end of what is attached, so it mustn't come first.
	{ printf 'one\ntwo\nbye\n' && until_true 30 container_exited "$id"; } |
		crictl attach -i "$id" >"$E2E/tmp/attached"
	assert_equal "$(cat "$E2E/tmp/attached")" $'got one\ngot two'
	assert_equal "$(container_status "$id" exit_code)" 6
	until_true 30 has_logged reader 'stdout F got two'
	remove_container "$id"
	rm "$E2E/tmp/attached"
}

@test "attach: a terminal" {
	local id
	id=$(create_reader terminal true 'exec sh')
	start_container "$id"
	run -0 on_pty "$CONTAINERD/bin/crictl" -c "$CONTAINERD/crictl.yaml" attach -it "$id" <<-'END'
		send echo $((6 * 7))\r
		expect 42
		send exit 5\r
	END
	until_true 30 container_exited "$id"
	assert_equal "$(container_status "$id" exit_code)" 5
	remove_container "$id"
}

@test "port-forward reaches a server on the pod's localhost" {
	local forward port
	head -c 4194304 /dev/urandom >"$CONTAINERD/volume/page"
	crictl port-forward "$POD" 0:8080 >"$E2E/tmp/forward" 2>&1 3>&- &
	forward=$!
	until_true 30 grep -q '^Forwarding from 127' "$E2E/tmp/forward"
	port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\).*/\1/p' "$E2E/tmp/forward")
	curl --noproxy '*' -sSf -o "$E2E/tmp/page" "http://127.0.0.1:$port/page"
	cmp "$E2E/tmp/page" "$CONTAINERD/volume/page"
	kill $forward
	wait_for $forward
	rm "$E2E"/tmp/{page,forward}
}

@test "a log that is moved away goes on in a new file" {
	local id
	id=$(create_container "$POD" writer 'mkfifo /fifo; exec 3<>/fifo; while read -r x <&3; do echo "$x"; done')
	start_container "$id"
	exec_in "$id" 'until [ -p /fifo ]; do sleep 0.1; done; echo first >/fifo'
	until_true 30 has_logged writer 'stdout F first'
	mv "$CONTAINERD/logs/writer.log" "$CONTAINERD/logs/old.log"
	cri ReopenContainerLog "{\"container_id\": \"$id\"}"
	exec_in "$id" 'echo second >/fifo'
	until_true 30 has_logged writer 'stdout F second'
	assert_equal "$(log_lines old)" 'stdout F first'
	remove_container "$id"
}

@test "statistics of a pod: its cgroup on the host, its interface, its containers" {
	run -0 --separate-stderr crictl statsp --id "$POD" -o json
	output=$(jq '.stats[0].linux' <<<"$output")
	[ "$(jq -r .cpu.usageCoreNanoSeconds.value <<<"$output")" -gt 0 ]
	# The machine's memory, not only that of what runs in it.
	[ "$(jq -r .memory.workingSetBytes.value <<<"$output")" -gt 30000000 ]
	assert_equal "$(jq -r .network.defaultInterface.name <<<"$output")" eth0
	jq -e --arg id "$WEB" 'any(.containers[]; .attributes.id == $id)' <<<"$output"
}

@test "a process that ignores SIGTERM is killed when its time is over" {
	local id
	id=$(create_reader deaf false 'trap "" TERM; echo ready; while :; do sleep 1; done')
	start_container "$id"
	until_true 30 has_logged deaf 'stdout F ready'
	cri StopContainer "{\"container_id\": \"$id\", \"timeout\": 1}"
	assert_equal "$(container_status "$id" exit_code)" 137
	remove_container "$id"
}
