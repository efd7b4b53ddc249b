#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# bats file_tags=containerd:any
# What containerd's snapshots become in the machine.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd

layered=registry.local/layered:1 # 5 layers, with one of everything
many=registry.local/many:1       # 100 layers

setup_file() {
	setup_containerd
	! is_containerd_2 || add_snapshotters
	import $layered 5
	import $many 100
	# The same, but nothing is a disk that doesn't have to be.
	{ cat "$E2E/podvm.conf"; printf '[storage]\nrootfs = virtiofs\n'; } >"$E2E/shared.conf"
	sed 's/^scratch_size.*/scratch_size = 64M/' "$E2E/podvm.conf" >"$E2E/small.conf"
	chmod 600 "$E2E"/{shared,small}.conf
}

teardown_file() {
	rm -f "$E2E"/{shared,small}.conf
	# containerd keeps them mounted.
	umount "$CONTAINERD"/root/*.erofs/snapshots/*/fs 2>/dev/null || true
	teardown_containerd
}

is_containerd_2() {
	"$CONTAINERD/bin/containerd" --version | grep -q ' v\?2\.'
}

# Snapshotters whose snapshots are files with a file system.
add_snapshotters() {
	truncate -s 64M "$CONTAINERD/scratch.img"
	mkfs.ext4 -q "$CONTAINERD/scratch.img"
	cat >>"$CONTAINERD/config.toml" <<-END
		[plugins.'io.containerd.snapshotter.v1.blockfile']
		  root_path = "$CONTAINERD/blockfile"
		  scratch_file = "$CONTAINERD/scratch.img"
		  fs_type = "ext4"
	END
	stop_containerd
	start_containerd
}

# import NAME LAYERS [OPTIONS...]
import() {
	/usr/bin/python3 "$BATS_TEST_DIRNAME/layered_image.py" "$IMAGES/oci" base \
		"$E2E/tmp/image.tar" "$1" "$2"
	# (ctr 2 asks a service that unpacks for one snapshotter only, if it isn't told to do it itself.)
	! is_containerd_2 || set -- "$@" --local
	ctr image import "${@:3}" "$E2E/tmp/image.tar"
	rm "$E2E/tmp/image.tar"
}

# Files of layers in the cache.
layers() {
	find "$E2E/cache/snapshots" -name layer.erofs | wc -l
}

# upper_dir SNAPSHOT: its upper directory
upper_dir() {
	ctr snapshot mounts /m "$1" | sed -n 's/.*upperdir=\([^,]*\).*/\1/p'
}

# start_again ID: runs its command once more, to the end
start_again() {
	ctr task start "$1"
}

# Every path of /t with what it is, as layered_image.py has made it.
# shellcheck disable=SC2016
show='cd /t && stat -c "%n %F %a %u:%g %h" * | sort && cat hard1 dir/new && readlink link &&
	stat -c %t:%T null && [ hard1 -ef hard2 ] && ls dir && stat -c %Y owned'

assert_everything() {
	assert_match "$1" $'busybox regular file 755 0:0 1\ndir directory 755 0:0 2'
	assert_match "$1" $'fifo fifo 644 0:0 1\nhard1 regular file 644 0:0 2\nhard2'
	assert_match "$1" $'null character special file 666 0:0 1\nowned regular file 4755 1234:70000 1'
	assert_match "$1" $'one file\nnew\nhard1\n1:3\nnew\n1000000000'
	[[ $1 != *hidden* ]]
}

@test "layers are disks under an overlay, and nothing is shared" {
	run -0 ctr_run --rm $layered r1 sh -c 'grep " / " /proc/mounts; ls -d /sys/block/sd* | wc -l; df -k / | tail -1'
	assert_match "$output" 'overlay / overlay rw'
	assert_match "$output" $'\n6\n'
	# 2 GiB of scratch_size.
	assert_match "$output" 'overlay +20[0-9]{5} '
}

@test "a layer is converted once" {
	local before
	before=$(layers)
	[ "$before" -ge 5 ]
	log_says 'a layer was converted.*layers=1'
	run -0 ctr_run --rm $layered r2 true
	assert_equal "$(layers)" "$before"
	assert_equal "$(ls "$E2E/cache/snapshots/tmp")" ""
}

@test "links, owners, devices, removed and replaced things are what they are under runc" {
	run -0 ctr_run --rm $layered r3 sh -c "$show"
	assert_everything "$output"
}

@test "capabilities of files have effect" {
	run -0 ctr_run --rm --allow-new-privs $layered r4 su -s /bin/sh daemon -c \
		'id -u; /t/busybox grep CapEff /proc/self/status'
	assert_match "$output" $'^1\nCapEff:\t0000000000002000'
}

