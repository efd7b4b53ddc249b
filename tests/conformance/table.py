#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a table of critest's reports.

table.py SKIPS DIRECTORY RUNTIME...	the table, in Markdown, of DIRECTORY/RUNTIME.json
table.py --skips SKIPS RUNTIME		the regular expressions of what isn't to be run

Fails when something failed with the last runtime but not with the first, or was skipped without a
reason.
"""
import collections
import json
import os
import re
import sys

RESULTS = ("passed", "failed", "skipped")


def read_skips(path):
    """Triples: runtime or "all", regular expression, reason."""
    with open(path, encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t") for line in file if line[0] not in "#\n"]


def skips_of(skips, runtime):
    return [(regex, why) for who, regex, why in skips if who in ("all", runtime)]


def read_report(path, skips):
    """Of every spec its result and why it isn't passed."""
    with open(path, encoding="utf-8") as file:
        specs = json.load(file)[0]["SpecReports"]
    report = {}
    for spec in specs:
        name = " ".join((spec["ContainerHierarchyTexts"] or []) + [spec["LeafNodeText"]])
        name = name.replace("[k8s.io] ", "")
        if spec["LeafNodeType"] != "It" or "benchmark about" in name:
            continue
        state = spec["State"] if spec["State"] in ("passed", "skipped") else "failed"
        why = spec.get("Failure", {}).get("Message", "").split("\n")[0]
        if state == "skipped":
            why = next((w for regex, w in skips if re.search(regex, name)), why)
        report[name] = (state, why)
    return report


def print_table(runtimes, reports):
    print("| |", " | ".join(RESULTS), "|")
    print("|---|---|---|---|")
    for runtime, report in zip(runtimes, reports):
        count = collections.Counter(state for state, _ in report.values())
        print("|", runtime, "|", " | ".join(str(count[result]) for result in RESULTS), "|")


def print_rest(runtimes, reports):
    """What isn't passed by all."""
    print("\n| spec |", " | ".join(runtimes), "| why |")
    print("|---|" + "---|" * len(runtimes) + "---|")
    for name in sorted(set().union(*reports)):
        results = [report.get(name, ("absent", "")) for report in reports]
        if all(state == "passed" for state, _ in results):
            continue
        why = "; ".join(dict.fromkeys(why for _, why in results if why)).replace("|", "\\|")
        print("|", name, "|", " | ".join(state for state, _ in results), "|", why, "|")


def is_bad(name, first, last):
    state, why = last[name]
    if state == "failed":
        return first.get(name, ("", ""))[0] != "failed" or first is last
    return state == "skipped" and not why


def main():
    if sys.argv[1] == "--skips":
        print("\n".join(regex for regex, _ in skips_of(read_skips(sys.argv[2]), sys.argv[3])))
        return 0
    skips, directory, runtimes = read_skips(sys.argv[1]), sys.argv[2], sys.argv[3:]
    reports = [read_report(os.path.join(directory, runtime + ".json"), skips_of(skips, runtime))
               for runtime in runtimes]
    print_table(runtimes, reports)
    print_rest(runtimes, reports)
    return any(is_bad(name, reports[0], reports[-1]) for name in reports[-1])


if __name__ == "__main__":
    sys.exit(main())
