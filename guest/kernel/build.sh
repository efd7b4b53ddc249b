#!/bin/bash
# Builds the guest kernel from Debian's linux-source package and the *.config fragments beside this
# script, and prints the directory that holds it:
#
#   vmlinux   stripped ELF with the PVH entry note       config    the complete configuration
#   info      KEY=VALUE lines: release, source_version, compiler, patches, config_sha256, seconds
#
# The result is cached under ${PODVM_CACHE:-${XDG_CACHE_HOME:-~/.cache}/podvm}/kernel/ by a hash of
# everything that goes into it, so that a second call costs milliseconds.
set -euo pipefail

readonly SOURCE_PACKAGE=linux-source-6.12
readonly SOURCE_TARBALL=/usr/src/$SOURCE_PACKAGE.tar.xz
# Lines `make vmlinux` writes with these fragments; only the progress display depends on it.
readonly EXPECTED_STEPS=2280

here=$(dirname "$(readlink -f "$0")")
cache=${PODVM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/podvm}/kernel
jobs=$(nproc)
clean=no
work=
make_pid=

say() { printf 'kernel: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

usage() {
    cat <<EOF
Usage: $0 [--clean] [--jobs N]
Builds the guest kernel, or finds it in the cache, and prints its directory.
  --clean    build again even if the cache has it
  --jobs N   compile with N jobs (default: one per CPU, $jobs here)
EOF
}

parse_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --clean) clean=yes ;;
            --jobs) jobs=${2:?--jobs needs a number}; shift ;;
            --help) usage; exit 0 ;;
            *) usage >&2; exit 2 ;;
        esac
        shift
    done
}

