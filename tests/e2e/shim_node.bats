#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# `podvm` on a node whose pods are containerd's: ps, inspect, exec, logs, stats, events, check.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load pods

setup_file() {
	setup_containerd
	podvm events --all --json >"$E2E/tmp/events" 3>&- &
	echo $! >"$E2E/tmp/events-pid"
	POD=$(run_pod node1)
	A=$(create_container "$POD" app 'trap "exit 7" TERM; echo app >/who; while :; do sleep 0.1; done')
	start_container "$A"
	B=$(create_container "$POD" side 'sleep 100000')
	start_container "$B"
	export POD A B
}

teardown_file() {
	kill "$(cat "$E2E/tmp/events-pid")" || true
	rm -rf "$E2E"/tmp/events*
	teardown_pods
}

# Events of an object, in their order.
events_of() {
	jq -r --arg id "$1" 'select(.id == $id) | .event' "$E2E/tmp/events" | tr '\n' ' '
}

events_are() {
	[ "$(events_of "$1")" = "$2" ]
}

@test "ps shows the pod, and its containers if they are asked for" {
	run -0 podvm ps
	assert_match "$output" "${POD:0:12} .* pod of default: 2 containers .* Up .* node1"
	[[ $output != *node1/app* ]]
	run -0 podvm ps --containers
	assert_match "$output" "${A:0:12} .* sh -c trap .* Up .* node1/app"
	assert_match "$output" "${B:0:12} .* sh -c sleep .* Up .* node1/side"
	run -0 podvm ps -cq --no-trunc
	assert_equal "$(sort <<<"$output")" "$(printf '%s\n' "$POD" "$A" "$B" | sort)"
	run -0 podvm ps --json
	run -0 jq -r '.[] | select(.pod) | .name, .namespace, (.containers | map(.name) | sort[])' \
		<<<"$output"
	assert_equal "$output" $'node1\ndefault\napp\nside'
}

@test "inspect: the pod with its containers, or one of them with its spec" {
	run -0 podvm inspect node1
	assert_equal "$(jq -r '.[0].containers | length' <<<"$output")" 2
	[ "$(jq '.[0].live.guest.memory_total' <<<"$output")" -gt 100000000 ]
	run -0 jq -r '.[0].live.processes | map(.role) | unique | join(" ")' <<<"$output"
	assert_match "$output" 'monitor owner'
	run -0 podvm inspect "$A"
	assert_equal "$(jq -r '.[0].spec.process.args[0]' <<<"$output")" sh
}

@test "exec in a container of a pod: by id, the start of one, and name" {
	local what
	for what in "$A" "${A:0:12}" node1/app "${POD:0:8}/app" app; do
		run -3 podvm exec "$what" sh -c 'cat /who; exit 3'
		assert_equal "$output" app
	done
	run -125 podvm exec node1 true
	assert_error 'pod node1 has 2 containers.*node1/CONTAINER: .*app'
	run -127 podvm exec side no-such-command
}

@test "exec -it has a terminal, and users are those of the container" {
	run -0 on_pty podvm exec -it side tty
	assert_match "$output" /dev/pts/
	podvm exec side sh -c 'echo "someone:x:1234:1234::/home/someone:/bin/sh" >>/etc/passwd'
	run -0 podvm exec -u someone side sh -c 'id -u; echo $HOME'
	assert_equal "$output" $'1234\n/home/someone'
	run -125 podvm exec -u nobody-of-that-name side true
	assert_error 'no user "nobody-of-that-name"'
}

@test "logs of a pod are those of all its parts, in the order of time" {
	run -0 podvm logs node1
	assert_match "$output" $'Z shim    level=info msg="guest is up"'
	assert_match "$output" $'Z kernel  Linux version'
	assert_match "$output" $'Z agent   level='
	assert_equal "$(cut -d ' ' -f 1 <<<"$output" | sort -c 2>&1)" ""
	# The kernel's clock was converted: it began in the life of the shim.
	assert_match "$(grep -o '.* kernel  Linux version' <<<"$output")" "^$(date -u +%Y-)"
	run -0 podvm logs --tail 2 node1
	assert_equal "${#lines[@]}" 2
	run -125 podvm logs node1/app
	assert_error 'containerd has the output.*kubectl'
}

@test "stats: a line for the pod and one for each container" {
	run -0 podvm stats --no-stream
	assert_match "$output" "${POD:0:12} *node1 .*%.* / .*MB"
	assert_match "$output" "${A:0:12} *node1/app .*--"
	run -0 podvm stats --no-stream --json node1
	assert_equal "$(jq -r 'map(.name) | sort | join(" ")' <<<"$output")" "node1 node1/app node1/side"
	[ "$(jq '.[0].host_pss' <<<"$output")" -gt 1000000 ]
	jq -e '.[0] | (.host_processes | map(.role) | contains(["owner", "monitor"])) and
		(.host_processes | map(.pss) | add) == .host_pss' <<<"$output"
	jq -e 'map(select(.name == "node1/app"))[0].host_processes == null' <<<"$output"
	[ "$(jq 'map(select(.name == "node1/app"))[0].memory' <<<"$output")" -gt 10000 ]
}

