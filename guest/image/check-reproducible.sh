#!/bin/bash
# Builds the guest image twice, with everything different that must not matter (directory, file
# system, time stamps, umask, time zone, locale), and compares the results bit for bit.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
if [ $# -ne 2 ] || [ "$1" != --agent ]; then
    echo "Usage: $0 --agent PATH" >&2
    exit 2
fi
agent=$(readlink -f "$2")

first=$(mktemp -d)
second=$(mktemp -d /dev/shm/podvm-image.XXXXXX)
trap 'rm -rf "$first" "$second"' EXIT

cp "$agent" "$second/renamed-agent"
touch -d 2001-01-01 "$second/renamed-agent"
"$here/build.sh" --agent "$agent" --out "$first/out" --debug
(
    umask 077
    TZ=Asia/Kathmandu LANG=de_DE.UTF-8 "$here/build.sh" --agent "$second/renamed-agent" --out "$second/a/b/out" --debug
)

for file in vmlinux rootfs.erofs rootfs-debug.erofs manifest.json; do
    cmp "$first/out/$file" "$second/a/b/out/$file" || { echo "not reproducible: $file" >&2; exit 1; }
done
echo "reproducible: $(sha256sum <"$first/out/manifest.json" | cut -c 1-16)"
