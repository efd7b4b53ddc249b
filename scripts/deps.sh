#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that PodVM is built, run and tested with. Does nothing when they are
# all there. On releases whose main suites lack linux-source-6.12 it adds the release's backports.
set -euo pipefail

BUILD=(gcc libc6-dev make meson ninja-build pkg-config protobuf-c-compiler
	libarchive-dev libinih-dev libjson-c-dev libmnl-dev libprotobuf-c-dev libseccomp-dev libuv1-dev
	libzstd-dev nettle-dev scdoc zlib1g-dev)
KERNEL=(linux-source-6.12 bc binutils bison flex libelf-dev patch xz-utils)
CRUN=(crun dpkg-dev libcap-dev libseccomp-dev libyajl-dev python3)
IMAGE=(busybox-static cryptsetup-bin erofs-utils)
RUN=(e2fsprogs passt qemu-system-x86 skopeo)
TEST=(bats bsdutils clang-format containerd containernetworking-plugins curl iproute2 iptables jq libcmocka-dev
	libssl-dev lz4 mmdebstrap procps protobuf-compiler python3-grpcio python3-protobuf shellcheck strace umoci util-linux zstd)

# The daemon for -v: a package of its own since Debian 13, before that it came with QEMU.
virtiofsd_package() {
	if [ -n "$(apt-cache search --names-only '^virtiofsd$' 2>/dev/null)" ]; then
		echo virtiofsd
	else
		echo qemu-system-common
	fi
}

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
is_available() { [ -n "$(apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: \([^(]\)/\1/p')" ]; }

missing_packages() {
	local package
	for package in "${BUILD[@]}" "${KERNEL[@]}" "${CRUN[@]}" "${IMAGE[@]}" "${RUN[@]}" "${TEST[@]}"; do
		is_installed "$package" || echo "$package"
	done
	is_installed virtiofsd || is_installed qemu-system-common || virtiofsd_package
}

add_backports() {
	local codename file=/etc/apt/sources.list.d/podvm-backports.list
	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
	echo "deps: linux-source-6.12 is not in the main suites: adding $codename-backports as $file"
	echo "deb http://deb.debian.org/debian $codename-backports main" >"$file"
	apt-get update -q
}

main() {
	local missing
	if ! command -v apt-get >/dev/null; then
		echo "deps: this is no Debian: install the packages that $0 names by hand" >&2
		exit 1
	fi
	mapfile -t missing < <(missing_packages)
	if [ ${#missing[@]} -eq 0 ]; then
		echo "deps: all packages are there"
		return
	fi
	if [ "$(id -u)" -ne 0 ]; then
		echo "deps: root is needed to install: ${missing[*]}" >&2
		echo "  sudo make deps" >&2
		exit 1
	fi
	echo "deps: installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q
	is_available linux-source-6.12 || add_backports
	mapfile -t missing < <(missing_packages)
	apt-get install -y -q --no-install-recommends "${missing[@]}"
}

main
