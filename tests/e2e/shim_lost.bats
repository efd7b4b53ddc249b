#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# bats file_tags=containerd:any
# What containerd is told when something of a pod goes away: the shim, the monitor, the guest or its
# answers, containerd itself. Every container has its events once and in order, with the exit code
# that says how it was, and on the host and in the pod's network namespace all is as before.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load pods

setup_file() {
	setup_containerd
	cp "$E2E/podvm.conf" "$E2E/tmp/conf"
	listen
}

teardown_file() {
	kill "$(cat "$E2E/tmp/listener")" || true
	ip netns del "$NETNS" || true
	rm -f "$E2E"/tmp/*
	teardown_pods
}

teardown() {
	umount "$E2E/cache" 2>/dev/null || true
}

NETNS=pvlost-${E2E##*.}

# ---- events ----

# Does `ctr events` listen by now? Makes an event to see.
events_come() {
	ctr namespace label default "x=$RANDOM"
	grep -q /namespaces/update "$E2E/tmp/events"
}

# Events are noted from now on; those of a containerd that has gone are forgotten.
listen() {
	ctr events >"$E2E/tmp/events" 3>&- &
	echo $! >"$E2E/tmp/listener"
	until_true 30 events_come
}

# story ID: the events of a container in order, with the codes of exits; those of its execs are marked
story() {
	sed -n 's|^.* /tasks/\([a-z-]*\) \({.*}\)$|{"what": "\1", "event": \2}|p' "$E2E/tmp/events" |
		jq -rs --arg id "$1" '[.[] | select(.event.container_id == $id) |
			(if (.event.id // $id) == $id then "" else "exec-" end) + .what +
			(if .event.exited_at then ":\(.event.exit_status // 0)" else "" end)] | join(" ")'
}

story_is() {
	[ "$(story "$1")" = "$2" ]
}

assert_story() {
	until_true 30 story_is "$1" "$2" || fail "events: $(story "$1")"$'\n'"want:   $2"
}

# ---- pods ----

# start_pod NAME: POD and its container A, which ends when it's told to, but not at once
start_pod() {
	POD=$(run_pod "$1")
	A=$(create_container "$POD" a 'trap ": >/volume/told" TERM
		until [ -e /volume/end ]; do sleep 0.1; done; exit 5')
	rm -f "$CONTAINERD"/volume/*
	start_container "$A"
}

# The monitor of the pod: the task's process
monitor_of() {
	ctr -n k8s.io task ls | awk -v id="$1" '$1 == id && $2 > 0 { print $2 }'
}

# A StopContainer with much patience is under way: $CLIENT, and the container knows.
begin_to_stop() {
	cri StopContainer "{\"container_id\": \"$A\", \"timeout\": 1000}" >/dev/null 2>&1 3>&- &
	CLIENT=$!
	until_true 30 test -e "$CONTAINERD/volume/told"
}

# assert_lost CODE: the container and its pod have ended by themselves, and go without a trace.
assert_lost() {
	until_true 30 container_exited "$A"
	assert_equal "$(container_status "$A" exit_code)" "$1"
	until_true 30 pod_not_ready "$POD"
	until_true 30 remove_pod "$POD"
	assert_no_pods
}

@test "a container ends, then its pod" {
	start_pod end
	: >"$CONTAINERD/volume/end"
	assert_story "$A" 'create start exit:5 delete:5'
	assert_story "$POD" 'create start'
	remove_pod "$POD"
	assert_story "$POD" 'create start exit:137 delete:137'
	assert_story "$A" 'create start exit:5 delete:5'
	assert_no_pods
}

@test "a pod is stopped with all it has" {
	start_pod stop
	stop_pod "$POD"
	assert_story "$A" 'create start exit:137 delete:137'
	assert_story "$POD" 'create start exit:137 delete:137'
	assert_lost 137
}

@test "memory runs out: that's told before the exit" {
	ctr_run -d --memory-limit 33554432 $image eats dd if=/dev/zero of=/dev/null bs=60M count=1
	until_true 30 is_stopped eats
	ctr task delete eats || true
	ctr container rm eats
	assert_story eats 'create start oom exit:137 delete:137'
}

@test "the shim is killed" {
	start_pod shim
	kill -9 "$(shim_of "$POD")"
	assert_story "$A" 'create start exit:137 delete:137'
	assert_story "$POD" 'create start exit:137 delete:137'
	assert_lost 255
}

@test "the monitor is killed while an exec runs" {
	local client
	start_pod monitor
	exec_in "$A" ': >/volume/told; sleep 1000' 3>&- &
	client=$!
	until_true 30 test -e "$CONTAINERD/volume/told"
	kill -9 "$(monitor_of "$POD")"
	wait_for $client
	assert_status 137
	assert_story "$A" 'create start exec-added exec-started exec-exit:137 exit:137 delete:137'
	assert_story "$POD" 'create start exit:137 delete:137'
	assert_lost 137
}

@test "the monitor is killed while a container is stopped" {
	start_pod stopping
	begin_to_stop
	kill -9 "$(monitor_of "$POD")"
	wait_for $CLIENT
	assert_status 0
	assert_story "$A" 'create start exit:137 delete:137'
	assert_lost 137
}

@test "the monitor is killed while the pod is stopped" {
	local client monitor
	start_pod ending
	monitor=$(monitor_of "$POD")
	stop_pod "$POD" 3>&- &
	client=$!
	# Whoever is first: there's one end.
	kill -9 "$monitor" || true
	wait_for $client
	assert_status 0
	assert_story "$A" 'create start exit:137 delete:137'
	assert_story "$POD" 'create start exit:137 delete:137'
	assert_lost 137
}

@test "the guest hangs: who wants something of it finds out" {
	sed 's/^agent_timeout = .*/agent_timeout = 30s/' "$E2E/tmp/conf" >"$E2E/podvm.conf"
	start_pod hang
	cat "$E2E/tmp/conf" >"$E2E/podvm.conf"
	kill -STOP "$(monitor_of "$POD")"
	run -125 cri ContainerStats "{\"container_id\": \"$A\"}"
	assert_story "$A" 'create start exit:137 delete:137'
	assert_story "$POD" 'create start exit:137 delete:137'
	until_true 30 grep -q 'the guest hangs: its agent has not answered for 30 s' "$CONTAINERD/log"
	assert_lost 137
}

