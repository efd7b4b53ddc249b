#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Machines that wait for pods: taken by podvm run and by pods of containerd, never twice; what becomes
# of them when the service, their owner or their template goes.

# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load pods

setup_file() {
	cp "$E2E/podvm.conf" "$E2E/podvm.conf.before"
	sed -i 's/^enabled = .*/enabled = yes/' "$E2E/podvm.conf"
	printf '[pool]\nsize = 1\nsize_none = 1\nsize_user = 1\n' >>"$E2E/podvm.conf"
	setup_containerd
	mkdir "$CONTAINERD/logs"
	make_templates
	start_pool
}

teardown_file() {
	stop_pool
	until_true 240 no_maker
	podvm template rm -a >/dev/null
	mv "$E2E/podvm.conf.before" "$E2E/podvm.conf"
	teardown_pods
}

setup() {
	until_true 240 is_full
}

teardown() {
	podvm rm -fa >/dev/null
	pool_runs || start_pool
}

# ---- the pool ----

# The templates of what waits. The service has them made as well, when there is nothing else to do.
make_templates() {
	local cpus bytes
	cpus=$(nproc)
	bytes=$(($(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo) * 1024))
	podvm template create
	for net in none pod; do
		podvm template create --net $net --max-vcpus $((cpus < 4 ? cpus : 4)) \
			--max-memory $bytes
	done
}

start_pool() {
	PODVM_CONFIG=$E2E/podvm.conf exec_closed setsid "$PODVM" --log-level info pool run \
		>>"$E2E/tmp/pool.log" 2>&1 </dev/null &
	until_true 30 pool_runs
}

pool_pid() {
	our_processes | awk '/pool run/ { print $1 }'
}

pool_runs() {
	[ -n "$(pool_pid)" ]
}

stop_pool() {
	kill "$(pool_pid)"
	until_true 30 nobody_waits
}

# Does nobody make a template?
no_maker() {
	! our_processes | grep -q 'template create'
}

# Process ids of the guards of machines that wait, a line each.
waiting() {
	podvm pool status --json | jq -r '.[].pid' | sort
}

is_full() {
	[ "$(waiting | wc -l)" -eq 3 ]
}

nobody_waits() {
	[ -z "$(waiting)" ]
}

# waiting_without PID: the pool is full again, and that one isn't in it
waiting_without() {
	is_full && ! waiting | grep -qx "$1"
}

# guard_of NAME: of a container or pod that runs; nothing when its machine isn't of the pool
guard_of() {
	podvm inspect "$1" | jq -r '.[0].live.processes[] | select(.role == "guard").pid'
}

run_from_pool() {
	run -0 --separate-stderr podvm run --timings "$@"
	assert_match "$stderr" "machine of the pool"
}

# ---- podvm run ----

@test "podvm run takes a machine that waits, and the next one gets another" {
	local before guard
	before=$(waiting)
	podvm run -d --name first "$base" sleep 100000
	guard=$(guard_of first)
	grep -qx "$guard" <<<"$before" || fail "$guard didn't wait: $before"
	until_true 240 waiting_without "$guard"
	podvm run -d --name second "$base" sleep 100000
	[ -n "$(guard_of second)" ]
	[ "$(guard_of second)" != "$guard" ]
	assert_equal "$(state_of first template)" "$(state_of second template)"
	run -0 podvm exec first echo hello
	assert_equal "$output" hello
	podvm stop -t 1 first
	assert_equal "$(state_of first exit_code)" 137
	until_true 30 process_gone "$guard"
}

@test "two machines of the pool have nothing unique in common" {
	local unique='cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid
		head -c 32 /dev/urandom | od -An -v -tx1 | tr -d "\n"; echo
		head -c 32 /dev/random | od -An -v -tx1 | tr -d "\n"; echo
		grep -E "stack|heap|vdso" /proc/self/maps | cut -d" " -f1
		cat /sys/class/net/eth0/address; hostname; mktemp -u'
	run_from_pool --rm "$base" sh -c "$unique"
	echo "$output" >"$E2E/tmp/1"
	until_true 240 is_full
	run_from_pool --rm "$base" sh -c "$unique"
	echo "$output" >"$E2E/tmp/2"
	[ "$(wc -l <"$E2E/tmp/1")" -ge 9 ] || fail "$(cat "$E2E/tmp/1")"
	assert_equal "$(sort "$E2E/tmp/1" "$E2E/tmp/2" | uniq -d)" ""
}

@test "its clock is the host's, and its network works" {
	local before after port
	before=$(date +%s)
	run_from_pool --rm "$base" date +%s
	after=$(date +%s)
	[ "$before" -le "$output" ] && [ "$output" -le "$after" ] ||
		fail "host: $before to $after, guest: $output"
	until_true 240 is_full
	port=$(free_ports 1)
	podvm run -d --name web -p "127.0.0.1:$port:80" "$base" sh -c 'echo hello >/index.html
		httpd -f -p 80 -h /'
	[ -n "$(guard_of web)" ]
	until_true 60 curl --noproxy '*' -sf "http://127.0.0.1:$port/"
	assert_equal "$(curl --noproxy '*' -sf "http://127.0.0.1:$port/")" hello
}

