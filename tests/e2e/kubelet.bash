# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154
#
# A pod with volumes in a directory that is laid out as the kubelet's, through CRI. To be loaded
# after containerd.bash.

# K is the kubelet's directory of the pod, LOGS that of the containers' logs.
setup_kubelet() {
	LOGS=$CONTAINERD/logs
	K=$CONTAINERD/kubelet/pods/6e5f4d3c-uid
	export LOGS K
	mkdir -p "$LOGS" "$K"
	# As on a host that systemd has set up: what is mounted later is seen by shims as well.
	mount --bind "$K" "$K"
	mount --make-shared "$K"
}

# All pods go, also those that a failed test has left.
teardown_kubelet() {
	local pod
	for pod in $(ctr -n k8s.io container ls -q); do
		remove_pod "$pod" 2>/dev/null || true
	done
	umount -R "$CONTAINERD"/kubelet/pods/* 2>/dev/null || true
}

# ANNOTATIONS are the pod's, as JSON.
pod_config() {
	jq -n --arg logs "$LOGS" --arg name "$1" --arg cgroup "/$CGROUP" \
		--argjson annotations "${ANNOTATIONS:-null}" '{log_directory: $logs,
		metadata: {name: $name, uid: $name, namespace: "default"}, linux: {cgroup_parent: $cgroup}}
		+ if $annotations then {annotations: $annotations} else {} end'
}

run_pod() {
	cri RunPodSandbox "$(jq -n --argjson c "$(pod_config "$1")" \
		'{runtime_handler: "podvm", config: $c}')" | jq -r .pod_sandbox_id
}

remove_pod() {
	cri StopPodSandbox "{\"pod_sandbox_id\": \"$1\"}" >/dev/null
	cri RemovePodSandbox "{\"pod_sandbox_id\": \"$1\"}" >/dev/null
}

# mount_of HOST_PATH CONTAINER_PATH ro|rw
mount_of() {
	jq -nc --arg from "$1" --arg to "$2" --argjson ro "$([ "$3" = ro ] && echo true || echo false)" \
		'{container_path: $to, host_path: $from, readonly: $ro}'
}

# mounts NAME ro|rw...: of volumes of the pod
mounts() {
	while [ $# -gt 0 ]; do
		mount_of "$(echo "$K"/volumes/*/"$1")" "/$1" "$2"
		shift 2
	done
}

# create NAME SCRIPT MOUNT...: prints the container's id. DEVICES are host paths, CAPABILITIES what it
# may do beyond what containers usually may.
create() {
	local name=$1 script=$2
	shift 2
	cri CreateContainer "$(printf '%s\n' "$@" | jq -s --arg pod "$POD" --arg name "$name" \
		--argjson pc "$(pod_config volumes)" --arg script "$script" --arg image "$image" \
		--arg devices "${DEVICES:-}" --arg caps "${CAPABILITIES:-}" '{pod_sandbox_id: $pod, sandbox_config: $pc, config: {
			metadata: {name: $name}, image: {image: $image}, command: ["sh", "-c", $script],
			log_path: "\($name).log", mounts: ., devices: ($devices | split(" ") |
				map({container_path: "/dev/\(split("/dev/")[1] // "other")",
				     host_path: ., permissions: "rw"})),
			linux: {security_context: {capabilities: {
				add_capabilities: ($caps | split(" "))}}}}}')" | jq -r .container_id
}

start_container() {
	cri StartContainer "{\"container_id\": \"$1\"}" >/dev/null
}

stop_container() {
	cri StopContainer "{\"container_id\": \"$1\", \"timeout\": 0}" >/dev/null
}

remove_container() {
	cri RemoveContainer "{\"container_id\": \"$1\"}" >/dev/null
}

run_container() {
	local id
	id=$(create "$@")
	start_container "$id"
	echo "$id"
}

# refused REGEX NAME SCRIPT MOUNT...: there is no way to have such a container.
refused() {
	local why=$1 id
	shift
	id=$(create "$@")
	run -125 start_container "$id"
	assert_match "$output" "podvm: .*$why"
	remove_container "$id"
}

inside() {
	cri ExecSync "$(jq -n --arg id "$1" --arg script "$2" \
		'{container_id: $id, cmd: ["sh", "-c", $script], timeout: 60}')"
}

status() {
	cri ContainerStatus "{\"container_id\": \"$1\"}" | jq -r ".status.$2"
}

exited() {
	[ "$(status "$1" state)" = 2 ]
}

# says CONTAINER FILE TEXT
says() {
	[ "$(inside "$1" "cat $2")" = "$3" ]
}