check_tools() {
    local missing=() tool
    for tool in gcc ld make flex bison bc xz patch strip python3 readelf flock; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ -e /usr/include/libelf.h ] || missing+=(libelf.h)
    [ -r "$SOURCE_TARBALL" ] || missing+=("$SOURCE_TARBALL")
    [ ${#missing[@]} -eq 0 ] || die "missing: ${missing[*]}; run: sudo make deps"
}

source_version() { dpkg-query -W -f '${Version}' "$SOURCE_PACKAGE"; }
compiler() { gcc --version | sed 1q; }
# The package's own date: uname -v of the guest says how old its source is, and never differs.
source_date() { date -u -d "@$(stat -c %Y "$SOURCE_TARBALL")"; }

input_hash() {
    { cat "$here"/*.config "$here"/patches/*.patch "$here"/build.sh "$here"/drop-padding.py; source_version; compiler; ld --version | sed 1q; source_date; } |
        sha256sum | cut -c 1-16
}

# What the caller's environment could leak into the binary is fixed or unset.
fix_environment() {
    unset MAKEFLAGS MFLAGS MAKELEVEL KCFLAGS KAFLAGS CC LD ARCH CROSS_COMPILE
    export LC_ALL=C TZ=UTC LOCALVERSION=
    export KBUILD_BUILD_USER=podvm KBUILD_BUILD_HOST=podvm KBUILD_BUILD_VERSION=1
    KBUILD_BUILD_TIMESTAMP=$(LC_ALL=C source_date)
    export KBUILD_BUILD_TIMESTAMP
}

unpack() {
    say "unpacking $SOURCE_TARBALL"
    mkdir "$work/linux"
    tar -C "$work/linux" --strip-components=1 -xf "$SOURCE_TARBALL"
}

# Each patch only saves time or space, so a newer source package on which one no longer applies
# still gives a good kernel: that patch is left out, visibly.
apply_patches() {
    local file
    for file in "$here"/patches/*.patch; do
        if patch -d "$work/linux" -p1 --dry-run --force <"$file" >"$work/log" 2>&1; then
            patch -d "$work/linux" -p1 --force <"$file" >>"$work/log"
            basename "$file" >>"$work/patches"
        else
            say "warning: $(basename "$file") does not apply to $(source_version); left out"
        fi
    done
}

configure() {
    say "configuring"
    (cd "$work/linux" && scripts/kconfig/merge_config.sh -s -n "$here"/*.config) >"$work/log" 2>&1 ||
        die "the fragments do not merge: $(tail -n 3 "$work/log")"
    check_config
}

# Kconfig drops a line whose dependencies are missing without a word; a kernel without, say,
# dm-verity must not get into an image.
check_config() {
    local line name bad=0
    while read -r line; do
        name=$(sed -E 's/^(# )?(CONFIG_[A-Za-z0-9_]+).*/\2/' <<<"$line")
        if [ "${line:0:1}" = "#" ]; then
            grep -q "^$name=" "$work/linux/.config" || continue
        else
            grep -qxF -- "$line" "$work/linux/.config" && continue
        fi
        say "did not take: $line"
        bad=$((bad + 1))
    done < <(cat "$here"/*.config | grep -E '^(CONFIG_|# CONFIG_[A-Za-z0-9_]+ is not set)')
    [ $bad -eq 0 ] || die "$bad lines of the fragments did not take"
}

show_progress() {
    local pid=$1 start=$SECONDS last=0 steps percent
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        steps=$(wc -l <"$work/log")
        percent=$((steps * 100 / EXPECTED_STEPS))
        [ "$percent" -le 99 ] || percent=99
        if [ -t 2 ]; then
            printf '\rkernel: compiling: %2d %%, %d s ' "$percent" $((SECONDS - start)) >&2
        elif [ $((SECONDS - last)) -ge 30 ]; then
            say "compiling: $percent %, $((SECONDS - start)) s"
            last=$SECONDS
        fi
    done
    [ ! -t 2 ] || printf '\n' >&2
}

compile() {
    make -C "$work/linux" -j "$jobs" vmlinux >"$work/log" 2>&1 &
    make_pid=$!
    show_progress "$make_pid"
    if wait "$make_pid"; then
        make_pid=
        return
    fi
    tail -n 30 "$work/log" >&2
    cp "$work/log" "$cache/failed.log"
    die "the compilation failed; the whole log is $cache/failed.log"
}

strip_kernel() {
    strip --strip-all -o "$work/stripped" "$work/linux/vmlinux"
    "$here/drop-padding.py" "$work/stripped" "$work/out/vmlinux"
    # Type 18 of owner "Xen" is the PVH entry point: without it no VMM enters this file.
    readelf -nW "$work/out/vmlinux" 2>/dev/null | grep -qE 'Xen .*0x00000012' ||
        die "the stripped vmlinux lost its PVH note"
}

write_info() {
    cp "$work/linux/.config" "$work/out/config"
    cat >"$work/out/info" <<EOF
release=$(cat "$work/linux/include/config/kernel.release")
source_version=$(source_version)
compiler=$(compiler)
patches=$(paste -sd ' ' "$work/patches")
config_sha256=$(sha256sum "$work/out/config" | cut -d ' ' -f 1)
seconds=$SECONDS
EOF
}

# An interrupted build leaves neither a running make nor two gigabytes of tree.
clean_up() {
    [ -z "$make_pid" ] || kill "$make_pid" 2>/dev/null || true
    wait
    rm -rf "$work"
}

build() {
    local target=$1
    rm -rf "$cache"/work.*
    work=$(mktemp -d "$cache/work.XXXXXX")
    trap clean_up EXIT
    mkdir "$work/out"
    : >"$work/patches"
    say "building Linux $(source_version); this takes some minutes, once"
    fix_environment
    unpack
    apply_patches
    configure
    compile
    strip_kernel
    write_info
    rm -rf "$target"
    mv "$work/out" "$target"
    say "built in $SECONDS s: $(stat -c %s "$target/vmlinux") bytes"
}

main() {
    local target
    parse_arguments "$@"
    check_tools
    mkdir -p "$cache"
    target=$cache/$(input_hash)
    if [ "$clean" = yes ] || [ ! -e "$target/info" ]; then
        # One build at a time per user: a second caller waits and then finds the result.
        exec 9>"$cache/lock"
        flock -n 9 || { say "another build is running; waiting for it"; flock 9; }
        if [ "$clean" = yes ] || [ ! -e "$target/info" ]; then build "$target" 9>&-; fi
    fi
    echo "$target"
}

main "$@"
