#!/bin/bash
# Makes the guest image directory: vmlinux, rootfs.erofs, manifest.json (docs/guest-image.md).
# The same inputs give the same bytes; when nothing changed it only checks what is there.
set -euo pipefail

readonly BLOCK=4096
# Salt of the hash tree. It only has to be fixed, so that the root hash can be repeated.
readonly SALT=706f64766d20677565737420696d6167652c20726f6f742066696c6520737973
# Command-line parts; why each word is there: docs/guest-image.md.
readonly ROOT_OPTIONS="ro rootfstype=erofs init=/init"
readonly CMDLINE_COMMON="quiet panic=-1 rcupdate.rcu_expedited=1 scsi_mod.scan=manual scsi_mod.dev_flags=\\\"QEMU:QEMU HARDDISK:0x24000400\\\" percpu_alloc=page dummy.numdummies=0 memhp_default_state=online_movable"
readonly CMDLINE_EMULATION="mitigations=off nolapic_timer tsc=reliable no_timer_check noreplace-smp"
# Static libraries inside podvm-agent.
readonly AGENT_LIBRARIES=(libc6-dev libprotobuf-c-dev libuv1-dev)

here=$(dirname "$(readlink -f "$0")")
agent=
out=
debug=no
work=
# Directories of what was built before.
kernel=
crun=

say() { printf 'image: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

usage() {
    cat <<EOF
Usage: $0 --agent PATH --out DIR [--debug]
Makes vmlinux, rootfs.erofs and manifest.json in DIR.
  --agent PATH   podvm-agent, a static ELF program: the image's /init
  --debug        also rootfs-debug.erofs, which has busybox and a shell
EOF
}

parse_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --agent) agent=${2:?--agent needs a file}; shift ;;
            --out) out=${2:?--out needs a directory}; shift ;;
            --debug) debug=yes ;;
            --help) usage; exit 0 ;;
            *) usage >&2; exit 2 ;;
        esac
        shift
    done
    if [ -z "$agent" ] || [ -z "$out" ]; then usage >&2; exit 2; fi
}

