#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Sockets of the host in a pod, as far as host_sockets of podvm.conf lists them.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load kubelet

setup_file() {
	setup_containerd
	S=$E2E/s
	export S
	mkdir -p "$E2E/podvm.conf.d" "$S"/{api,later,other,real/agent}
	cat >"$E2E/podvm.conf.d/sockets.conf" <<-END
		[storage]
		host_sockets = $S/api/*.sock $S/later/agent.sock $S/real/*/agent.sock
	END
	chmod 600 "$E2E/podvm.conf.d/sockets.conf"
	cc -Os -s -static -o "$CONTAINERD/client" "$BATS_TEST_DIRNAME/socket_client.c"
	setup_kubelet
	# As the kubelet's subPath of a hostPath, and a CSI driver's volume that is a bind mount.
	mkdir -p "$K"/volume-subpaths/host/app/0 "$K"/volumes/kubernetes.io~csi/agent/mount
	touch "$K"/volume-subpaths/host/app/1
	ln -s "$S/real" "$S/link"
	start_server api/stream.sock stream 640
	start_server api/seq.sock seqpacket
	start_server api/unlisted stream
	start_server other/x.sock stream
	start_server real/agent/agent.sock stream
	chgrp 1234 "$S/api/stream.sock"
	echo text >"$S/api/file"
	ln -s ../other/x.sock "$S/api/link.sock"
	mount --bind "$S/real/agent" "$K/volume-subpaths/host/app/0"
	mount --bind "$S/real/agent/agent.sock" "$K/volume-subpaths/host/app/1"
	mount --bind "$S/real/agent" "$K/volumes/kubernetes.io~csi/agent/mount"
	POD=$(run_pod sockets)
	export POD
	A=$(run_container a 'sleep 100000' "$(mount_of "$CONTAINERD/client" /client ro)" \
		"$(mount_of "$S/api" /api rw)" "$(mount_of "$S/later" /later ro)" \
		"$(mount_of "$S/api/stream.sock" /run/one.sock rw)" \
		"$(mount_of "$S/link/agent" /linked ro)" \
		"$(mount_of "$K/volume-subpaths/host/app/0" /part ro)" \
		"$(mount_of "$K/volume-subpaths/host/app/1" /part.sock rw)" \
		"$(mount_of "$K/volumes/kubernetes.io~csi/agent/mount" /csi ro)")
	export A
}

