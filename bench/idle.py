# SPDX-License-Identifier: Apache-2.0
"""What pods that do nothing cost: idle.py BUILD [PODS] [SECONDS]

So many pods of CRI, each with a container that sleeps: copies of a template, and runc's after they
have gone. Memory is what the host has less of, and what the processes have of it, by parts. Then
nobody asks for anything: CPU time, and who woke up how often, of all processes of the pods and of
containerd.
"""
import collections
import os
import re
import sys
import time

import bed as b
from pods import Cri, Pod

PODS = int(sys.argv[2]) if len(sys.argv) > 2 else 100
SECONDS = int(sys.argv[3]) if len(sys.argv) > 3 else 60
RUNTIMES = ("copy", "runc")
MIN_AVAILABLE_MIB = 3 << 10
report = b.Report("Idle pods", RUNTIMES)


def available():
    """MiB."""
    with open("/proc/meminfo", encoding="ascii") as f:
        return int(re.search(r"MemAvailable: +(\d+)", f.read()).group(1)) / 1024


def start(cd, runtime):
    """As many as there is memory for, one after the other."""
    pods = []
    while len(pods) < PODS and available() > MIN_AVAILABLE_MIB:
        pods.append(Pod(cd, runtime, f"{runtime}-{len(pods)}"))
        pods[-1].add_container()
    return pods


def part(process, line, figures):
    """What a mapping belongs to."""
    if not process.startswith("qemu-system"):
        return process
    if figures["Size"] == 128 << 10:
        return "guest's memory"
    return "QEMU: translated code" if " rwxp " in line else "QEMU: the rest"


def memory(pids, n):
    """MiB of each part for one of @n pods."""
    found = collections.Counter()
    for pid in pids:
        name = b.comm(pid)
        for line, figures in b.mappings(pid):
            kind = part(name, line, figures)
            private = figures["Private_Dirty"] + figures["Private_Clean"]
            found[f"{kind}: PSS", "MiB"] += figures["Pss"] / 1024 / n
            found[f"{kind}: private", "MiB"] += private / 1024 / n
    return found


# ---- what happens while nothing happens ----

def tasks(pids):
    """For each thread its name, CPU time in ms, and how often it has waited and was interrupted."""
    found = {}
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            where = f"/proc/{pid}/task/{task}"
            try:
                with open(f"{where}/schedstat", encoding="ascii") as f:
                    ms = int(f.read().split()[0]) / 1e6
                with open(f"{where}/status", encoding="utf-8") as f:
                    text = f.read()
            except OSError:
                continue
            switches = [int(re.search(rf"^{k}_switches:\s+(\d+)", text, re.M).group(1))
                        for k in ("voluntary_ctxt", "nonvoluntary_ctxt")]
            name = b.comm(pid) + ("" if task == str(pid) else ", other threads")
            found[pid, task] = name, [ms, *switches]
    return found


def rest(pids, n):
    """What each kind of thread does for one of @n pods while nobody asks for anything."""
    before = tasks(pids)
    time.sleep(SECONDS)
    found = collections.Counter()
    for task, (name, after) in tasks(pids).items():
        was = before[task][1] if task in before else [0, 0, 0]
        rates = [(new - old) / SECONDS / n for new, old in zip(after, was)]
        for kind in (name, "all"):
            for what, unit, rate in zip(("CPU", "waits", "interrupted"), ("ms/s", "1/s", "1/s"), rates):
                found[f"{kind}: {what}", unit] += rate
    return found


def interrupts(pod):
    """Of a guest, while nothing but a sleep happens in it."""
    seconds = min(SECONDS, 50)
    text = pod.exec("sh", "-c", f"cat /proc/interrupts; sleep {seconds}; cat /proc/interrupts")
    found = collections.Counter()
    for name, counts in re.findall(r"^ *(\w+): +((?:\d+ +)+)", text, re.M):
        # The second time that it's there is the later one.
        found[f"guest's interrupts, {name}", "1/s"] = sum(map(int, counts.split())) / seconds - \
            found[f"guest's interrupts, {name}", "1/s"]
    return found


def measure(cd, runtime):
    """Figures by what they are called, and their unit."""
    before = available()
    pods = start(cd, runtime)
    n = len(pods)
    time.sleep(10)  # a start leaves things to be done
    shims = [pod.shim() for pod in pods]
    pids = shims + [pid for shim in shims for pid in b.children(shim)]
    found = {("pods", ""): n, ("host's memory", "MiB"): (before - available()) / n}
    found.update(memory(pids, n))
    found.update(rest(pids + [cd.process.pid], n))
    if runtime != "runc":
        found.update(interrupts(pods[0]))
    for pod in pods:
        pod.remove()
    return found


def main():
    cd = Cri({"copy": {"vm": {"memory": "128M"}}})
    try:
        cd.make_pod_template("copy")
        found = {runtime: measure(cd, runtime) for runtime in RUNTIMES}
    finally:
        cd.close()
    for key in dict.fromkeys(key for figures in found.values() for key in figures):
        values = {runtime: figures[key] for runtime, figures in found.items() if key in figures}
        if any(abs(v) >= 0.005 for v in values.values()):
            report.show(key[0], key[0], values, key[1])
    report.save("bench-idle")


main()
