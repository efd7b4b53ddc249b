#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# User-mode networking with real servers.

# shellcheck disable=SC2154 # images and what run sets come from elsewhere
# shellcheck disable=SC2016 # what the container's shell is to expand stays as it is

load helpers

setup_file() {
	common_setup_file
	read -r NGINX_PORT LOCAL_PORT < <(free_ports 2)
	export NGINX_PORT LOCAL_PORT
	podvm run -d --name shared -p "$NGINX_PORT:80" -p "127.0.0.1:$LOCAL_PORT:80" "$nginx"
}

teardown_file() {
	common_teardown_file
}

# An address of the host that isn't loopback.
host_address() {
	ip -4 -o addr show scope global | awk '{sub("/.*", "", $4); print $4; exit}'
}

fetch() {
	curl --noproxy '*' --silent --fail --max-time 200 "$@"
}

@test "nginx serves a page through -p" {
	until_true 60 fetch "http://127.0.0.1:$NGINX_PORT/"
	run -0 fetch "http://127.0.0.1:$NGINX_PORT/"
	assert_equal "$output" "a page from a microVM"
	run -0 fetch "http://127.0.0.1:$LOCAL_PORT/"
	# Every address of the host, for the first one; only the named one for the second.
	local address
	address=$(host_address)
	[ -n "$address" ] || skip "the host has no address but loopback"
	run -0 fetch "http://$address:$NGINX_PORT/"
	run ! fetch "http://$address:$LOCAL_PORT/"
}

@test "nginx: a large file, and many requests at a time" {
	inside 'head -c 20000000 /dev/zero >/var/www/html/large'
	fetch -o "$E2E/tmp/large" "http://127.0.0.1:$NGINX_PORT/large"
	assert_equal "$(stat -c %s "$E2E/tmp/large")" 20000000
	rm "$E2E/tmp/large"
	local i pids=()
	for i in $(seq 20); do
		fetch -o /dev/null "http://127.0.0.1:$NGINX_PORT/" &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait_for "$i"
		assert_status 0
	done
}

@test "redis serves a benchmark from a second exec" {
	podvm run -d --name redis "$redis"
	until_true 60 podvm exec redis redis-cli ping
	run -0 podvm exec redis redis-benchmark -q -n 2000 -c 10 -t set,get
	assert_match "$output" "SET: [0-9.]+ requests per second"
	assert_match "$output" "GET: [0-9.]+ requests per second"
	# It runs as the image's user.
	run -0 podvm exec redis id -un
	assert_equal "$output" redis
	podvm rm -f redis
}

# To the host's loopback passt of 2023 lets no answer back, as the guest may not reach it.
@test "a UDP port" {
	local port address
	port=$(free_ports 1)
	address=$(host_address)
	[ -n "$address" ] || skip "the host has no address but loopback"
	podvm run -d --name udp -p "$port:5353/udp" "$python" python3 -c "import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 5353))
print('bound', flush=True)
while True:
    data, peer = s.recvfrom(1000)
    s.sendto(data.upper(), peer)"
	until_true 30 has_said udp bound
	run -0 python3 -c "import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
for i in range(100):
    s.sendto(b'datagram', ('$address', $port))
    try:
        print(s.recvfrom(1000)[0])
        break
    except OSError:
        pass"
	assert_equal "$output" "b'DATAGRAM'"
	podvm rm -f udp
}

# gets_page ADDRESS PORT [SECONDS]: does one inside get nginx' page there? A connection alone says
# nothing: some networks accept any, to proxy it.
gets_page() {
	run podvm exec shared bash -c "timeout ${3:-5} bash -c 'exec 3<>/dev/tcp/$1/$2
		printf \"GET / HTTP/1.0\r\n\r\n\" >&3
		cat <&3'"
	[[ $output == *"a page from a microVM"* ]]
}

@test "the container reaches the host's network, but not the host's loopback" {
	local address
	address=$(host_address)
	[ -n "$address" ] || skip "the host has no address but loopback"
	gets_page "$address" "$NGINX_PORT" 200
	# Published on the host's loopback alone: neither that nor the gateway leads there.
	run ! gets_page 127.0.0.1 "$LOCAL_PORT"
	run ! gets_page "$address" "$LOCAL_PORT"
	run ! gets_page 10.0.2.2 "$LOCAL_PORT"
	run ! gets_page 10.0.2.1 "$LOCAL_PORT"
}

@test "125: a port that is taken" {
	run -125 --separate-stderr podvm run --rm -p "$NGINX_PORT:80" "$base" true
	assert_error "$NGINX_PORT"
}

@test "--net none: loopback alone" {
	run -0 podvm run --rm --net none "$base" sh -c 'ls /sys/class/net; cat /etc/resolv.conf | wc -l'
	assert_equal "${lines[0]}" lo
	assert_equal "${lines[1]}" 0
}

@test "names: hostname, --add-host, --dns" {
	run -0 podvm run --rm --hostname web --add-host db:10.1.2.3 --dns 9.9.9.9 \
		--dns-search example.org "$base" cat /etc/hosts /etc/resolv.conf /etc/hostname
	assert_match "$output" "10.1.2.3[[:space:]]+db"
	assert_match "$output" "nameserver 9.9.9.9"
	assert_match "$output" "search example.org"
	assert_match "$output" "[[:space:]]web"
}

@test "the port is free again when the container has ended" {
	podvm rm -f shared
	until_true 10 free_again
}

free_again() {
	! ss -Hltn "sport = :$NGINX_PORT" | grep -q .
}
