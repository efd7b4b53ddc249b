# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A containerd of our own, in directories of our own, that runs containers with the shim. To be
# loaded after helpers.bash. CONTAINERD_BIN is the directory of another containerd and ctr than
# Debian's, of version 1.6 or later (see tests/tools.sh).
# shellcheck disable=SC2154

runtime=io.containerd.podvm.v2
image=registry.local/base:1
# Of a bridge, and of its network: another for every containerd that runs at the same moment.
BRIDGE=${E2E_BRIDGE:-pve2e0}
SUBNET=${E2E_SUBNET:-10.213.77}
# Below it are the control groups of pods.
CGROUP=podvm-${E2E##*/}
export runtime image BRIDGE SUBNET CGROUP
# That this machine's control groups are of version 1 is nothing that a test wants to read.
export CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1

ctr() {
	"$CONTAINERD/bin/ctr" -a "$CONTAINERD/c.sock" "$@"
}

ctr_run() {
	ctr run --runtime $runtime "$@"
}

# cri METHOD [JSON]
cri() {
	/usr/bin/python3 "$BATS_TEST_DIRNAME/cri_client.py" "$CONTAINERD/c.sock" "$@"
}

write_config_1() {
	cat <<-END
		version = 2
		root = "$CONTAINERD/root"
		state = "$CONTAINERD/state"
		oom_score = 0
		[grpc]
		  address = "$CONTAINERD/c.sock"
		[debug]
		  level = "debug"
		[plugins."io.containerd.grpc.v1.cri"]
		  sandbox_image = "$image"
		  disable_apparmor = true
		  restrict_oom_score_adj = true
		  [plugins."io.containerd.grpc.v1.cri".cni]
		    bin_dir = "/usr/lib/cni"
		    conf_dir = "$CONTAINERD/cni"
		  [plugins."io.containerd.grpc.v1.cri".containerd]
		    default_runtime_name = "podvm"
		  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.podvm]
		    runtime_type = "$runtime"
		    privileged_without_host_devices = true
		    pod_annotations = ["podvm.io/*"]
	END
}

write_config_2() {
	cat <<-END
		version = 3
		root = "$CONTAINERD/root"
		state = "$CONTAINERD/state"
		[grpc]
		  address = "$CONTAINERD/c.sock"
		[ttrpc]
		  address = "$CONTAINERD/c.sock.ttrpc"
		[debug]
		  level = "debug"
		[plugins.'io.containerd.cri.v1.images'.pinned_images]
		  sandbox = "$image"
		[plugins.'io.containerd.cri.v1.runtime']
		  disable_apparmor = true
		  restrict_oom_score_adj = true
		  [plugins.'io.containerd.cri.v1.runtime'.cni]
		    bin_dirs = ["/usr/lib/cni"]
		    conf_dir = "$CONTAINERD/cni"
		  [plugins.'io.containerd.cri.v1.runtime'.containerd]
		    default_runtime_name = "podvm"
		  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.podvm]
		    runtime_type = "$runtime"
		    privileged_without_host_devices = true
		    pod_annotations = ["podvm.io/*"]
		  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.podvm-sandboxer]
		    runtime_type = "$runtime"
		    privileged_without_host_devices = true
		    sandboxer = "shim"
	END
}

write_containerd_config() {
	if "$CONTAINERD/bin/containerd" --version | grep -q ' v\?2\.'; then
		write_config_2
	else
		write_config_1
	fi >"$CONTAINERD/config.toml"
}

write_cni_config() {
	mkdir -p "$CONTAINERD/cni"
	cat >"$CONTAINERD/cni/10-test.conflist" <<-END
		{"cniVersion": "0.4.0", "name": "podvm-e2e", "plugins": [
		  {"type": "bridge", "bridge": "$BRIDGE", "isGateway": true,
		   "ipam": {"type": "host-local", "dataDir": "$CONTAINERD/ipam",
		            "ranges": [[{"subnet": "$SUBNET.0/24"}]],
		            "routes": [{"dst": "0.0.0.0/0"}]}}]}
	END
}

# exec_closed COMMAND...: nothing stays open but standard streams. Who has one of bats' keeps it from
# ending.
exec_closed() {
	local fd
	for fd in /proc/"$BASHPID"/fd/*; do
		fd=${fd##*/}
		[ "$fd" -le 2 ] || eval "exec $fd>&-"
	done
	exec "$@"
}

