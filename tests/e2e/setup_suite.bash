# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Runs once before all end-to-end tests: a configuration of our own, with directories of our own,
# so that the tests neither see nor touch what else runs on this machine.

setup_suite() {
	local root
	root=$(readlink -f "$BATS_TEST_DIRNAME/../..")
	PODVM=$(readlink -f "${PODVM:-$root/build/src/cli/podvm}")
	PODVM_IMAGE=$(readlink -f "${PODVM_IMAGE:-$root/build/image}")
	export PODVM PODVM_IMAGE
	[ -x "$PODVM" ] || { echo "no $PODVM: run make first"; return 1; }
	[ -e "$PODVM_IMAGE/manifest.json" ] || { echo "no guest image in $PODVM_IMAGE: make image"; return 1; }

	IMAGES=$("$BATS_TEST_DIRNAME/images.sh" 3>&-) || return 1
	# A short path: that of a socket below it has at most 107 characters.
	E2E=$(mktemp -d /tmp/pe2e.XXXXXX)
	# Monitors that tests make up are in it, which run as users of their own.
	chmod 711 "$E2E"
	# What one test may take; boots are emulated and the machine may be busy.
	BATS_TEST_TIMEOUT=1200
	export IMAGES E2E BATS_TEST_TIMEOUT
	mkdir "$E2E/bin" "$E2E/tmp"
	write_config "$E2E/podvm.conf"
	# Only what podvm starts has PODVM_CONFIG in its environment: that's how it's found again.
	printf '#!/bin/sh\nPODVM_CONFIG=%s exec %s "$@"\n' "$E2E/podvm.conf" "$PODVM" >"$E2E/bin/podvm"
	chmod +x "$E2E/bin/podvm"
	PATH=$E2E/bin:$PATH
	export PATH
}

write_config() {
	cat >"$1" <<-END
		[paths]
		image = $PODVM_IMAGE
		state = $E2E/state
		cache = $E2E/cache
		[vm]
		scratch_size = 2G
		[template]
		enabled = ${E2E_TEMPLATES:-no}
		[start]
		boot_timeout = 120s
		agent_timeout = 120s
	END
	chmod 600 "$1"
}

teardown_suite() {
	[ -n "${E2E:-}" ] || return 0
	podvm rm -fa >/dev/null || true
	rm -rf --one-file-system "$E2E"
}
