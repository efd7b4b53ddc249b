# SPDX-License-Identifier: Apache-2.0
"""The budget: figures that don't depend on what else the machine does must not grow unnoticed.

bench/budget.json has the value that each figure has reached and by how much it may be exceeded. A
figure that has become better is said to be, so that the budget follows.
"""
import json
import os
import sys

import bed
import bench
import shim

HERE = os.path.dirname(os.path.realpath(__file__))


def measure():
    reports = bench.start_report(), shim.start_report()
    base = bench.test_image("base")
    bench.sizes()
    bench.boot_instructions(base)
    bench.guest_calls(base)
    bench.copy_calls(base)
    bench.pool_calls(base)
    bench.boot_accesses(base)
    bench.copy_accesses(base)
    bed.attempt(bench.host_syscalls, base)
    bed.attempt(bench.host_instructions, base)
    bench.guest_pages(base)
    bed.attempt(shim.instructions)
    containerd = shim.Bed()
    try:
        shim.private_memory(containerd)
        containerd.make_pod_template("copy")
        shim.idle_copy(containerd)
    finally:
        containerd.close()
    return {key: report.value(key) for report in reports for key in report.figures}


def judge(name, value, figure):
    """One line of the table, and whether the budget holds."""
    limit = figure["value"] * (1 + figure["tolerance"])
    if value is None:
        verdict = "not measured"
    elif value > limit:
        verdict = f"EXCEEDED: at most {limit:,.2f}"
    elif value < figure["value"] * (1 - figure["tolerance"]):
        verdict = "better: lower the budget"
    else:
        verdict = "ok"
    shown = "-" if value is None else f"{value:,.2f}"
    print(f"  {name:<22} {shown:>14} {figure['value']:>14,.2f} {figure['unit']:<5} {verdict}", flush=True)
    return value is None or value <= limit


def main():
    with open(f"{HERE}/budget.json") as f:
        budget = json.load(f)
    values = measure()
    print(f"\n  {'':<22} {'measured':>14} {'budget':>14}")
    held = [judge(name, values.get(name), figure) for name, figure in budget.items()]
    print(f"\nbudget: {sum(held)} of {len(held)} figures are kept")
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
