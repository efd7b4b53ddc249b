#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Where images come from, and what becomes of damaged ones.

# shellcheck disable=SC2154 # images and what run sets come from elsewhere
# shellcheck disable=SC2016 # what the container's shell is to expand stays as it is

load helpers

setup_file() {
	common_setup_file
}

teardown_file() {
	rm -rf "$E2E/tmp"/*
	common_teardown_file
}

teardown() {
	rm -rf "$E2E/tmp"/*
	assert_equal "$(leftover_files)" ""
}

# A copy of the layout with the image "base" alone, to be damaged.
copy_layout() {
	skopeo copy -q "oci:$IMAGES/oci:base" "oci:$E2E/tmp/layout:base"
}

# The file of the only layer.
layer_file() {
	local manifest digest
	manifest=$(jq -r '.manifests[0].digest' "$E2E/tmp/layout/index.json")
	digest=$(jq -r '.layers[0].digest' "$E2E/tmp/layout/blobs/sha256/${manifest#sha256:}")
	echo "$E2E/tmp/layout/blobs/sha256/${digest#sha256:}"
}

@test "oci-archive and docker-archive" {
	run -0 podvm run --rm "oci-archive:$IMAGES/base.oci.tar" cat /etc/passwd
	assert_match "$output" "^root:"
	run -0 podvm run --rm "docker-archive:$IMAGES/base.docker.tar" true
}

@test "a directory" {
	run -0 podvm run --rm "dir:$IMAGES/rootfs" cat /etc/group
	assert_match "$output" "extra:x:77:"
}

@test "an image is made once" {
	run -0 --separate-stderr podvm image pull "$base"
	local digest=$output
	assert_match "$digest" '^sha256:[0-9a-f]{64}$'
	local before
	before=$(podvm image ls --json | jq -r ".[] | select(.digest == \"$digest\").stored")
	run -0 podvm image pull "$base"
	assert_equal "$(podvm image ls --json | jq -r ".[] | select(.digest == \"$digest\").stored")" "$before"
	run -0 podvm image ls
	assert_match "$output" "${digest:7:12}"
}

@test "image rm, in use and not" {
	podvm run -d --name user "$base" sleep 1000
	run -125 --separate-stderr podvm image rm "$base"
	assert_error "use"
	podvm rm -f user
	run -0 podvm image rm "$base"
	run -0 podvm image ls
	[[ $output != *"$base"* ]]
	run -125 --separate-stderr podvm image rm "$base"
}

@test "image prune -a removes what nothing uses" {
	podvm image pull "$base"
	run -0 podvm image prune -a
	assert_match "$output" "removed"
	assert_equal "$(podvm image ls --json | jq length)" 0
}

@test "image verify finds a damaged cache" {
	podvm image pull "$base"
	run -0 podvm image verify "$base"
	local file
	file=$(find "$E2E/cache/images" -name root.erofs | head -1)
	printf x | dd of="$file" bs=1 seek=5000 conv=notrunc status=none
	run -125 --separate-stderr podvm image verify "$base"
	podvm image rm "$base"
}

@test "125: a layer whose bytes were changed" {
	copy_layout
	printf x | dd of="$(layer_file)" bs=1 seek=1000 conv=notrunc status=none
	run -125 --separate-stderr podvm run --rm "oci:$E2E/tmp/layout:base" true
	assert_error "image"
}

@test "125: a layer that was cut off" {
	copy_layout
	truncate -s 5000 "$(layer_file)"
	run -125 --separate-stderr podvm run --rm "oci:$E2E/tmp/layout:base" true
	assert_error "bytes|size"
}

@test "125: a layer that isn't there" {
	copy_layout
	rm "$(layer_file)"
	run -125 --separate-stderr podvm run --rm "oci:$E2E/tmp/layout:base" true
	assert_error "No such file|missing"
}

@test "125: another layer under its name" {
	copy_layout
	tar -C "$E2E/tmp/layout" -cz index.json >"$E2E/tmp/other"
	truncate -s "$(stat -c %s "$(layer_file)")" "$E2E/tmp/other"
	cp "$E2E/tmp/other" "$(layer_file)"
	run -125 --separate-stderr podvm run --rm "oci:$E2E/tmp/layout:base" true
	assert_error "digest"
}

@test "125: a manifest that doesn't fit its digest" {
	copy_layout
	local manifest
	manifest=$(jq -r '.manifests[0].digest' "$E2E/tmp/layout/index.json")
	printf ' ' >>"$E2E/tmp/layout/blobs/sha256/${manifest#sha256:}"
	run -125 --separate-stderr podvm run --rm "oci:$E2E/tmp/layout:base" true
	assert_error "image"
}

@test "125: no such tag, layout, archive, directory, transport" {
	run -125 --separate-stderr podvm run --rm "oci:$IMAGES/oci:nonsense" true
	assert_error nonsense
	run -125 --separate-stderr podvm run --rm "oci:/nonexistent" true
	assert_error /nonexistent
	run -125 --separate-stderr podvm run --rm "oci-archive:/nonexistent.tar" true
	assert_error /nonexistent
	run -125 --separate-stderr podvm run --rm "dir:/nonexistent" true
	assert_error /nonexistent
	run -125 --separate-stderr podvm run --rm "ftp:image" true
	assert_error ftp
}

@test "a hostile layer stays in its place" {
	mkdir -p "$E2E/tmp/evil/a"
	python3 - "$E2E/tmp/evil.tar" <<-'END'
		import io, sys, tarfile
		with tarfile.open(sys.argv[1], "w") as tar:
		    def add(name, **more):
		        info = tarfile.TarInfo(name)
		        for key, value in more.items():
		            setattr(info, key, value)
		        data = b"evil" if info.isreg() else b""
		        info.size = len(data)
		        tar.addfile(info, io.BytesIO(data))
		    add("../../../../../../tmp/podvm-evil")
		    add("link", type=tarfile.SYMTYPE, linkname="/tmp")
		    add("link/podvm-evil")
	END
	umoci init --layout "$E2E/tmp/hostile"
	umoci new --image "$E2E/tmp/hostile:x"
	umoci raw add-layer --image "$E2E/tmp/hostile:x" "$E2E/tmp/evil.tar"
	run podvm image pull "oci:$E2E/tmp/hostile:x"
	[ ! -e /tmp/podvm-evil ]
	podvm image rm "oci:$E2E/tmp/hostile:x" || true
}

@test "image info and verify of the guest image" {
	run -0 podvm image info
	assert_match "$output" "crun"
	run -0 podvm image verify
	assert_match "$output" "intact"
}
