#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# image.verity: what was changed on the host is an I/O error in the container, never wrong data. And
# several file systems on one disk.
# shellcheck disable=SC2154 # what bats sets

load helpers
load containerd

layered=registry.local/layered:1 # 5 layers, with one of everything

setup_file() {
	setup_containerd
	{ cat "$E2E/podvm.conf"; printf '[image]\nverity = yes\n'; } >"$E2E/verity.conf"
	chmod 600 "$E2E/verity.conf"
	/usr/bin/python3 "$BATS_TEST_DIRNAME/layered_image.py" "$IMAGES/oci" base "$E2E/tmp/image.tar" \
		$layered 5
	ctr image import "$E2E/tmp/image.tar"
	rm "$E2E/tmp/image.tar"
}

teardown_file() {
	rm -f "$E2E/verity.conf"
	rm -rf "$E2E/tmp"/*
	teardown_containerd
}

# podvm with verity
checked() {
	PODVM_CONFIG=$E2E/verity.conf "$PODVM" "$@"
}

# change_text FILE TEXT: the letter in the middle of it becomes another
change_text() {
	/usr/bin/python3 - "$@" <<-'END'
		import sys
		text = sys.argv[2].encode()
		with open(sys.argv[1], "r+b") as f:
		    at = f.read().index(text) + len(text) // 2
		    f.seek(at)
		    f.write(b"#")
	END
}

# An image whose file /data is 4 MiB of the letter a.
make_image() {
	head -c 4194304 /dev/zero | tr '\0' a >"$E2E/tmp/data"
	skopeo copy -q "oci:$IMAGES/oci:base" "oci:$E2E/tmp/layout:data"
	umoci insert --image "$E2E/tmp/layout:data" "$E2E/tmp/data" /data
}

# Tells errors of reading /data, and how many of the bytes that could be read aren't an a.
# shellcheck disable=SC2016
read_data='dd if=/data bs=4k conv=noerror 2>/data.err | tr -d a | wc -c; grep -o "Input/output error" /data.err | sort -u'

@test "an image is read through dm-verity, if it's asked for" {
	run -0 checked run --rm "$base" sh -c 'ls /sys/block; grep root: /etc/passwd'
	assert_match "$output" $'^dm-0\n.*root:'
	run -0 podvm run --rm "$base" ls /sys/block
	[[ $output != *dm-0* ]]
}

@test "a byte that was changed is an I/O error, and the rest can be read" {
	local file
	make_image
	checked run -d --name changed "oci:$E2E/tmp/layout:data" sleep 1000
	file=$(find "$E2E/cache/images" -name root.erofs -size +4M -newer "$E2E/tmp/data")
	change_text "$file" "$(head -c 100000 "$E2E/tmp/data")"
	run -0 checked exec changed sh -c "$read_data"
	assert_equal "$output" $'0\nInput/output error'
	checked rm -f changed
	# It's the same for who starts later. Who doesn't check sees it.
	run -0 checked run --rm "oci:$E2E/tmp/layout:data" sh -c "$read_data"
	assert_equal "$output" $'0\nInput/output error'
	run -0 podvm run --rm "oci:$E2E/tmp/layout:data" sh -c "$read_data"
	assert_equal "$output" 1
	podvm image rm "oci:$E2E/tmp/layout:data"
}

# ctr_checked ARGUMENTS...: ctr run, with verity
ctr_checked() {
	ctr_run --rm --runtime-config-path "$E2E/verity.conf" "$@"
}

layers() {
	find "$E2E/cache/snapshots" -path '*v/layer.erofs'
}

@test "layers of containerd are checked, each by its own hash" {
	local file
	run -0 ctr_checked $layered v1 sh -c 'ls -d /sys/block/dm-* | wc -l; cat /t/hard1; ls /t/dir'
	assert_equal "$output" $'5\none file\nnew'
	assert_equal "$(layers | wc -l)" 5
	file=$(layers | xargs grep -l 'one file')
	change_text "$file" "one file"
	run ctr_checked $layered v2 cat /t/hard1
	[ "$status" -ne 0 ]
	[[ $output != *file* ]]
	rm "$file"
	run -0 ctr_checked $layered v3 cat /t/hard1
	assert_equal "$output" "one file"
}

@test "what can't be checked isn't started" {
	sed 's/^\[image\]/[storage]\nrootfs = virtiofs\n[image]/' "$E2E/verity.conf" >"$E2E/tmp/shared.conf"
	chmod 600 "$E2E/tmp/shared.conf"
	run ctr_run --rm --runtime-config-path "$E2E/tmp/shared.conf" $layered v4 true
	[ "$status" -ne 0 ]
	assert_match "$output" "can't be checked by dm-verity: the configuration says so"
}

# What containerd's erofs snapshotter does: a file beside every layer's directory.
make_blobs() {
	local dir
	for dir in "$CONTAINERD"/root/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs; do
		[ -e "${dir%fs}layer.erofs" ] || mkfs.erofs --quiet "${dir%fs}layer.erofs" "$dir"
	done
}

@test "files of a snapshotter, more than a machine has disks for" {
	local look='ls -d /sys/block/sd* /sys/block/sd*/sd* | sed "s/.*sd[a-z]*//" | grep -c "[0-9]"
		ls -d /sys/block/dm-* 2>/dev/null | wc -l; ls /many | wc -l; cat /many/last /t/hard1; ls /t/dir'
	/usr/bin/python3 "$BATS_TEST_DIRNAME/layered_image.py" "$IMAGES/oci" base "$E2E/tmp/image.tar" \
		registry.local/many:1 40
	ctr image import "$E2E/tmp/image.tar"
	make_blobs
	# 27 disks and one with 13 parts: half of a machine's, less those that are kept for others.
	run -0 ctr_run --rm registry.local/many:1 v5 sh -c "$look"
	assert_equal "$output" $'13\n0\n38\n40\none file\nnew'
	run -0 ctr_checked registry.local/many:1 v6 sh -c "$look"
	assert_equal "$output" $'13\n40\n38\n40\none file\nnew'
}
