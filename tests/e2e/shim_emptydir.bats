#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# emptyDir on a disk of the pod, whose file lies in the kubelet's directory of the volume.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load kubelet

setup_file() {
	setup_containerd
	mkdir -p "$E2E/podvm.conf.d"
	cat >"$E2E/podvm.conf.d/volumes.conf" <<-END
		[storage]
		emptydir_size = 32M
	END
	chmod 600 "$E2E/podvm.conf.d/volumes.conf"
	setup_kubelet
	EMPTY=$K/volumes/kubernetes.io~empty-dir
	export EMPTY
	mkdir -p "$EMPTY"/{data,filled} "$K/volume-subpaths/data/part"/{0,1}
	chmod 2770 "$EMPTY/data"
	chgrp 1234 "$EMPTY/data"
	echo prepared >"$EMPTY/filled/file"
	POD=$(run_pod volumes)
	export POD
	A=$(run_container a 'sleep 100000' "$(mounts data rw)")
	B=$(run_container b 'sleep 100000' "$(mounts data rw)" "$(mounts filled rw)")
	export A B
}

teardown_file() {
	rm -rf "$E2E/podvm.conf.d"
	teardown_kubelet
	teardown_containerd
}

# MiB that a volume takes up on the host, as the kubelet counts it.
usage() {
	du -sm "$EMPTY/$1" | cut -f1
}

uses_at_most() {
	[ "$(usage "$1")" -le "$2" ]
}

@test "it is one file system of the guest for all containers, with the attributes of the host's" {
	run -0 inside "$A" 'stat -c "%a %u:%g" /data; stat -f -c %T /data; ls -A /data | wc -l
		echo shared >/data/file; ln /data/file /data/link; stat -c %g /data/file'
	assert_equal "$output" $'2770 0:1234\next2/ext3\n0\n1234'
	run -0 inside "$B" 'cat /data/link; df -m /data | tail -1 | tr -s " " | cut -d" " -f2'
	assert_match "$output" $'^shared\n2[0-9]$'
	assert_equal "$(ls -A "$EMPTY/data")" .podvm-volume
	assert_equal "$(stat -c '%a %u' "$EMPTY/data/.podvm-volume")" "600 0"
}

@test "what is written counts on the host, and what is removed is given back" {
	local before
	before=$(usage data)
	inside "$A" 'dd if=/dev/urandom of=/data/big bs=1M count=10 conv=fsync 2>/dev/null'
	[ "$(usage data)" -ge $((before + 10)) ]
	inside "$A" 'rm /data/big; sync'
	until_true 60 uses_at_most data $((before + 5))
}

@test "it can't hold more than its size, in bytes or files, and that harms nobody else" {
	run -1 inside "$A" 'dd if=/dev/zero of=/data/big bs=1M count=40 2>&1'
	assert_match "$output" 'No space left'
	inside "$A" 'rm /data/big'
	run -1 inside "$A" 'mkdir /data/many; cd /data/many; i=0
		while echo >$i; do i=$((i + 1)); done 2>&1 | tail -1; ls | wc -l; exit 1'
	assert_match "$output" 'No space left'
	[ "${lines[-1]}" -gt 1000 ]
	run -0 inside "$B" 'echo fine >/root-file; rm -r /data/many; cat /root-file
		truncate -s 1000G /data/sparse; stat -c %s /data/sparse; rm /data/sparse'
	assert_equal "$output" $'fine\n1073741824000'
	uses_at_most data 32
}

@test "containers that start again find it as it was" {
	local id
	inside "$A" 'echo kept >/data/kept'
	stop_container "$A"
	remove_container "$A"
	stop_container "$B"
	remove_container "$B"
	# Nobody has it mounted now.
	A=$(run_container a2 'sleep 100000' "$(mounts data rw)")
	run -0 inside "$A" 'cat /data/kept'
	assert_equal "$output" kept
	remove_container "$A"
}

@test "a subPath is a part of the same file system" {
	local a b
	# The kubelet makes the directory, in its own directory of the volume.
	mkdir -p "$EMPTY/data/sub/path"
	mount --bind "$EMPTY/data/sub/path" "$K/volume-subpaths/data/part/0"
	mkdir -p "$EMPTY/data/config.yaml"
	mount --bind "$EMPTY/data/config.yaml" "$K/volume-subpaths/data/part/1"
	a=$(run_container whole 'mkdir -p /data/sub; echo text >/data/config.yaml; sleep 100000' \
		"$(mounts data rw)")
	until_true 30 inside "$a" 'test -s /data/config.yaml'
	b=$(run_container part 'sleep 100000' "$(mount_of "$K/volume-subpaths/data/part/0" /part rw)" \
		"$(mount_of "$K/volume-subpaths/data/part/1" /etc/config.yaml rw)")
	inside "$b" 'echo part >/part/file'
	run -0 inside "$a" 'cat /data/sub/path/file; echo more >>/data/config.yaml'
	assert_equal "$output" part
	run -0 inside "$b" 'cat /etc/config.yaml'
	assert_equal "$output" $'text\nmore'
	# A container can't lead another one's mount to somewhere else.
	remove_container "$b"
	inside "$a" 'rm -r /data/sub/path; ln -s /run/agent /data/sub/path'
	refused 'volumes|guest|create' escape true "$(mount_of "$K/volume-subpaths/data/part/0" /part rw)"
	inside "$a" 'rm /data/sub/path'
	remove_container "$a"
}

