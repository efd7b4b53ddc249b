#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the images that the end-to-end tests run, with tools that know nothing of podvm: Debian's
# mmdebstrap, skopeo and umoci. Prints the directory that holds them:
#
#	oci/		OCI layout with the tags
#			  base	  busybox alone, no user database but root and daemon
#			  config  base, with everything set that an image config can set
#			  debian  a small Debian with nginx, redis, python3 and network tools
#			  nginx, redis, python  the same layers, each with its own command
#	base.docker.tar, base.oci.tar	archives of base
#	rootfs/		base, unpacked
#
# It takes minutes, once: the directory is below ${PODVM_CACHE:-~/.cache/podvm} and named after the
# digest of this file.
# shellcheck disable=SC2016 # what mmdebstrap's shell is to expand stays as it is
set -euo pipefail

cache=${PODVM_CACHE:-${HOME:-/root}/.cache/podvm}/test-images
key=$(sha256sum "$0" | cut -c1-16)
dir=$cache/$key
suite=bookworm
packages=nginx-light,redis-server,redis-tools,python3-minimal
packages+=,iperf3,iproute2,iputils-ping,ethtool

say() {
	echo "test images: $*" >&2
}

# A root file system of nothing but Debian's static busybox.
make_base() {
	local root=$1 work=$2 applet

	(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download busybox-static >&2)
	dpkg-deb -x "$work"/busybox-static_*.deb "$work/busybox"
	mkdir -p "$root"/{bin,dev,etc,home/daemon,proc,root,sys,tmp,usr/bin,var/tmp}
	chmod 1777 "$root/tmp" "$root/var/tmp"
	install -m 755 "$work/busybox/bin/busybox" "$root/bin/busybox"
	for applet in $("$root/bin/busybox" --list); do
		[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
	done
	printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/home/daemon:/bin/sh\n' \
		>"$root/etc/passwd"
	printf 'root:x:0:\ndaemon:x:1:\nextra:x:77:daemon\n' >"$root/etc/group"
	chown 1:1 "$root/home/daemon"
	printf 'this is no program\n' >"$root/bin/not-executable"
}

# One Debian for all services: what takes minutes is done once.
make_debian() {
	mmdebstrap --quiet --variant=essential --mode=root --include="$packages" \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--customize-hook='printf "a page from a microVM\n" >"$1/var/www/html/index.html"' \
		--customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*' \
		"$suite" "$1" >&2
}

# add_image LAYOUT TAG TAR: an image of one layer.
add_image() {
	umoci new --image "$1:$2"
	umoci raw add-layer --image "$1:$2" "$3"
	umoci config --image "$1:$2" --architecture amd64 --os linux \
		--config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
}

make_layout() {
	local oci=$1 work=$2

	umoci init --layout "$oci"
	add_image "$oci" base "$work/base.tar"
	umoci config --image "$oci:base" --config.cmd /bin/sh
	umoci config --image "$oci:base" --tag config --config.user daemon:extra \
		--config.workingdir /home/daemon --config.env FROM_IMAGE=yes \
		--config.entrypoint /bin/echo --config.entrypoint entry --config.cmd cmd \
		--config.volume /data --config.stopsignal SIGUSR1
	add_image "$oci" debian "$work/debian.tar"
	umoci config --image "$oci:debian" --config.cmd /bin/bash
	umoci config --image "$oci:debian" --tag nginx --config.exposedports 80/tcp \
		--config.stopsignal SIGQUIT --config.entrypoint nginx \
		--config.cmd=-g --config.cmd='daemon off;'
	umoci config --image "$oci:debian" --tag redis --config.user redis \
		--config.exposedports 6379/tcp --config.workingdir /var/lib/redis \
		--config.entrypoint redis-server --config.cmd=--protected-mode --config.cmd=no
	umoci config --image "$oci:debian" --tag python --config.cmd python3
	umoci gc --layout "$oci"
}

make_all() {
	local out=$1 work=$2

	say "busybox"
	make_base "$out/rootfs" "$work"
	tar -C "$out/rootfs" --sort=name --numeric-owner -cf "$work/base.tar" .
	say "a Debian with $packages (takes minutes, once)"
	make_debian "$work/debian.tar"
	say "image layout"
	make_layout "$out/oci" "$work" >&2
	skopeo copy -q "oci:$out/oci:base" "docker-archive:$out/base.docker.tar:base:latest" >&2
	skopeo copy -q "oci:$out/oci:base" "oci-archive:$out/base.oci.tar:base" >&2
}

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -d "$dir" ]; then
	for tool in mmdebstrap skopeo umoci; do
		command -v "$tool" >/dev/null || {
			say "$tool is missing: apt-get install mmdebstrap skopeo umoci"
			exit 1
		}
	done
	tmp=$(mktemp -d "$cache/.tmp-XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	mkdir "$tmp/out" "$tmp/work"
	make_all "$tmp/out" "$tmp/work"
	mv "$tmp/out" "$dir"
fi
echo "$dir"
