#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Fails when a figure of bench/budget.json is exceeded. See docs/benchmarks.md.
set -euo pipefail
build=$(readlink -f "${1:?usage: check.sh BUILD_DIRECTORY}")
here=$(dirname "$(readlink -f "$0")")
"$here/../tests/e2e/images.sh" >/dev/null
exec /usr/bin/python3 "$here/budget.py" "$build" 1
