#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs critest, the validation suite of Kubernetes' container runtime interface, with runc and with
# podvm on one containerd 2, and prints a table of both: run.sh BUILD_DIRECTORY [CRITEST_ARGUMENT...]
#
# Everything is in a directory and a mount namespace of its own, but for the bridge pvcrit0 and ports
# 12000 to 12003. The images come from a registry on the loopback (Debian's docker-registry, unpacked but not installed).
# Fails when there is a failure of podvm's that runc doesn't have, or anything is left behind.
# RUNTIMES="podvm" leaves out the other.
set -euo pipefail

# A node's mounts are shared ones (the kubelet asks for it), wherever this is run.
if [ -z "${CONFORMANCE_MOUNTS:-}" ]; then
	export CONFORMANCE_MOUNTS=own
	# shellcheck disable=SC2016 # for the other shell to expand
	exec unshare --mount --propagation private \
		sh -c 'mount --make-rshared / && exec "$@"' sh "$0" "$@"
fi

build=$(readlink -f "${1:?usage: run.sh BUILD_DIRECTORY [CRITEST_ARGUMENT...]}")
shift
here=$(dirname "$(readlink -f "$0")")
tools=$here/../tools.sh
runtimes=${RUNTIMES:-runc podvm}
out=$build/conformance

say() {
	echo "conformance: $*" >&2
}

free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# until_true SECONDS COMMAND...
until_true() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { say "not true in time: $*"; return 1; }
		sleep 0.2
	done
}

start_registry() {
	(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download docker-registry >&2)
	dpkg-deb -x "$dir"/docker-registry_*.deb "$dir/registry"
	registry=127.0.0.1:$(free_port)
	cat >"$dir/registry.yml" <<-END
		version: 0.1
		log: {level: error}
		storage:
		  filesystem: {rootdirectory: $dir/blobs}
		http: {addr: "$registry"}
	END
	setsid "$dir/registry/usr/bin/docker-registry" serve "$dir/registry.yml" \
		>"$dir/registry.log" 2>&1 </dev/null &
	pids+=($!)
	until_true 30 curl --noproxy '*' -sf "http://$registry/v2/"
	say "images"
	"$here/images.sh" "$registry" >&2
}

write_config() {
	mkdir -p "$dir/hosts/_default" "$dir/cni" "$dir/bin"
	echo "server = \"http://$registry\"" >"$dir/hosts/_default/hosts.toml"
	cat >"$dir/cni/10-conformance.conflist" <<-END
		{"cniVersion": "0.4.0", "name": "podvm-conformance", "plugins": [
		  {"type": "bridge", "bridge": "pvcrit0", "isGateway": true, "ipMasq": false,
		   "ipam": {"type": "host-local", "dataDir": "$dir/ipam",
		            "ranges": [[{"subnet": "10.213.148.0/24"}]],
		            "routes": [{"dst": "0.0.0.0/0"}]}},
		  {"type": "portmap", "capabilities": {"portMappings": true}}]}
	END
	cat >"$dir/config.toml" <<-END
		version = 3
		root = "$dir/root"
		state = "$dir/state"
		[grpc]
		  address = "$dir/c.sock"
		[ttrpc]
		  address = "$dir/c.sock.ttrpc"
		[plugins.'io.containerd.cri.v1.images'.registry]
		  config_path = "$dir/hosts"
		[plugins.'io.containerd.cri.v1.images'.pinned_images]
		  sandbox = "registry.local/sandbox:1"
		[plugins.'io.containerd.cri.v1.runtime']
		  restrict_oom_score_adj = true
		  [plugins.'io.containerd.cri.v1.runtime'.cni]
		    bin_dirs = ["/usr/lib/cni"]
		    conf_dir = "$dir/cni"
		  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
		    runtime_type = "io.containerd.runc.v2"
		  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.podvm]
		    runtime_type = "io.containerd.podvm.v2"
		    privileged_without_host_devices = true
	END
	cat >"$dir/podvm.conf" <<-END
		[paths]
		image = $build/image
		state = $dir/podvm
		cache = $dir/cache
		[start]
		boot_timeout = 120s
		agent_timeout = 120s
	END
	chmod 600 "$dir/podvm.conf"
}

start_containerd() {
	local programs
	programs=$("$tools" containerd)
	ln -s "$programs"/* "$build/src/shim/containerd-shim-podvm-v2" "$dir/bin/"
	PODVM_CONFIG=$dir/podvm.conf PATH=$dir/bin:$PATH setsid "$dir/bin/containerd" \
		-c "$dir/config.toml" >"$out/containerd.log" 2>&1 </dev/null &
	pids+=($!)
	until_true 30 "$dir/bin/ctr" -a "$dir/c.sock" version
}

# What there is of processes, mounts and devices that a run could leave behind.
host_state() {
	grep "$dir/\(podvm\|state\)" /proc/self/mountinfo || true
	grep -lazs "PODVM_CONFIG=$dir" /proc/[0-9]*/environ | while read -r file; do
		tr '\0' ' ' <"${file%/*}/cmdline" | grep -v "$dir/bin/containerd " || true
	done
	find "$dir/podvm" -mindepth 1 -type d 2>/dev/null || true
}

nothing_left() {
	[ -z "$(host_state)" ]
}

# run RUNTIME [ARGUMENT...]: its report is RUNTIME.json
run() {
	local runtime=$1 args=() regex
	shift
	while IFS= read -r regex; do
		args+=("-ginkgo.skip=$regex")
	done < <("$here/table.py" --skips "$here/skips.txt" "$runtime")
	say "critest with $runtime"
	rm -f "$out/$runtime.json"
	"$("$tools" cri-tools)/critest" -config "$dir/crictl.yaml" \
		-runtime-endpoint "unix://$dir/c.sock" -runtime-handler "$runtime" \
		-ginkgo.no-color -ginkgo.seed=1 -ginkgo.json-report "$out/$runtime.json" \
		"${args[@]}" "$@" >"$out/$runtime.log" 2>&1 </dev/null || true
	[ -s "$out/$runtime.json" ] || { tail "$out/$runtime.log" >&2; return 1; }
}

clean_up() {
	local pid
	for pid in "${pids[@]}"; do
		kill "$pid" 2>/dev/null || true
	done
	wait
	ip link del pvcrit0 2>/dev/null || true
	umount -R "$dir/state"/*/*/*/* 2>/dev/null || true
	rm -rf --one-file-system "$dir"
}

dir=$(mktemp -d /tmp/pconf.XXXXXX)
pids=()
mkdir -p "$out"
trap clean_up EXIT
start_registry
write_config
start_containerd
echo "{}" >"$dir/crictl.yaml"
for runtime in $runtimes; do
	run "$runtime" "$@"
done
status=0
# shellcheck disable=SC2086 # one word for each runtime
"$here/table.py" "$here/skips.txt" "$out" $runtimes || status=1
until_true 20 nothing_left || { say "left behind: $(host_state)"; status=1; }
exit "$status"