@test "containerd is killed while a container is stopped" {
	local containerd
	start_pod absent
	begin_to_stop
	containerd=$(cat "$CONTAINERD/pid")
	kill -9 "$containerd"
	wait_for $CLIENT
	assert_status 125
	until_true 10 process_gone "$containerd"
	: >"$CONTAINERD/volume/end"
	start_containerd
	listen
	until_true 30 container_exited "$A"
	assert_equal "$(container_status "$A" exit_code)" 5
	until_true 30 remove_pod "$POD"
	assert_story "$POD" 'exit:137 delete:137'
	assert_no_pods
}

# ---- what is taken on the host ----

# What of a namespace a pod could have changed. (Neighbours come and go.)
netns_state() {
	ip netns exec "$NETNS" sh -c 'ip -d link; ip addr; ip route; ip -6 route; ip rule
		tc qdisc; tc filter show dev eth0 ingress; ss -ltnH'
}

# A namespace as a CNI plugin would make it, which stays whatever becomes of the pod.
make_netns() {
	ip netns add "$NETNS"
	ip netns exec "$NETNS" sh -c 'ip link set lo up
		ip link add eth0 type veth peer name other
		ip link set eth0 up && ip link set other up
		ip addr add 10.66.0.2/24 dev eth0 && ip -6 addr add fd66::2/64 dev eth0 nodad
		ip route add default via 10.66.0.1 && ip -6 route add default via fd66::1'
}

# Both ends of the link have found out that they are up, and that their own addresses are nobody else's.
addresses_settled() {
	[ "$(ip -n "$NETNS" -o link show up | grep -c ' state UP ')" = 2 ] &&
		[ "$(ip -n "$NETNS" -6 -o addr show scope link | grep -c ' fe80:')" = 2 ] &&
		[ -z "$(ip -n "$NETNS" addr show tentative)" ]
}

# in_netns NAME: a container that sleeps in it
in_netns() {
	ctr_run -d --with-ns "network:/run/netns/$NETNS" $image "$1" sleep 100000
	run -0 ctr task exec --exec-id x "$1" ip -4 addr show dev eth0
	assert_match "$output" 'inet 10\.66\.0\.2/24'
	[ "$(netns_state)" != "$(cat "$E2E/tmp/netns")" ]
}

netns_restored() {
	[ "$(netns_state)" = "$(cat "$E2E/tmp/netns")" ]
}

assert_netns_restored() {
	until_true 30 netns_restored || diff "$E2E/tmp/netns" <(netns_state)
}

@test "a network namespace that stays is as before, however the pod has ended" {
	make_netns
	until_true 30 addresses_settled
	netns_state >"$E2E/tmp/netns"
	in_netns n1
	ctr task kill -s SIGKILL n1
	until_true 30 is_stopped n1
	remove_task n1
	assert_netns_restored
	in_netns n2
	kill -9 "$(ctr task ls | awk '$1 == "n2" { print $2 }')"
	until_true 30 is_stopped n2
	remove_task n2
	assert_netns_restored
	in_netns n3
	kill -9 "$(shim_of n3)"
	until_true 30 no_task n3
	ctr container rm n3
	assert_netns_restored
}

@test "a group without a sandbox: whoever is left is cleaned up after" {
	local group=(--annotation io.containerd.runc.v2.group=the-group)
	ctr_run -d "${group[@]}" $image g1 sleep 100000
	ctr_run -d "${group[@]}" $image g2 sleep 100000
	# The first one goes, the second goes on.
	ctr task kill -s SIGKILL g1
	until_true 30 is_stopped g1
	remove_task g1
	run -0 ctr task exec --exec-id x g2 echo works
	assert_equal "$output" works
	kill -9 "$(shim_of the-group)"
	until_true 30 no_task g2
	ctr container rm g2
	assert_no_pods
}

@test "the cache is full: a container runs from the host's directory, and nothing is left" {
	mkdir -p "$E2E/cache"
	mount -t tmpfs -o size=64k full "$E2E/cache"
	run -0 ctr_run --rm $image full sh -c 'echo in the machine; grep " / " /proc/mounts'
	assert_match "$output" 'in the machine'
	assert_match "$output" ' / fuse '
	until_true 30 grep -q "level=warn.*no space in $E2E/cache" "$CONTAINERD/log"
	assert_equal "$(find "$E2E/cache" -type f -size +0)" ""
	unmount "$E2E/cache"
	assert_no_pods
	run -0 ctr_run --rm $image again grep ' / ' /proc/mounts
	assert_match "$output" ' / overlay '
}