@test "what containerd owns isn't stopped behind its back" {
	local what verb
	for verb in stop kill rm 'rm -f'; do
		for what in node1 app; do
			# shellcheck disable=SC2086 # an option
			run -125 podvm $verb "$what"
			assert_error 'containerd owns .*kubectl, crictl'
		done
	done
	podvm stop -a
	podvm rm -fa
	run -0 podvm exec app true
}

@test "check: containerd is found, with its shim, its runtime and CNI" {
	run podvm check --json
	run -0 jq -r --arg config "$CONTAINERD/config.toml" '.checks[] |
		select((.name | startswith("containerd")) and (.text | contains($config))) | .status' \
		<<<"$output"
	assert_equal "$(sort -u <<<"$output")" ok
}

@test "check: a runtime that isn't configured is told with the lines to add" {
	cp "$CONTAINERD/config.toml" "$E2E/tmp/config.toml"
	sed -i 's/io.containerd.podvm.v2/io.containerd.runc.v2/' "$CONTAINERD/config.toml"
	run podvm check --json
	mv "$E2E/tmp/config.toml" "$CONTAINERD/config.toml"
	run -0 jq -r --arg config "$CONTAINERD/config.toml" '.checks[] |
		select(.name == "containerd-runtime" and (.text | contains($config))) | .status, .hint' \
		<<<"$output"
	assert_match "$output" "limited.*add to $CONTAINERD/config.toml:"
	assert_match "$output" 'plugins..io.containerd.(grpc.v1.cri|cri.v1.runtime)..containerd.runtimes.podvm]'
	assert_match "$output" 'runtime_type = "io.containerd.podvm.v2"'
}

@test "events tell of processes that were killed for want of memory" {
	run -137 ctr_run --rm --memory-limit 33554432 "$image" eater \
		dd if=/dev/zero of=/dev/null bs=60M count=1
	until_true 20 events_are eater 'create start oom exit delete '
}

@test "a pod that containerd has forgotten can be ended" {
	local bundle=$CONTAINERD/state/io.containerd.runtime.v2.task/default/orphan
	ctr_run -d "$image" orphan sleep 100000
	run -125 podvm rm -f orphan
	mv "$bundle" "$E2E/tmp/orphan"
	run -0 podvm rm -f orphan
	mv "$E2E/tmp/orphan" "$bundle"
	until_true 20 no_shim_of orphan
	until_true 20 no_task orphan
	# containerd may have looked for it meanwhile.
	rm -rf --one-file-system "$bundle"
	ctr container rm orphan
}

@test "events tell what happens to the pod and its containers" {
	local id
	until_true 20 events_are "$POD" 'create start '
	id=$(create_container "$POD" short 'exit 4')
	start_container "$id"
	until_true 30 container_exited "$id"
	remove_container "$id"
	until_true 20 events_are "$id" 'create start exit delete '
	run -0 jq -r --arg id "$id" 'select(.id == $id and .event == "exit") | .exit_code, .name, .sandbox' \
		"$E2E/tmp/events"
	assert_equal "$output" $'4\nshort\n'"$POD"
	run -0 podvm events --no-stream
	assert_match "$output" "Z container exit   $id name=short namespace=default pod=$POD .*exit_code=4"
}

@test "annotations choose what the configuration allows" {
	mkdir "$E2E/podvm.conf.d"
	printf '[annotations]\nallowed = podvm.io/memory podvm.io/vcpus\n' \
		>"$E2E/podvm.conf.d/annotations.conf"
	run -1 ctr_run --rm --annotation podvm.io/memory=lots "$image" an1 true
	assert_match "$output" 'podvm.io/memory = .*lots.*it must be a size'
	run -1 ctr_run --rm --annotation podvm.io/machine=q35 "$image" an2 true
	assert_match "$output" "podvm.io/machine isn't allowed"
	run -0 ctr_run --rm --annotation podvm.io/memory=400M --annotation podvm.io/vcpus=2 \
		"$image" an3 sh -c 'nproc; sed -n "s/MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo'
	assert_equal "${lines[0]}" 2
	[ "${lines[1]}" -gt 300000 ]
	rm -r "$E2E/podvm.conf.d"
}

@test "a pod whose shim was killed is gone for podvm, too" {
	local pod
	pod=$(run_pod node2)
	kill -9 "$(shim_of "$pod")"
	until_true 30 test ! -e "$E2E/state/$pod"
	run -125 podvm inspect "$pod"
	until_true 10 events_are "$pod" 'create start exit delete '
	until_true 60 remove_pod "$pod"
}

@test "the end of the pod is told" {
	remove_pod "$POD"
	until_true 20 events_are "$A" 'create start exit delete '
	until_true 20 events_are "$POD" 'create start exit delete '
	run -0 podvm ps -q
	assert_equal "$output" ""
}
