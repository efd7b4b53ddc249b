#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The shim under CRI-O, which isn't there itself: crio_client.py calls the shim as CRI-O does, with
# bundles, annotations, storage and a network namespace such as CRI-O makes them.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers

PODNS=podvm-crio
NET=10.213.91

setup_file() {
	common_setup_file
	SHIM=$(readlink -f "${PODVM_SHIM:-${PODVM%/*}/../shim/containerd-shim-podvm-v2}")
	STORAGE=$E2E/crio
	export SHIM STORAGE
	{ cat "$E2E/podvm.conf"; printf '[vm]\nguest_overhead = 128M\n'; } >"$E2E/handler.conf"
	chmod 600 "$E2E/handler.conf"
	mkdir -p "$STORAGE/image"
	skopeo copy -q "$base" "dir:$STORAGE/layers"
	tar -xzf "$STORAGE/layers/$(jq -r '.layers[0].digest' "$STORAGE/layers/manifest.json" |
		cut -d: -f2)" -C "$STORAGE/image"
	# containers/storage keeps what it mounts to itself.
	mount --bind "$STORAGE" "$STORAGE"
	mount --make-private "$STORAGE"
	make_network
	start_pod
}

teardown_file() {
	end_pod
	# The shim has been told to end, and has the bundle open until it has.
	until_true 60 no_processes
	ip netns del $PODNS
	unmount "$STORAGE"
	rm -rf --one-file-system "$STORAGE" "$E2E/handler.conf"
	common_teardown_file
}

make_network() {
	ip netns add $PODNS
	ip link add podvm-crio0 type veth peer name eth0 netns $PODNS
	ip addr add $NET.1/24 dev podvm-crio0
	ip link set podvm-crio0 up
	ip -n $PODNS addr add $NET.2/24 dev eth0
	ip -n $PODNS link set eth0 up
}

# client COMMAND ARGUMENTS...
client() {
	PODVM_CONFIG=$E2E/podvm.conf /usr/bin/python3 "$BATS_TEST_DIRNAME/crio_client.py" "$@"
}

# task METHOD JSON: of the Task service
task() {
	client call "$(cat "$STORAGE/address")" "$1" "$2"
}

# make_bundle ID TYPE ARGS: config.json, the mounted root file system and fifos, as CRI-O's
make_bundle() {
	local dir=$STORAGE/$1
	mkdir -p "$dir"/{userdata,merged,upper,work}
	mount -t overlay overlay \
		-o "lowerdir=$STORAGE/image,upperdir=$dir/upper,workdir=$dir/work" "$dir/merged"
	mkfifo "$dir"/{out,err}
	jq -n --arg id "$1" --arg type "$2" --argjson args "$3" --arg root "$dir/merged" \
		--arg netns "/run/netns/$PODNS" --arg hostname "$STORAGE/hostname" '{
		ociVersion: "1.0.2", hostname: "crio-pod",
		process: {args: $args, cwd: "/", env: ["PATH=/bin:/sbin"], user: {uid: 0, gid: 0}},
		root: {path: $root},
		mounts: [
			{destination: "/proc", type: "proc", source: "proc"},
			{destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["mode=755"]},
			{destination: "/sys", type: "sysfs", source: "sysfs", options: ["ro"]},
			{destination: "/etc/hostname", type: "bind", source: $hostname,
				options: ["ro", "bind", "nodev"]}],
		linux: {
			cgroupsPath: "pod.slice:crio:\($id)",
			namespaces: [{type: "pid"}, {type: "mount"}, {type: "network", path: $netns},
				{type: "ipc", path: "/run/ipcns/x"}, {type: "uts", path: "/run/utsns/x"}]},
		annotations: {
			"io.container.manager": "cri-o",
			"io.kubernetes.cri-o.ContainerType": $type,
			"io.kubernetes.cri-o.ContainerID": $id,
			"io.kubernetes.cri-o.SandboxID": "crio-sandbox",
			"io.kubernetes.cri-o.KubeName": "web",
			"io.kubernetes.cri-o.Namespace": "shop",
			"io.kubernetes.cri-o.ImageName": "registry.local/base:1",
			"io.kubernetes.container.name": (if $type == "container" then "c-\($id)"
				else "POD" end),
			"pod-linux-resources.crio.io": ({cpu_period: 100000, cpu_quota: 150000,
				memory_limit_in_bytes: 134217728} | tojson),
			# Not CRI-O: whoever has made the pod.
			"io.kubernetes.cri.sandbox-id": "another",
			"io.kubernetes.cri.sandbox-memory": "1073741824",
			"io.containerd.runc.v2.group": "another"}}' >"$dir/userdata/config.json"
}

# create ID TYPE: `start` in its bundle, and Create
create() {
	local dir=$STORAGE/$1 io
	client start "$SHIM" "$dir/userdata" "$1" >"$STORAGE/address" ||
		fail "start: $(cat "$STORAGE/address")"
	# The sandbox has no streams that anybody reads.
	io="$(jq -n --arg dir "$dir" --arg type "$2" 'if $type == "sandbox" then {} else
		{stdout: "\($dir)/out", stderr: "\($dir)/err"} end')"
	client create "$(cat "$STORAGE/address")" "$(jq -n --arg id "$1" \
		--arg bundle "$dir/userdata" --argjson io "$io" '{id: $id, bundle: $bundle} + $io')" \
		"$E2E/handler.conf"
}

