#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# bats file_tags=containerd:2
# Images as volumes, which containerd has from 2.1 on, and directories of them from 2.2 on.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load kubelet

layered=registry.local/layered:1 # 5 layers, with one of everything

setup_file() {
	"${CONTAINERD_BIN:-/usr/bin}/containerd" --version | grep -q ' v\?2\.[2-9]' ||
		fail "containerd before 2.2 has no directories of images as volumes"
	setup_containerd
	# As on a host that systemd has set up: what containerd mounts later is seen by shims as well.
	mount --bind "$CONTAINERD/state" "$CONTAINERD/state"
	mount --make-shared "$CONTAINERD/state"
	/usr/bin/python3 "$BATS_TEST_DIRNAME/layered_image.py" "$IMAGES/oci" base \
		"$E2E/tmp/image.tar" $layered 5
	ctr -n k8s.io image import --local "$E2E/tmp/image.tar"
	rm "$E2E/tmp/image.tar"
	setup_kubelet
	POD=$(run_pod volumes)
	export POD
	A=$(run_container a 'sleep 100000' "$(image_mount /image)" "$(image_mount /part t/dir)")
	B=$(run_container b 'sleep 100000' "$(image_mount /other)")
	export A B
}

teardown_file() {
	[ -n "${CONTAINERD:-}" ] || return 0
	teardown_kubelet
	umount -R "$CONTAINERD/state" 2>/dev/null || true
	teardown_containerd
}

# image_mount CONTAINER_PATH [DIRECTORY [IMAGE]]: of all of the image, or of a directory in it
image_mount() {
	jq -nc --arg to "$1" --arg part "${2:-}" --arg image "${3:-$layered}" '{container_path: $to,
		readonly: true, image: {image: $image}, image_sub_path: $part}'
}

@test "the files of all layers are there, once for the pod, and nothing is shared with the host" {
	run -0 inside "$A" 'cd /image/t && cat hard1 dir/new && readlink link && stat -c %a:%u owned &&
		ls dir && ls hidden 2>&1; stat -c %d /image; grep -c " erofs " /proc/mounts'
	assert_match "$output" $'^one file\nnew\nhard1\n4755:1234\nnew\n.*hidden: No such file'
	[ "$(inside "$A" 'stat -c %d:%i /image')" = "$(inside "$B" 'stat -c %d:%i /other')" ]
	run -1 pgrep -P "$(shim_of "$POD")" virtiofsd
}

@test "a directory of it" {
	run -0 inside "$A" 'ls /part; cat /part/new'
	assert_equal "$output" $'new\nnew'
}

@test "nobody can write to it" {
	run -1 inside "$A" 'touch /image/x'
	assert_match "$output" 'Read-only file system'
	run -1 inside "$A" 'rm /part/new'
	assert_match "$output" 'Read-only file system'
}

@test "an image to whose mount somebody has written is shared as it is" {
	local mount pod=$POD
	POD=$(run_pod written)
	# The container that makes containerd mount it.
	remove_container "$(create first true "$(image_mount /image)")"
	mount=$(ls -d "$CONTAINERD"/state/io.containerd.grpc.v1.cri/image-volumes/"$POD"/*)
	echo new >"$mount/written"
	C=$(run_container c 'sleep 100000' "$(image_mount /image)")
	run -0 inside "$C" 'cat /image/written /image/t/hard1; touch /image/x 2>&1 || true'
	assert_match "$output" $'^new\none file\n.*Read-only file system'
	remove_pod "$POD"
	POD=$pod
}

@test "it's read through dm-verity, if that's asked for, also by a container of the same image" {
	local pod=$POD
	mkdir -p "$E2E/podvm.conf.d"
	printf '[image]\nverity = yes\n' >"$E2E/podvm.conf.d/verity.conf"
	chmod 600 "$E2E/podvm.conf.d/verity.conf"
	POD=$(run_pod checked)
	rm -r "$E2E/podvm.conf.d"
	C=$(run_container d 'sleep 100000' "$(image_mount /image "" $image)")
	run -0 inside "$C" 'cmp /bin/busybox /image/bin/busybox; grep " /image " /proc/mounts'
	assert_match "$output" '^/dev/dm-[0-9]+ /image erofs ro'
	remove_pod "$POD"
	POD=$pod
}
