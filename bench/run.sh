#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Measures; prints tables and writes bench.json and bench-*.json in BUILD. SAMPLES is how often wall
# times are taken. See docs/benchmarks.md.
set -euo pipefail
build=$(readlink -f "${1:?usage: run.sh BUILD_DIRECTORY [SAMPLES]}")
here=$(dirname "$(readlink -f "$0")")
"$here/../tests/e2e/images.sh" >/dev/null
/usr/bin/python3 "$here/bench.py" "$build" "${2:-20}"
/usr/bin/python3 "$here/shim.py" "$build" "${2:-20}"
/usr/bin/python3 "$here/storage.py" "$build" "${2:-20}"
/usr/bin/python3 "$here/paths.py" "$build" "${2:-20}"
/usr/bin/python3 "$here/idle.py" "$build"
