#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What programs find in each kind of storage that a pod can have: the same as elsewhere, and what they
# have written. Each is a directory of the same name in the containers.
# shellcheck disable=SC2154 # variables of the files that are loaded, and of run

load helpers
load containerd
load kubelet

kinds="root emptydir memory shared pvc"
# With programs that look at file systems.
base=oci:$E2E/tmp/programs:base
image=registry.local/programs:1
export base image

setup_file() {
	make_image
	setup_containerd
	mkdir -p "$E2E/podvm.conf.d"
	cat >"$E2E/podvm.conf.d/volumes.conf" <<-END
		[vm]
		scratch_size = 192M
		[storage]
		emptydir_size = 256M
		direct_volumes = $E2E/direct
	END
	chmod 600 "$E2E/podvm.conf.d/volumes.conf"
	setup_kubelet
	SHARED=$CONTAINERD/shared
	PVC=$K/volumes/kubernetes.io~csi/pvc-1/mount
	export SHARED PVC
	make_volumes
	POD=$(run_pod volumes)
	export POD
}

teardown_file() {
	teardown_kubelet
	umount "$SHARED" 2>/dev/null || true
	podvm volume remove --volume-path "$PVC"
	rm -rf "$E2E/podvm.conf.d" "$E2E/tmp"/*
	teardown_containerd
}

make_image() {
	local layer=$E2E/tmp/layer fio
	mkdir -p "$layer/usr/bin"
	if fio=$("$BATS_TEST_DIRNAME/../tools.sh" fio); then
		cp -r "$fio/." "$layer"
	fi
	cc -std=gnu17 -D_GNU_SOURCE -Os -s -static -o "$layer/usr/bin/fs" "$BATS_TEST_DIRNAME"/fs/*.c
	mkdir "$layer/root-dir"
	tar -C "$layer" --numeric-owner -cf "$E2E/tmp/layer.tar" .
	skopeo copy -q "oci:$IMAGES/oci:base" "$base"
	umoci raw add-layer --image "$E2E/tmp/programs:base" "$E2E/tmp/layer.tar"
}

# The directory of the host is on a file system whose abilities are known.
make_volumes() {
	local empty=$K/volumes/kubernetes.io~empty-dir
	mkdir -p "$SHARED" "$PVC" "$empty"/{emptydir,memory}
	mount -t tmpfs -o size=64m,mode=0777 tmpfs "$empty/memory"
	truncate -s 192M "$CONTAINERD/shared.img" "$CONTAINERD/pvc.img"
	mkfs.ext4 -q -b 4096 "$CONTAINERD/shared.img"
	mkfs.ext4 -q -b 4096 "$CONTAINERD/pvc.img"
	mount -o loop "$CONTAINERD/shared.img" "$SHARED"
	podvm volume add --volume-path "$PVC" --mount-info "$(jq -nc --arg device "$CONTAINERD/pvc.img" \
		'{"volume-type": "block", device: $device, fstype: "ext4"}')"
}

# run_program NAME SCRIPT: a container with all of it
run_program() {
	run_container "$1" "$2" "$(mounts emptydir rw memory rw)" "$(mount_of "$SHARED" /shared rw)" \
		"$(mount_of "$PVC" /pvc rw)"
}

# finish NAME SCRIPT: run it to its end. Its output, without what CRI writes before each line, is the
# file NAME in $E2E/tmp.
finish() {
	local id
	id=$(run_program "$1" "set -e -o pipefail; trap 'echo finished' EXIT; $2")
	[ -n "$id" ]
	# (Looking at the log costs less than asking.)
	until_true 300 grep -q 'stdout F finished$' "$LOGS/$1.log"
	until_true 60 exited "$id"
	cut -d ' ' -f 4- "$LOGS/$1.log" | grep -vx finished >"$E2E/tmp/$1" || true
	assert_equal "$(status "$id" exit_code)" 0 || fail "$(tail -n 40 "$E2E/tmp/$1")" || return 1
	remove_container "$id"
}

# What the lines "kind check result" of a file say, a line for each check and a column for each kind.
# What is ok everywhere is left out.
as_table() {
	awk -v kinds="$kinds" 'BEGIN { n = split(kinds, kind) }
		!($2 in seen) { seen[$2] = 1; check[++m] = $2 }
		{ result[$1, $2] = substr($0, length($1 $2) + 3) }
		END {
			for (i = 1; i <= m; i++) {
				line = check[i]
				fine = 1
				for (k = 1; k <= n; k++) {
					line = line " " result[kind[k], check[i]]
					fine = fine && result[kind[k], check[i]] == "ok"
				}
				if (!fine)
					print line
			}
		}' "$1"
}

@test "what programs may expect of a file system" {
	# (Making a file takes a while where the host does it.)
	CAPABILITIES=SYS_ADMIN finish table 'for kind in root emptydir memory pvc; do
			mkdir /$kind/table; fs all /$kind/table | sed "s/^/$kind /"; done
		mkdir /shared/table; fs all /shared/table 2000 | sed "s/^/shared /"'
	[ "$(grep -c ok "$E2E/tmp/table")" -gt 250 ]
	# docs/storage.md says why.
	assert_equal "$(as_table "$E2E/tmp/table")" "$(tr -s ' ' <<-END
		unnamed-files      ok         ok ok         EOPNOTSUPP ok
		zero-range         ok         ok EOPNOTSUPP ok         ok
		trusted-attributes ok         ok ok         EOPNOTSUPP ok
		file-handles       EOPNOTSUPP ok ok         ok         ok
	END
	)"
}

@test "containers of a pod see each other's locks, and what they map" {
	local kind id reader
	id=$(run_program holder 'for kind in emptydir memory shared pvc; do
		fs lock /$kind/lock & fs map /$kind/map text & done; wait')
	for kind in emptydir memory shared pvc; do
		until_true 60 grep -q "locked /$kind/" "$LOGS/holder.log"
		until_true 60 grep -q "mapped /$kind/" "$LOGS/holder.log"
	done
	finish other 'for kind in emptydir memory shared pvc; do
		fs locked /$kind/lock | sed "s/^/$kind /"; fs tell /$kind/map text; done'
	assert_equal "$(cat "$E2E/tmp/other")" "$(for kind in emptydir memory shared pvc; do
		printf "$kind %s\n" 'posix locked' 'ofd locked' 'between free' 'flock locked'
		echo answered; done)"
	# Who only reads is no exception.
	reader=$(run_container reader 'grep -ao answered /shared/map; touch /shared/x' \
		"$(mount_of "$SHARED" /shared ro)")
	until_true 60 exited "$reader"
	grep -q 'stdout F answered' "$LOGS/reader.log"
	grep -q 'Read-only file system' "$LOGS/reader.log"
	remove_container "$reader"
	stop_container "$id"
	remove_container "$id"
	# They are gone with who had them.
	finish free 'for kind in emptydir memory shared pvc; do fs locked /$kind/lock; done'
	assert_equal "$(sort "$E2E/tmp/free" | uniq -c | tr -s ' ')" \
		$' 4 between free\n 4 flock free\n 4 ofd free\n 4 posix free'
}

@test "fio reads what it has written, in every way" {
	[ -e "$E2E/tmp/layer/usr/bin/fio" ] || skip "fio is not to be had"
	local jobs="--verify=crc32c --verify_fatal=1 --size=2m --thread --stonewall"
	jobs+=" --name=cached --rw=randrw --bsrange=1k-64k --ioengine=psync --fsync=16"
	jobs+=" --name=mapped --rw=randwrite --bs=4k --ioengine=mmap"
	jobs+=" --name=synced --rw=randwrite --bs=16k --ioengine=psync --sync=1"
	jobs+=" --name=direct --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=8"
	finish fio "for kind in $kinds; do mkdir /\$kind/fio; cd /\$kind/fio; fio $jobs >/report ||
			{ cat /report; exit 1; }; ls *.0.0 | wc -l; done"
	assert_equal "$(uniq -c "$E2E/tmp/fio" | tr -s ' ')" ' 5 4'
	# Another container reads it again.
	finish verify "for kind in emptydir memory shared pvc; do cd /\$kind/fio; fio --verify_only \
		$jobs >/report || { cat /report; exit 1; }; rm -r /\$kind/fio; done"
}

@test "where there is no space, nothing that was there is lost, and then there is again" {
	finish fill 'for kind in root emptydir memory pvc shared; do
		mkdir /$kind/fill; fs fill /$kind/fill; rm -r /$kind/fill; done'
	assert_equal "$(cat "$E2E/tmp/fill")" "$(yes 'fill ok' | head -n 5)"
}

# is_released FILE: no loop device is made of it, so its file system is complete
is_released() {
	[ -z "$(losetup -j "$1")" ]
}

@test "the file systems are sound, also on the host" {
	remove_pod "$POD"
	umount "$SHARED"
	# Other mount namespaces may have it for a moment longer.
	until_true 60 is_released "$CONTAINERD/shared.img"
	e2fsck -fn "$CONTAINERD/shared.img"
	e2fsck -fn "$CONTAINERD/pvc.img"
	e2fsck -fn "$K/volumes/kubernetes.io~empty-dir/emptydir/.podvm-volume"
}
