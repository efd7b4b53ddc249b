#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# podvm run: what it runs, as whom, and how it ends.

# shellcheck disable=SC2154 # images and what run sets come from elsewhere
# shellcheck disable=SC2016 # what the container's shell is to expand stays as it is

load helpers

setup_file() {
	common_setup_file
	start_shared -e SHARED=yes
}

teardown_file() {
	common_teardown_file
}

teardown() {
	rm -rf "$E2E/tmp"/*
}

# ---- a machine of its own ----

@test "the kernel inside is the guest image's, not the host's" {
	run -0 inside 'uname -r'
	[ "$output" != "$(uname -r)" ]
	assert_equal "$output" "$(podvm image info --json | jq -r .kernel_version)"
}

@test "guest image and kernel by relative paths" {
	cd "$PODVM_IMAGE"
	run -0 podvm run --rm --net none --image . --kernel vmlinux "$base" uname -r
	assert_equal "$output" "$(jq -r .kernel.version manifest.json)"
}

@test "it is PID 1 and sees no process of the guest" {
	run -0 inside 'ps | grep -v -e ps -e grep -e PID -e "sh -c"'
	assert_match "$output" "^ *1 root .*sleep 100000$"
}

@test "--rm leaves nothing" {
	run -0 podvm run --rm "$base" echo hello
	assert_equal "$output" hello
	run -0 podvm ps -aq
	assert_equal "${#lines[@]}" 1
}

# ---- exit codes ----

@test "exit code is the command's" {
	run -7 podvm run --rm "$base" sh -c 'exit 7'
	run -255 podvm exec shared sh -c 'exit 255'
	run -0 podvm exec shared true
	run -1 podvm exec shared false
}

@test "127: there is no such command" {
	run -127 --separate-stderr podvm run --rm "$base" no-such-command
	assert_error no-such-command
	run -127 --separate-stderr podvm exec shared no-such-command
	assert_error no-such-command
}

@test "126: the command is not executable" {
	run -126 --separate-stderr podvm run --rm "$base" /bin/not-executable
	assert_error 'Permission denied'
	run -126 --separate-stderr podvm exec shared /etc
	assert_error 'not permitted'
}

@test "126, 127: the kernel can't execute the command" {
	inside 'cd /tmp; echo "#!/no/such/shell" >script; echo text >text; chmod +x script text'
	run -127 --separate-stderr podvm exec shared /tmp/script
	assert_error 'No such file'
	run -126 --separate-stderr podvm exec shared /tmp/text
	assert_error 'format error'
	run -126 podvm exec -t shared /tmp/text
}

@test "exec -d goes on by itself, whatever it prints" {
	podvm exec -d shared sh -c 'head -c 1000000 /dev/zero; touch /tmp/done'
	until_true 30 podvm exec shared test -e /tmp/done
}

@test "125: podvm itself fails" {
	run -125 --separate-stderr podvm run --nonsense "$base"
	assert_error nonsense
	run -125 --separate-stderr podvm run --rm --memory lots "$base" true
	assert_error memory
	run -125 --separate-stderr podvm run
	assert_error "image"
}

# ---- signals ----

@test "SIGTERM is passed on" {
	podvm run --name sigterm "$base" sh -c 'trap "exit 42" TERM; echo ready; while :; do sleep 0.1; done' \
		>"$E2E/tmp/out" &
	local pid=$!
	until_true 60 grep -q ready "$E2E/tmp/out"
	kill -TERM $pid
	wait_for $pid
	assert_status 42
	assert_equal "$(state_of sigterm exit_code)" 42
	podvm rm sigterm
}

@test "137: killed with SIGKILL" {
	podvm run -d --name sigkill "$base" sleep 1000
	podvm kill sigkill
	until_true 30 ended sigkill
	assert_equal "$(state_of sigkill exit_code)" 137
	podvm rm sigkill
}

@test "podvm stop sends the image's stop signal, and SIGKILL after the timeout" {
	podvm run -d --name polite --entrypoint sh "$config_image" \
		-c 'trap "exit 33" USR1; echo ready; while :; do sleep 0.1; done'
	until_true 30 has_said polite ready
	podvm stop polite
	assert_equal "$(state_of polite exit_code)" 33
	podvm rm polite
	podvm run -d --name stubborn "$base" sh -c 'trap "" TERM; while :; do sleep 1; done'
	podvm stop -t 1 stubborn
	assert_equal "$(state_of stubborn exit_code)" 137
	podvm rm stubborn
}

# ---- who and where ----

@test "user by name, by number, with group" {
	run -0 podvm exec -u daemon shared id
	assert_match "$output" '^uid=1\(daemon\) gid=1\(daemon\).*77\(extra\)'
	run -0 podvm exec -u 1234:4321 shared id
	assert_match "$output" '^uid=1234 gid=4321'
	run -0 podvm run --rm -u daemon:extra "$base" id
	assert_match "$output" '^uid=1\(daemon\) gid=77\(extra\)'
	run -125 --separate-stderr podvm run --rm -u nobody-knows "$base" id
	assert_error nobody-knows
}

@test "environment, working directory, host name" {
	printf 'FILE=1\n# comment\nBOTH=file\n' >"$E2E/tmp/env"
	run -0 podvm run --rm --env-file "$E2E/tmp/env" -e BOTH=option -e 'SPACE=a b' -w /var/tmp \
		--hostname myhost "$base" sh -c 'echo "$FILE $BOTH $SPACE $PWD $(hostname) $HOME"'
	assert_equal "$output" "1 option a b /var/tmp myhost /root"
	run -0 podvm exec -e MORE=2 -w /tmp shared sh -c 'echo "$SHARED $MORE $PWD"'
	assert_equal "$output" "yes 2 /tmp"
}

@test "everything that an image config says" {
	run -0 podvm run --rm "$config_image"
	assert_equal "$output" "entry cmd"
	run -0 podvm run --rm "$config_image" other arguments
	assert_equal "$output" "entry other arguments"
	run -0 podvm run --rm --entrypoint sh "$config_image" -c \
		'echo "$(id -un) $(id -gn) $PWD $FROM_IMAGE"; stat -c %A /data'
	assert_equal "$output" "daemon extra /home/daemon yes"$'\n'drwxr-xr-x
}

# ---- what it may do ----

@test "capabilities are podman's, and can be added and dropped" {
	run -0 inside 'grep CapEff /proc/self/status'
	assert_match "$output" '00000000800405fb|00000000a80425fb'
	run -0 podvm run --rm --cap-drop ALL --cap-add NET_BIND_SERVICE "$base" \
		grep CapEff /proc/self/status
	assert_match "$output" '0000000000000400$'
	run -0 podvm run --rm -u daemon "$base" grep CapEff /proc/self/status
	assert_match "$output" '0000000000000000$'
}

@test "seccomp filters, unless it is switched off" {
	run -0 inside 'grep "^Seccomp:" /proc/self/status'
	assert_match "$output" '2$'
	run inside 'unshare -m true'
	[ "$status" -ne 0 ]
	run -0 podvm run --rm --security-opt seccomp=unconfined "$base" \
		grep '^Seccomp:' /proc/self/status
	assert_match "$output" '0$'
	run -0 podvm run --rm --privileged "$base" sh -c 'mount -t tmpfs x /mnt 2>&1 || mount -t tmpfs x /tmp && echo mounted'
	assert_match "$output" 'mounted$'
}

@test "--read-only root, with the usual places writable" {
	run -0 podvm run --rm --read-only "$base" sh -c \
		'touch /x 2>&1; touch /tmp/x && echo writable'
	assert_match "${lines[0]}" "Read-only file system"
	assert_equal "${lines[1]}" writable
}

@test "masked paths of /proc and /sys" {
	run inside 'cat /proc/kcore /sys/firmware/* | wc -c'
	assert_match "$output" '^0$|No such file'
	run inside 'echo 1 >/proc/sys/kernel/panic'
	[ "$status" -ne 0 ]
}

# ---- real programs ----

@test "python3 runs a script from stdin" {
	run -0 podvm run -i --rm "$python" python3 - a b <<-'END'
		import sys
		print(sum(range(101)), sys.argv[1:])
	END
	assert_equal "$output" "5050 ['a', 'b']"
}

@test "a name can be used once" {
	run -125 --separate-stderr podvm run --name shared "$base" true
	assert_error "shared.*in use"
}
