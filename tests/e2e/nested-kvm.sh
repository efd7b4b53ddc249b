#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs a command in a machine that has a working /dev/kvm, on a host that has none.
#
#   nested-kvm.sh [-t SECONDS] [-m MIB] [-f FILE]... -- COMMAND [ARG...]
#
# QEMU emulates an AMD processor with virtualisation; in it runs Debian's stock cloud kernel with
# its kvm modules, and an initramfs made of busybox, COMMAND and the FILEs of this host, at their
# own paths and with the libraries that they need. What QEMU in there needs comes along by itself.
# The exit code is COMMAND's; 125 when it could not be run, 124 at the deadline. It shows that
# things work on KVM, never how fast.
#
# Debian packages: qemu-system-x86, busybox-static, cpio. The kernel is downloaded once (apt-get
# download) and kept in ~/.cache/podvm/nested.
set -euo pipefail

readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/podvm/nested"
readonly EXIT_MARK="nested-kvm: exit code"
readonly MODULES="arch/x86/kvm/kvm.ko arch/x86/kvm/kvm-amd.ko virt/lib/irqbypass.ko"
readonly QEMU_FILES="/usr/bin/qemu-system-x86_64-microvm /usr/bin/qemu-system-x86_64
	/usr/share/seabios /usr/share/qemu/bios-microvm.bin /usr/share/qemu/qboot.rom
	/usr/share/qemu/kvmvapic.bin /usr/share/qemu/linuxboot_dma.bin /usr/share/qemu/pvh.bin
	/usr/share/qemu/bios-256k.bin"

die() {
	echo "nested-kvm: $*" >&2
	exit 125
}

usage() {
	die "usage: nested-kvm.sh [-t SECONDS] [-m MIB] [-f FILE]... -- COMMAND [ARG...]"
}

# Debian's cloud kernel, unpacked below $CACHE/kernel.
get_kernel() {
	local package
	[ -e "$CACHE/kernel/ok" ] && return
	rm -rf "$CACHE/kernel"
	mkdir -p "$CACHE/kernel"
	package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ {print $2; exit}')
	[ -n "$package" ] || die "apt knows no linux-image-cloud-amd64 (run apt-get update)"
	(cd "$CACHE/kernel" && apt-get download "$package") || die "cannot download $package"
	dpkg-deb -x "$CACHE"/kernel/*.deb "$CACHE/kernel"
	rm -f "$CACHE"/kernel/*.deb
	touch "$CACHE/kernel/ok"
}

# A file or directory of this host with the libraries it needs, at the same path below $1.
add_file() {
	local root=$1 file=$2 lib
	[ -e "$file" ] || return 0
	mkdir -p "$root$(dirname "$file")"
	cp -aL "$file" "$root$(dirname "$file")/"
	[ -f "$file" ] || return 0
	for lib in $(ldd "$file" 2>/dev/null | grep -o '/[^ :]*' || true); do
		[ -e "$root$lib" ] && continue
		mkdir -p "$root$(dirname "$lib")"
		cp -L "$lib" "$root$lib"
	done
}

# The first program in there; the command and its arguments are quoted for its shell.
write_init() {
	local root=$1
	shift
	cat >"$root/init" <<-EOF
		#!/bin/busybox sh
		export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
		/bin/busybox --install -s /bin
		mount -t proc proc /proc
		mount -t sysfs sys /sys
		mount -t devtmpfs dev /dev
		mount -t tmpfs run /run
		mkdir -p /dev/pts /sys/fs/cgroup
		mount -t devpts pts /dev/pts
		mount -t cgroup2 cgroup /sys/fs/cgroup
		ip link set lo up
		for m in irqbypass kvm kvm-amd; do insmod /modules/\$m.ko 2>/dev/null; done
		code=125
		if [ -e /dev/kvm ]; then
			${*@Q}
			code=\$?
		else
			echo "nested-kvm: there is no /dev/kvm in there"
		fi
		echo "$EXIT_MARK \$code"
		poweroff -f
	EOF
	chmod 755 "$root/init"
}

make_initramfs() {
	local root=$1 file module
	shift
	mkdir -p "$root"/{bin,proc,sys,dev,run,tmp,root,modules,etc}
	add_file "$root" "$(command -v busybox)"
	cp -f "$(command -v busybox)" "$root/bin/busybox"
	for module in $MODULES; do
		cp "$CACHE"/kernel/lib/modules/*/kernel/"$module" "$root/modules/" 2>/dev/null || true
	done
	for file in $QEMU_FILES "${files[@]}" "$(command -v "$1")"; do
		add_file "$root" "$file"
	done
	write_init "$root" "$@"
	(cd "$root" && find . | cpio -o -H newc --quiet) >"$work/initramfs"
}

run_machine() {
	timeout "$seconds" qemu-system-x86_64 -machine q35,accel=tcg -cpu max -smp 1 -m "$mib" \
		-nodefaults -no-user-config -display none -no-reboot -serial stdio \
		-kernel "$CACHE"/kernel/boot/vmlinuz-* -initrd "$work/initramfs" \
		-append "console=ttyS0 quiet panic=-1 mitigations=off cryptomgr.notests=1" \
		</dev/null | tr -d '\r' | tee "$work/console"
}

seconds=180
mib=1536
files=()
while getopts t:m:f: option; do
	case $option in
	t) seconds=$OPTARG ;;
	m) mib=$OPTARG ;;
	f) files+=("$(realpath -s "$OPTARG")") ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || usage
command -v "$1" >/dev/null || die "there is no program $1"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
get_kernel
make_initramfs "$work/root" "$@"
run_machine || true
code=$(sed -n "s/^$EXIT_MARK \([0-9]*\)$/\1/p" "$work/console" | tail -1)
exit "${code:-124}"
