#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# All tests: static checks, unit tests and fuzz corpora under sanitizers, the guest image's
# reproducibility, then containers in real VMs. Ends with what failed, and why as far as the tests
# say, and "N passed, N failed, N skipped".
# E2E=no leaves out what needs a VM; further arguments are bats files to run instead of all.
set -euo pipefail

build=$(readlink -f "${1:?usage: test.sh BUILD_DIRECTORY [BATS_FILE...]}")
shift
cd "$(dirname "$0")/.."
sanitized=$(readlink -f "${SANITIZED:-build-test}")
passed=0
failed=0
skipped=0
unsteady=0

failures=$(mktemp)
trap 'rm -f "$failures"' EXIT

heading() { printf '\n== %s\n' "$*"; }

count() {
	if [ "$1" -eq 0 ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAILED: $2" | tee -a "$failures"
	fi
}

# note_failures FILTER FILE: FILTER's lines for the summary, not too many of a test that talks a lot.
# A log may be cut to its end by whoever shows it: what failed has to be there.
note_failures() {
	awk "$1" "$2" | cut -c1-300 >>"$failures"
}

# The lines of bats' report that belong to a test that failed: the first say where, the last why.
# shellcheck disable=SC2016  # awk expands it
bats_failures='
	function flush(i) {
		for (i = 1; i <= n; i++)
			if (i <= 6 || i > n - 10)
				print line[i]
		n = 0
	}
	/^#/ && n { line[++n] = $0; next }
	{ flush() }
	/^not ok/ { line[++n] = $0 }
	END { flush() }'

check() {
	local name=$1 status=0
	shift
	"$@" || status=$?
	count "$status" "$name"
}

static_checks() {
	heading "static checks"
	check "include arrows" tests/static/check-includes.sh
	check "style" tests/static/check-style.sh
	check "help and manual pages" tests/static/check-docs.sh "$build/src/cli/podvm"
}

# Adds up what meson says at its end: "Ok: 12", "Fail: 0", ...
meson_summary() {
	local key value
	while read -r key value; do
		case $key in
		Ok:) passed=$((passed + value)) ;;
		Fail: | Timeout:) failed=$((failed + value)) ;;
		Skipped:) skipped=$((skipped + value)) ;;
		esac
	done < <(grep -E '^(Ok|Fail|Timeout|Skipped): +[0-9]+' "$1")
}

# build_sanitized [TARGET...]
build_sanitized() {
	if [ ! -e "$sanitized/build.ninja" ]; then
		# Other compilers find other things to warn of: errors are for where we know them all.
		meson setup ${CI:+--werror} -Db_sanitize=address,undefined -Db_lundef=false \
			-Dfault_injection=true "$sanitized" >/dev/null
	fi
	ninja -C "$sanitized" "$@" >"$sanitized/build.log" 2>&1 && return
	cat "$sanitized/build.log"
	count 1 "build with sanitizers"
	return 1
}

unit_tests() {
	local log=$sanitized/test.log
	heading "unit tests and fuzz corpora, with ASan and UBSan"
	build_sanitized || return 0
	meson test -C "$sanitized" --no-rebuild --print-errorlogs 2>&1 | tee "$log" || true
	meson_summary "$log"
	note_failures '/^ *[0-9]+\/[0-9]+ .* (FAIL|TIMEOUT|ERROR)/ || /ERROR:|\[  FAILED  \]|runtime error/' "$log"
}

image_checks() {
	heading "guest image"
	check "reproducible image" guest/image/check-reproducible.sh --agent "$build/src/agent/podvm-agent"
}

# run_bats [ARGUMENT...]
# once FILTERS... FILES...: the results are in $tap
once() {
	PODVM=$build/src/cli/podvm PODVM_IMAGE=$build/image bats --tap --timing --print-output-on-failure "$@" | tee "$tap" || true
	# A file that bats could not run at all has no result lines.
	grep -aq '^1\.\.[1-9]' "$tap"
}

# The bats files that have a failure, by what bats says of where it was.
failed_files() {
	grep -aE '^# \(.*(test )?file tests/e2e/' "$tap" | grep -aoE 'tests/e2e/[a-z_]+\.bats' | sort -u
}

# run_bats [FILTER...] -- FILE...
# A real machine under a load that nobody chose does odd things at times. A file with a failure is
# run again: what fails twice has failed; what failed once is named at the end, to be mended.
run_bats() {
	local tap=$build/e2e.tap filters=() again first
	while [ "$1" != -- ]; do
		filters+=("$1")
		shift
	done
	shift
	once "${filters[@]}" "$@" || count 1 "bats"
	skipped=$((skipped + $(grep -ac '^ok .*# skip' "$tap" || true)))
	passed=$((passed + $(grep -a '^ok ' "$tap" | grep -avc '# skip' || true)))
	first=$(grep -ac '^not ok ' "$tap" || true)
	[ "$first" -gt 0 ] || return 0
	note_failures "$bats_failures" "$tap"
	mapfile -t again < <(failed_files)
	if [ ${#again[@]} -gt 0 ]; then
		heading "again: ${again[*]}"
		if once "${filters[@]}" "${again[@]}" && ! grep -aq '^not ok ' "$tap"; then
			echo "(none of these failed again)" >>"$failures"
			unsteady=$((unsteady + first))
			return
		fi
		note_failures "$bats_failures" "$tap"
	fi
	failed=$((failed + first))
}

# What is tagged for it again, or only, with containerd 2; Debian 12 has 1.6.
containerd_2_tests() {
	local programs
	heading "containers in VMs, with containerd 2"
	if ! programs=$(tests/tools.sh containerd); then
		skipped=$((skipped + 1))
		return
	fi
	CONTAINERD_BIN=$programs run_bats --filter-tags containerd:any --filter-tags containerd:2 \
		-- tests/e2e/*.bats
}

e2e_tests() {
	heading "containers in VMs"
	tests/e2e/images.sh >/dev/null
	if [ $# -eq 0 ] || [[ " $*" == *shim_faults* ]]; then
		build_sanitized src/shim/containerd-shim-podvm-v2 || return 0
	fi
	export PODVM_SANITIZED=$sanitized
	if [ $# -gt 0 ]; then
		run_bats -- "$@"
	else
		run_bats --filter-tags '!containerd:2' -- tests/e2e/*.bats
		containerd_2_tests
		heading "budget"
		check "budget" bench/check.sh "$build"
	fi
}

main() {
	if [ $# -eq 0 ]; then
		static_checks
		unit_tests
	fi
	if [ "${E2E:-yes}" = yes ]; then
		[ $# -gt 0 ] || image_checks
		e2e_tests "$@"
	fi
	[ ! -s "$failures" ] || { heading "failures" && tail -n 200 "$failures"; }
	echo
	[ "$unsteady" -eq 0 ] || echo "unsteady, passed at the second try: $unsteady"
	printf '%d passed, %d failed, %d skipped\n' "$((passed + unsteady))" "$failed" "$skipped"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

main "$@"
