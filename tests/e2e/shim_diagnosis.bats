#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# A pod that doesn't start says in the CRI error, which `kubectl describe` shows, at which stage it
# failed, why, what to do about it, and what the guest's console had last.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load pods

setup_file() {
	setup_containerd
	mkdir "$E2E/podvm.conf.d"
}

teardown_file() {
	rm -rf "$E2E"/podvm.conf.d "$E2E/tmp/image"
	teardown_pods
}

teardown() {
	rm -f "$E2E/podvm.conf.d/test.conf"
}

# configure LINE...: on top of the configuration
configure() {
	printf '%s\n' "$@" >"$E2E/podvm.conf.d/test.conf"
}

# pod_fails REGEX: what CRI is told when a pod can't start, with control characters as in the logs
pod_fails() {
	run ! run_pod failing
	assert_match "$output" "podvm: $1"
	assert_no_pods
}

# A copy of the guest image in which FILE has only zeroes.
damaged_image() {
	rm -rf "$E2E/tmp/image"
	mkdir "$E2E/tmp/image"
	ln -s "$PODVM_IMAGE"/* "$E2E/tmp/image/"
	rm "$E2E/tmp/image/$1"
	truncate -s "$(stat -Lc %s "$PODVM_IMAGE/$1")" "$E2E/tmp/image/$1"
	configure '[paths]' "image = $E2E/tmp/image"
}

# container_fails REGEX JQ: of a container in a good pod whose CRI configuration is changed
container_fails() {
	local pod request id
	pod=$(run_pod good)
	request=$(jq -n --arg pod "$pod" --argjson pc "$(pod_config good)" --arg image "$image" \
		'{pod_sandbox_id: $pod, sandbox_config: $pc, config: {metadata: {name: "c"},
		  image: {image: $image}, command: ["sleep", "1000"], log_path: "c.log"}}')
	id=$(cri CreateContainer "$(jq ".config |= (. | $2)" <<<"$request")" | jq -r .container_id)
	run ! start_container "$id"
	assert_match "$output" "podvm: $1"
	remove_pod "$pod"
}

@test "configuration: a mistake is shown with its line" {
	configure '[vm]' 'memory = lots'
	pod_fails 'cannot create the container: configuration: .*/test.conf:2: \[vm\] memory = .*lots.*it must be a size such as 256M'
}

@test "guest image: there is none" {
	configure '[paths]' 'image = /nonexistent'
	pod_fails 'cannot create the container: guest image: .*/nonexistent.*make image'
}

@test "guest image: files of another size" {
	damaged_image vmlinux
	truncate -s 10 "$E2E/tmp/image/vmlinux"
	pod_fails 'cannot create the container: guest image: .*vmlinux has 10 bytes instead of [0-9]+; build or install it again'
}

@test "guest image: a root file system that can't be mounted" {
	damaged_image rootfs.erofs
	pod_fails "cannot create the container: boot: the guest's kernel has crashed: Kernel panic.*Unable to mount root fs.*; the last lines of the guest's console:.*mount_root"
}

@test "monitor: it isn't there, or isn't one" {
	configure '[vmm]' 'binary = /nonexistent/qemu'
	pod_fails 'cannot create the container: vmm: /nonexistent/qemu was not found; install QEMU'
	configure '[vmm]' 'binary = /bin/false'
	pod_fails 'cannot create the container: vmm: the monitor ended with code 1'
}

@test "monitor: it says why" {
	printf '#!/bin/sh\necho "no such luck" >&2\nexit 3\n' >"$E2E/tmp/monitor"
	chmod 755 "$E2E/tmp/monitor"
	configure '[vmm]' "binary = $E2E/tmp/monitor"
	pod_fails 'cannot create the container: vmm: the monitor ended with code 3: no such luck'
	rm "$E2E/tmp/monitor"
}

@test "boot: it takes too long" {
	# Its processors don't run, so that it takes too long on any machine.
	printf '#!/bin/sh\nexec qemu-system-x86_64 -S "$@"\n' >"$E2E/tmp/paused"
	chmod 755 "$E2E/tmp/paused"
	configure '[vmm]' "binary = $E2E/tmp/paused" 'accel = tcg' '[start]' 'boot_timeout = 1s'
	pod_fails "cannot create the container: boot: the guest did not come up within 1 s.*console is empty"
	rm "$E2E/tmp/paused"
}

@test "more memory than the host has is no mistake" {
	configure '[vm]' 'memory = 1T'
	remove_pod "$(run_pod large)"
}

@test "a limit may be any number" {
	run -0 ctr_run --rm --memory-limit 99999999 "$image" odd true
}

@test "too little memory for a guest" {
	configure '[vm]' 'guest_overhead = 0'
	run ! ctr_run --rm --memory-limit 20000000 "$image" small true
	assert_match "$output" 'podvm: cannot create the container: vmm: a machine with 19 MiB of memory .*; it needs 64 MiB'
}

@test "kvm: asked for, but not usable" {
	! podvm check --json | jq -e '.checks[] | select(.name == "kvm" and .status == "ok")' ||
		skip "KVM works here"
	configure '[vmm]' 'accel = kvm'
	pod_fails 'cannot create the container: vmm: '
}

@test "network: a namespace that isn't there, and a link that can't be given to a guest" {
	run ! ctr_run --rm --with-ns network:/run/netns/none "$image" n1 true
	assert_match "$output" 'podvm: cannot create the container: network: .*/run/netns/none'
	ip netns add "${E2E##*/}"
	ip -n "${E2E##*/}" link add br0 type bridge
	ip -n "${E2E##*/}" addr add 192.0.2.1/24 dev br0
	ip -n "${E2E##*/}" link set br0 up
	run ! ctr_run --rm --with-ns "network:/run/netns/${E2E##*/}" "$image" n2 true
	ip netns del "${E2E##*/}"
	assert_match "$output" 'podvm: cannot create the container: network: .*br0.*bridge.*; Possible are veth'
}

@test "a sysctl that the guest hasn't got" {
	run ! cri RunPodSandbox "$(pod_request failing |
		jq '.config.linux.sysctls = {"kernel.no_such_thing": "1"}')"
	assert_match "$output" 'podvm: cannot create the container: configure: .*kernel.no_such_thing'
	assert_no_pods
}

@test "a command that isn't there, one that can't be run, a specification that crun refuses" {
	container_fails 'cannot create the container: .*no-such-command.* not found' \
		'.command = ["no-such-command"]'
	container_fails 'cannot create the container: create: .*Permission denied' '.command = ["/etc/passwd"]'
	run ! ctr_run --rm --mount type=nosuchfs,src=none,dst=/mnt "$image" refused true
	assert_match "$output" 'podvm: cannot create the container: create: crun create: mount .none. to .mnt.: No such device'
}