@test "the lowest of many layers are joined" {
	run -0 ctr_run --rm $many r5 sh -c "ls -d /sys/block/sd* | wc -l; ls /many | wc -l; cat /many/last; $show"
	assert_match "$output" $'^13\n98\n100\n'
	assert_everything "$output"
}

@test "what is written counts as the snapshot's, and has a limit" {
	local id=r6 before
	ctr_run -d --runtime-config-path "$E2E/small.conf" $image $id sleep 1000
	before=$(usage $id)
	ctr task exec --exec-id e $id dd if=/dev/zero of=/file bs=1M count=20
	ctr task exec --exec-id s $id sync
	[ "$(usage $id)" -gt $((before + 20000000)) ]
	run ctr task exec --exec-id f $id dd if=/dev/zero of=/large bs=1M count=100
	assert_status 1
	assert_match "$output" 'No space left'
	ctr task kill -s SIGKILL $id
	until_true 20 is_stopped $id
	remove_task $id
}

usage() {
	ctr snapshot usage -b "$1" | awk 'NR == 2 { print $2 }'
}

@test "a second start finds the files of the first" {
	run -0 ctr_run $image r7 sh -c 'cat /file; echo x >>/file; [ "$(wc -l </file)" -lt 3 ]'
	run -0 start_again r7
	assert_equal "$output" x
	run -1 start_again r7
	assert_equal "$output" $'x\nx'
	ctr container rm r7
}

@test "after a crash the second start finds an empty layer, not a broken one" {
	local id=r8
	ctr_run -d $image $id sh -c 'test -e /file && exit 3; echo x >/file; sync; sleep 1000'
	until_true 20 ctr task exec --exec-id "e$RANDOM" $id test -e /file
	kill -9 "$(ctr task ls | awk -v id=$id '$1 == id { print $2 }')"
	until_true 20 is_stopped $id
	ctr task delete $id || true
	ctr task start -d $id
	until_true 20 ctr task exec --exec-id "e$RANDOM" $id test -e /file
	assert_equal "$(task_status $id)" RUNNING
	ctr task kill -s SIGKILL $id
	until_true 20 is_stopped $id
	remove_task $id
}

@test "what was put into the snapshot before is seen" {
	local upper
	ctr container create --runtime $runtime $layered r9
	upper=$(upper_dir r9)
	echo before >"$upper/prepared"
	mkdir -p "$upper/t/dir"
	echo replaced >"$upper/t/hard1"
	mknod "$upper/t/dir/new" c 0 0
	run -0 ctr task start r9 <<<'cat /prepared /t/hard1; ls /t/dir; echo mine >/prepared; ls -A /'
	assert_match "$output" $'^before\nreplaced\nbin\n'
	[[ $output != *podvm* ]]
	# What the container has written is above it.
	run -0 ctr task start r9 <<<'cat /prepared'
	assert_equal "$output" mine
	ctr container rm r9
}

@test "a read-only root has no disk, but mount points can be made" {
	run -1 --separate-stderr ctr_run --read-only \
		--mount "type=bind,src=$E2E/tmp,dst=/not/there,options=rbind:ro" $image r10 \
		sh -c 'ls -d /not/there /sys/block/sd*; touch /file'
	assert_equal "$output" $'/not/there\n/sys/block/sda'
	assert_match "$stderr" 'Read-only file system'
	assert_equal "$(ls -A "$(upper_dir r10)")" ""
	ctr container rm r10
}

@test "virtiofs shows it when the configuration says so" {
	run -0 ctr_run --rm --runtime-config-path "$E2E/shared.conf" $layered r11 \
		sh -c "grep ' / ' /proc/mounts; $show"
	assert_match "$output" ':rootfs / fuse'
	assert_everything "$output"
}

# Overlayfs of the host with redirect_dir=on writes such layers, when they're committed.
@test "a layer with renamed directories is shared" {
	import registry.local/renamed:1 4
	/usr/bin/python3 - "$CONTAINERD" <<-'END'
		import glob, os, sys
		for top in glob.glob(sys.argv[1] + "/root/*overlayfs/snapshots/*/fs"):
		    if os.path.exists(top + "/t/name"):
		        if open(top + "/t/name").read() == "registry.local/renamed:1":
		            os.setxattr(top + "/t", "trusted.overlay.redirect", b"/t")
	END
	run -0 ctr_run --rm registry.local/renamed:1 r12 sh -c 'grep " / " /proc/mounts; cat /t/name'
	assert_match "$output" $':rootfs / fuse .*\nregistry.local/renamed:1'
	log_says 'shared.*t.* is a directory that was renamed'
	ctr image rm registry.local/renamed:1
}

