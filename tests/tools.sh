#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Provides the programs of other projects that tests run and Debian 12 doesn't have, and prints their
# directory:
#
#	tools.sh containerd	containerd, ctr and containerd-shim-runc-v2, version 2
#	tools.sh cri-tools	crictl and critest
#	tools.sh valgrind	valgrind, which counts instructions; it has to know openat2()
#	tools.sh fio		fio and all libraries that it needs, as they are to lie in an image
#
# All but the last, which is Debian's of the day, are pinned by version and checksum. The first two are built from Go modules (a module's go.sum
# pins what it needs), which takes minutes, once: the directory is below
# ${PODVM_CACHE:-~/.cache/podvm}. Without a Go that is new enough it says so and fails. valgrind is
# the package of a later Debian; its programs need no library of it.
set -euo pipefail

cache=${PODVM_CACHE:-${HOME:-/root}/.cache/podvm}/tools

say() {
	echo "tools: $*" >&2
}

usage() {
	say "usage: tools.sh containerd|cri-tools|valgrind|fio"
	exit 2
}

check_go() {
	PATH=$PATH:/usr/local/go/bin
	command -v go >/dev/null || {
		say "$tool $version has to be built, and there is no Go (1.26 or later) to do it"
		exit 1
	}
}

# module NAME SUM: prints where its sources are.
module() {
	local json
	json=$(cd / && go mod download -json "$1@$version") || {
		say "$1 $version is not to be had: $(jq -r '.Error // empty' <<<"$json")"
		return 1
	}
	if [ "$(jq -r .Sum <<<"$json")" != "$2" ]; then
		say "$1 $version has another checksum than it should have"
		return 1
	fi
	jq -r .Dir <<<"$json"
}

# build WHAT LDFLAGS [ARGUMENT...]
build() {
	local what=$1 ldflags=$2
	shift 2
	nice go "$what" -mod=readonly -trimpath -buildvcs=false -ldflags="-s -w $ldflags" "$@" >&2
}

make_containerd() {
	local source name=github.com/containerd/containerd/v2
	source=$(module $name h1:p6Qg+xbEz8lvwdhHDx0U469xENvp4LgGBx+E7djXkGw=)
	cd "$source"
	build build "-X $name/version.Version=$version" -tags no_btrfs,no_zfs -o "$1/" \
		./cmd/containerd ./cmd/ctr ./cmd/containerd-shim-runc-v2
}

make_cri_tools() {
	local source name=sigs.k8s.io/cri-tools
	source=$(module $name h1:Xt+LLvBVH1Fnp/AR2EyHApyWS/88y2KlWjlDc2HR+aw=)
	cd "$source"
	build build "-X $name/pkg/version.Version=$version" -o "$1/" ./cmd/crictl
	build "test" "-X $name/pkg/version.Version=$version" -c -o "$1/critest" ./cmd/critest
}

make_valgrind() {
	local deb=$1/valgrind.deb
	curl -sSf -o "$deb" \
		"http://deb.debian.org/debian/pool/main/v/valgrind/valgrind_${version}_amd64.deb"
	sha256sum --quiet -c - <<<"0359e30820ccee7ee5c8d4c951ca276e3978b18f157d71bd77981de05b344907  $deb"
	dpkg -x "$deb" "$1"
	rm "$deb"
}

make_fio() {
	local file libs=usr/lib/x86_64-linux-gnu
	mkdir -p "$1/usr/bin" "$1/$libs" "$1/lib64"
	mmdebstrap --quiet --variant=extract --mode=root --include=fio bookworm "$1/debian" >&2
	cp "$1/debian/usr/bin/fio" "$1/usr/bin"
	cp -L "$1/debian/lib64/ld-linux-x86-64.so.2" "$1/lib64"
	for file in $(chroot "$1/debian" /lib64/ld-linux-x86-64.so.2 --list /usr/bin/fio | grep -o '/[^ ]*'); do
		cp -L "$1/debian$file" "$1/$libs"
	done
	rm -rf --one-file-system "$1/debian"
}

tool=${1:-}
case $tool in
containerd) version=v2.4.2 ;;
cri-tools) version=v1.36.0 ;;
valgrind) version=3.24.0-3 ;;
fio) version=3.33 ;;
*) usage ;;
esac
dir=$cache/$tool-$version
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -d "$dir" ]; then
	case $tool in containerd | cri-tools) check_go ;; esac
	say "$tool $version (takes minutes, once)"
	tmp=$(mktemp -d "$cache/.tmp-XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	(make_"${tool/-/_}" "$tmp")
	chmod 755 "$tmp"
	mv "$tmp" "$dir"
fi
echo "$dir"
