#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# -v through virtiofs, and --tmpfs.

# shellcheck disable=SC2154 # images and what run sets come from elsewhere
# shellcheck disable=SC2016 # what the container's shell is to expand stays as it is

load helpers

setup_file() {
	common_setup_file
	DIR=$E2E/tmp/volume
	export DIR
	mkdir -p "$DIR/sub"
	echo "from the host" >"$DIR/file"
	echo "a file" >"$E2E/tmp/single"
	start_shared -v "$DIR:/rw" -v "$DIR:/ro:ro" -v "$E2E/tmp/single:/etc/single:ro"
}

teardown_file() {
	rm -rf "$E2E/tmp"/*
	common_teardown_file
}

@test "both sides see what the other writes" {
	run -0 inside 'cat /rw/file; echo "from the guest" >/rw/sub/new; mkdir /rw/made; ls /rw'
	assert_equal "${lines[0]}" "from the host"
	assert_equal "$(cat "$DIR/sub/new")" "from the guest"
	echo changed >"$DIR/file"
	run -0 inside 'cat /rw/file'
	assert_equal "$output" changed
}

@test ":ro can be read only, whatever the other one does" {
	run -0 inside 'cat /ro/sub/../file'
	run inside 'touch /ro/x'
	[ "$status" -ne 0 ]
	assert_match "$output" "Read-only file system"
	[ ! -e "$DIR/x" ]
}

@test "a single file" {
	run -0 inside 'cat /etc/single'
	assert_equal "$output" "a file"
	run inside 'echo x >/etc/single'
	[ "$status" -ne 0 ]
	assert_equal "$(cat "$E2E/tmp/single")" "a file"
}

@test "owners and modes" {
	install -m 640 -o 1234 -g 77 /dev/null "$DIR/owned"
	run -0 inside 'stat -c "%u %g %a" /rw/owned'
	assert_equal "$output" "1234 77 640"
	run -0 inside 'touch /rw/by-user && chown 55:66 /rw/by-user && chmod 604 /rw/by-user'
	assert_equal "$(stat -c '%u %g %a' "$DIR/by-user")" "55 66 604"
}

@test "nothing outside of the directory can be reached" {
	ln -s /etc/hostname "$DIR/link"
	echo secret >"$E2E/tmp/secret"
	run -0 inside 'cat /rw/../etc/hostname; cat /rw/link'
	[[ $output != *"$(cat /etc/hostname)"* ]] || [ "$(hostname)" = "$(inside hostname)" ]
	run inside 'find / -name secret -type f 2>/dev/null; cat /rw/../secret'
	[[ $output != *secret* ]] || [[ $output == *"No such file"* ]]
}

@test "a large file survives the way" {
	head -c 20000000 /dev/urandom >"$DIR/large"
	run -0 inside 'cp /rw/large /rw/copy; sha256sum </rw/copy'
	assert_equal "${output%% *}" "$(sha256sum <"$DIR/large" | cut -d' ' -f1)"
	cmp "$DIR/large" "$DIR/copy"
	rm "$DIR/large" "$DIR/copy"
}

@test "no virtiofsd without -v" {
	podvm run -d --name plain "$base" sleep 1000
	run -0 podvm inspect plain
	[[ $output != *virtiofsd* ]]
	run -0 podvm inspect shared
	assert_match "$output" virtiofsd
	podvm rm -f plain
}

@test "--tmpfs with size and mode" {
	run -1 podvm run --rm --tmpfs /scratch:size=1m,mode=1777 "$base" sh -c \
		'grep " /scratch tmpfs" /proc/mounts; stat -c %a /scratch; dd if=/dev/zero of=/scratch/x bs=1M count=2 2>&1'
	assert_match "$output" "1777"
	assert_match "$output" "No space left on device"
}

@test "125: a source that isn't there" {
	run -125 --separate-stderr podvm run --rm -v "$E2E/tmp/missing:/x" "$base" true
	assert_error "$E2E/tmp/missing"
	run -125 --separate-stderr podvm run --rm -v "relative:/x" "$base" true
	assert_error "relative"
}
