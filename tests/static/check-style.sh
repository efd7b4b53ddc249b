#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks all tracked C sources for their format (clang-format of Debian 12, by .clang-format) and all
# tracked shell and bats scripts with shellcheck. Prints the names of the sources that are not in
# order and what shellcheck says; fails when there is something.
#
#	clang-format -i FILE...		puts sources in order
set -eu

cd "$(dirname "$0")/../.."
status=0

tool() {
	for name in "$@"; do
		if command -v "$name"; then
			return
		fi
	done
	echo "$1 is not installed" >&2
	exit 1
}
format=$(tool clang-format-14 clang-format)
check=$(tool shellcheck)

# Other versions of clang-format differ in details.
case $("$format" --version) in
*"version 14."*)
	bad=$(git ls-files -z '*.c' '*.h' | xargs -0 -r "$format" --dry-run 2>&1 |
		sed -n 's/^\([^:]*\):[0-9]*:[0-9]*: warning: .*/\1/p' | sort -u)
	if [ -n "$bad" ]; then
		echo "not formatted by .clang-format:"
		printf '%s\n' "$bad" | sed 's/^/  /'
		status=1
	fi
	;;
*)
	echo "style: sources not checked, this is not clang-format 14" >&2
	;;
esac

# Scripts by their name or their first line.
scripts=$(git ls-files | while read -r file; do
	case $file in
	*.sh | *.bats | *.bash) echo "$file" ;;
	*.*) ;;
	*)
		if [ -f "$file" ] && head -n 1 "$file" | grep -Eqs '^#!.*(/|env )(ba|da)?sh( |$)'; then
			echo "$file"
		fi
		;;
	esac
done)
if [ -n "$scripts" ]; then
	printf '%s\n' "$scripts" | xargs -r "$check" -x -S warning -f gcc || status=1
fi

[ "$status" -eq 0 ] && echo "style: ok"
exit "$status"
