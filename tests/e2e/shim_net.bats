#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The network of pods: CRI, Debian's CNI plugins, machines.
#
# Two pods are on a bridge with IPv4 and IPv6. Each has a second interface, of another network, which
# a plugin of ours adds as multus does. Behind the host there is a further network, "far", with a way
# to it whose MTU is smaller. Other plugins have their turn in pods of their own.
# shellcheck disable=SC2154,SC2030,SC2031 # variables of the files that are loaded, and of run

load helpers
load containerd

setup_file() {
	export E2E_BRIDGE=pvnet0 E2E_SUBNET=10.213.78
	export BRIDGE=$E2E_BRIDGE SUBNET=$E2E_SUBNET SUBNET6=fd00:213:78
	setup_containerd
	skopeo copy -q "$debian" "oci-archive:$CONTAINERD/debian.tar:registry.local/debian:1"
	ctr -n k8s.io image import --no-unpack "$CONTAINERD/debian.tar"
	rm "$CONTAINERD/debian.tar"
	make_far
	A=$(run_pod a)
	AC=$(run_in "$A" a "$server")
	B=$(run_pod b)
	BC=$(run_in "$B" b "iperf3 -s -D; $server")
	export A AC B BC
	A4=$(address "$AC" eth0 4) A6=$(address "$AC" eth0 6)
	B4=$(address "$BC" eth0 4) B6=$(address "$BC" eth0 6)
	export A4 A6 B4 B6
	until_true 60 serves "$A4"
	until_true 60 serves "$B4"
}

teardown_file() {
	ip netns del "$FAR" || true
	local pod
	for pod in $(cri ListPodSandbox | jq -r '.items[].id'); do
		remove_pod "$pod"
	done
	ip link del pvnetsecond || true
	teardown_containerd
}

# ---- networks ----

# Debian's plugins, and ours.
write_containerd_config() {
	if "$CONTAINERD/bin/containerd" --version | grep -q ' v\?2\.'; then
		write_config_2
	else
		write_config_1
	fi | sed "s|/usr/lib/cni|$CONTAINERD/cni-bin|" >"$CONTAINERD/config.toml"
}

# The second network, as an answer of CNI's that comes after that of the first.
write_second() {
	cat >"$CONTAINERD/cni-bin/second" <<-END
		#!/bin/bash
		[ "\$CNI_COMMAND" != VERSION ] || exec /usr/lib/cni/bridge
		prev=\$(jq -c .prevResult)
		CNI_IFNAME=net1 CNI_PATH=/usr/lib/cni /usr/lib/cni/bridge >/dev/null <<-CONF || exit
			{"cniVersion": "0.4.0", "name": "second", "type": "bridge", "bridge": "pvnetsecond",
			 "mtu": 1350, "ipam": {"type": "host-local", "dataDir": "$CONTAINERD/ipam",
			 "ranges": [[{"subnet": "10.213.79.0/24"}]]}}
		CONF
		[ "\$CNI_COMMAND" = DEL ] || nsenter --net="\$CNI_NETNS" \
			ip route add 10.213.80.128/25 via 10.213.78.1 dev eth0 mtu 1300
		[ "\$CNI_COMMAND" = DEL ] || echo "\$prev"
	END
	chmod +x "$CONTAINERD/cni-bin/second"
}

