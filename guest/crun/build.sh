#!/bin/bash
# Builds the guest's crun from Debian's source package, as one static program, and prints the
# directory that holds it:
#
#   crun      stripped static ELF program
#   info      KEY=VALUE lines: source_version, compiler, patches, libraries (the packages linked into it)
#
# The result is cached under ${PODVM_CACHE:-${XDG_CACHE_HOME:-~/.cache}/podvm}/crun/ by a hash of
# everything that goes into it, and so is the source, which apt fetches once.
set -euo pipefail

# Packages whose static libraries become part of it.
readonly LIBRARIES=(libc6-dev libcap-dev libseccomp-dev libyajl-dev)
# Small, because each start reads it from the guest's disk, with what Debian hardens programs with, but
# at a fixed address, as runc is: a start has nothing to relocate, and an emulator that has translated
# the program needn't do it again for each other address.
readonly FLAGS="-Os -flto=auto -fno-pie -ffunction-sections -fdata-sections -fstack-protector-strong
	-fstack-clash-protection -D_FORTIFY_SOURCE=2 -Wformat -Werror=format-security"
# (libtool keeps -static for itself.)
readonly LINK_FLAGS="--static -no-pie -Wl,--gc-sections -Wl,-z,relro -Wl,-z,now"
# The guest has no systemd, nothing is checkpointed in it, and a static program loads no libraries.
readonly OPTIONS="--disable-systemd --disable-criu --disable-dl --disable-shared --enable-static
	--disable-maintainer-mode --disable-dependency-tracking"
readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

here=$(dirname "$(readlink -f "$0")")
cache=${PODVM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/podvm}/crun
jobs=$(nproc)
clean=no
work=

say() { printf 'crun: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

usage() {
    cat <<EOF
Usage: $0 [--clean] [--jobs N]
Builds the guest's crun, or finds it in the cache, and prints its directory.
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
    local missing=() tool package
    for tool in gcc gcc-ar make python3 pkg-config dpkg-source apt-get patch strip readelf flock; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    for package in crun "${LIBRARIES[@]}"; do
        [ -n "$(version_of "$package")" ] || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] || die "missing: ${missing[*]}; run: sudo make deps"
}

version_of() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || true; }
# The package of the program says which source it is; nothing else of it is used.
wanted_version() { dpkg-query -W -f '${source:Version}' crun; }
compiler() { gcc --version | sed 1q; }
libraries() { dpkg-query -W -f '${Package} ${Version}\n' "${LIBRARIES[@]}" | sort; }

input_hash() {
    { cat "$here/build.sh" "$here/malloc.c" "$here"/patches/*.patch; wanted_version; compiler; ld --version | sed 1q; libraries; } | sha256sum | cut -c 1-16
}

# --- the source

# The host's own Debian mirrors, with sources; Debian's if apt has no lists yet.
source_lists() {
    local codename signed=
    [ ! -e "$KEYRING" ] || signed="[signed-by=$KEYRING]"
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016 # apt expands it
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -n "s|^Debian |deb-src $signed |p" | sort -u | grep . ||
        echo "deb-src $signed http://deb.debian.org/debian $codename main"
}

# apt with lists and archives of its own: what the host has configured is left alone.
private_apt() {
    apt-get -q -o Dir::Etc::SourceList="$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$work/apt/lists" -o Dir::Cache="$work/apt" -o Acquire::Retries=5 \
        -o APT::Sandbox::User=root "$@" >>"$work/log" 2>&1
}

# Fetches the source into the cache, where it stays.
fetch() {
    local version=$1
    [ ! -d "$cache/source-$version" ] || return 0
    say "fetching the source of crun $version"
    mkdir -p "$work"/apt/{lists,archives}/partial "$work/source"
    source_lists >"$work/apt/sources.list"
    cd "$work/source"
    if ! private_apt update || ! private_apt source --download-only "crun=$version"; then
        tail -n 5 "$work/log" >&2
        die "cannot fetch the source of crun $version; if Debian has a newer one: apt-get install crun"
    fi
    cd "$here"
    mv "$work/source" "$cache/source-$version"
}

# --- the program

# What the caller's environment could leak into the program is fixed or unset.
fix_environment() {
    unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS CPPFLAGS LDFLAGS CC LD LIBS PKG_CONFIG_PATH CONFIG_SITE
    export LC_ALL=C TZ=UTC PYTHON=/usr/bin/python3 AR=gcc-ar NM=gcc-nm RANLIB=gcc-ranlib
    umask 022
}

# Each patch only saves time, so a newer source package on which one no longer applies still gives a
# good program: that patch is left out, visibly.
apply_patches() {
    local file
    : >"$work/patches"
    for file in "$here"/patches/*.patch; do
        if patch -d "$work/crun" -p1 --dry-run --force <"$file" >>"$work/log" 2>&1; then
            patch -d "$work/crun" -p1 --force <"$file" >>"$work/log"
            basename "$file" >>"$work/patches"
        else
            say "warning: $(basename "$file") does not apply to $1; left out"
        fi
    done
}

run() {
    "$@" >>"$work/log" 2>&1 && return
    tail -n 30 "$work/log" >&2
    cp "$work/log" "$cache/failed.log"
    die "$1 failed; the whole log is $cache/failed.log"
}

compile() {
    # Debian's static libyajl has another name than its shared one, for which configure looks.
    mkdir "$work/lib"
    ln -s "$(dpkg -L libyajl-dev | grep 'libyajl_s\.a$')" "$work/lib/libyajl.a"
    # With builtins the compiler would make calls of calloc() of what is in calloc().
    # shellcheck disable=SC2086 # words
    run gcc ${FLAGS//-flto=auto/} -fno-builtin -Wall -Wextra -Werror -c -o "$work/malloc.o" "$here/malloc.c"
    cd "$work/crun"
    # shellcheck disable=SC2086 # words
    run ./configure $OPTIONS CFLAGS="${FLAGS//[[:space:]]/ } -ffile-prefix-map=$work=." \
        LDFLAGS="$LINK_FLAGS -L$work/lib -Wl,$work/malloc.o"
    # What is generated comes first: the rule for the program alone doesn't wait for it.
    run make -C libocispec -j "$jobs" libocispec.la
    run make git-version.h
    run make -j "$jobs" crun
    cd "$here"
}

check_program() {
    local feature
    ! readelf -lW "$1" | grep -q INTERP || die "the program is not static"
    for feature in CAP SECCOMP EBPF; do
        "$1" --version | grep -q "+$feature" || die "the program was built without $feature"
    done
}

build() {
    local target=$1 version
    version=$(wanted_version)
    rm -rf "$cache"/work.*
    work=$(mktemp -d "$cache/work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/out"
    fetch "$version"
    say "building crun $version"
    fix_environment
    run dpkg-source --no-check -x "$cache/source-$version"/crun_*.dsc "$work/crun"
    apply_patches "$version"
    compile
    strip --strip-all -R .comment -o "$work/out/crun" "$work/crun/crun"
    check_program "$work/out/crun"
    cat >"$work/out/info" <<EOF
source_version=$version
compiler=$(compiler)
patches=$(paste -sd ' ' "$work/patches")
libraries=${LIBRARIES[*]}
EOF
    rm -rf "$target"
    mv "$work/out" "$target"
    say "built in $SECONDS s: $(stat -c %s "$target/crun") bytes"
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
