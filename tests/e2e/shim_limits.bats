#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What containers of a pod can't exceed on disks, what goes back to the host, and what is counted.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load kubelet

setup_file() {
	setup_containerd
	mkdir -p "$E2E/podvm.conf.d"
	cat >"$E2E/podvm.conf.d/limits.conf" <<-END
		[vm]
		scratch_size = 64M
		[storage]
		emptydir_size = 64M
		direct_volumes = $E2E/direct
		[annotations]
		allowed = podvm.io/scratch-size
	END
	chmod 600 "$E2E/podvm.conf.d/limits.conf"
	setup_kubelet
	EMPTY=$K/volumes/kubernetes.io~empty-dir/data
	CSI=$K/volumes/kubernetes.io~csi/pvc-1/mount
	DISK=$CONTAINERD/disk
	export EMPTY CSI DISK
	mkdir -p "$EMPTY" "$CSI"
	truncate -s 64M "$DISK"
	mkfs.ext4 -q "$DISK"
	podvm volume add --volume-path "$CSI" --mount-info "$(jq -nc --arg device "$DISK" '{
		"volume-type": "block", device: $device, fstype: "ext4", options: ["discard"]}')"
	note_conversions
	POD=$(run_pod volumes)
	A=$(run_container a 'sleep 100000' "$(mounts data rw)" "$(mount_of "$CSI" /pvc rw)")
	B=$(run_container b 'sleep 100000' "$(mounts data rw)")
	export POD A B
}

teardown_file() {
	podvm volume remove --volume-path "$CSI"
	rm -rf "$E2E/podvm.conf.d"
	teardown_kubelet
	teardown_containerd
}

# The program that converts layers, which notes where it's accounted.
note_conversions() {
	cat >"$CONTAINERD/bin/mkfs.erofs" <<-END
		#!/bin/sh
		cat /proc/self/cgroup >>$CONTAINERD/converters
		exec $(command -v mkfs.erofs) "\$@"
	END
	chmod +x "$CONTAINERD/bin/mkfs.erofs"
}

# accounted POD: what is read is what /proc/PID/cgroup says of a process of it
accounted() {
	grep -q ":.*memory.*:/$CGROUP/$1$\|^0::/$CGROUP/$1$"
}

# MiB that all disks of the pod take up on the host.
taken() {
	find "$CONTAINERD/root" "$EMPTY" "$DISK" \( -name .podvm-scratch -o -name .podvm-volume -o -path "$DISK" \) \
		-exec du -cm {} + | tail -1 | cut -f1
}

takes_at_most() {
	[ "$(taken)" -le "$1" ]
}

# What is known of a file system of a container: filesystem CONTAINER NAME FIELD
filesystem() {
	podvm stats --no-stream --json "$1" | jq --arg name "$2" \
		".[0].filesystems[] | select(.name == \$name).$3"
}

@test "a container can't write more than its layer holds, in bytes or files, and that harms nobody" {
	run -1 inside "$A" 'dd if=/dev/zero of=/big bs=1M count=100 2>&1'
	assert_match "$output" 'No space left'
	run -0 inside "$A" 'rm /big; mkdir /many; cd /many; i=0
		while echo >$i; do i=$((i + 1)); done 2>/tmp/why; tail -1 /tmp/why; ls | wc -l
		df -m / | tail -1 | tr -s " " | cut -d" " -f4'
	assert_match "${lines[0]}" 'No space left'
	# They were the inodes, not the bytes.
	[ "${lines[1]}" -gt 1000 ]
	[ "${lines[2]}" -gt 10 ]
	run -0 inside "$B" 'echo fine >/file; echo fine >/data/file; cat /file /data/file'
	assert_equal "$output" $'fine\nfine'
	inside "$A" 'rm -r /many'
}

@test "a file with a hole takes up nothing" {
	inside "$A" 'truncate -s 1000G /hole; truncate -s 1000G /data/hole; cat /hole /data/hole |
		head -c 100000000 >/dev/null; sync; rm /hole /data/hole'
	takes_at_most 100
}

@test "what is removed goes back to the host: of the layer, an emptyDir, a volume that asks for it" {
	inside "$A" 'for i in /x /data/x /pvc/x; do dd if=/dev/urandom of=$i bs=1M count=20 2>/dev/null; done
		sync'
	[ "$(taken)" -ge 60 ]
	inside "$A" 'rm /x /data/x /pvc/x; sync'
	until_true 60 takes_at_most 50
}

@test "podvm stats tells bytes and inodes of the layer and of volumes" {
	local inodes
	inodes=$(filesystem "$A" data inodes_used)
	inside "$A" 'mkdir /data/many; cd /data/many; i=0; while [ $i -lt 500 ]; do i=$((i + 1)); echo >$i; done
		dd if=/dev/urandom of=/pvc/big bs=1M count=10 2>/dev/null; sync'
	[ "$(filesystem "$A" data inodes_used)" -ge $((inodes + 500)) ]
	# For the host they are one file.
	assert_equal "$(find "$EMPTY" -mindepth 1)" "$EMPTY/.podvm-volume"
	[ "$(filesystem "$B" data inodes_used)" -ge $((inodes + 500)) ]
	[ "$(filesystem "$A" pvc-1 bytes_used)" -ge 10000000 ]
	[ "$(filesystem "$A" layer bytes)" -gt 40000000 ]
	[ "$(filesystem "$A" layer bytes_used)" -lt "$(filesystem "$A" layer bytes)" ]
	assert_equal "$(filesystem "$B" pvc-1 bytes)" ""
	inside "$A" 'rm -r /data/many /pvc/big'
}

# descendants PID: it, and all that it has started
descendants() {
	local pid
	echo "$1"
	for pid in $(pgrep -P "$1"); do
		descendants "$pid"
	done
}

@test "everything that works for a pod is in its cgroup, also what converts its image" {
	local pod id shim pid cgroup
	pod=$(run_pod accounted)
	id=$(POD=$pod run_container shares 'sleep 100000' "$(mount_of "$CONTAINERD/cni" /shared rw)")
	shim=$(shim_of "$pod")
	[ "$(descendants "$shim" | wc -l)" -ge 3 ]
	for pid in $(descendants "$shim"); do
		cgroup=$(cat "/proc/$pid/cgroup" 2>/dev/null) || continue
		accounted "$pod" <<<"$cgroup" || fail "$(ps -p "$pid")"
	done
	inside "$id" true
	remove_pod "$pod"
	[ "$(wc -l <"$CONTAINERD/converters")" -ge 1 ]
	accounted "$POD" <"$CONTAINERD/converters"
}

@test "a pod's annotation says how large its containers' layers are" {
	local pod id
	pod=$(ANNOTATIONS='{"podvm.io/scratch-size": "32M"}' run_pod small)
	id=$(POD=$pod run_container small 'sleep 100000')
	run -1 inside "$id" 'dd if=/dev/zero of=/big bs=1M count=40 2>&1'
	assert_match "$output" 'No space left'
	remove_pod "$pod"
}
