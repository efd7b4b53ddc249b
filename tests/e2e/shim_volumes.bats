#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Kubernetes' volumes, through CRI: a directory laid out as the kubelet's, written as it writes.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load kubelet

setup_file() {
	setup_containerd
	setup_kubelet
	mkdir -p "$K"/volumes/kubernetes.io~{configmap/config,secret/keys,empty-dir/cache} \
		"$K"/volumes/kubernetes.io~{projected/token,downward-api/podinfo} \
		"$K/containers" "$K/volume-subpaths/config/app"
	cc -Os -s -static -o "$CONTAINERD/watch" "$BATS_TEST_DIRNAME/watch.c"
	make_volumes
	POD=$(run_pod volumes)
	export POD
	A=$(run_container a '/watch /config >/events & sleep 100000' \
		"$(mounts config ro keys ro cache rw token ro podinfo ro)" \
		"$(mount_of "$CONTAINERD/watch" /watch ro)" \
		"$(mount_of "$K/etc-hosts" /etc/hosts rw)" \
		"$(mount_of "$K/volume-subpaths/config/app/0" /etc/one.conf ro)")
	B=$(run_container b 'sleep 100000' "$(mounts config ro cache rw)")
	export A B
}

teardown_file() {
	teardown_kubelet
	teardown_containerd
}

# ---- the kubelet ----

make_volumes() {
	mount -t tmpfs -o mode=0755 tmpfs "$K/volumes/kubernetes.io~secret/keys"
	mount -t tmpfs -o size=1m,mode=0777 tmpfs "$K/volumes/kubernetes.io~empty-dir/cache"
	mount -t tmpfs tmpfs "$K/volumes/kubernetes.io~projected/token"
	publish "$K/volumes/kubernetes.io~projected/token" 640 2000 token first ca.crt ca namespace default
	publish "$K/volumes/kubernetes.io~downward-api/podinfo" 644 0 labels 'app="a"'
	publish "$K/volumes/kubernetes.io~configmap/config" 644 0 key one sub one-conf
	publish "$K/volumes/kubernetes.io~secret/keys" 440 2000 password hidden
	printf '127.0.0.1 localhost\n' >"$K/etc-hosts"
	touch "$K/volume-subpaths/config/app/0"
	mount --bind "$K/volumes/kubernetes.io~configmap/config/..data/sub" \
		"$K/volume-subpaths/config/app/0"
}