check_inputs() {
    local missing=() tool
    for tool in mkfs.erofs veritysetup readelf strip flock; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ "$debug" = no ] || [ -x /bin/busybox ] || missing+=(busybox-static)
    [ ${#missing[@]} -eq 0 ] || die "missing: ${missing[*]}; run: sudo make deps"
    [ -r "$agent" ] || die "$agent: cannot be read"
    ! readelf -lW "$agent" | grep -q INTERP || die "$agent: not static; the image has no libraries for it"
}

# --- what goes in

info() { sed -n "s/^$2=//p" "$1/info"; }

# Unique names of the packages that image files come from or were linked from.
packages() {
    {
        printf '%s\n' linux-source-6.12 crun "${AGENT_LIBRARIES[@]}"
        info "$crun" libraries | tr ' ' '\n'
        [ "$debug" = no ] || echo busybox-static
    } | sort -u
}

version_of() { dpkg-query -W -f '${Version}' "$1"; }
licence_of() { sed -nE "s/^$1 +//p" "$here/licences.txt"; }
project_version() { sed -nE "s/^  version: '([^']+)'.*/\1/p" "$here/../../meson.build" | sed 1q; }
sha256_of() { sha256sum "$1" | cut -d ' ' -f 1; }

input_hash() {
    {
        echo "$debug $(basename "$kernel") $(basename "$crun") $(project_version)"
        cat "$here/build.sh" "$here/licences.txt" "$agent"
        # shellcheck disable=SC2046 # one word per package
        dpkg-query -W $(packages) erofs-utils cryptsetup-bin
    } | sha256sum | cut -d ' ' -f 1
}

is_current() {
    [ -r "$out/.stamp" ] && [ "$(sed 1q "$out/.stamp")" = "$1" ] &&
        (cd "$out" && sed 1d .stamp | sha256sum --quiet -c) >/dev/null 2>&1
}

# --- the root file system

stage_root() {
    local root=$1
    mkdir -p "$root"/{proc,sys,dev,run,tmp,usr/bin}
    strip --strip-all -o "$root/init" "$agent"
    chmod 755 "$root/init"
    install -m 755 "$crun/crun" "$root/usr/bin/crun"
}

stage_debug_tools() {
    local root=$1 applet
    mkdir "$root/bin"
    install -m 755 /bin/busybox "$root/bin/busybox"
    for applet in $(/bin/busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
}

# A UUID that says what is inside: the hash of all names, modes and contents.
content_uuid() {
    (cd "$1" && LC_ALL=C find . -printf '%P %m %l\n' | LC_ALL=C sort &&
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) |
        sha256sum | sed -E 's/^(.{8})(.{4})(.{4})(.{4})(.{12}).*/\1-\2-\3-\4-\5/'
}

# Not compressed: unpacking what crun's start reads costs more than the bytes (docs/guest-image.md).
make_erofs() {
    local root=$1 file=$2
    mkfs.erofs --quiet -T0 --all-root -x-1 -U "$(content_uuid "$root")" "$file" "$root" >/dev/null
}

# Appends the hash tree to the file system and prints root hash and number of data blocks.
add_verity() {
    local file=$1 size
    size=$(stat -c %s "$file")
    [ $((size % BLOCK)) -eq 0 ] || die "$file: $size bytes are not whole blocks"
    veritysetup format --no-superblock --hash sha256 --salt "$SALT" \
        --data-block-size $BLOCK --hash-block-size $BLOCK \
        --data-blocks $((size / BLOCK)) --hash-offset "$size" "$file" "$file" |
        sed -nE 's/^Root hash:\s+//p'
    echo $((size / BLOCK))
}

# --- the manifest

rootfs_json() {
    local file=$1 root_hash=$2 blocks=$3
    cat <<EOF
{
    "file": "$(basename "$file")",
    "type": "erofs",
    "size": $(stat -c %s "$file"),
    "sha256": "$(sha256_of "$file")",
    "verity": {
      "algorithm": "sha256",
      "root_hash": "$root_hash",
      "salt": "$SALT",
      "hash_offset": $((blocks * BLOCK)),
      "data_blocks": $blocks,
      "block_size": $BLOCK
    }
  }
EOF
}

packages_json() {
    local package licence separator=
    for package in $(packages); do
        licence=$(licence_of "$package")
        [ -n "$licence" ] || die "no licence for package $package in guest/image/licences.txt"
        printf '%s\n    { "name": "%s", "version": "%s", "licence": "%s" }' \
            "$separator" "$package" "$(version_of "$package")" "$licence"
        separator=,
    done
}

# The root device as a device-mapper target that checks every block against the root hash.
verity_cmdline() {
    local root_hash=$1 blocks=$2
    echo "dm-mod.create=\\\"podvm-root,,,ro,0 $((blocks * BLOCK / 512)) verity 1 /dev/vda /dev/vda $BLOCK $BLOCK" \
        "$blocks $blocks sha256 $root_hash $SALT 1 panic_on_corruption\\\" root=/dev/dm-0 $ROOT_OPTIONS"
}

manifest() {
    local root_hash=$1 blocks=$2 debug_json=$3 version
    version=$(project_version)-$(cat "$work/out/vmlinux" "$work/out/rootfs.erofs" | sha256sum | cut -c 1-12)
    cat <<EOF
{
  "schema": 1,
  "version": "$version",
  "arch": "x86_64",
  "kernel": {
    "file": "vmlinux",
    "version": "$(info "$kernel" release)",
    "source": "linux-source-6.12 $(info "$kernel" source_version)",
    "compiler": "$(info "$kernel" compiler)",
    "config_sha256": "$(info "$kernel" config_sha256)",
    "size": $(stat -c %s "$work/out/vmlinux"),
    "sha256": "$(sha256_of "$work/out/vmlinux")"
  },
  "rootfs": $(rootfs_json "$work/out/rootfs.erofs" "$root_hash" "$blocks"),$debug_json
  "cmdline": {
    "common": "$CMDLINE_COMMON",
    "emulation": "$CMDLINE_EMULATION",
    "root": "root=/dev/vda $ROOT_OPTIONS",
    "root_verity": "$(verity_cmdline "$root_hash" "$blocks")"
  },
  "agent": {
    "version": "$(project_version)",
    "licence": "Apache-2.0",
    "sha256": "$(sha256_of "$work/root/init")"
  },
  "crun": {
    "source": "crun $(info "$crun" source_version)",
    "compiler": "$(info "$crun" compiler)",
    "sha256": "$(sha256_of "$work/root/usr/bin/crun")"
  },
  "packages": [$(packages_json)
  ]
}
EOF
}

# --- all of it

build_debug() {
    local root=$work/root-debug verity
    cp -a "$work/root" "$root"
    stage_debug_tools "$root"
    make_erofs "$root" "$work/out/rootfs-debug.erofs"
    mapfile -t verity < <(add_verity "$work/out/rootfs-debug.erofs")
    printf '\n  "rootfs_debug": %s,' "$(rootfs_json "$work/out/rootfs-debug.erofs" "${verity[@]}")"
}

publish() {
    local hash=$1 file
    rm -f "$out/.stamp" "$out/rootfs-debug.erofs"
    for file in "$work"/out/*; do mv -f "$file" "$out/"; done
    { echo "$hash"; cd "$out" && sha256sum vmlinux ./*.erofs manifest.json; } >"$work/stamp"
    mv "$work/stamp" "$out/.stamp"
}

build() {
    local hash=$1 debug_json="" verity
    work=$(mktemp -d "$out/.work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/out"
    cp "$kernel/vmlinux" "$work/out/vmlinux"
    stage_root "$work/root"
    make_erofs "$work/root" "$work/out/rootfs.erofs"
    mapfile -t verity < <(add_verity "$work/out/rootfs.erofs")
    [ "$debug" = no ] || debug_json=$(build_debug)
    manifest "${verity[@]}" "$debug_json" >"$work/out/manifest.json"
    publish "$hash"
    say "made $out: kernel $(stat -c %s "$out/vmlinux") + root $(stat -c %s "$out/rootfs.erofs") bytes"
}

main() {
    local hash
    parse_arguments "$@"
    umask 022
    export LC_ALL=C
    check_inputs
    kernel=$("$here/../kernel/build.sh")
    crun=$("$here/../crun/build.sh")
    mkdir -p "$out"
    out=$(readlink -f "$out")
    agent=$(readlink -f "$agent")
    exec 9>"$out/.lock"
    flock 9
    hash=$(input_hash)
    if is_current "$hash"; then
        say "$out is up to date"
    else
        build "$hash"
    fi
}

main "$@"
