#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What Kubernetes can say of a mount, and the kinds of hostPath.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load kubelet

setup_file() {
	setup_containerd
	setup_kubelet
	HOST=$CONTAINERD/host
	export HOST
	mkdir -p "$HOST/dir/sub" "$HOST/below/mounted"
	echo text >"$HOST/file"
	echo in-dir >"$HOST/dir/sub/file"
	mount -t tmpfs tmpfs "$HOST/below/mounted"
	POD=$(run_pod volumes)
	A=$(run_container a 'sleep 100000' "$(mount_of "$HOST/dir" /dir rw)" \
		"$(mount_of "$HOST/dir" /ro ro)" "$(mount_of "$HOST/file" /file rw)" \
		"$(mount_of "$HOST/below" /below ro)")
	B=$(run_container b 'sleep 100000' "$(mount_of "$HOST/dir" /dir rw)")
	export POD A B
}

teardown_file() {
	teardown_kubelet
	umount "$HOST/below/mounted" 2>/dev/null || true
	losetup -n -O NAME -j "$CONTAINERD/raw" | xargs -r losetup -d
	teardown_containerd
}

# with FIELD VALUE MOUNT: a mount with one more field
with() {
	jq -c --arg key "$1" --argjson value "$2" '. + {($key): $value}' <<<"$3"
}

@test "hostPath: a directory is one file system for all containers" {
	# (With locks that everybody sees, and so on.)
	run -0 inside "$A" 'cat /dir/sub/file; echo a >/dir/new; stat -c %d /dir'
	assert_equal "${lines[0]}" in-dir
	assert_equal "$(inside "$B" 'cat /dir/new; stat -c %d /dir')" a$'\n'"${lines[1]}"
	assert_equal "$(cat "$HOST/dir/new")" a
}

@test "hostPath: a part of it, however the host has it mounted, is in the same file system" {
	# (So there's one cache, and what one writes the other has at once.)
	local part=$K/volume-subpaths/dir/app/0 id
	mkdir -p "$part"
	touch "$part.file"
	mount --bind "$HOST/dir/sub" "$part"
	mount --bind "$HOST/dir/sub/file" "$part.file"
	id=$(run_container part 'sleep 100000' "$(mount_of "$HOST/dir/sub" /direct rw)" \
		"$(mount_of "$part" /part ro)" "$(mount_of "$part.file" /etc/file.conf rw)")
	run -0 inside "$id" 'stat -c %d:%i /direct/file /part/file /etc/file.conf | uniq
		echo more >>/etc/file.conf; cat /part/file; touch /part/x 2>/dev/null || echo readonly'
	assert_equal "$output" "$(inside "$A" 'stat -c %d:%i /dir/sub/file')"$'\nin-dir\nmore\nreadonly'
	# It's what the host has mounted, wherever a container moves it.
	remove_container "$id"
	inside "$A" 'mv /dir/sub /dir/moved; ln -s /run/agent /dir/sub'
	id=$(run_container moved 'sleep 100000' "$(mount_of "$part" /part rw)")
	assert_equal "$(inside "$id" 'stat -c %d:%i /part/file')" \
		"$(inside "$A" 'stat -c %d:%i /dir/moved/file')"
	inside "$A" 'rm /dir/sub; mv /dir/moved /dir/sub'
	remove_container "$id"
}

@test "hostPath: a file that is written on both sides" {
	run -0 inside "$A" 'cat /file; echo more >>/file'
	assert_equal "$output" text
	assert_equal "$(cat "$HOST/file")" $'text\nmore'
}

@test "hostPath: a directory that is made between a container's creation and its start" {
	local id
	id=$(create late 'sleep 100000' "$(mount_of "$HOST/late" /late rw)")
	rm -rf "$HOST/late"
	mkdir "$HOST/late"
	echo new >"$HOST/late/file"
	start_container "$id"
	run -0 inside "$id" 'cat /late/file; echo x >/late/mine'
	assert_equal "$output" new
	assert_equal "$(cat "$HOST/late/mine")" x
	remove_container "$id"
	# One that has gone isn't made up.
	id=$(create gone true "$(mount_of "$HOST/late" /late rw)")
	rm -r "$HOST/late"
	run -125 start_container "$id"
	assert_match "$output" 'podvm: .*cannot mount .*/late: No such file or directory'
	remove_container "$id"
}

@test "hostPath: not the host's root directory, unless podvm.conf says so" {
	refused 'volumes: / is the root directory of the host.*share_root' root true "$(mount_of / /host ro)"
	run -125 podvm run --rm -v /:/host "$base" true
	assert_error 'share_root'
}

@test "hostPath: a character device and a block device" {
	local loop id
	truncate -s 8M "$CONTAINERD/raw"
	loop=$(losetup -f --show "$CONTAINERD/raw")
	id=$(run_container devices 'sleep 100000' "$(mount_of /dev/zero /dev/mine rw)" \
		"$(mount_of "$loop" /dev/disk rw)")
	run -0 inside "$id" 'stat -c %F:%t:%T /dev/mine; stat -c %F /dev/disk'
	assert_equal "$output" $'character special file:1:5\nblock special file'
	remove_container "$id"
}

@test "readOnly" {
	run -1 inside "$A" 'touch /ro/x'
	assert_match "$output" 'Read-only file system'
	# It's the same file system, although the other mount is writable.
	run -0 inside "$A" 'echo here >/dir/x; cat /ro/x; [ /dir/x -ef /ro/x ] && rm /dir/x'
	assert_equal "$output" here
}