@test "a machine of another size doesn't come from the pool, nor one without a template" {
	local before
	before=$(waiting)
	for option in --memory=200M --no-template; do
		run -0 --separate-stderr podvm run --rm --timings $option "$base" echo hello
		assert_equal "$output" hello
		[[ $stderr != *"of the pool"* ]]
	done
	assert_equal "$(waiting)" "$before"
}

# ---- pods ----

@test "ctr run takes one" {
	local guard
	ctr_run -d $image lone sleep 100000
	guard=$(guard_of lone)
	[ -n "$guard" ]
	run -0 ctr task exec --exec-id e1 lone echo hello
	assert_equal "$output" hello
	ctr task kill -s KILL lone
	until_true 30 is_stopped lone
	remove_task lone
	until_true 30 process_gone "$guard"
}

@test "a pod takes one: its addresses, its cgroup" {
	local pod id ip pid
	pod=$(run_pod pool-pod)
	[ -n "$(guard_of "$pod")" ]
	id=$(create_container "$pod" c 'httpd -f -p 80')
	start_container "$id"
	ip=$(cri PodSandboxStatus "{\"pod_sandbox_id\": \"$pod\"}" | jq -r .status.network.ip)
	until_true 60 curl --noproxy '*' -s --max-time 5 "http://$ip/"
	for pid in "$(guard_of "$pod")" "$(state_of "$pod" vmm_pid)"; do
		assert_match "$(cat "/proc/$pid/cgroup")" "$CGROUP"
		assert_equal "$(cat "/proc/$pid/oom_score_adj")" \
			"$(cat "/proc/$(state_of "$pod" pid)/oom_score_adj")"
	done
	remove_pod "$pod"
}

# ---- what goes ----

@test "the owner is killed: the machine ends" {
	local guard monitor
	podvm run -d --name owner "$base" sleep 100000
	guard=$(guard_of owner)
	monitor=$(state_of owner vmm_pid)
	kill -9 "$(state_of owner pid)"
	until_true 30 process_gone "$guard"
	until_true 30 process_gone "$monitor"
}

@test "the monitor is killed, or its guard: the container has ended, and it's told why" {
	podvm run -d --name monitor "$base" sleep 100000
	kill -9 "$(state_of monitor vmm_pid)"
	until_true 30 ended monitor
	# Whichever is noticed first.
	assert_match "$(state_of monitor error)" "killed by signal 9|closed its connection"
	until_true 240 is_full
	podvm run -d --name guard "$base" sleep 100000
	local monitor
	monitor=$(state_of guard vmm_pid)
	kill -9 "$(guard_of guard)"
	until_true 30 ended guard
	until_true 30 process_gone "$monitor"
}

@test "a machine that waits dies: another one takes its place" {
	local guard
	guard=$(waiting | head -n 1)
	kill -9 "$(pgrep -P "$guard")"
	until_true 240 waiting_without "$guard"
}

@test "who waits doesn't answer: the container starts without it" {
	local guards
	guards=$(waiting)
	# shellcheck disable=SC2086 # several
	kill -STOP $guards
	run -0 --separate-stderr podvm run --rm --timings "$base" echo hello
	# shellcheck disable=SC2086
	kill -CONT $guards
	assert_equal "$output" hello
	assert_match "$stderr" "copy of a template"
}

@test "the service is killed: what waits ends, what was taken doesn't" {
	podvm run -d --name taken "$base" sleep 100000
	[ -n "$(guard_of taken)" ]
	kill -9 "$(pool_pid)"
	until_true 30 nobody_waits
	run -0 podvm exec taken echo hello
	assert_equal "$output" hello
}

@test "the service stops: nothing waits" {
	stop_pool
	run -0 --separate-stderr podvm run --rm --timings "$base" echo hello
	assert_match "$stderr" "copy of a template"
}

@test "drain" {
	local before pid
	before=$(waiting)
	run -0 podvm pool drain
	assert_equal "$(sort <<<"$output")" "$before"
	for pid in $before; do
		until_true 240 waiting_without "$pid"
	done
}

@test "without their template they end, and with a new one others wait" {
	podvm template rm -a >/dev/null
	until_true 60 nobody_waits
	make_templates
	until_true 240 is_full
	run_from_pool --rm "$base" echo hello
}

@test "the service has templates made, whatever is in PATH" {
	stop_pool
	podvm template rm -a >/dev/null
	PATH=/usr/sbin:/usr/bin:/sbin:/bin start_pool
	until_true 240 is_full
}

# ---- the service ----

@test "nothing to keep, or no room for it" {
	stop_pool
	cp "$E2E/podvm.conf" "$E2E/tmp/podvm.conf"
	sed -i '/^size/d' "$E2E/tmp/podvm.conf"
	PODVM_CONFIG=$E2E/tmp/podvm.conf run -125 "$PODVM" pool run
	assert_error "no machine is to wait"
	printf 'size = 1\nmemory = 1M\n' >>"$E2E/tmp/podvm.conf"
	PODVM_CONFIG=$E2E/tmp/podvm.conf exec_closed "$PODVM" --log-level info pool run \
		2>"$E2E/tmp/no-room" </dev/null &
	local pid=$!
	until_true 60 grep -q "no room for more" "$E2E/tmp/no-room"
	kill "$pid"
	wait_for "$pid"
	assert_status 0
}
