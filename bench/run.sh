#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Measures; prints a table and writes BUILD/bench.json. See docs/benchmarks.md.
set -euo pipefail
build=$(readlink -f "${1:?usage: run.sh BUILD_DIRECTORY [SAMPLES]}")
here=$(dirname "$(readlink -f "$0")")
"$here/../tests/e2e/images.sh" >/dev/null
exec /usr/bin/python3 "$here/bench.py" "$build" "${2:-10}"