@test "the file of a blockfile snapshot is the disk" {
	is_containerd_2 || skip "containerd 2 has the snapshotter"
	import $layered 5 --snapshotter blockfile
	run -0 ctr_run --snapshotter blockfile $layered r14 \
		sh -c "grep ' / ' /proc/mounts; cat /file; echo x >/file; $show"
	assert_match "$output" '/dev/sda / ext4 rw'
	assert_everything "$output"
	run -0 start_again r14
	assert_match "$output" $'\nx\n'
	ctr container rm r14
	# Mounted on the host as well.
	run -0 ctr_run --rm --snapshotter blockfile --runtime-config-path "$E2E/shared.conf" $layered \
		r17 sh -c "grep ' / ' /proc/mounts; $show"
	assert_match "$output" ':rootfs / fuse'
	assert_everything "$output"
}

# containerd's erofs snapshotter and this kernel's EROFS
need_erofs() {
	is_containerd_2 || skip "containerd has no such snapshotter before 2.1"
	grep -qw erofs /proc/filesystems || skip "this kernel has no EROFS"
}

# (From 2.2 on containerd leaves them to the shim, which tells it so.)
@test "files of the erofs snapshotter are disks" {
	local before
	need_erofs
	before=$(layers)
	import $layered 5 --snapshotter erofs
	run -0 ctr_run --rm --snapshotter erofs $layered r15 \
		sh -c "grep ' / ' /proc/mounts; ls -d /sys/block/sd* | wc -l; $show"
	assert_match "$output" $'overlay / overlay rw.*\n6\n'
	assert_everything "$output"
	assert_equal "$(layers)" "$before"
}

@test "files of the erofs snapshotter are shared where nothing may be a disk" {
	need_erofs
	run -0 ctr_run --rm --snapshotter erofs --runtime-config-path "$E2E/shared.conf" \
		$layered r17 sh -c "grep ' / ' /proc/mounts; $show"
	assert_match "$output" '/ fuse '
	assert_everything "$output"
}

@test "a directory of the native snapshotter is shared" {
	import $layered 5 --snapshotter native
	run -0 ctr_run --rm --snapshotter native $layered r16 sh -c "grep ' / ' /proc/mounts; $show"
	assert_match "$output" ':rootfs / fuse'
	assert_everything "$output"
}

@test "containers of a pod share the disks of their image" {
	mkdir -p "$CONTAINERD/logs"
	run_shared_pod
	run -0 in_container "$A" 'ls -d /sys/block/sd* | wc -l'
	assert_equal "$output" 3
	cri RemoveContainer "{\"container_id\": \"$A\"}"
	run -0 in_container "$B" 'ls -d /sys/block/sd* | wc -l; ls /bin/sh'
	assert_equal "$output" $'2\n/bin/sh'
	cri StopPodSandbox "{\"pod_sandbox_id\": \"$POD\"}"
	cri RemovePodSandbox "{\"pod_sandbox_id\": \"$POD\"}"
}

# A pod of two containers of one image: POD, A, B
run_shared_pod() {
	local config
	config=$(jq -n --arg logs "$CONTAINERD/logs" --arg cgroup "/$CGROUP" '{metadata: {name: "shared", uid: "shared",
		namespace: "default"}, log_directory: $logs, linux: {cgroup_parent: $cgroup}}')
	POD=$(cri RunPodSandbox "{\"runtime_handler\": \"podvm\", \"config\": $config}" | jq -r .pod_sandbox_id)
	A=$(run_member a "$config")
	B=$(run_member b "$config")
}

run_member() {
	local id
	id=$(cri CreateContainer "$(jq -n --arg pod "$POD" --argjson pc "$2" --arg name "$1" \
		--arg image "$image" '{pod_sandbox_id: $pod, sandbox_config: $pc, config: {
			metadata: {name: $name}, image: {image: $image}, command: ["sleep", "1000"],
			log_path: "\($name).log"}}')" | jq -r .container_id)
	cri StartContainer "{\"container_id\": \"$id\"}" >/dev/null
	echo "$id"
}

in_container() {
	cri ExecSync "$(jq -n --arg id "$1" --arg script "$2" \
		'{container_id: $id, cmd: ["sh", "-c", $script], timeout: 60}')"
}

@test "layers of snapshots that are gone are removed" {
	[ "$(layers)" -gt 2 ]
	ctr image rm --sync $many
	run -0 podvm image prune
	assert_match "$output" "layers? of containerd's removed"
	run -0 ctr_run --rm $layered r13 true
}
