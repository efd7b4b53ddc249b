#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What a pod has synced is there when its machine or its shim was killed in the middle of writing, and
# the file systems are sound.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load kubelet

kinds="pvc emptydir shared"

setup_file() {
	setup_containerd
	mkdir -p "$E2E/podvm.conf.d"
	printf '[storage]\nemptydir_size = 192M\ndirect_volumes = %s\n' "$E2E/direct" \
		>"$E2E/podvm.conf.d/volumes.conf"
	chmod 600 "$E2E/podvm.conf.d/volumes.conf"
	setup_kubelet
	EMPTY=$K/volumes/kubernetes.io~empty-dir/emptydir
	PVC=$K/volumes/kubernetes.io~csi/pvc-1/mount
	export EMPTY PVC
	mkdir -p "$EMPTY" "$PVC" "$CONTAINERD/shared"
	truncate -s 192M "$CONTAINERD/pvc.img"
	mkfs.ext4 -q -b 4096 "$CONTAINERD/pvc.img"
	podvm volume add --volume-path "$PVC" --mount-info "$(jq -nc --arg device "$CONTAINERD/pvc.img" \
		'{"volume-type": "block", device: $device, fstype: "ext4"}')"
	cc -std=gnu17 -D_GNU_SOURCE -Os -s -static -o "$CONTAINERD/fs" "$BATS_TEST_DIRNAME"/fs/*.c
}

teardown_file() {
	teardown_kubelet
	podvm volume remove --volume-path "$PVC"
	rm -rf "$E2E/podvm.conf.d"
	teardown_containerd
}

# run_program NAME SCRIPT: a container with all of it
run_program() {
	run_container "$1" "$2" "$(mounts emptydir rw)" "$(mount_of "$PVC" /pvc rw)" \
		"$(mount_of "$CONTAINERD/shared" /shared rw)" "$(mount_of "$CONTAINERD/fs" /bin/fs ro)"
}

# last_synced NAME KIND: the number of the last record that a container has told of
last_synced() {
	sed -n "s|.* stdout F synced /$2/$1 \([0-9]*\)$|\1|p" "$LOGS/$1.log" | tail -n 1
}

has_synced() {
	[ "$(last_synced "$1" "$2")" -ge 20 ]
}

# sound IMAGE: as a copy of it is that was made of what the machine has left. Its journal and its list
# of files that were removed while they were open are for the next mount, which -p stands for.
sound() {
	cp --sparse=always "$1" "$CONTAINERD/copy.img"
	e2fsck -p "$CONTAINERD/copy.img" || [ $? -eq 1 ]
	e2fsck -fn "$CONTAINERD/copy.img"
	rm "$CONTAINERD/copy.img"
}

# write_and_lose NAME COMMAND...: what it kills takes the machine with it
write_and_lose() {
	local name=$1 id kind
	shift
	POD=$(run_pod volumes)
	id=$(run_program "$name" "for kind in $kinds; do mkdir -p /\$kind/$name
		fs record /\$kind/$name & done; wait")
	for kind in $kinds; do
		until_true 60 has_synced "$name" "$kind"
	done
	"$@"
	until_true 60 exited "$id"
	until_true 60 remove_pod "$POD"
	until_true 60 no_shims
	sound "$CONTAINERD/pvc.img"
	sound "$EMPTY/.podvm-volume"
}

# nothing_lost NAME: in the next machine
nothing_lost() {
	local id kind script=
	for kind in $kinds; do
		script+="fs recover /$kind/$1 $(last_synced "$1" "$kind"); rm -r /$kind/$1; "
	done
	POD=$(run_pod volumes)
	id=$(run_program "after-$1" "$script")
	until_true 60 exited "$id"
	assert_equal "$(cut -d ' ' -f 4- "$LOGS/after-$1.log")" $'looked\nlooked\nlooked'
	remove_pod "$POD"
	run -0 e2fsck -fn "$CONTAINERD/pvc.img"
	run -0 e2fsck -fn "$EMPTY/.podvm-volume"
}

kill_monitor() {
	pkill -9 -P "$(shim_of "$POD")" qemu-system
}

kill_shim() {
	kill -9 "$(shim_of "$POD")"
}

@test "the monitor is killed" {
	write_and_lose monitor kill_monitor
	nothing_lost monitor
}

@test "the shim is killed" {
	write_and_lose shim kill_shim
	nothing_lost shim
}