teardown_file() {
	local pid
	for pid in "$S"/*.pid; do
		kill "$(cat "$pid")" 2>/dev/null || true
	done
	teardown_kubelet
	rm -rf "$E2E/podvm.conf.d" "$S"
	teardown_containerd
}

# start_server NAME TYPE [MODE]: below $S; what it says is in NAME.log
start_server() {
	python3 "$BATS_TEST_DIRNAME/socket_server.py" "$S/$1" "${@:2}" >"$CONTAINERD/${1//\//-}.log" 3>&- &
	echo $! >"$S/${1//\//-}.pid"
	until_true 30 server_says "$1" ready
}

stop_server() {
	kill "$(cat "$S/${1//\//-}.pid")"
	until_true 10 process_gone "$(cat "$S/${1//\//-}.pid")"
}

# server_says NAME REGEX
server_says() {
	grep -q "$2" "$CONTAINERD/${1//\//-}.log"
}

# client PATH ARGUMENT...: in the container
client() {
	cri ExecSync "$(jq -n --arg id "$A" --args '{container_id: $id, timeout: 160,
		cmd: (["/client"] + $ARGS.positional)}' -- "$@")"
}

# What of the shim was in memory at most, in KiB.
shim_peak() {
	awk '/VmHWM/ { print $2 }' "/proc/$(shim_of "$POD")/status"
}

@test "a listed socket is there as on the host, and connects" {
	run -0 inside "$A" 'stat -c "%F %a %u:%g" /api/stream.sock; cat /api/file'
	assert_equal "$output" $'socket 640 0:1234\ntext'
	run -0 client /api/stream.sock stream say $'echo\n' hello
	assert_equal "$output" hello
	run -0 client /run/one.sock stream say $'echo\n' alone
	assert_equal "$output" alone
	run -1 pgrep -P "$(shim_of "$POD")" virtiofsd
}

@test "messages stay what they are, up to 64 KiB" {
	run -0 client /api/seq.sock seqpacket say echo one 'two words' three
	assert_equal "$output" $'one\ntwo words\nthree'
	run -0 client /api/seq.sock seqpacket large 65536
	assert_equal "$output" '65536 bytes'
	run -0 client /api/seq.sock seqpacket large 65537
	assert_equal "$output" end
	log_says 'a message is too long'
	run -0 inside "$A" '/client /api/seq.sock stream say x 2>&1 || true'
	assert_match "$output" 'wrong type for socket'
}

@test "each side can end what it says and still hear the other" {
	run -0 client /api/stream.sock stream fill 3000000
	assert_equal "$output" 3000000
	inside "$A" 'touch /now'
	run -0 client /api/stream.sock stream fetch 3000000 /now
	assert_equal "$output" '3000000 bytes'
	until_true 30 server_says api/stream.sock 'end send'
}

@test "200 connections at once, of a server with a backlog of 5" {
	run -0 client /api/stream.sock stream many 200
	assert_equal "$output" '200 answers'
}

@test "who doesn't read stops its server and nothing else, and the shim doesn't grow" {
	local before after pid
	start_server api/slow.sock stream
	until_true 30 inside "$A" 'test -S /api/slow.sock'
	before=$(shim_peak)
	client /api/slow.sock stream fetch 30000000 /go >"$CONTAINERD/fetched" 3>&- &
	pid=$!
	until_true 30 server_says api/slow.sock sent
	run -0 client /api/slow.sock stream fill 5000000
	assert_equal "$output" 5000000
	inside "$A" 'touch /go'
	wait_for $pid
	assert_status 0
	assert_equal "$(cat "$CONTAINERD/fetched")" '30000000 bytes'
	after=$(shim_peak)
	[ $((after - before)) -lt 16384 ] || fail "from $before KiB to $after KiB"
}

@test "a process of the pod that dies ends its connection" {
	start_server api/death.sock stream
	until_true 30 inside "$A" 'test -S /api/death.sock'
	inside "$A" '/client /api/death.sock stream hold >/death 2>&1 & echo $! >/death.pid'
	until_true 30 says "$A" /death held
	inside "$A" 'kill -9 $(cat /death.pid)'
	until_true 30 server_says api/death.sock 'end echo'
}

@test "a server that ends is noticed, and may come again" {
	start_server api/again.sock stream
	until_true 30 inside "$A" 'test -S /api/again.sock'
	inside "$A" '/client /api/again.sock stream hold >/again 2>&1 &'
	until_true 30 says "$A" /again held
	stop_server api/again.sock
	until_true 30 says "$A" /again $'held\nend'
	run -0 inside "$A" '/client /api/again.sock stream say echo 2>/dev/null || true'
	assert_match "$output" '^(error)?$'
	start_server api/again.sock seqpacket
	until_true 30 client /api/again.sock seqpacket say echo again
	run -0 client /api/again.sock seqpacket say echo again
	assert_equal "$output" again
	rm "$S/api/again.sock"
	until_true 30 inside "$A" '! test -e /api/again.sock'
}

@test "a server that comes later than the pod" {
	run -0 inside "$A" 'ls -A /later'
	assert_equal "$output" ''
	start_server later/agent.sock stream
	until_true 30 inside "$A" 'test -S /later/agent.sock'
	run -0 client /later/agent.sock stream say $'echo\n' late
	assert_equal "$output" late
}

@test "through a link, a subPath of a directory or a socket, and another mount" {
	local path
	for path in /linked/agent.sock /part/agent.sock /part.sock /csi/agent.sock; do
		run -0 client $path stream say $'echo\n' "by $path"
		assert_equal "$output" "by $path"
	done
}

@test "what isn't listed isn't there" {
	local b
	run -0 inside "$A" '! test -e /api/unlisted; ! test -e /api/link.sock; touch /api/x 2>&1 || true'
	assert_match "$output" 'Read-only file system'
	log_says 'socket=.*/s/api/unlisted.*host_sockets in'
	refused "other/x.sock: the host socket isn't available in the pod" no true \
		"$(mount_of "$S/other/x.sock" /x.sock rw)"
	b=$(run_container b 'sleep 100000' "$(mount_of "$S/other" /other ro)" \
		"$(mount_of "$CONTAINERD/client" /client ro)")
	run -0 inside "$b" '/client /other/x.sock stream say x 2>&1 || true'
	assert_match "$output" 'Connection refused'
	remove_container "$b" || { stop_container "$b" && remove_container "$b"; }
}

@test "the server sees the shim, and which pod it is" {
	run -0 client /api/stream.sock stream say $'who\n'
	assert_equal "${lines[0]}" "0 $(shim_of "$POD")"
	assert_match "$output" "/$POD"
}

@test "descriptors end the connection" {
	run -0 client /api/stream.sock stream descriptor
	assert_equal "$output" end
	log_says "descriptors can't be passed to the host"
}

@test "the same with podvm run" {
	run -0 --separate-stderr podvm run --rm -v "$CONTAINERD/client:/client:ro" -v "$S/api:/api" \
		-v "$S/api/stream.sock:/one.sock" "$base" sh -c '
		/client /api/stream.sock stream say "$(printf "echo\nx")" one
		/client /one.sock stream say "$(printf "echo\nx")" two
		touch /api/x 2>&1 | grep -o Read-only'
	assert_equal "$output" $'xone\nxtwo\nRead-only'
	run -125 podvm run --rm -v "$S/other/x.sock:/x.sock" "$base" true
	assert_error "the host socket isn't available.*host_sockets"
}
