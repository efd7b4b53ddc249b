# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154
#
# Small pods through CRI, and everything that they may leave on the host. To be loaded after
# containerd.bash.

pod_config() {
	jq -n --arg name "$1" --arg cgroup "/$CGROUP" --arg logs "$CONTAINERD/logs" '{
		metadata: {name: $name, uid: $name, namespace: "default"}, hostname: $name,
		log_directory: $logs, linux: {cgroup_parent: $cgroup}}'
}

pod_request() {
	jq -n --argjson c "$(pod_config "$1")" '{runtime_handler: "podvm", config: $c}'
}

# run_pod NAME: prints its id
run_pod() {
	local answer
	answer=$(cri RunPodSandbox "$(pod_request "$1")") && jq -r .pod_sandbox_id <<<"$answer"
}

# create_container POD NAME SCRIPT: prints its id. It has a volume.
create_container() {
	mkdir -p "$CONTAINERD/volume"
	cri CreateContainer "$(jq -n --arg pod "$1" --argjson pc "$(pod_config "$1")" \
		--arg name "$2" --arg script "$3" --arg image "$image" \
		--arg volume "$CONTAINERD/volume" '{pod_sandbox_id: $pod, sandbox_config: $pc,
			config: {metadata: {name: $name}, image: {image: $image},
			command: ["sh", "-c", $script], log_path: "\($name).log",
			mounts: [{container_path: "/volume", host_path: $volume}]}}')" |
		jq -r .container_id
}

start_container() {
	cri StartContainer "{\"container_id\": \"$1\"}" >/dev/null
}

remove_container() {
	cri RemoveContainer "{\"container_id\": \"$1\"}" >/dev/null
}

# exec_in CONTAINER SCRIPT
exec_in() {
	cri ExecSync "$(jq -n --arg id "$1" --arg script "$2" \
		'{container_id: $id, cmd: ["sh", "-c", $script], timeout: 120}')"
}

stop_pod() {
	cri StopPodSandbox "{\"pod_sandbox_id\": \"$1\"}" >/dev/null
}

remove_pod() {
	stop_pod "$1"
	cri RemovePodSandbox "{\"pod_sandbox_id\": \"$1\"}" >/dev/null
}

container_status() {
	cri ContainerStatus "{\"container_id\": \"$1\"}" | jq -r ".status.$2"
}

container_exited() {
	[ "$(container_status "$1" state)" = 2 ]
}

pod_not_ready() {
	[ "$(cri PodSandboxStatus "{\"pod_sandbox_id\": \"$1\"}" | jq -r .status.state)" = 1 ]
}

# Everything of our pods on this host, sorted; nothing while none runs.
pods_on_host() {
	our_processes | grep 'containerd-shim\|qemu\|virtiofsd\|passt' || true
	cat /proc/[0-9]*/mountinfo 2>/dev/null | cut -d ' ' -f 4- | grep "$E2E" | sort -u || true
	losetup -l -n -O NAME,BACK-FILE 2>/dev/null | grep "$E2E" || true
	our_sockets
	ip -j link show master "$BRIDGE" 2>/dev/null | jq -r '.[].ifname'
	find "$CONTAINERD/ipam" -name '[0-9]*' 2>/dev/null || true
	find /sys/fs/cgroup -mindepth 2 -type d -path "*/$CGROUP/*" 2>/dev/null || true
	find "$CONTAINERD/state/io.containerd.runtime.v2.task" -mindepth 2 2>/dev/null || true
	leftover_files | grep -v "^$CONTAINERD" || true
	find "$E2E/cache" -path "$E2E/cache/*/tmp/*" 2>/dev/null || true
}

# note_pods: remember what is there now
note_pods() {
	pods_on_host >"$E2E/pods-noted"
}

# What wasn't there then. (What has gone since may have been about to go.)
more_on_host() {
	pods_on_host | grep -vxFf "$E2E/pods-noted"
}

nothing_more_on_host() {
	[ -z "$(more_on_host)" ]
}

assert_nothing_more() {
	until_true 60 nothing_more_on_host || fail "left on the host: $(more_on_host)"
}

nothing_on_host() {
	[ -z "$(pods_on_host)" ]
}

no_pods_known() {
	[ -z "$(ctr -n k8s.io container ls -q)" ]
}

# Fails when a pod has left anything, or if CRI still knows one.
assert_no_pods() {
	until_true 60 nothing_on_host || fail "left on the host: $(pods_on_host)" || return 1
	until_true 60 no_pods_known || fail "still known: $(ctr -n k8s.io container ls -q)"
}

teardown_pods() {
	local pod
	for pod in $(ctr -n k8s.io container ls -q); do
		remove_pod "$pod" 2>/dev/null || true
	done
	teardown_containerd
}
