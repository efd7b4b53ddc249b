#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the samples of bench/shim.py: plot.py build/bench-shim.json >docs/start.svg

A row for each way to start: every sample as a dot, the 10th to the 90th percentile as a bar, and
the median as a line with its value.
"""
import html
import json
import sys

FIGURES = [("ctr_run", "ctr run --rm of true"), ("pod_start", "a pod of CRI with a container")]
WAYS = [("runc", "runc"), ("pool", "machine of the pool"), ("copy", "copy of a template"),
        ("boot", "machine that boots")]
WIDTH, LEFT, RIGHT, ROW, HEAD = 760, 150, 40, 30, 40


def text(x, y, content, anchor="start", weight="normal"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-weight="{weight}">'
            f"{html.escape(content)}</text>")


def row(y, name, value, scale):
    low, middle, high = value["p10"], value["p50"], value["p90"]
    yield text(LEFT - 8, y + 4, name, "end")
    yield (f'<rect x="{scale(low):.1f}" y="{y - 7}" width="{max(scale(high) - scale(low), 1):.1f}" '
           'height="14" fill="#9ecae1"/>')
    for v in value["samples"]:
        yield f'<circle cx="{scale(v):.1f}" cy="{y}" r="2" fill="#3182bd" fill-opacity="0.6"/>'
    x = scale(middle)
    yield f'<path d="M{x:.1f} {y - 9}V{y + 9}" stroke="#08306b" stroke-width="2"/>'
    yield text(scale(max(value["samples"])) + 8, y + 4, f"{middle:.0f} ms")


def figure(top, title, values):
    ways = [(name, values[key]) for key, name in WAYS if key in values]
    limit = max(max(value["samples"]) for _, value in ways) * 1.08

    def scale(v):
        return LEFT + v / limit * (WIDTH - LEFT - RIGHT)

    yield text(LEFT, top + 18, title, weight="bold")
    for i, (name, value) in enumerate(ways):
        yield from row(top + HEAD + i * ROW, name, value, scale)
    bottom = top + HEAD + len(ways) * ROW - 10
    yield f'<path d="M{LEFT} {top + HEAD - 14}V{bottom}H{WIDTH - RIGHT}" stroke="#888" fill="none"/>'
    yield text(LEFT, bottom + 15, "0")
    yield text(WIDTH - RIGHT, bottom + 15, f"{limit:.0f} ms", "end")


def main():
    with open(sys.argv[1]) as f:
        figures = json.load(f)["figures"]
    parts, top = [], 0
    for key, title in FIGURES:
        values = figures[key]["values"]
        samples = len(values["runc"]["samples"])
        parts += figure(top, f"{title}, {samples} samples each, in turns", values)
        top += HEAD + len(WAYS) * ROW + 30
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" '
          f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>')
    print("\n".join(parts))
    print("</svg>")


if __name__ == "__main__":
    main()
