# SPDX-License-Identifier: Apache-2.0
"""The budget: figures that don't depend on what else the machine does must not grow unnoticed.

bench/budget.json has the value that each figure has reached and by how much it may be exceeded. A
figure that has become better is said to be, so that the budget follows.
"""
import json
import os
import subprocess
import sys

import bench
import shim

HERE = os.path.dirname(os.path.realpath(__file__))


def attempt(measurement, *args):
    """What needs a tool that isn't to be had here stays unmeasured."""
    try:
        measurement(*args)
    except subprocess.CalledProcessError as e:
        print(f"  {measurement.__name__}: {e}", flush=True)


def measure():
    base = bench.test_image("base")
    bench.sizes()
    bench.boot_instructions(base)
    bench.guest_calls(base)
    bench.copy_calls(base)
    bench.boot_accesses(base)
    bench.copy_accesses(base)
    attempt(bench.host_syscalls, base)
    attempt(bench.host_instructions, base)
    bench.guest_pages(base)
    attempt(shim.instructions)
    containerd = shim.Containerd()
    try:
        shim.private_memory(containerd)
        shim.idle_copy(containerd)
    finally:
        containerd.close()
    values = {key: r["value"] for key, r in bench.results.items()}
    values.update((key, r.get("podvm", r.get("clone"))) for key, r in shim.results.items())
    return values


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
