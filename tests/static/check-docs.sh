#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks that manual pages and programs tell the same: every option that --help prints is in the
# verb's page and every option of the page is in --help; every key of podvm.conf has its entry.
#
#	check-docs.sh PODVM		the built command
set -eu

podvm=$(readlink -f "${1:?usage: check-docs.sh PODVM}")
cd "$(dirname "$0")/../.."
man=docs/man
bad=0

complain() {
	echo "$*"
	bad=1
}

help_options() {
	"$podvm" "$@" --help | grep -oE '^ {2,}(-[a-zA-Z],)? *--[a-z-]+' | grep -oE -- '--[a-z-]+' |
		grep -vx -- --help | sort -u
}

# Bold options at the beginning of a line (or of [ in a synopsis) of a page.
page_options() {
	grep -E '^(\*|.*\[)\*?-' "$1" | grep -oE -- '\*--[a-z-]+' | tr -d '*' | grep -vx -- --help |
		sort -u
}

compare() {
	page=$1
	help=$2
	for option in $help; do
		grep -qE -- "\*$option\*" "$page" || complain "$page: $option is missing"
	done
	for option in $(page_options "$page"); do
		printf '%s\n' "$help" | grep -qx -- "$option" ||
			complain "$page: there is no $option"
	done
}

verbs=$("$podvm" --help | sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\) .*/\1/p')
for verb in $verbs; do
	page=$man/podvm-$verb.1.scd
	grep -q "^\*$verb\*$" $man/podvm.1.scd || complain "$man/podvm.1.scd: $verb is missing"
	if [ ! -e "$page" ]; then
		complain "$page is missing"
	elif [ "$verb" = image ]; then
		all=$(for command in ls pull rm prune info verify; do
			help_options image $command
		done | sort -u)
		compare "$page" "$all"
	elif [ "$verb" = template ]; then
		all=$(for command in create list rm verify; do
			help_options template $command
		done | sort -u)
		compare "$page" "$all"
	elif [ "$verb" = pool ]; then
		compare "$page" "$(for command in run status drain; do
			help_options pool $command
		done | sort -u)"
	elif [ "$verb" = volume ]; then
		compare "$page" "$(for command in add remove stats resize; do
			help_options volume $command
		done | sort -u)"
	else
		compare "$page" "$(help_options "$verb")"
	fi
done
for key in $(sed -n 's/^#\([a-z0-9_]*\) =.*/\1/p' packaging/podvm.conf); do
	grep -q "^\*$key\* =" $man/podvm.conf.5.scd || complain "$man/podvm.conf.5.scd: $key is missing"
done

[ "$bad" -eq 0 ] && echo "docs: ok"
exit "$bad"