write_cni_config() {
	mkdir -p "$CONTAINERD/cni" "$CONTAINERD/cni-bin"
	ln -sf /usr/lib/cni/* "$CONTAINERD/cni-bin/"
	write_second
	cni_network main "$(ipam "$SUBNET.0/24" "$SUBNET6::/64")" \
		"{\"type\": \"bridge\", \"bridge\": \"$BRIDGE\", \"isGateway\": true, \"mtu\": 1400}" \
		'{"type": "portmap", "capabilities": {"portMappings": true}}' '{"type": "second"}' \
		'{"type": "tuning", "sysctl": {"net.ipv6.conf.eth0.accept_ra": "0"}}'
}

# ipam SUBNET...: addresses of these networks, and default routes
ipam() {
	jq -n --arg dir "$CONTAINERD/ipam" '{type: "host-local", dataDir: $dir,
		ranges: [$ARGS.positional[] | [{subnet: .}]],
		routes: [$ARGS.positional[] | {dst: (if contains(":") then "::/0" else "0.0.0.0/0" end)}]}' \
		--args "$@"
}

# cni_network NAME IPAM PLUGIN...: what further pods get
cni_network() {
	jq -n --arg name "$1" --argjson ipam "$2" '{cniVersion: "0.4.0", name: $name,
		plugins: ($ARGS.positional | .[0].ipam = $ipam)}' --jsonargs "${@:3}" \
		>"$CONTAINERD/cni/10-test.conflist"
}

# Containerd has read it.
cni_network_is() {
	cri Status '{"verbose": true}' | jq -e --arg name "$1" \
		'.info.cniconfig | fromjson | any(.Networks[]; .Config.Name == $name)'
}

use_network() {
	cni_network "$@"
	until_true 30 cni_network_is "$1"
}

at_far() {
	ip netns exec "$FAR" "$@"
}

make_far() {
	export FAR=far-$$
	ip netns add "$FAR"
	at_far ip link set lo up
	ip link add pvnetfar type veth peer name eth0 netns "$FAR"
	ip link set pvnetfar up
	ip addr add 10.213.80.1/24 dev pvnetfar noprefixroute
	ip addr add fd00:213:80::1/64 dev pvnetfar nodad noprefixroute
	ip route add 10.213.80.0/24 dev pvnetfar mtu lock 1280
	ip route add fd00:213:80::/64 dev pvnetfar mtu lock 1280
	at_far ip link set eth0 up
	at_far ip addr add 10.213.80.2/24 dev eth0
	at_far ip addr add fd00:213:80::2/64 dev eth0 nodad
	at_far ip route add default via 10.213.80.1
	at_far ip route add default via fd00:213:80::1
}

# ---- pods ----

pod_config() {
	jq -n --arg name "$1" --arg cgroup "/$CGROUP" --arg logs "$CONTAINERD/logs" '{
		metadata: {name: $name, uid: $name, namespace: "default"}, hostname: $name,
		log_directory: $logs, linux: {cgroup_parent: $cgroup,
			sysctls: {"net.ipv4.ip_unprivileged_port_start": "1", "net.core.somaxconn": "777"}},
		port_mappings: (if $name == "b" then [{host_port: 31178, container_port: 80}] else [] end)}'
}

run_pod() {
	local answer
	answer=$(cri RunPodSandbox "$(jq -n --argjson c "$(pod_config "$1")" \
		'{runtime_handler: "podvm", config: $c}')") || return
	jq -r .pod_sandbox_id <<<"$answer"
}

remove_pod() {
	cri StopPodSandbox "{\"pod_sandbox_id\": \"$1\"}"
	cri RemovePodSandbox "{\"pod_sandbox_id\": \"$1\"}"
}

# run_in POD NAME SCRIPT: a container that runs; prints its id
run_in() {
	local id
	id=$(cri CreateContainer "$(jq -n --arg pod "$1" --argjson pc "$(pod_config "$2")" \
		--arg name "$2" --arg script "$3" '{pod_sandbox_id: $pod, sandbox_config: $pc,
			config: {metadata: {name: $name}, image: {image: "registry.local/debian:1"},
			command: ["sh", "-c", $script], log_path: "\($name).log"}}')" | jq -r .container_id)
	cri StartContainer "{\"container_id\": \"$id\"}" >/dev/null
	echo "$id"
}

# exec_in CONTAINER SCRIPT
exec_in() {
	cri ExecSync "$(jq -n --arg id "$1" --arg script "$2" \
		'{container_id: $id, cmd: ["sh", "-c", $script], timeout: 120}')"
}

# reaches CONTAINER ADDRESS. (The first packets may be lost: neighbours are found, addresses probed.)
reaches() {
	until_true 60 exec_in "$1" "ping -c 2 -W 30 $2 | grep ' 0% packet loss'"
}

# A web server with the page "hello".
server='echo hello >/var/www/html/index.html; exec nginx -g "daemon off;"'

# serves ADDRESS
serves() {
	[ "$(fetch "http://$1/index.html")" = hello ]
}

# address CONTAINER DEVICE 4|6
address() {
	exec_in "$1" "ip -j -$3 addr show dev $2 scope global" | jq -r '.[0].addr_info[0].local'
}

netns_of() {
	jq -r '.linux.namespaces[] | select(.type == "network").path' \
		"$CONTAINERD/state/io.containerd.runtime.v2.task/k8s.io/$1/config.json"
}

fetch() {
	curl --noproxy '*' --silent --show-error --fail --max-time 200 "$@"
}

# echo_udp: a server's program in python that answers one datagram to port 5000
echo_udp='import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 5000))
data, peer = s.recvfrom(9000)
s.sendto(data[::-1], peer)'

# ask_udp ADDRESS: its client's
ask_udp() {
	cat <<-END
		import socket, sys
		family = socket.getaddrinfo("$1", 5000)[0][0]
		s = socket.socket(family, socket.SOCK_DGRAM)
		s.settimeout(1)
		for i in range(60):
		    s.sendto(b"olleh", ("$1", 5000))
		    try:
		        print(s.recv(9000).decode())
		        break
		    except OSError:
		        pass
	END
}

# iperf SERVER [OPTION...]: from pod A; prints how many bytes have arrived. (The server may still be
# busy with the end of the test before.)
iperf() {
	exec_in "$AC" "until iperf3 --json -n 20M -c $* >/out; do grep busy /out || break; sleep 0.2; done
		cat /out" | jq '.end | (.sum_received // .sum).bytes'
}

@test "two pods and the host: ICMP" {
	local to
	for to in "$B4" "$B6" "$SUBNET.1" "$SUBNET6::1"; do
		reaches "$AC" "$to"
	done
	reaches "$BC" "$A6"
}

@test "two pods and the host: TCP" {
	local to
	for to in "$B4" "[$B6]"; do
		run -0 fetch "http://$to/index.html"
		assert_equal "$output" hello
		run -0 exec_in "$AC" "python3 -c 'import socket
s = socket.create_connection((\"${to//[][]/}\", 80), 100)
s.sendall(b\"GET /index.html HTTP/1.0\\r\\n\\r\\n\")
print(s.makefile().read())'"
		assert_match "$output" hello
	done
}

@test "two pods and the host: UDP" {
	local to server
	for to in "$B4" "$B6"; do
		exec_in "$BC" "python3 -c '$echo_udp'" 3>&- &
		run -0 exec_in "$AC" "python3 -c '$(ask_udp "$to")'"
		assert_equal "$output" hello
		wait $!
		exec_in "$BC" "python3 -c '$echo_udp'" 3>&- &
		run -0 python3 -c "$(ask_udp "$to")"
		assert_equal "$output" hello
		wait $!
	done
}

@test "iperf3 between two pods, both ways, TCP and UDP" {
	[ "$(iperf "$B4")" -ge 10000000 ]
	[ "$(iperf "$B4" -R)" -ge 10000000 ]
	[ "$(iperf "$B6")" -ge 10000000 ]
	[ "$(iperf "$B6" -R)" -ge 10000000 ]
	[ "$(iperf "$B4" -u -b 200M)" -gt 0 ]
}

@test "large frames aren't cut into small ones on the way" {
	local netns before after
	netns=$(netns_of "$A")
	before=$(nsenter "--net=$netns" ip -s -j link show eth0 | jq -c '.[0].stats64.tx')
	[ "$(iperf "$B4")" -ge 10000000 ]
	after=$(nsenter "--net=$netns" ip -s -j link show eth0 | jq -c '.[0].stats64.tx')
	# Bytes per frame: more than the MTU's 1400 ever makes. How many more depends on who is slow.
	[ "$(jq -n "($after.bytes - $before.bytes) / ($after.packets - $before.packets) | floor")" -gt 2800 ]
}

@test "packets of the MTU arrive, larger ones are refused in the guest" {
	run -0 exec_in "$AC" "ping -c 1 -W 30 -M do -s 1372 $B4"
	run -1 exec_in "$AC" "ping -c 1 -W 30 -M do -s 1373 $B4"
	assert_match "$output" 'mtu.*1400'
	run -0 exec_in "$AC" "ping -c 1 -W 30 -M do -s 1352 $B6"
	run -1 exec_in "$AC" "ping -c 1 -W 30 -M do -s 1353 $B6"
	assert_match "$output" 'mtu.*1400'
	# In fragments.
	run -0 exec_in "$AC" "ping -c 1 -W 30 -M dont -s 8000 $B4"
	# A route of a smaller MTU.
	run -1 exec_in "$AC" 'ping -c 1 -W 30 -M do -s 1273 10.213.80.200'
	assert_match "$output" 'mtu.*1300'
}

@test "a smaller MTU on the way is found out, in both directions" {
	local to
	exec_in "$AC" 'head -c 3000000 /dev/urandom >/var/www/html/data'
	for to in 10.213.80.2 fd00:213:80::2; do
		at_far timeout 100 python3 -c 'import socket, sys, hashlib
s = socket.create_server(("::", 6000), family=socket.AF_INET6, dualstack_ipv6=True)
c, peer = s.accept()
print(hashlib.sha256(c.makefile("rb").read()).hexdigest())' >"$E2E/tmp/sum" 3>&- &
		run -0 exec_in "$AC" "python3 -c 'import socket, time
for i in range(100):
    try:
        s = socket.create_connection((\"$to\", 6000), 60)
        break
    except ConnectionError:
        time.sleep(0.2)
s.sendall(open(\"/var/www/html/data\", \"rb\").read())'; ip route get $to"
		assert_match "$output" 'mtu 1280'
		wait $!
		assert_equal "$(cat "$E2E/tmp/sum")" "$(exec_in "$AC" 'sha256sum /var/www/html/data' | cut -d' ' -f1)"
	done
	for to in "$A4" "[$A6]"; do
		at_far curl -sSf --max-time 200 -o "$E2E/tmp/data" "http://$to/data"
		assert_equal "$(sha256sum <"$E2E/tmp/data" | cut -d' ' -f1)" "$(cat "$E2E/tmp/sum")"
	done
	rm "$E2E"/tmp/{sum,data}
}

@test "two interfaces" {
	local to
	to=$(address "$BC" net1 4)
	assert_match "$to" '^10.213.79.'
	run -0 exec_in "$AC" "cat /sys/class/net/net1/mtu; ping -c 2 -W 30 -I net1 $to; ip route get $to"
	assert_match "$output" '^1350'
	assert_match "$output" ' 0% packet loss'
	assert_match "$output" 'dev net1'
}

@test "sysctls of the pod" {
	run -0 exec_in "$AC" 'cd /proc/sys/net && cat ipv4/ip_unprivileged_port_start core/somaxconn'
	assert_equal "$output" $'1\n777'
}

@test "router advertisements are heard where the plugins leave them on" {
	run -0 exec_in "$AC" 'cd /proc/sys/net/ipv6/conf && cat eth0/accept_ra net1/accept_ra'
	assert_equal "$output" $'0\n1'
}

@test "hostPort" {
	run -0 fetch "http://$SUBNET.1:31178/index.html"
	assert_equal "$output" hello
	run -0 fetch http://127.0.0.1:31178/index.html
	assert_equal "$output" hello
	run -0 at_far curl -sSf --max-time 200 http://10.213.80.1:31178/index.html
	assert_equal "$output" hello
}

@test "port-forward: more connections at once than are taken at once" {
	run -0 timeout 200 nsenter "--net=$(netns_of "$B")" python3 - <<-'END'
		import resource, socket
		resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
		all = []
		for i in range(350):
		    s = socket.create_connection(("127.0.0.1" if i % 2 else "::1", 80), 100)
		    s.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
		    all.append(s)
		good = 0
		for s in all:
		    good += s.makefile("rb").read().endswith(b"hello\n")
		    s.close()
		print(good)
	END
	assert_equal "$output" 350
}

# The pod's interface is as the plugin left it, and nobody takes connections to its localhost.
netns_is_clean() {
	local links
	links=$(nsenter "--net=$1" ip -j link | jq -c '[.[].ifname]')
	[ "$links" = '["lo","eth0","net1"]' ] &&
		! nsenter "--net=$1" tc qdisc show | grep -w 'ingress\|clsact' &&
		! nsenter "--net=$1" curl -s --noproxy '*' http://127.0.0.1:80/
}

@test "the shim is killed: the network is as the plugins left it, and they take it back" {
	local pod netns
	pod=$(run_pod c)
	netns=$(netns_of "$pod")
	kill -9 "$(shim_of "$pod")"
	until_true 30 netns_is_clean "$netns"
	until_true 60 remove_pod "$pod"
	[ ! -e "$netns" ]
}

@test "the network namespace goes before the pod" {
	local pod netns
	pod=$(run_pod d)
	netns=$(netns_of "$pod")
	ip netns del "${netns##*/}"
	remove_pod "$pod"
	assert_equal "$(cri ListPodSandbox | jq '[.items[] | select(.metadata.name == "d")] | length')" 0
}

