#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Containers on KVM, on a host that has none (nested-kvm.sh): in a machine that boots, in a copy of
# a template, and in a machine of the pool.
#
#	nested-podvm.sh BUILD [microvm|q35]
#
# It takes two to five minutes, and is no part of `make test`.
set -euo pipefail

build=$(readlink -f "${1:?usage: nested-podvm.sh BUILD [microvm|q35]}")
machine=${2:-microvm}
here=$(dirname "$(readlink -f "$0")")
images=$("$here/images.sh" | tail -n 1)
script=$(mktemp "${TMPDIR:-/tmp}/nested-podvm.XXXXXX")
trap 'rm -f "$script"' EXIT

# In there is busybox's shell.
cat >"$script" <<END
#!/bin/busybox sh
set -eu
export PATH=\$PATH:$build/src/cli PODVM_CONFIG=/etc/podvm.conf
mkdir -p /run/podvm /cache
mount -t tmpfs -o mode=711 cache /cache
cat >/etc/podvm.conf <<CONFIG
[paths]
image=$build/image
state=/run/podvm
cache=/cache
[start]
boot_timeout=5min
agent_timeout=5min
[vm]
memory=128M
max_memory=128M
[vmm]
machine=$machine
accel=kvm
[template]
enabled=yes
[pool]
size_none=1
CONFIG
# run EXPECTED [OPTION...]: what --timings says of the machine
run() {
	expected=\$1
	shift
	if ! podvm run --rm --timings --net none "\$@" oci:$images/oci:base true 2>/err ||
			! grep -xF "\$expected" /err; then
		cat /err
		exit 1
	fi
}

run "podvm: timings" --no-template
podvm template create --net none
run "podvm: timings (copy of a template)"
podvm pool run &
n=0
until [ "\$(podvm pool status | wc -l)" = 2 ]; do
	n=\$((n + 1))
	[ \$n -lt 120 ]
	sleep 1
done
run "podvm: timings (machine of the pool)"
kill %1
END
chmod 755 "$script"
"$here/nested-kvm.sh" -t 600 -m 2560 -f "$build/src/cli/podvm" -f "$build/image" -f "$images/oci" \
	-f /usr/bin/mkfs.erofs -f "$(command -v mkfs.ext4)" -f /etc/mke2fs.conf -f /etc/passwd -- "$script"
