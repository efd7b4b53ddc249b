#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Persistent volumes that are block devices: handed over by a CSI driver, and as devices.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load kubelet

setup_file() {
	setup_containerd
	mkdir -p "$E2E/podvm.conf.d"
	cat >"$E2E/podvm.conf.d/volumes.conf" <<-END
		[storage]
		direct_volumes = $E2E/direct
	END
	chmod 600 "$E2E/podvm.conf.d/volumes.conf"
	setup_kubelet
	CSI=$K/volumes/kubernetes.io~csi/pvc-1/mount
	DISK=$CONTAINERD/disk
	export CSI DISK
	mkdir -p "$CSI" "$K/volume-subpaths/pvc-1/app/0"
	make_disk
	POD=$(run_pod volumes)
	export POD
}

teardown_file() {
	podvm volume remove --volume-path "$CSI"
	umount "$CONTAINERD/mnt" 2>/dev/null || true
	losetup -n -O NAME -j "$CONTAINERD/raw" | xargs -r losetup -d
	rm -rf "$E2E/podvm.conf.d"
	teardown_kubelet
	teardown_containerd
}

make_disk() {
	local content=$CONTAINERD/content
	mkdir -p "$content/sub"
	echo from-before >"$content/file"
	chmod 640 "$content/file"
	truncate -s 32M "$DISK"
	mkfs.ext4 -q -d "$content" "$DISK"
}

mount_info() {
	jq -nc --arg device "$1" '{"volume-type": "block", device: $device, fstype: "ext4",
		metadata: {fsGroup: "2000", fsGroupChangePolicy: "OnRootMismatch"}, options: ["noatime"]}'
}

volume_total() {
	podvm volume stats --volume-path "$CSI" | jq '.usage[] | select(.unit == "bytes").total'
}

# The last number that a container has said.
last_said() {
	sed -n 's/.* stdout F done \([0-9]*\)$/\1/p' "$LOGS/$1.log" | tail -1
}

has_said_many() {
	[ "$(last_said "$1")" -ge 8 ]
}

@test "what can't be mounted in a guest isn't taken" {
	run -125 podvm volume add --volume-path "$CSI" --mount-info '{"volume-type": "block",
		"device": "/dev/null", "fstype": "xfs"}'
	assert_error 'the guest.s kernel doesn.t know the file system "xfs"'
	run -125 podvm volume add --volume-path "$CSI" --mount-info '{"volume-type": "block"}'
	run -125 podvm volume stats --volume-path "$CSI"
	assert_error 'is no volume that was added'
}

@test "a device that a CSI driver hands over is mounted in the machine, with fsGroup" {
	podvm volume add --volume-path "$CSI" --mount-info "$(mount_info "$DISK")"
	mount --bind "$CSI" "$K/volume-subpaths/pvc-1/app/0"
	A=$(run_container a 'sleep 100000' "$(mount_of "$CSI" /data rw)" \
		"$(mount_of "$K/volume-subpaths/pvc-1/app/0" /part rw)")
	run -0 inside "$A" 'cat /data/file; stat -c "%a %u:%g" /data/file /data/sub
		stat -f -c %T /data; echo new >/data/sub/new; cat /part/sub/new; sync'
	assert_equal "$output" $'from-before\n660 0:2000\n2775 0:2000\next2/ext3\nnew'
	assert_equal "$(ls -A "$CSI")" ""
	run -1 pgrep -P "$(shim_of "$POD")" virtiofsd
	# Another container finds the same.
	B=$(run_container b 'sleep 100000' "$(mount_of "$CSI" /data ro)")
	run -0 inside "$B" 'cat /data/sub/new; touch /data/x 2>/dev/null || echo readonly'
	assert_equal "$output" $'new\nreadonly'
	remove_container "$B"
	echo "$A" >"$CONTAINERD/a"
}

@test "it grows while it's in use" {
	local before
	before=$(volume_total)
	run -125 podvm volume resize --volume-path "$CSI" --size 64M
	assert_error 'has only'
	truncate -s 64M "$DISK"
	podvm volume resize --volume-path "$CSI" --size 64M
	[ "$(volume_total)" -gt $((before + 16 * 1048576)) ]
	run -0 inside "$(cat "$CONTAINERD/a")" 'head -c 40000000 /dev/zero >/data/big; sync; cat /data/file'
	assert_equal "$output" from-before
}

@test "another pod can't have it at the same time" {
	local other id
	other=$(run_pod other)
	id=$(POD=$other create thief true "$(mount_of "$CSI" /data rw)")
	run -125 start_container "$id"
	assert_match "$output" 'is in use on this host'
	remove_pod "$other"
	remove_container "$(cat "$CONTAINERD/a")"
}

@test "after the machine was killed all that was synced is there, and the file system is sound" {
	local id n
	id=$(run_container writer 'rm /data/big; i=0; while :; do i=$((i + 1))
		echo $i | dd of=/data/sub/$i conv=fsync 2>/dev/null && echo "done $i"
		head -c 100000 /dev/urandom >/data/noise.$((i % 5)); done' "$(mount_of "$CSI" /data rw)")
	until_true 60 has_said_many writer
	pkill -9 -P "$(shim_of "$POD")" qemu-system
	until_true 30 exited "$id"
	n=$(last_said writer)
	remove_pod "$POD"
	POD=$(run_pod volumes)
	id=$(run_container reader 'sleep 100000' "$(mount_of "$CSI" /data rw)")
	run -0 inside "$id" "i=0; while [ \$i -lt $n ]; do i=\$((i + 1))
		[ \"\$(cat /data/sub/\$i)\" = \$i ] || echo lost \$i; done; cat /data/file"
	assert_equal "$output" from-before
	remove_pod "$POD"
	run -0 e2fsck -fn "$DISK"
	POD=$(run_pod volumes)
	echo "$POD" >"$CONTAINERD/pod"
}

@test "a block device is a device of the container" {
	local loop id
	POD=$(cat "$CONTAINERD/pod")
	truncate -s 8M "$CONTAINERD/raw"
	loop=$(losetup -f --show "$CONTAINERD/raw")
	id=$(DEVICES=$loop run_container raw 'sleep 100000')
	run -0 inside "$id" "echo content | dd of=$loop bs=512 conv=sync,fsync 2>/dev/null
		grep -c ' 8192 sd' /proc/partitions; stat -c %F $loop; head -c 7 $loop"
	assert_equal "$output" $'1\nblock special file\ncontent'
	assert_equal "$(head -c 7 "$CONTAINERD/raw")" content
	remove_container "$id"
	# As a mount, and read-only.
	id=$(run_container mounted 'sleep 100000' "$(mount_of "$loop" /dev/mounted ro)")
	run -0 inside "$id" 'stat -c %F /dev/mounted'
	assert_equal "$output" 'block special file'
	remove_container "$id"
	remove_pod "$POD"
	# Not while the host has it mounted.
	mkfs.ext4 -q "$loop"
	mkdir "$CONTAINERD/mnt"
	mount "$loop" "$CONTAINERD/mnt"
	POD=$(run_pod volumes)
	DEVICES=$loop refused 'is in use on this host' raw2 true
	unmount "$CONTAINERD/mnt"
	losetup -d "$loop"
	remove_pod "$POD"
}
