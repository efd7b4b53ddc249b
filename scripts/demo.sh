#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A container from an OCI image, made here by umoci from Debian's busybox, in a microVM.
set -euo pipefail

build=$(readlink -f "${1:?usage: demo.sh BUILD_DIRECTORY}")
layout=$build/demo-image
podvm=("$build/src/cli/podvm" run --rm --image "$build/image")

make_image() {
	local work
	work=$(mktemp -d)
	umoci init --layout "$layout.new"
	umoci new --image "$layout.new:demo"
	umoci unpack --image "$layout.new:demo" "$work/bundle"
	mkdir -p "$work"/bundle/rootfs/{bin,etc,tmp,root}
	cp /bin/busybox "$work/bundle/rootfs/bin/"
	for applet in $(/bin/busybox --list); do
		[ "$applet" = busybox ] || ln -s busybox "$work/bundle/rootfs/bin/$applet"
	done
	echo 'root:x:0:0:root:/root:/bin/sh' >"$work/bundle/rootfs/etc/passwd"
	umoci repack --image "$layout.new:demo" "$work/bundle"
	umoci config --image "$layout.new:demo" --config.cmd sh
	mv "$layout.new" "$layout"
	rm -rf "$work"
}

show() {
	local arg
	printf '\n$ podvm run --rm'
	for arg; do
		case $arg in
		*[!-A-Za-z0-9_./:=]*) printf " '%s'" "$arg" ;;
		*) printf ' %s' "$arg" ;;
		esac
	done
	printf '\n'
	"${podvm[@]}" "$@"
}

[ -d "$layout" ] || { rm -rf "$layout.new"; make_image >/dev/null 2>&1; }
echo "The host runs Linux $(uname -r). A container in its own microVM:"
show "oci:$layout:demo" uname -a
show --memory 64m --hostname web "oci:$layout:demo" sh -c 'echo "I am PID $$ on $(hostname), $(nproc) CPU"; free -m | head -2'
show --timings "oci:$layout:demo" echo 'hello from a microVM'
printf '\nNow try:  sudo %s -it oci:%s:demo sh\n' "${podvm[*]}" "$layout"