@test "readOnly isn't for what is mounted below, recursiveReadOnly is" {
	local id=$RANDOM
	inside "$A" 'echo x >/below/mounted/file'
	assert_equal "$(cat "$HOST/below/mounted/file")" x
	run -1 inside "$A" 'touch /below/x'
	assert_match "$output" 'Read-only file system'
	run ctr_run --rm --mount "type=bind,src=$HOST/below,dst=/below,options=rbind:rro" $image "rro$id" \
		sh -c 'cat /below/mounted/file; echo y >/below/mounted/file'
	assert_match "$output" $'^x\n.*Read-only file system'
}

# bats test_tags=containerd:2
@test "recursiveReadOnly, as Kubernetes asks for it" {
	local id
	id=$(run_container rro 'sleep 100000' \
		"$(with recursive_read_only true "$(mount_of "$HOST/below" /below ro)")")
	run -1 inside "$id" 'touch /below/mounted/x'
	assert_match "$output" 'Read-only file system'
	remove_container "$id"
}

is_empty() {
	[ -z "$(inside "$1" "ls $2")" ]
}

no_device_of() {
	[ -z "$(losetup -n -O NAME -j "$1")" ]
}

@test "mountPropagation: HostToContainer has what the host mounts later, and lets it unmount" {
	local follower other mount disk=$CONTAINERD/later.img
	mkdir -p "$K/later"/{there,disk/inner} "$CONTAINERD/content/inner"
	mount -t tmpfs tmpfs "$K/later/there"
	echo before >"$K/later/there/file"
	echo content >"$CONTAINERD/content/file"
	truncate -s 16M "$disk"
	mkfs.ext4 -q -d "$CONTAINERD/content" "$disk"
	mount=$(mount_of "$K/later" /later rw)
	follower=$(run_container follower 'sleep 100000' \
		"$(with propagation '"PROPAGATION_HOST_TO_CONTAINER"' "$mount")")
	other=$(run_container other 'sleep 100000' "$mount")
	run -0 inside "$follower" 'cat /later/there/file; echo x >/later/file; ls /later/disk'
	assert_equal "$output" $'before\ninner'
	assert_equal "$(cat "$K/later/file")" x
	# One mount, one on it, and a device of the host that is free when it's unmounted: by then the
	# guest has forgotten what it knew of it.
	mount -o loop "$disk" "$K/later/disk"
	until_true 30 says "$follower" /later/disk/file content
	mount -t tmpfs tmpfs "$K/later/disk/inner"
	echo deep >"$K/later/disk/inner/file"
	until_true 30 says "$follower" /later/disk/inner/file deep
	inside "$follower" 'echo from-inside >/later/disk/new; sync; ls -lR /later'
	assert_equal "$(cat "$K/later/disk/new")" from-inside
	# Who hasn't asked for it has what there was.
	run -0 inside "$other" 'cat /later/there/file; ls /later/disk'
	assert_equal "$output" $'before\ninner'
	umount "$K/later/disk/inner"
	umount "$K/later/disk"
	until_true 60 no_device_of "$disk"
	until_true 30 is_empty "$follower" /later/disk/inner
	umount "$K/later/there"
	until_true 30 is_empty "$follower" /later/there
	remove_container "$follower"
	remove_container "$other"
}

@test "mountPropagation: mounts of a pod can't go to the host" {
	refused 'spec: the mount on .*/host.* is to propagate mounts to the host.*Bidirectional' both true \
		"$(with propagation '"PROPAGATION_BIDIRECTIONAL"' "$(mount_of "$K" /host rw)")"
}

@test "an emptyDir of huge pages is refused" {
	local dir=$K/volumes/kubernetes.io~empty-dir/huge
	mkdir -p "$dir"
	mount -t hugetlbfs hugetlbfs "$dir" || skip "the kernel has no huge pages"
	refused "volumes: .*huge pages, which a machine hasn.t got.*medium Memory" huge true \
		"$(mounts huge rw)"
	unmount "$dir"
}

@test "/dev/shm is the pod's, and an emptyDir in its place is as large as it says" {
	local dir=$K/volumes/kubernetes.io~empty-dir/shm id
	inside "$A" 'echo shared >/dev/shm/file'
	assert_equal "$(inside "$B" 'cat /dev/shm/file')" shared
	assert_match "$(inside "$A" 'df -k /dev/shm')" ' 65536 '
	mkdir -p "$dir"
	mount -t tmpfs -o size=96m,mode=1777 tmpfs "$dir"
	id=$(run_container shm 'sleep 100000' "$(mount_of "$dir" /dev/shm rw)")
	assert_match "$(inside "$id" 'df -k /dev/shm; ls /dev/shm | wc -l')" $' 98304 .*\n0$'
	remove_container "$id"
}

@test "what no container mounts any more isn't shared with the machine" {
	local shared
	shared=$(awk '$5 ~ "/shared/" { print $5 }' "/proc/$(shim_of "$POD")/mountinfo" | wc -l)
	stop_container "$B"
	remove_container "$B"
	inside "$A" 'touch /dir/still'
	stop_container "$A"
	remove_container "$A"
	[ "$shared" -ge 3 ]
	run -0 awk '$5 ~ "/shared/" { print $5 }' "/proc/$(shim_of "$POD")/mountinfo"
	assert_equal "$output" ""
}