# publish DIR MODE GROUP KEY VALUE...: a new version of a volume, as the atomic writer makes it.
publish() {
	local dir=$1 mode=$2 group=$3 new old key
	shift 3
	old=$(readlink "$dir/..data" || true)
	new=$(mktemp -d "$dir/..2026_11_22_XXXXXX")
	new=${new##*/}
	chmod 755 "$dir/$new"
	while [ $# -gt 0 ]; do
		printf '%s' "$2" >"$dir/$new/$1"
		chmod "$mode" "$dir/$new/$1"
		chgrp "$group" "$dir/$new/$1"
		shift 2
	done
	ln -s "$new" "$dir/..data_tmp"
	mv -T "$dir/..data_tmp" "$dir/..data"
	for key in "$dir/$new"/*; do
		key=${key##*/}
		[ -L "$dir/$key" ] || ln -s "..data/$key" "$dir/$key"
	done
	[ -z "$old" ] || rm -r "${dir:?}/$old"
}

# ---- tests ----

@test "nothing of the host is shared with such a pod" {
	run -1 pgrep -P "$(shim_of "$POD")" virtiofsd
	run -0 inside "$A" 'grep -c " fuse " /proc/mounts || true'
	assert_equal "$output" 0
}

@test "a config map is there as the kubelet publishes it" {
	run -0 inside "$A" 'cat /config/key; echo; readlink /config/key; cat /config/..data/sub; echo
		stat -c "%a %u:%g" /config/..data/key; echo x 2>/dev/null >/config/new || echo refused'
	assert_equal "$output" $'one\n..data/key\none-conf\n644 0:0\nrefused'
	run -0 inside "$A" 'cat /etc/one.conf'
	assert_equal "$output" one-conf
}

@test "a secret has its mode and group, and is in memory" {
	run -0 inside "$A" 'stat -L -c "%a %u:%g" /keys/password; stat -f -c %T /keys; cat /keys/password'
	assert_equal "$output" $'440 0:2000\ntmpfs\nhidden'
}

@test "a new version is seen in all containers, and by who watches, as on the host" {
	local old new
	until_true 30 inside "$A" 'grep watching /events'
	old=$(readlink "$K/volumes/kubernetes.io~configmap/config/..data")
	publish "$K/volumes/kubernetes.io~configmap/config" 644 0 key two sub two-conf added three
	new=$(readlink "$K/volumes/kubernetes.io~configmap/config/..data")
	until_true 30 says "$A" /config/added three
	until_true 30 says "$B" /config/added three
	run -0 inside "$A" 'cat /config/key; cat /config/..data/sub; ls -A /config | sort | tr "\n" " "'
	assert_equal "$output" "twotwo-conf$new ..data added key sub "
	until_true 30 inside "$A" "grep 'delete $old' /events"
	run -0 inside "$A" 'head -5 /events; sed 1,5d /events | sort'
	assert_equal "$output" "watching
create $new
create ..data_tmp
moved-from ..data_tmp
moved-to ..data
create added
delete $old"
	# A subPath stays what it was.
	run -0 inside "$A" 'cat /etc/one.conf'
	assert_equal "$output" one-conf
}

@test "tokens are rotated, and labels of the pod change" {
	run -0 inside "$A" 'cat /token/token /podinfo/labels; stat -L -c " %a %u:%g" /token/token'
	assert_equal "$output" 'firstapp="a" 640 0:2000'
	publish "$K/volumes/kubernetes.io~projected/token" 640 2000 token second ca.crt ca namespace default
	publish "$K/volumes/kubernetes.io~downward-api/podinfo" 644 0 labels 'app="b"'
	until_true 30 says "$A" /token/token second
	until_true 30 says "$A" /podinfo/labels 'app="b"'
	run -0 inside "$A" 'cat /token/ca.crt /token/namespace; stat -L -c " %a %u:%g" /token/token'
	assert_equal "$output" 'cadefault 640 0:2000'
}

moved_times() {
	[ "$(grep -c 'moved-to ..data$' "$LOGS/watcher.log")" -ge "$1" ]
}

@test "who reads while versions follow each other sees whole ones, and is told of each" {
	local dir=$K/volumes/kubernetes.io~configmap/turns reader watcher i
	mkdir "$dir"
	publish "$dir" 644 0 a 0 b 0
	# (A version that goes while it's read is no version.)
	# shellcheck disable=SC2016 # the container's shell expands it
	reader=$(run_container reader 'while sleep 0.02; do cd -P /turns/..data 2>/dev/null || continue
		a=$(cat a 2>/dev/null) && b=$(cat b 2>/dev/null) || continue
		[ "$a" = "$b" ] || echo "mixture of $a and $b"
		[ "$a" = "$last" ] || echo "seen $a"; last=$a; done' "$(mounts turns ro)")
	watcher=$(run_container watcher 'exec /watch /turns' "$(mounts turns ro)" \
		"$(mount_of "$CONTAINERD/watch" /watch ro)")
	until_true 30 grep -q 'watching$' "$LOGS/watcher.log"
	until_true 30 grep -q 'seen 0$' "$LOGS/reader.log"
	for ((i = 1; i <= 50; i++)); do
		publish "$dir" 644 0 a $i b $i
		until_true 30 grep -q "seen $i\$" "$LOGS/reader.log"
		until_true 30 moved_times $i
	done
	run -1 grep mixture "$LOGS/reader.log"
	remove_container "$reader"
	remove_container "$watcher"
}

@test "more than 1 MiB is refused, and when it comes later, the old version stays" {
	local dir=$K/volumes/kubernetes.io~configmap/large old
	mkdir "$dir"
	publish "$dir" 644 0 key "$(printf '%01048577d' 0 | tr 0 x)"
	refused 'volumes: .*key has more than 1048576 bytes.*1 MiB' large true "$(mounts large ro)"
	publish "$dir" 644 0 key small
	C=$(run_container large 'sleep 100000' "$(mounts large ro)")
	old=$(readlink "$dir/..data")
	publish "$dir" 644 0 key "$(printf '%01048577d' 0 | tr 0 x)"
	until_true 30 grep -q 'large.*more than 1048576 bytes' "$CONTAINERD/log"
	run -0 inside "$C" 'cat /large/key; readlink /large/..data'
	assert_equal "$output" "small$old"
	publish "$dir" 644 0 key fits
	until_true 30 says "$C" /large/key fits
	remove_container "$C"
}

@test "a file that is written on the host changes; what a container writes to its hosts is its own" {
	run -0 inside "$A" 'cat /etc/hosts; echo 192.0.2.1 mine >>/etc/hosts; grep -c . /etc/hosts'
	assert_equal "$output" $'127.0.0.1 localhost\n2'
	assert_equal "$(cat "$K/etc-hosts")" "127.0.0.1 localhost"
	printf '127.0.0.1 changed\n' >"$K/etc-hosts"
	until_true 30 says "$A" /etc/hosts "127.0.0.1 changed"
}

@test "copies of files go with their container" {
	local before id
	before=$(inside "$A" 'stat -f -c %f /config')
	id=$(run_container other 'sleep 100000' "$(mount_of "$CONTAINERD/watch" /watch ro)")
	[ "$(inside "$A" 'stat -f -c %f /config')" -lt "$before" ]
	cri StopContainer "{\"container_id\": \"$id\", \"timeout\": 0}"
	remove_container "$id"
	assert_equal "$(inside "$A" 'stat -f -c %f /config')" "$before"
}

@test "an emptyDir in memory is the pod's, limited, and outlives a container" {
	run -0 inside "$A" 'echo shared >/cache/file; stat -f -c %T /cache; stat -c %a /cache
		df -k /cache | tail -1 | tr -s " " | cut -d" " -f2'
	assert_equal "$output" $'tmpfs\n777\n1024'
	run -0 inside "$B" 'cat /cache/file; dd if=/dev/zero of=/cache/big bs=1M count=2 2>&1
		rm /cache/big'
	assert_match "$output" 'shared'
	assert_match "$output" 'No space left'
	cri StopContainer "{\"container_id\": \"$B\", \"timeout\": 0}"
	remove_container "$B"
	B=$(run_container again 'sleep 100000' "$(mounts cache rw)")
	run -0 inside "$B" 'cat /cache/file'
	assert_equal "$output" shared
	assert_equal "$(ls -A "$K/volumes/kubernetes.io~empty-dir/cache")" ""
	remove_container "$B"
}

@test "a subPath of an emptyDir in memory" {
	local part=$K/volume-subpaths/cache/app/0 id
	mkdir -p "$K/volumes/kubernetes.io~empty-dir/cache/a/b" "$part"
	mount --bind "$K/volumes/kubernetes.io~empty-dir/cache/a/b" "$part"
	id=$(run_container part 'echo part >/part/file; sleep 100000' "$(mount_of "$part" /part rw)")
	until_true 30 says "$A" /cache/a/b/file part
	# A container can't lead another one's mount to somewhere else.
	inside "$A" 'rm -r /cache/a/b; ln -s /run/agent /cache/a/b'
	refused 'Too many levels of symbolic links' escape true "$(mount_of "$part" /part rw)"
	remove_container "$id"
	unmount "$part"
}

@test "the termination log is there when the exit is told" {
	local log id
	for script in 'echo bye >/dev/termination-log' 'head -c 100000 /dev/zero >/dev/termination-log'; do
		log=$K/containers/ender-$RANDOM
		mkdir "$log"
		touch "$log/0a1b2c3d"
		id=$(run_container ender "$script" "$(mount_of "$log/0a1b2c3d" /dev/termination-log rw)")
		until_true 30 exited "$id"
		if [[ $script = echo* ]]; then
			assert_equal "$(cat "$log/0a1b2c3d")" bye
		else
			assert_equal "$(stat -c %s "$log/0a1b2c3d")" 65536
		fi
		assert_equal "$(status "$id" exit_code)" 0
		remove_container "$id"
	done
}

@test "devices are the guest's of the same name" {
	local id
	id=$(DEVICES="/dev/fuse /dev/net/tun" run_container devices 'sleep 100000' \
		"$(mount_of /dev/fuse /mounted rw)")
	run -0 inside "$id" 'exec 3<>/dev/fuse 4<>/dev/net/tun 5<>/mounted
		stat -c "%F %t:%T" /dev/fuse /dev/net/tun /mounted'
	assert_equal "$output" $'character special file a:e5\ncharacter special file a:c8
character special file a:e5'
	remove_container "$id"
	mknod "$CONTAINERD/odd" c 240 7
	DEVICES=$CONTAINERD/odd refused 'the guest has no device .*other' odd true
	mknod "$CONTAINERD/disk" b 240 7
	DEVICES=$CONTAINERD/disk refused 'there is no block device 240:7' disk true
}

@test "a socket of the host is refused" {
	/usr/bin/python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' \
		"$CONTAINERD/socket"
	refused "the host socket isn't available in the pod; host_sockets in" socket true \
		"$(mount_of "$CONTAINERD/socket" /socket rw)"
	rm "$CONTAINERD/socket"
	run -0 inside "$A" true
}

@test "a machine that is killed leaves the termination log alone" {
	local log=$K/containers/lost id
	mkdir "$log"
	echo before >"$log/0a1b2c3d"
	id=$(run_container lost 'echo after >/dev/termination-log; sleep 100000' \
		"$(mount_of "$log/0a1b2c3d" /dev/termination-log rw)")
	until_true 30 says "$id" /dev/termination-log after
	pkill -9 -P "$(shim_of "$POD")" qemu-system
	until_true 30 exited "$id"
	assert_equal "$(status "$id" exit_code)" 137
	assert_equal "$(cat "$log/0a1b2c3d")" before
}