@test "a new machine for the pod finds what was synced in the one that was killed" {
	local id
	id=$(run_container before 'sleep 100000' "$(mounts data rw)")
	inside "$id" 'echo synced >/data/synced; sync; echo lost >/data/lost'
	pkill -9 -P "$(shim_of "$POD")" qemu-system
	until_true 30 exited "$id"
	remove_pod "$POD"
	POD=$(run_pod volumes)
	id=$(run_container after 'sleep 100000' "$(mounts data rw)")
	run -0 inside "$id" 'cat /data/synced'
	assert_equal "$output" synced
	remove_pod "$POD"
	run -0 e2fsck -fn "$EMPTY/data/.podvm-volume"
	POD=$(run_pod volumes)
	echo "$POD" >"$CONTAINERD/pod"
}

# (A pod's directory on a small file system, as a host's disk that is nearly full.)
@test "a host disk that is full is an error of this volume alone" {
	local id full=$CONTAINERD/kubelet/pods/full-uid
	local dir=$full/volumes/kubernetes.io~empty-dir/data
	POD=$(cat "$CONTAINERD/pod")
	remove_pod "$POD"
	mkdir -p "$full"
	mount -t tmpfs -o size=16m tmpfs "$full"
	mkdir -p "$dir"
	POD=$(run_pod volumes)
	id=$(run_container full 'sleep 100000' "$(mount_of "$dir" /full rw)" "$(mounts data rw)")
	run -1 inside "$id" 'dd if=/dev/urandom of=/full/big bs=1M count=20 conv=fsync 2>&1'
	# (The guest's file system has room for it.)
	assert_match "$output" 'Input/output error|No space left|Read-only'
	run -0 inside "$id" 'dd if=/dev/urandom of=/data/big bs=1M count=5 conv=fsync 2>/dev/null
		rm /data/big; echo fine >/root-file; sync /root-file; cat /root-file'
	assert_equal "$output" fine
	remove_pod "$POD"
	unmount "$full"
	POD=$(run_pod volumes)
	echo "$POD" >"$CONTAINERD/pod"
}

writable_layer() {
	cri ContainerStats "{\"container_id\": \"$1\"}" | jq -r '.stats.writable_layer.used_bytes.value // 0'
}

writable_layer_counts() {
	[ "$(writable_layer "$1")" -ge "$2" ]
}

@test "what a container writes to its root file system is in its statistics" {
	local id
	POD=$(cat "$CONTAINERD/pod")
	id=$(run_container writer 'dd if=/dev/urandom of=/big bs=1M count=20 conv=fsync; sleep 100000')
	until_true 60 writable_layer_counts "$id" 20000000
	remove_container "$id"
}

@test "files that somebody has put there are seen: such a volume is shared" {
	POD=$(cat "$CONTAINERD/pod")
	B=$(run_container b2 'sleep 100000' "$(mounts filled rw)")
	run -0 inside "$B" 'cat /filled/file; echo new >/filled/new'
	assert_equal "$output" prepared
	assert_equal "$(cat "$EMPTY/filled/new")" new
	[ ! -e "$EMPTY/filled/.podvm-volume" ]
	remove_container "$B"
}

# Disks of the pod's machine, as a container of it sees them.
disks() {
	inside "$1" 'ls -d /sys/block/sd* | wc -l'
}

has_disks() {
	[ "$(disks "$1")" = "$2" ]
}

@test "a volume that an image declares is a disk of its container, unless the image has files there" {
	local layout=$E2E/tmp/declares:base name=registry.local/declares:1 watcher before id
	skopeo copy -q "oci:$IMAGES/oci:base" "oci:$layout"
	umoci config --image "$layout" --config.volume /data --config.volume /etc
	skopeo copy -q "oci:$layout" "oci-archive:$E2E/tmp/declares.tar:$name"
	ctr -n k8s.io image import "$E2E/tmp/declares.tar"
	POD=$(cat "$CONTAINERD/pod")
	watcher=$(run_container watcher 'sleep 100000')
	before=$(disks "$watcher")
	id=$(image=$name run_container declares 'sleep 100000')
	run -0 inside "$id" 'echo x >/data/file; cat /data/file; sed -n "s/.* \(\/data\|\/etc\) \([a-z0-9]*\) .*/\1 \2/p" \
		/proc/mounts | sort; grep -c root: /etc/passwd; df -m /data | tail -1 | tr -s " " | cut -d" " -f2'
	assert_match "$output" $'^x\n/data ext4\n/etc fuse\n1\n2[0-9]$'
	[ "$(podvm stats --no-stream --json "$id" | jq '.[0].filesystems[] | select(.name == "/data").inodes_used')" -gt 0 ]
	[ "$(find "$CONTAINERD/root" -name .podvm-volume | wc -l)" = 1 ]
	# It goes with the container, and so does its disk.
	remove_container "$id"
	until_true 30 has_disks "$watcher" "$before"
	assert_equal "$(find "$CONTAINERD/root" -name .podvm-volume)" ""
	remove_container "$watcher"
	rm -r "$E2E/tmp"/declares*
}