start_pod() {
	echo crio-pod >"$STORAGE/hostname"
	make_bundle crio-sandbox sandbox '["/pause"]'
	create crio-sandbox sandbox >&2
	cp "$STORAGE/address" "$STORAGE/first-address"
	task Start '{"id": "crio-sandbox"}'
}

# delete ID: the end of a container
delete() {
	task Delete "{\"id\": \"$1\"}"
	task Shutdown "{\"id\": \"$1\"}" || true
	unmount "$STORAGE/$1/merged"
}

end_pod() {
	task Kill '{"id": "crio-sandbox", "signal": 9}'
	task Wait '{"id": "crio-sandbox"}'
	delete crio-sandbox
}

# open_reader NUMBER FIFO: as a descriptor, without waiting for who writes. Then nothing is missed.
open_reader() {
	eval "exec 8<>\"$2\" $1<\"$2\" 8>&-"
}

# run_crio ID COMMAND: a container from its beginning to its end. Prints what it prints.
run_crio() {
	make_bundle "$1" container "$(jq -nc --arg c "$2" '["sh", "-c", $c]')"
	open_reader 6 "$STORAGE/$1/out"
	open_reader 7 "$STORAGE/$1/err"
	create "$1" container >&2
	task Start "{\"id\": \"$1\"}" >&2
	cat <&6
	cat <&7 >&2
	exec 6<&- 7<&-
	task Wait "{\"id\": \"$1\"}" | jq -r '.exit_status // 0' >"$STORAGE/status"
	delete "$1" >&2
}

@test "a container runs in the pod's machine, with the root file system that CRI-O has mounted" {
	run -0 --separate-stderr run_crio c1 \
		'uname -r; hostname; cat /etc/hostname; echo written >/file; echo err >&2; exit 3'
	assert_equal "$output" "$(podvm image info --json | jq -r .kernel_version)"$'\ncrio-pod\ncrio-pod'
	assert_match "$stderr" err
	assert_equal "$(cat "$STORAGE/status")" 3
	assert_equal "$(cat "$STORAGE/c1/upper/file")" written
	# One shim for all of the pod.
	cmp "$STORAGE/address" "$STORAGE/first-address"
}

@test "the machine has the size that the kubelet has told CRI-O, and the handler's configuration" {
	run -0 --separate-stderr run_crio c2 'nproc; sed -n "s/MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo'
	assert_equal "${lines[0]}" 2
	# 128 MiB and guest_overhead, less the kernel's own.
	[ "${lines[1]}" -gt $((200 << 10)) ]
	[ "${lines[1]}" -le $((256 << 10)) ]
}

@test "the pod's network is in it" {
	run -0 --separate-stderr run_crio c3 "ip -4 addr show eth0 && ping -c 1 $NET.1"
	assert_match "$output" "inet $NET.2/24"
}

@test "state, exec, statistics, update, signals" {
	make_bundle c4 container '["sleep", "100000"]'
	open_reader 6 "$STORAGE/c4/out"
	create c4 container
	task Start '{"id": "c4"}'
	assert_equal "$(task State '{"id": "c4"}' | jq -r .status)" RUNNING
	[ -d "/proc/$(task State '{"id": "c4"}' | jq -r .pid)" ]
	mkfifo "$STORAGE/c4/x"
	open_reader 7 "$STORAGE/c4/x"
	client exec "$(cat "$STORAGE/address")" c4 e1 "$(jq -n --arg out "$STORAGE/c4/x" \
		'{io: ["", $out, ""], args: ["echo", "hello"], cwd: "/", env: ["PATH=/bin"],
		user: {uid: 0, gid: 0}}')"
	task Start '{"id": "c4", "exec_id": "e1"}'
	assert_equal "$(cat <&7)" hello
	assert_equal "$(task Wait '{"id": "c4", "exec_id": "e1"}' | jq '.exit_status // 0')" 0
	task Delete '{"id": "c4", "exec_id": "e1"}'
	assert_equal "$(task Stats '{"id": "c4"}' | jq -r .stats.type_url)" io.containerd.cgroups.v2.Metrics
	task Update "$(jq -n '{id: "c4", resources: {type_url:
		"types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
		value: ({memory: {limit: 67108864}} | tojson | @base64)}}')"
	task Kill '{"id": "c4", "signal": 9}'
	assert_equal "$(task Wait '{"id": "c4"}' | jq .exit_status)" 137
	assert_equal "$(task State '{"id": "c4"}' | jq -r .status)" STOPPED
	exec 6<&- 7<&-
	delete c4
}

@test "podvm shows it with Kubernetes' names" {
	assert_equal "$(podvm ps --json | jq -r '.[] | "\(.namespace)/\(.name)"')" shop/web
}