# ping_from_pod NAME ADDRESS...: in a new pod of the network in use, which is removed again
ping_from_pod() {
	local pod id to
	pod=$(run_pod "$1")
	id=$(run_in "$pod" "$1" 'sleep 100000')
	for to in "${@:2}"; do
		reaches "$id" "$to"
	done
	run -0 exec_in "$id" 'ip -o addr show scope global; ip route; ip -6 route'
	remove_pod "$pod"
}

@test "macvlan" {
	ip link add pvnetlow type veth peer name pvnetm netns "$FAR"
	at_far ip link set pvnetm up
	at_far ip addr add 10.213.81.1/24 dev pvnetm
	ip link set pvnetlow up
	use_network macvlan "$(ipam 10.213.81.0/24)" '{"type": "macvlan", "master": "pvnetlow"}'
	ping_from_pod macvlan 10.213.81.1
	ip link del pvnetlow
}

@test "ptp: no route but to the gateway" {
	use_network ptp "$(ipam 10.213.82.0/24 fd00:213:82::/64)" '{"type": "ptp"}'
	ping_from_pod ptp 10.213.82.1 fd00:213:82::1 10.213.80.2 "$B6"
	assert_match "$output" '10.213.82.1 dev eth0 .*scope link'
}

@test "IPv6 only" {
	use_network six "$(ipam fd00:213:83::/64)" \
		'{"type": "bridge", "bridge": "pvnetsix", "isGateway": true}'
	ping_from_pod six fd00:213:83::1 "$B6" fd00:213:80::2
	ip link del pvnetsix
	[[ $output != *"inet 10."* ]]
}

@test "a link that a machine can't have is refused by name, and the pod isn't made" {
	use_network bad "$(ipam 10.213.84.0/24)" '{"type": "ptp"}' '{"type": "vxlan"}'
	cat >"$CONTAINERD/cni-bin/vxlan" <<-'END'
		#!/bin/bash
		[ "$CNI_COMMAND" != VERSION ] || exec /usr/lib/cni/ptp
		jq -c .prevResult
		[ "$CNI_COMMAND" != ADD ] || nsenter --net="$CNI_NETNS" sh -c \
			'ip link add over0 type vxlan id 5 dstport 4789 && ip link set over0 up'
	END
	chmod +x "$CONTAINERD/cni-bin/vxlan"
	run -125 run_pod bad
	assert_match "$output" 'interface .*over0.* \(.*vxlan.*\) can.t be given to a VM'
}
