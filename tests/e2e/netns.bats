#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# podvm run --net ns:PATH: what a network namespace holds becomes the container's network.
#
# One namespace is the node: it has a bridge. Each test's pods are further ones, on that bridge.

# shellcheck disable=SC2030,SC2031 # variables that a test sets are its own
# shellcheck disable=SC2154 # images are set by helpers.bash

load helpers

setup_file() {
	common_setup_file
	NODE=node-$$
	export NODE
	ip netns add "$NODE"
	at_node ip link set lo up
	at_node ip link add br0 type bridge
	at_node ip addr add 10.66.0.1/24 dev br0
	at_node ip addr add fd66::1/64 dev br0 nodad
	at_node ip link set br0 up
}

teardown_file() {
	ip netns del "$NODE"
	common_teardown_file
}

setup() {
	PODS=()
}

teardown() {
	podvm rm -fa >/dev/null
	local pod
	for pod in "${PODS[@]}"; do
		ip netns del "$pod" 2>/dev/null || true
	done
	rm -rf "$E2E/tmp"/*
}

at_node() {
	ip netns exec "$NODE" "$@"
}

# new_pod NUMBER [MTU]: a namespace with eth0 at the bridge, 10.66.0.NUMBER and fd66::NUMBER. Its
# name becomes $pod, its path $path.
new_pod() {
	pod=pod$1-$$
	path=/run/netns/$pod
	PODS+=("$pod")
	ip netns add "$pod"
	# No address is tentative for a while.
	at_pod sh -c 'echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad
		echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad'
	at_pod ip link set lo up
	add_nic eth0 "v$1" "${2:-1500}"
	at_pod ip addr add "10.66.0.$1/24" dev eth0
	at_pod ip addr add "fd66::$1/64" dev eth0 nodad
	at_pod ip route add default via 10.66.0.1
	at_pod ip -6 route add default via fd66::1
	until_true 20 link_is_up
}

# The kernel does in its own time what follows when the other end is up.
link_is_up() {
	at_pod ip -6 addr show dev eth0 scope link | grep -q 'inet6 fe80' &&
		at_pod ip link show dev eth0 | grep -q 'state UP' &&
		! at_pod ip route | grep linkdown && ! at_pod ip -6 route | grep linkdown
}

# add_nic NAME PEER MTU: one more interface for $pod
add_nic() {
	at_pod ip link add "$1" mtu "$3" type veth peer name "$2" netns "$NODE"
	at_pod ip link set "$1" up
	at_node ip link set "$2" mtu "$3" master br0 up
}

at_pod() {
	ip netns exec "$pod" "$@"
}

# start NAME COMMAND...: a container in $pod, which may ping
start() {
	local name=$1
	shift
	podvm run -d --name "$name" --cap-add NET_RAW --net "ns:$path" "$base" "$@"
}

fetch() {
	curl --silent --show-error --fail --max-time 200 "$@"
}

# What podvm could have changed in $pod. The bridge ages, and neighbours come and go.
pod_state() {
	at_pod ip -d link
	at_pod ip addr
	at_pod ip route
	at_pod ip -6 route
	at_pod tc qdisc
	at_pod tc filter show dev eth0 ingress
}

web_server='mkdir -p /w && echo hello >/w/index.html && head -c 8000000 /dev/urandom >/w/large &&
	httpd -h /w -p 127.0.0.1:8081 && httpd -h /w -p "[::1]:8082" && exec httpd -f -h /w -p 80'

start_web_server() {
	start "$1" sh -c "$web_server"
	until_true 60 at_node curl -sf --max-time 5 -o /dev/null "http://10.66.0.$2/"
}

@test "the guest has the interface's addresses, MTU, routes and neighbours" {
	new_pod 2 1400
	at_pod ip link set eth0 address 02:00:00:00:66:02
	at_pod ip route add 10.77.0.0/16 via 169.254.9.9 dev eth0 onlink mtu 1300 metric 7 src 10.66.0.2
	at_pod ip neigh add 169.254.9.9 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
	at_pod ip route add blackhole 10.78.0.0/16
	at_pod ip route add unreachable fd78::/64
	at_pod ip addr add 10.66.1.2/32 peer 10.66.1.3 dev eth0 label eth0:p
	start web sleep 100000
	run -0 podvm exec web cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu
	assert_equal "$output" $'02:00:00:00:66:02\n1400'
	run -0 podvm exec web ip addr show dev eth0
	assert_match "$output" "inet 10.66.0.2/24"
	assert_match "$output" "inet6 fd66::2/64"
	run -0 podvm exec web ip route
	assert_match "$output" "default via 10.66.0.1 dev eth0"
	assert_match "$output" "10.66.0.0/24 dev eth0 scope link +src 10.66.0.2"
	assert_match "$output" "10.77.0.0/16 via 169.254.9.9 dev eth0 +src 10.66.0.2 +metric 7 onlink"
	assert_match "$output" "blackhole 10.78.0.0/16"
	assert_match "$output" "10.66.1.3 dev eth0 scope link +src 10.66.1.2"
	run -0 podvm exec web ip -6 route
	assert_match "$output" "default via fd66::1 dev eth0"
	assert_match "$output" "unreachable fd78::/64"
	run -0 podvm exec web ip neigh
	assert_match "$output" "169.254.9.9 dev eth0 lladdr ee:ee:ee:ee:ee:ee .*PERMANENT"
	run -0 podvm inspect web
	assert_equal "$(jq -r '.[0].network' <<<"$output")" "ns:$path"
	run -0 podvm exec web cat /etc/hosts
	assert_match "$output" "10.66.0.2"
}

@test "router advertisements are heard if the namespace's interface hears them" {
	new_pod 16
	add_nic net1 v16b 1500
	add_nic net2 v16c 1500
	at_pod sh -c 'echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_ra
		echo 2 >/proc/sys/net/ipv6/conf/net1/accept_ra
		echo 1 >/proc/sys/net/ipv6/conf/net2/disable_ipv6'
	start web sleep 100000
	run -0 podvm exec web sh -c 'cd /proc/sys/net/ipv6/conf
		cat eth0/accept_ra eth0/disable_ipv6 net1/accept_ra net2/disable_ipv6; ip -6 addr show dev net2'
	assert_equal "$output" $'0\n0\n2\n1'
}

@test "the monitor is a process of the namespace" {
	new_pod 15
	start web sleep 100000
	run -0 ip netns pids "$pod"
	assert_equal "$output" "$(state_of web vmm_pid)"
}

@test "a route's MTU" {
	new_pod 14 1400
	at_pod ip route add 10.77.0.0/16 via 10.66.0.1 mtu 1300
	run -0 --separate-stderr podvm run --rm -i --net "ns:$path" "$debian" python3 - <<-'END'
		import socket
		for address in "10.77.1.1", "10.66.0.1":
		    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
		    s.connect((address, 9))
		    print(s.getsockopt(socket.IPPROTO_IP, 14))      # IP_MTU
	END
	assert_equal "$output" $'1300\n1400'
}

@test "both ways, IPv4 and IPv6, and nothing is left in the namespace" {
	new_pod 3
	pod_state >"$E2E/tmp/before"
	start_web_server web 3
	run -0 podvm exec web ping -c 3 10.66.0.1
	assert_match "$output" " 0% packet loss"
	run -0 podvm exec web ping -c 3 fd66::1
	assert_match "$output" " 0% packet loss"
	run -0 at_node curl -sf --max-time 200 http://10.66.0.3/
	assert_equal "$output" hello
	run -0 at_node curl -sf --max-time 200 'http://[fd66::3]/'
	assert_equal "$output" hello
	local sum
	sum=$(podvm exec web sha256sum /w/large | cut -d' ' -f1)
	at_node curl -sf --max-time 200 -o "$E2E/tmp/large" http://10.66.0.3/large
	assert_equal "$(sha256sum <"$E2E/tmp/large" | cut -d' ' -f1)" "$sum"
	# And the other way: the guest connects.
	# Not by at_node: its subshell would be what is killed.
	ip netns exec "$NODE" python3 -m http.server --directory "$E2E/tmp" 8000 >/dev/null 2>&1 3>&- &
	local server=$!
	until_true 20 at_node curl -sf -o /dev/null http://10.66.0.1:8000/
	run podvm exec web sh -c "printf 'GET /large HTTP/1.0\r\n\r\n' | nc 10.66.0.1 8000 |
		sed '1,/^\r\$/d' | sha256sum"
	kill "$server"
	assert_match "$output" "$sum"
	podvm rm -f web
	pod_state >"$E2E/tmp/after"
	diff "$E2E/tmp/before" "$E2E/tmp/after"
}

@test "two pods reach each other, also with packets of and above their MTU" {
	new_pod 4 1400
	start four sleep 100000
	new_pod 5 1400
	start five sleep 100000
	run -0 podvm exec four ping -c 2 10.66.0.5
	assert_match "$output" " 0% packet loss"
	run -0 podvm exec five ping -c 2 fd66::4
	assert_match "$output" " 0% packet loss"
	run -0 podvm exec four ping -c 2 -s 1372 10.66.0.5
	assert_match "$output" " 0% packet loss"
	# Larger ones are sent in fragments.
	run -0 podvm exec four ping -c 2 -s 4000 10.66.0.5
	assert_match "$output" " 0% packet loss"
}

@test "two network cards" {
	new_pod 6
	add_nic net1 v6b 1350
	at_pod ip addr add 10.67.0.6/24 dev net1
	at_pod ip route add 10.99.0.0/16 via 10.67.0.1
	at_node ip addr add 10.67.0.1/24 dev br0
	start web sleep 100000
	run -0 podvm exec web cat /sys/class/net/net1/mtu
	assert_equal "$output" 1350
	run -0 podvm exec web ip route
	assert_match "$output" "10.99.0.0/16 via 10.67.0.1 dev net1"
	run -0 podvm exec web ping -c 2 -I net1 10.67.0.1
	assert_match "$output" " 0% packet loss"
	run -0 podvm exec web ping -c 2 -I eth0 10.66.0.1
	assert_match "$output" " 0% packet loss"
}

@test "macvlan" {
	pod=pod7-$$
	path=/run/netns/$pod
	PODS+=("$pod")
	ip netns add "$pod"
	at_node ip link add low type veth peer name high
	at_node ip link set high master br0 up
	at_node ip link set low up
	at_node ip link add eth0 link low netns "$pod" type macvlan mode bridge
	at_pod ip addr add 10.66.0.7/24 dev eth0
	at_pod ip link set eth0 up
	start web sleep 100000
	run -0 podvm exec web ping -c 2 10.66.0.1
	podvm rm -f web
	at_node ip link del low
	assert_match "$output" " 0% packet loss"
}

@test "port-forward: localhost in the namespace is localhost in the guest" {
	new_pod 8
	start_web_server web 8
	local port address
	for port in 80 8081 8082; do
		for address in 127.0.0.1 '[::1]'; do
			run -0 at_pod curl -sf --max-time 200 "http://$address:$port/"
			assert_equal "$output" hello
		done
	done
	# Nobody listens there.
	run at_pod curl -s --max-time 200 http://127.0.0.1:9999/
	# Refused; or reset, before or after it has asked.
	[[ $status = 7 || $status = 55 || $status = 56 ]]
	# Other addresses of the namespace aren't forwarded.
	run -7 at_pod curl -s --max-time 200 http://10.66.0.8:80/
	local sum i pids=()
	sum=$(podvm exec web sha256sum /w/large | cut -d' ' -f1)
	for i in $(seq 5); do
		at_pod curl -sf --max-time 200 -o "$E2E/tmp/large$i" http://127.0.0.1:8081/large 3>&- &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait_for "$i"
		assert_status 0
	done
	for i in $(seq 5); do
		assert_equal "$(sha256sum <"$E2E/tmp/large$i" | cut -d' ' -f1)" "$sum"
	done
}

@test "port-forward: the guest reads to the end and answers" {
	new_pod 9
	start web sh -c 'nc -l -p 7000 -e sha256sum; sleep 100000'
	head -c 5000000 /dev/urandom >"$E2E/tmp/data"
	run -0 at_pod timeout 300 python3 - "$E2E/tmp/data" <<-'END'
		import socket, sys, time
		data = open(sys.argv[1], "rb").read()
		end = time.time() + 200
		while True:     # until the guest's server listens
		    s = socket.create_connection(("127.0.0.1", 7000), 200)
		    try:
		        s.sendall(data)
		        s.shutdown(socket.SHUT_WR)
		        answer = s.makefile().read()
		        break
		    except ConnectionError:
		        if time.time() > end:
		            raise
		        time.sleep(0.2)
		print(answer, end="")
	END
	assert_match "$output" "$(sha256sum <"$E2E/tmp/data" | cut -d' ' -f1)"
}

@test "what can't be given to a VM is refused, and nothing is touched" {
	new_pod 10
	run -125 --separate-stderr podvm run --rm --net ns:/proc/self/ns/net "$base" true
	assert_error "network: .*the host's network"
	run -125 --separate-stderr podvm run --rm --net ns:/run/netns/none "$base" true
	assert_error "network: cannot open the network namespace /run/netns/none"
	run -125 --separate-stderr podvm run --rm --net ns:/etc/passwd "$base" true
	assert_error "network: /etc/passwd is not a network namespace"
	run -125 --separate-stderr podvm run --rm -p 80:80 --net "ns:$path" "$base" true
	assert_error "needs --net user"
	at_pod ip rule add from 10.66.0.10 table 100
	run -125 --separate-stderr podvm run --rm --net "ns:$path" "$base" true
	assert_error 'network: there is policy routing'
	at_pod ip rule del from 10.66.0.10 table 100
	at_pod ip link add br1 type bridge
	at_pod ip link set br1 up
	run -125 --separate-stderr podvm run --rm --net "ns:$path" "$base" true
	assert_error 'network: interface "br1" \("bridge"\) can.t be given to a VM'
	assert_equal "$(at_pod tc qdisc show | grep ingress)" ""
	run ! at_pod ip link show podvm2
}

@test "a namespace is for one VM" {
	new_pod 11
	start_web_server web 11
	run -125 --separate-stderr podvm run --rm --net "ns:$path" "$base" true
	assert_error "another sandbox uses this network namespace"
	run -0 at_node curl -sf --max-time 200 http://10.66.0.11/
}

@test "podvm run is killed with -9: the next command puts the namespace right" {
	new_pod 12
	pod_state >"$E2E/tmp/before"
	start web sleep 100000
	kill -9 "$(state_of web pid)"
	# While it dies it's still the owner.
	until_true 10 no_processes
	podvm ps -a >/dev/null
	pod_state >"$E2E/tmp/after"
	diff "$E2E/tmp/before" "$E2E/tmp/after"
}

@test "the namespace goes before the container" {
	new_pod 13
	start web sleep 100000
	ip netns del "$pod"
	run -0 podvm exec web true
	podvm rm -f web
}