# (Again.) Its processes are found by PODVM_CONFIG in their environment.
start_containerd() {
	PODVM_CONFIG=$E2E/podvm.conf PATH=$CONTAINERD/bin:$PATH exec_closed \
		setsid "$CONTAINERD/bin/containerd" -c "$CONTAINERD/config.toml" \
		>>"$CONTAINERD/log" 2>&1 </dev/null &
	echo $! >"$CONTAINERD/pid"
	# CRI comes after the rest: it looks at the pods that it had before.
	until_true 30 network_ready
}

stop_containerd() {
	local pid
	pid=$(cat "$CONTAINERD/pid")
	kill "$pid"
	until_true 10 process_gone "$pid"
}

# (Where nobody reaps it, it stays as a zombie, which has no command line.)
process_gone() {
	! grep -q . "/proc/$1/cmdline" 2>/dev/null
}

setup_containerd() {
	local shim=${PODVM_SHIM:-${PODVM%/*}/../shim/containerd-shim-podvm-v2}
	common_setup_file
	CONTAINERD=$E2E/containerd
	export CONTAINERD
	mkdir -p "$CONTAINERD/bin"
	ln -sf "$(readlink -f "$shim")" "$CONTAINERD/bin/containerd-shim-podvm-v2"
	ln -sf "${CONTAINERD_BIN:-/usr/bin}"/{containerd,ctr} "$CONTAINERD/bin/"
	write_containerd_config
	write_cni_config
	start_containerd
	skopeo copy -q "$base" "oci-archive:$CONTAINERD/image.tar:$image"
	ctr image import "$CONTAINERD/image.tar"
	ctr -n k8s.io image import "$CONTAINERD/image.tar"
}

# Sockets of our shims that are still there. (The directory isn't ours alone.)
our_sockets() {
	local socket
	for socket in $(sed -n 's/.*the shim serves.* socket=\([^ "\\]*\).*/\1/p' "$CONTAINERD/log"); do
		[ ! -e "$socket" ] || echo "$socket"
	done
}

# What pods have left, but for what containerd itself keeps.
left_by_pods() {
	our_processes | grep 'containerd-shim-podvm-v2\|qemu\|virtiofsd' || true
	our_sockets
	find "$CONTAINERD"/state/io.containerd.runtime.v2.task -mindepth 2
}

nothing_left_by_pods() {
	[ -z "$(left_by_pods)" ]
}

# Control groups that our pods were in, which nobody removes. (Those of others come and go meanwhile.)
cgroups_removed() {
	find /sys/fs/cgroup -depth -type d -path "*/$CGROUP*" -exec rmdir {} + || true
	[ -z "$(find /sys/fs/cgroup -type d -path "*/$CGROUP*")" ]
}

# Fails when anything is left but what containerd itself keeps.
teardown_containerd() {
	local left=
	until_true 10 nothing_left_by_pods || left=$(left_by_pods)
	until_true 10 cgroups_removed || left+=" control groups"
	stop_containerd
	ip link del "$BRIDGE" 2>/dev/null || true
	umount -R "$CONTAINERD" 2>/dev/null || true
	rm -rf --one-file-system "$CONTAINERD"
	[ -z "$left" ] || fail "pods have left: $left" || return 1
	common_teardown_file
}

# log_says REGEX: in the log of containerd, which is also that of shims. It's written when containerd
# gets round to it.
log_says() {
	until_true 30 grep -q "$1" "$CONTAINERD/log"
}

network_ready() {
	cri Status | jq -e 'all(.status.conditions[] | select(.type | endswith("Ready")); .status)'
}

no_shims() {
	! our_processes | grep -q 'containerd-shim-podvm-v2\|qemu\|virtiofsd'
}

# Process id of the shim of a pod.
shim_of() {
	our_processes | sed -n "s/ .*containerd-shim-podvm-v2 .*-id $1 .*//p"
}

task_status() {
	ctr task ls | awk -v id="$1" '$1 == id { print $3 }'
}

is_stopped() {
	[ "$(task_status "$1")" = STOPPED ]
}

no_task() {
	[ -z "$(task_status "$1")" ]
}

no_shim_of() {
	[ -z "$(shim_of "$1")" ]
}

remove_task() {
	ctr task delete -f "$1" || true
	ctr container rm "$1"
}
